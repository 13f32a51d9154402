package main

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/dashboard"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
	"github.com/musterhq/muster/worker"
)

// setting is one setting: how it is called, what it may be, and what it is if nobody
// says. The flags of a verb, the environment, the file and muster config all come from
// this one table.
type setting struct {
	group string // of the file
	name  string // in its group of the file; empty if it stands in the place of the group
	flag  string // empty if only the file has it
	value any    // the default: string, int, bool, time.Duration, []string, map[string]string or tlsFiles
	usage string

	check func(value any) error // says what is wrong, as what follows its name; nil if nothing can be
}

// settings are all there are, but for the instructions, whose names are the user's.
func settings() []setting {
	flagOnly := func(group, name, flag string, value any, usage string, check func(any) error) setting {
		return setting{group, name, flag, value, usage, check}
	}
	// Most flags are called as in the file.
	s := func(group, name string, value any, usage string, check func(any) error) setting {
		return flagOnly(group, name, strings.ReplaceAll(name, "_", "-"), value, usage, check)
	}
	inFile := func(group, name string, value any, usage string, check func(any) error) setting {
		return flagOnly(group, name, "", value, usage, check)
	}
	metrics := func(group string) setting {
		return s(group, "metrics_bind", "", "TCP `ADDRESS` of /metrics, /healthz and /readyz (default: none)", isAddressOrNone)
	}
	return []setting{
		flagOnly("redis", "", "redis", defaultRedis, "`URL` of Redis: redis://, rediss://, unix://, redis-sentinel://, redis-cluster://", isRedis),
		inFile("redis", "addrs", []string{"127.0.0.1:6379"}, "host:port of Redis, of the sentinels with master; several without it are a cluster", areRedisAddrs),
		inFile("redis", "username", "", "user", nil),
		inFile("redis", "password", "", "password", nil),
		inFile("redis", "db", 0, "number of the database", within(0, 1<<20)),
		inFile("redis", "master", "", "name of the master that sentinels know", nil),
		inFile("redis", "tls", tlsFiles{}, "true, or an object: ca_file, cert_file, key_file, server_name, insecure_skip_verify", canTLS),

		s("listener", "bind", listener.DefaultBind, "TCP `ADDRESS` that hosts dial", isAddress),
		s("listener", "insecure", false, "bind to an address that other machines reach, with neither encryption nor proof of who is there", nil),
		s("listener", "heartbeat_timeout", listener.DefaultHeartbeatTimeout, "silence after which a host is offline", aboveZero),
		s("listener", "id", "", "`NAME` of this listener, unique on its Redis (default: made from the host name)", isID),
		s("listener", "client_udp_port", wire.DefaultUDPPort, "UDP `PORT` on which clients that do not name theirs wait", within(1, 65535)),
		metrics("listener"),

		inFile("presence", "offline_delete", []string{"info", "ipv4"}, "keys of a host that are deleted when it goes offline", areDeletable),

		s("worker", "concurrency", worker.DefaultConcurrency, "`NUMBER` of dispatches at the same time", within(1, 1000)),
		s("worker", "keep", tasks.DefaultKeep, "how long a task set stays after its deadline", aboveZero),
		s("worker", "poll_interval", worker.DefaultPollInterval,
			"how often an idle worker asks the job queue; 10ms cost an idle Redis about 93 scripts a second", isPollInterval),
		// Workers look after what is due ten times a second.
		s("worker", "retry_after", tasks.DefaultRetryAfter, "wait before a host that does not answer is told again; doubled each time",
			between(100*time.Millisecond, time.Hour)),
		s("worker", "attempts", tasks.DefaultAttempts, "`NUMBER` of times that a host is told in all before it counts as unanswered", within(1, tasks.MaxAttempts)),
		s("worker", "redeliver_old", false, "tell old clients again, too, which run a number as often as they are told it", nil),
		s("worker", "client_udp_port", wire.DefaultUDPPort, "UDP `PORT` to which offline hosts are sent whose id is an IP address", within(1, 65535)),
		metrics("worker"),

		s("agent", "server", []string(nil), "`HOST:PORT` of a listener, once for each; tried in turn (in the environment: with blanks between)", areServers),
		s("agent", "id", "", "`NAME` of this host (default: its host name)", isID),
		s("agent", "bind_ip", "", "local `IP` address for task numbers and for dialing (default: any)", isIP),
		s("agent", "udp_port", wire.DefaultUDPPort, "UDP `PORT` for task numbers, 0 for any", within(0, 65535)),
		s("agent", "state_dir", defaultStateDir(), "`DIR` for the journal", isNotEmpty),
		metrics("agent"),
		inFile("agent", "tags", map[string]string(nil), "what the host says of itself besides, name and value", areTags),

		s("dashboard", "bind", dashboard.DefaultBind, "TCP `ADDRESS` of the page", isAddress),
		s("dashboard", "insecure", false, "bind to an address that other machines reach: whoever reaches it reads everything, there is no login", nil),
		metrics("dashboard"),

		flagOnly("log", "level", "log-level", "info", "the least `LEVEL` that is logged: debug, info, warn, error", isLevel),
		flagOnly("log", "format", "log-format", "text", "`FORM` of the log: text or json", isLogFormat),
		flagOnly("log", "file", "log-file", "", "log to `FILE`, which is rotated, instead of to standard error", nil),
		inFile("log", "max_size_mb", 100, "size in MB at which the log file is put aside", within(1, 1<<20)),
		inFile("log", "max_age_days", 0, "days after which one that was put aside is deleted; 0: never", within(0, 36500)),
		inFile("log", "max_backups", 5, "how many of those are kept; 0: all", within(0, 10000)),
		inFile("log", "compress", true, "whether they are compressed", nil),
	}
}

