package embedded

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// version stands where a Redis tells its own: it is none, and nobody compares it.
const version = "embedded"

// info answers INFO, of which miniredis has two sections only: pages and people that look
// at it want to know how old and how big it is. What it has no idea of is left out.
func (r *Redis) info(started time.Time) server.Hook {
	return func(c *server.Peer, cmd string, args ...string) bool {
		if cmd != "INFO" {
			return false
		}
		wanted := map[string]bool{}
		for _, a := range args {
			wanted[strings.ToLower(a)] = true
		}
		whole := len(args) == 0 || wanted["all"] || wanted["everything"] || wanted["default"]
		var b strings.Builder
		for _, s := range r.sections(started) {
			if whole || wanted[strings.ToLower(s.name)] {
				fmt.Fprintf(&b, "# %s\r\n%s\r\n", s.name, strings.Join(s.facts, "\r\n")+"\r\n")
			}
		}
		c.WriteBulk(b.String())
		return true
	}
}

type section struct {
	name  string
	facts []string
}

func (r *Redis) sections(started time.Time) []section {
	var m runtime.MemStats // of the whole process, of which it is a part
	runtime.ReadMemStats(&m)
	up := time.Since(started)
	s := r.mini.Server()
	return []section{
		{"Server", []string{
			"redis_version:" + version, "redis_mode:standalone", "os:" + runtime.GOOS + " " + runtime.GOARCH,
			fmt.Sprintf("uptime_in_seconds:%d", int(up.Seconds())), fmt.Sprintf("uptime_in_days:%d", int(up.Hours()/24)),
		}},
		{"Clients", []string{fmt.Sprintf("connected_clients:%d", s.ClientsLen())}},
		{"Memory", []string{
			fmt.Sprintf("used_memory:%d", m.HeapAlloc), "used_memory_human:" + human(m.HeapAlloc),
			fmt.Sprintf("used_memory_peak:%d", m.HeapSys), "used_memory_peak_human:" + human(m.HeapSys),
			fmt.Sprintf("mem_fragmentation_ratio:%.2f", float64(m.HeapInuse)/float64(max(m.HeapAlloc, 1))),
			"maxmemory:0", "maxmemory_policy:noeviction",
		}},
		{"Persistence", []string{"loading:0", "aof_enabled:0", "rdb_changes_since_last_save:0", "rdb_last_save_time:0"}},
		{"Stats", []string{
			fmt.Sprintf("total_connections_received:%d", s.TotalConnections()),
			fmt.Sprintf("total_commands_processed:%d", s.TotalCommands()),
		}},
		{"Replication", []string{"role:master", "connected_slaves:0"}},
	}
}

func human(n uint64) string { return fmt.Sprintf("%.2fM", float64(n)/(1<<20)) }
