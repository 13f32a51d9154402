package faults

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

var measured = []string{"--metrics-bind", "127.0.0.1:0"}

// metricsAddr is where a process says that its metrics are.
func (f *fixture) metricsAddr(p *Process) (addr string) {
	f.Helper()
	f.eventually(patience, p.Name+" serves its metrics", func() bool {
		log, err := os.Open(p.Log)
		if err != nil {
			return false
		}
		defer log.Close()
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var line struct{ Msg, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "metrics are served" {
				addr = line.Addr
			}
		}
		return addr != ""
	})
	return addr
}

// ask asks a process for a path, and returns the status and what it says.
func (f *fixture) ask(addr, path string) (int, string) {
	f.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// samples are the metrics of some processes, summed.
func (f *fixture) samples(addrs ...string) map[string]float64 {
	f.Helper()
	sum := map[string]float64{}
	for _, addr := range addrs {
		code, body := f.ask(addr, "/metrics")
		if code != http.StatusOK {
			f.Fatalf("/metrics of %s: %d %s", addr, code, body)
		}
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			at := strings.LastIndexByte(line, ' ')
			value, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64)
			if err != nil {
				f.Fatalf("%q: %v", line, err)
			}
			sum[line[:at]] += value
		}
	}
	return sum
}

// TestMetricsAddUp dispatches and looks at the metrics meanwhile. In the end they say what
// the ledgers do.
func TestMetricsAddUp(t *testing.T) {
	t.Parallel()
	const dispatches, cancelled = 60, 2
	f := newFixture(t, Config{Listeners: 2, Workers: 2, Agents: 3, ListenerArgs: measured, WorkerArgs: measured})
	var listeners, workers []string
	for _, p := range f.Listeners {
		listeners = append(listeners, f.metricsAddr(p))
	}
	for _, p := range f.Workers {
		workers = append(workers, f.metricsAddr(p))
	}
	every := append(append([]string{}, listeners...), workers...)
	for _, addr := range every {
		f.eventually(patience, addr+" is ready", func() bool { code, _ := f.ask(addr, "/readyz"); return code == http.StatusOK })
		if code, said := f.ask(addr, "/healthz"); code != http.StatusOK || said != "ok\n" {
			t.Errorf("/healthz: %d %q", code, said)
		}
	}
	if held := f.samples(listeners...)["muster_listener_hosts"]; held != 3 {
		t.Errorf("the listeners hold %v hosts, want 3", held)
	}

	// One host of each dispatch is offline, and so is one that is told all the same,
	// because its id is an address.
	for n := range dispatches {
		then := ""
		switch {
		case n < cancelled:
			then = "sleep 100"
		case n%10 == 5:
			then = "exit 3"
		}
		if !f.dispatch(fmt.Sprintf("ACm%d", n), then, "gone", "127.0.9.9") {
			t.Fatal("request not taken")
		}
		if n%6 == 0 {
			f.samples(every...)
		}
	}
	for n := range cancelled {
		key := fmt.Sprintf("ACm%d", n)
		f.eventually(patience, key+" runs", func() bool {
			states, err := f.DB.HMGet(t.Context(), "{"+key+"}:hosts", f.Hosts()...).Result()
			return err == nil && states[0] == "working" && states[1] == "working" && states[2] == "working"
		})
		if now := f.samples(workers[0]); now["muster_fleet_open_sets"] < 1 || now[`muster_fleet_hosts{state="working"}`] < 3 || now["muster_fleet_hosts_online"] != 3 || now["muster_fleet_listeners"] != 2 {
			// It may be two seconds old.
			f.eventually(patience, "the fleet is seen at work", func() bool {
				now := f.samples(workers[0])
				return now["muster_fleet_open_sets"] >= 1 && now[`muster_fleet_hosts{state="working"}`] >= 3 && now["muster_fleet_hosts_online"] == 3 && now["muster_fleet_listeners"] == 2
			})
		}
		if out, err := exec.CommandContext(t.Context(), binaryPath(t), "cancel", key, "--redis", f.Redis.URL()).CombinedOutput(); err != nil {
			t.Fatalf("muster cancel: %v %s", err, out)
		}
	}
	f.eventually(patience, "all sets closed and counted", func() bool {
		return f.samples(every...)["muster_dispatch_duration_seconds_count"] >= dispatches
	})

	// The ledgers, by plain commands.
	states := map[string]float64{}
	var told, answered float64
	for key := range f.asked {
		a, err := Recount(t.Context(), f.DB, key)
		f.must(err)
		for _, w := range a.Wrong {
			t.Error(w)
		}
		if a.State != "closed" {
			t.Errorf("%s is %s", key, a.State)
		}
		for _, state := range a.Hosts {
			states[state]++
			if state != "offline" {
				told++
			}
			if state == "done" || state == "failed" || state == "cancelled" {
				answered++
			}
		}
	}
	if told != 3*dispatches || states["offline"] != 2*dispatches || states["cancelled"] != 3*cancelled || states["failed"] != 3*6 {
		t.Fatalf("the ledgers are not what was meant: %v hosts told, %v", told, states)
	}
	got := f.samples(every...)
	for sample, want := range map[string]float64{
		`muster_worker_requests_total{result="accepted"}`:      dispatches,
		`muster_worker_requests_total{result="rejected"}`:      0,
		`muster_worker_datagrams_sent_total{why="first"}`:      told,
		`muster_worker_datagrams_sent_total{why="offline"}`:    dispatches,
		`muster_worker_datagrams_failed_total`:                 0,
		`muster_worker_dispatches_running`:                     0,
		`muster_answer_delay_seconds_count`:                    answered,
		`muster_dispatch_duration_seconds_count`:               dispatches,
		`muster_hosts_ended_total{state="done"}`:               states["done"],
		`muster_hosts_ended_total{state="failed"}`:             states["failed"],
		`muster_hosts_ended_total{state="cancelled"}`:          states["cancelled"],
		`muster_hosts_ended_total{state="offline"}`:            states["offline"],
		`muster_hosts_ended_total{state="expired"}`:            0,
		`muster_hosts_ended_total{state="missing"}`:            0,
		`muster_hosts_ended_total{state="unanswered"}`:         0,
		`muster_listener_abnormal_data_total{kind="too_big"}`:  0,
		`muster_listener_stray_reports_total`:                  0,
		`muster_redis_errors_total{why="no_answer"}`:           0,
		`muster_redis_errors_total{why="refused"}`:             0,
		`muster_listener_frames_total{code="ADH01"}`:           3,
		`muster_listener_panics_total`:                         0,
		`muster_listener_failed_writes_total`:                  0,
		`muster_listener_passed_over_commands_total`:           0,
		`muster_listener_unreadable_datagrams_total`:           0,
		`muster_listener_frames_total{code="unknown"}`:         0,
		`muster_listener_abnormal_data_total{kind="not_utf8"}`: 0,
	} {
		if value, ok := got[sample]; !ok || value != want {
			t.Errorf("%s is %v, the ledgers say %v", sample, value, want)
		}
	}
	if got[`muster_answer_delay_seconds_sum`] <= 0 || got[`muster_worker_pushes_total{action="cancel"}`] < 3*cancelled {
		t.Errorf("%v s of answer delays, %v agents told of a cancellation", got[`muster_answer_delay_seconds_sum`], got[`muster_worker_pushes_total{action="cancel"}`])
	}

	// What is abnormal, a stranger's bytes for instance, is counted, and so is a request that is no good.
	if resp, err := http.Get("http://" + f.Addrs[0] + "/"); err == nil {
		resp.Body.Close()
		t.Error("a listener answers a browser")
	}
	f.must(f.DB.XAdd(t.Context(), &redis.XAddArgs{Stream: "muster:requests", Values: []any{"commands", "{}"}}).Err())
	f.eventually(patience, "abnormal data and a rejected request", func() bool {
		now := f.samples(every...)
		return now[`muster_listener_abnormal_data_total{kind="too_big"}`] >= 1 && now[`muster_worker_requests_total{result="rejected"}`] == 1
	})
	f.eventually(patience, "an archived job", func() bool { return f.samples(workers[1])[`muster_queue_jobs{state="archived"}`] == 1 })
}