// groupOfCommands is the group of the file whose names the user makes: what is typed at
// the console, and the command that it stands for.
const groupOfCommands = "instructions"

// settingsOf are the settings of one group, those that are named if there are names.
func settingsOf(group string, names ...string) []setting {
	return slices.DeleteFunc(settings(), func(s setting) bool {
		return s.group != group || len(names) > 0 && !slices.Contains(names, s.name)
	})
}

// path is what a setting is called in the file.
func (s setting) path() string {
	if s.name == "" {
		return s.group
	}
	return s.group + "." + s.name
}

func (s setting) variable() string {
	if s.flag == "" {
		return ""
	}
	return env(s.flag)[0]
}

// flagsOf are the flags of a group.
func flagsOf(group string) (flags []cli.Flag) {
	for _, s := range settingsOf(group) {
		if s.flag != "" {
			flags = append(flags, s.asFlag())
		}
	}
	return flags
}

func (s setting) asFlag() cli.Flag {
	switch v := s.value.(type) {
	case int:
		return intFlag(s.flag, v, s.usage)
	case bool:
		return boolFlag(s.flag, s.usage)
	case time.Duration:
		return spanFlag(s.flag, v, s.usage)
	case []string:
		return listFlag(s.flag, s.usage)
	}
	text, _ := s.value.(string)
	return textFlag(s.flag, text, s.usage)
}

// parse reads what a variable of the environment holds.
func (s setting) parse(text string) (any, error) {
	switch s.value.(type) {
	case int:
		n, err := strconv.ParseInt(text, 0, 0)
		if err != nil {
			return nil, wrongf("%q is no whole number", text)
		}
		return int(n), nil
	case bool:
		yes, err := strconv.ParseBool(text)
		if err != nil {
			return nil, wrongf("%q: want true or false", text)
		}
		return yes, nil
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, wrongf("%q is no duration, want one such as 90s, 5m or 168h", text)
		}
		return d, nil
	case []string:
		return strings.Fields(text), nil
	}
	return text, nil
}

// source is where the value of a setting comes from.
type source string

const (
	fromFlag    source = "flag"
	fromEnv     source = "environment"
	fromFile    source = "file"
	fromDefault source = "default"
)

// inForce is a setting and what it is in this run.
type inForce struct {
	setting
	value any
	from  source
	where string // the flag, the variable or the file; empty for the default
}

// misuse says that the value is wrong, and where it comes from.
func (f inForce) misuse(format string, args ...any) error {
	name := f.where
	switch f.from {
	case fromFile:
		name += ": " + f.path() + ":"
	case fromDefault:
		name = f.path()
	default:
		if f.group == "redis" {
			name += ":"
		}
	}
	return misuse("%s %w", name, wrongf(format, args...))
}

// values are settings of one group, by their names in the file.
type values map[string]inForce

// get returns a value; T is the type of its default in the table.
func get[T any](v values, name string) T {
	t, ok := v[name].value.(T)
	if !ok {
		panic("muster: no setting " + name + " of that type")
	}
	return t
}

// settings finds what is in force of a group, or of those settings of it that are
// named, and checks it: flags go before the environment, then comes the file, then the
// default. A variable that is empty is as good as none.
func (a *app) settings(c *cli.Context, group string, names ...string) (values, error) {
	all := values{}
	for _, s := range settingsOf(group, names...) {
		f, err := a.inForce(c, s)
		if err != nil {
			return nil, err
		}
		all[s.name] = f
	}
	return all, nil
}

func (a *app) inForce(c *cli.Context, s setting) (inForce, error) {
	f := inForce{setting: s, value: s.value, from: fromDefault}
	if own, ok := a.defaults[s.flag]; ok && s.flag != "" {
		f.value = own
	}
	text := ""
	if s.flag != "" {
		text = os.Getenv(s.variable())
	}
	var err error
	switch {
	case s.flag != "" && a.given[s.flag]:
		f.value, f.from, f.where = s.ofFlag(c), fromFlag, "--"+s.flag
	case text != "":
		f.from, f.where = fromEnv, s.variable()
		f.value, err = s.parse(text)
	default:
		if v, ok := a.file.values[s.path()]; ok {
			f.value, f.from, f.where = v, fromFile, a.file.path
		}
	}
	if err == nil && s.check != nil && f.from != fromDefault {
		err = s.check(f.value)
	}
	if err != nil {
		return f, f.misuse("%w", err)
	}
	return f, nil
}

// ofFlag is what a flag that stands on the command line says.
func (s setting) ofFlag(c *cli.Context) any {
	switch s.value.(type) {
	case int:
		return c.Int(s.flag)
	case bool:
		return c.Bool(s.flag)
	case time.Duration:
		return c.Duration(s.flag)
	case []string:
		return c.StringSlice(s.flag)
	}
	return c.String(s.flag)
}

// written is a value as the file has it.
func written(value any) any {
	switch v := value.(type) {
	case time.Duration:
		return shortSpan(v)
	case []string:
		return append([]string{}, v...)
	case map[string]string:
		if v == nil {
			return map[string]string{}
		}
	case tlsFiles:
		return v.written()
	}
	return value
}

// shown is a value as a table has it.
func shown(value any) string {
	value = written(value)
	if text, ok := value.(string); ok {
		return text
	}
	b, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// shortSpan writes a duration without the zeros behind it: 168h, not 168h0m0s.
func shortSpan(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