func binaryPath(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// health is what muster health prints, and its exit status.
func (f *fixture) health(args ...string) (status int, said string) {
	f.Helper()
	cmd := exec.CommandContext(f.Context(), binaryPath(f.T), append([]string{"health"}, args...)...)
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		f.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestHealthOverAnOutage takes Redis away: processes are not ready then, and say why, but
// are not to be started again.
func TestHealthOverAnOutage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 1, Workers: 1, Agents: 1, ListenerArgs: measured, WorkerArgs: measured})
	addrs := []string{f.metricsAddr(f.Listeners[0]), f.metricsAddr(f.Workers[0])}
	for round := range 2 {
		for _, addr := range addrs {
			f.eventually(patience, addr+" is ready", func() bool { code, said := f.ask(addr, "/readyz"); return code == 200 && said == "ok\n" })
			if status, said := f.health("--metrics-bind", addr); status != 0 || said != "ok\n" {
				t.Errorf("muster health: %d %q", status, said)
			}
		}
		if round == 1 {
			break
		}
		f.Redis.Kill()
		for _, addr := range addrs {
			f.eventually(patience, addr+" is not ready", func() bool {
				code, said := f.ask(addr, "/readyz")
				return code == 503 && strings.HasPrefix(said, "redis does not answer")
			})
			if code, said := f.ask(addr, "/healthz"); code != 200 || said != "ok\n" {
				t.Errorf("/healthz of %s: %d %q", addr, code, said)
			}
			if status, said := f.health("--url", "http://"+addr); status != 1 || !strings.HasPrefix(said, "redis does not answer") {
				t.Errorf("muster health: %d %q", status, said)
			}
		}
		f.eventually(patience, "the fleet can't be read", func() bool { return f.samples(addrs[1])["muster_fleet_readable"] == 0 })
		f.eventually(patience, "errors of Redis are counted", func() bool {
			return f.samples(addrs[0])[`muster_redis_errors_total{why="no_answer"}`] > 0 && f.samples(addrs[1])[`muster_redis_errors_total{why="no_answer"}`] > 0
		})
		f.must(f.Redis.Start())
	}
}
