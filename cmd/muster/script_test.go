//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"muster": main})
}

// TestScripts runs the command line as processes, each script on a Redis of its own,
// which is $MUSTER_REDIS to it.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata", redistest.Open)
}

// TestScriptsRealRedis runs those that stop Redis and start it again, or set it up
// otherwise.
func TestScriptsRealRedis(t *testing.T) {
	t.Parallel()
	runScripts(t, filepath.Join("testdata", "outage"), redistest.OpenReal)
}

type valueKey string

const (
	redisValue     valueKey = "redis"
	processesValue valueKey = "processes"
)

func runScripts(t *testing.T, dir string, open func(testing.TB) *redistest.Server) {
	testscript.Run(t, testscript.Params{
		Dir: dir, RequireExplicitExec: true, RequireUniqueNames: true,
		Deadline: time.Now().Add(8 * time.Minute), // shows the script that hangs, where go test shows goroutines
		Setup: func(env *testscript.Env) error {
			tb, ok := env.T().(testing.TB)
			if !ok {
				return errors.New("the scripts' T is no testing.TB")
			}
			s := open(tb)
			env.Setenv("MUSTER_REDIS", s.URL)
			env.Setenv("REDIS_URL", s.URL) // for scripts that set the other one
			env.Setenv("REDIS_ADDR", s.Addr)
			env.Setenv("ESC", "\x1b")
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state")) // of the console's history
			examples, err := filepath.Abs(filepath.Join("..", "..", "scripts", "examples"))
			if err != nil {
				return err
			}
			env.Setenv("EXAMPLES", examples)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process ends a second later
			env.Values[redisValue] = s
			env.Values[processesValue] = map[string]*process{}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "bash-completion" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			_, err := os.Stat("/usr/share/bash-completion/bash_completion")
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "wrong": wrong, "capture": capture, "eventually": eventually, "lines": lines, "jsonlines": jsonLines,
			"start": start, "ended": ended, "interrupt": interrupt, "saw": saw, "system": startAll, "host": host,
			"redis": redisCommand, "redis-again": redisAgain, "redis-stop": redisStop, "redis-start": redisStart,
			"eventually-redis": eventuallyRedis, "ledger": ledger, "tty": tty, "udp-port": udpPort, "dialog": dialog,
			"hangup": hangUp, "mistake": mistake, "for-each-verb": forEachVerb, "page": page,
		},
	})
}

// exits STATUS program args: the program ends with that status.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitStatus(ts, ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// wrong REGEXP args: muster ends with 2, has printed nothing, and one line that matches
// as its error.
func wrong(ts *testscript.TestScript, _ bool, args []string) {
	exits(ts, false, append([]string{"2", "muster"}, args[1:]...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("printed %q", out)
	}
	if line := ts.ReadFile("stderr"); !regexp.MustCompile("^muster: " + args[0] + "\n$").MatchString(line) {
		ts.Fatalf("%q does not match %q", line, args[0])
	}
}

// mistake JSON REGEXP: with JSON as the file f.json, muster ends as wrong has it, with a
// line that names the file and goes on with what matches. No line repeats s3cret.
func mistake(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs("f.json"), []byte(args[0]), 0o600))
	wrong(ts, false, []string{"f.json: " + args[1], "version", "--config", "f.json"})
	if strings.Contains(ts.ReadFile("stderr"), "s3cret") {
		ts.Fatalf("a secret is repeated")
	}
}

// for-each-verb REGEXP: each verb but help and completion ends as wrong has it.
func forEachVerb(ts *testscript.TestScript, _ bool, args []string) {
	a := &app{stdout: io.Discard, stderr: io.Discard}
	for _, v := range a.commands().Commands {
		if v.Name != "help" && v.Name != "completion" {
			wrong(ts, false, []string{args[0], v.Name})
		}
	}
}

// capture VAR REGEXP: the first group of what standard output has becomes VAR.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("no match for %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

func exitStatus(ts *testscript.TestScript, err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// eventually [REGEXP --] program args: the program ends with 0 (and prints what
// matches), within patience.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("")
	if len(args) > 1 && args[1] == "--" {
		pattern, args = regexp.MustCompile("(?m)"+args[0]), args[2:]
	}
	poll(ts, "never so: "+strings.Join(args, " "), func() bool {
		var out bytes.Buffer
		cmd := command(ts, args)
		cmd.Stdout = &out
		return cmd.Run() == nil && pattern.Match(out.Bytes())
	})
}

// patience is how long is waited for what takes a moment where nothing else runs.
const patience = 3 * time.Minute

func poll(ts *testscript.TestScript, what string, done func() bool) {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s", what)
		}
	}
}

func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path := args[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if full := filepath.Join(dir, args[0]); !strings.Contains(path, "/") {
			if _, err := os.Stat(full); err == nil {
				path = full
			}
		}
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "WORK", "NO_COLOR", "TERM", "MUSTER_REDIS", "MUSTER_LOG_LEVEL", "MUSTER_STATE_DIR", "XDG_STATE_HOME", "GORACE", "GOCOVERDIR",
	} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd
}

// lines N: standard output has that many lines.
func lines(ts *testscript.TestScript, _ bool, args []string) {
	if got := strings.Count(ts.ReadFile("stdout"), "\n"); strconv.Itoa(got) != args[0] {
		ts.Fatalf("%d lines, want %s", got, args[0])
	}
}

// jsonlines N: standard output is N lines, a JSON object each, that no terminal obeys.
func jsonLines(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile("stdout")
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		var o map[string]any
		if err := json.Unmarshal([]byte(l), &o); err != nil {
			ts.Fatalf("%q: %v", l, err)
		}
		if !visible.Plain(l) {
			ts.Fatalf("%q is not printable ASCII", l)
		}
	}
	lines(ts, false, args)
}

// process is one that a script runs beside itself.
type process struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has
	stdout string        // the file that its output goes to
	stderr string
}

func processes(ts *testscript.TestScript) map[string]*process {
	return ts.Value(processesValue).(map[string]*process)
}

// start NAME program args: the program runs beside the script. It ends with it.
func start(ts *testscript.TestScript, _ bool, args []string) {
	p := &process{
		cmd: command(ts, args[1:]), ended: make(chan struct{}),
		stdout: ts.MkAbs(args[0] + ".out"), stderr: ts.MkAbs(args[0] + ".err"),
	}
	stdout, err := os.Create(p.stdout)
	ts.Check(err)
	defer stdout.Close()
	stderr, err := os.Create(p.stderr)
	ts.Check(err)
	defer stderr.Close()
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	ts.Check(p.cmd.Start())
	processes(ts)[args[0]] = p
	go func() {
		p.cmd.Wait() // how it ended is in its ProcessState
		close(p.ended)
	}()
	ts.Defer(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(45 * time.Second):
			p.cmd.Process.Kill()
			<-p.ended
			ts.Logf("%s did not end within 45 s of SIGTERM", args[0])
		}
		if b, _ := os.ReadFile(p.stderr); len(b) > 0 {
			ts.Logf("[%s]\n%s", args[0], b)
		}
	})
}

// interrupt NAME: as Ctrl-C does.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(processes(ts)[args[0]].cmd.Process.Signal(syscall.SIGINT))
}

// hangup NAME: as logrotate does, and a terminal that goes away.
func hangUp(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(processes(ts)[args[0]].cmd.Process.Signal(syscall.SIGHUP))
}

// ended NAME STATUS: it ends with that status within 45 seconds. What it has printed
// is then standard output and standard error.
func ended(ts *testscript.TestScript, _ bool, args []string) {
	p := processes(ts)[args[0]]
	select {
	case <-p.ended:
	case <-time.After(45 * time.Second):
		ts.Fatalf("%s does not end", args[0])
	}
	show(ts, p)
	if got := p.cmd.ProcessState.ExitCode(); strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s ended with %d, want %s", args[0], got, args[1])
	}
}

func show(ts *testscript.TestScript, p *process) {
	out, err := os.ReadFile(p.stdout)
	ts.Check(err)
	ts.Stdout().Write(out)
	out, err = os.ReadFile(p.stderr)
	ts.Check(err)
	ts.Stderr().Write(out)
}

// saw NAME REGEXP [VAR]: what it has printed, on either output, matches; the first
// group becomes VAR.
func saw(ts *testscript.TestScript, _ bool, args []string) {
	p, pattern := processes(ts)[args[0]], regexp.MustCompile("(?m)"+args[1])
	poll(ts, fmt.Sprintf("%s never said %s", args[0], args[1]), func() bool {
		for _, file := range []string{p.stdout, p.stderr} {
			b, err := os.ReadFile(file)
			ts.Check(err)
			if m := pattern.FindSubmatch(b); m != nil {
				if len(args) > 2 {
					ts.Setenv(args[2], string(m[1]))
				}
				return true
			}
		}
		select {
		case <-p.ended:
			b, _ := os.ReadFile(p.stderr)
			ts.Fatalf("%s has ended: %s", args[0], b)
		default:
		}
		return false
	})
}

// system: a listener, $LISTENER, and a worker, as processes of their own.
func startAll(ts *testscript.TestScript, _ bool, _ []string) {
	start(ts, false, []string{"listener", "muster", "listener", "--bind", "127.0.0.1:0", "--id", "l1"})
	saw(ts, false, []string{"listener", `addr="?(127\.0\.0\.1:\d+)`, "LISTENER"})
	start(ts, false, []string{"worker", "muster", "worker"})
}

// udp-port VAR: a UDP port that nobody has at the moment becomes VAR.
func udpPort(ts *testscript.TestScript, _ bool, args []string) {
	conn, err := net.ListenUDP("udp", nil)
	ts.Check(err)
	defer conn.Close()
	ts.Setenv(args[0], strconv.Itoa(conn.LocalAddr().(*net.UDPAddr).Port))
}

// host ID...: agents, as processes of their own, that are online.
func host(ts *testscript.TestScript, _ bool, ids []string) {
	for _, id := range ids {
		start(ts, false, []string{
			id, "muster", "agent", "--server", ts.Getenv("LISTENER"), "--id", id,
			"--bind-ip", "127.0.0.1", "--udp-port", "0", "--state-dir", ts.MkAbs("state-" + id), "--redis", "",
		})
	}
	eventually(ts, false, append([]string{"muster", "hosts"}, ids...))
}

// redis COMMAND args: what redis-cli would do. Escapes in the args are Go's.
func redisCommand(ts *testscript.TestScript, _ bool, args []string) {
	reply, err := redisDo(ts, args)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), reply)
}

// redis-again COMMAND args: the same again and again, to the end of the script: what muster
// would mend stays damaged.
func redisAgain(ts *testscript.TestScript, _ bool, args []string) {
	_, err := redisDo(ts, args)
	ts.Check(err)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-tick.C:
				_, _ = redisDo(ts, args) // it did the first time
			case <-end:
				tick.Stop()
				return
			}
		}
	}()
	ts.Defer(func() { close(end); <-ended })
}

// eventually-redis REGEXP COMMAND args: the answer matches, within patience.
func eventuallyRedis(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	poll(ts, "never so: "+strings.Join(args, " "), func() bool {
		reply, err := redisDo(ts, args[1:])
		return err == nil && pattern.MatchString(fmt.Sprint(reply))
	})
}

func redisDo(ts *testscript.TestScript, args []string) (any, error) {
	words := make([]any, len(args))
	for i, a := range args {
		unquoted, err := strconv.Unquote(`"` + strings.ReplaceAll(a, `"`, `\"`) + `"`)
		ts.Check(err)
		words[i] = unquoted
	}
	return ts.Value(redisValue).(*redistest.Server).Client.Do(context.Background(), words...).Result()
}

// ledger KEY STAGE STATE=N...: there is a task set of one command with that many hosts
// in each state, h-STATE-1 and so on, such as no worker has made.
func ledger(ts *testscript.TestScript, _ bool, args []string) {
	n := tasks.Number(args[0])
	rdb := ts.Value(redisValue).(*redistest.Server).Client
	meta := map[string]any{
		"state": args[1], "request": "r1", "created_ms": 1700000000000, "deadline_ms": 1700003600000,
		"timeout_s": 600, "commands": 1,
	}
	total := 0
	for _, arg := range args[2:] {
		state, text, _ := strings.Cut(arg, "=")
		count, err := strconv.Atoi(text)
		ts.Check(err)
		meta[state] = count
		total += count
		for i := range count {
			ts.Check(rdb.HSet(context.Background(), tasks.KeyHosts(n), fmt.Sprintf("h-%s-%d", state, i+1), state).Err())
		}
	}
	meta["total"] = total
	ts.Check(rdb.HSet(context.Background(), tasks.KeyMeta(n), meta).Err())
	ts.Check(rdb.ZAdd(context.Background(), tasks.KeySet(n), redis.Z{Score: 1, Member: "true"}).Err())
}

func redisStop(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Value(redisValue).(*redistest.Server).Stop()
}

func redisStart(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Value(redisValue).(*redistest.Server).Start()
}

// tty STATUS INPUT program args: the program has a terminal, INPUT is typed there,
// and it ends with that status. What appears on the terminal is standard output.
func tty(ts *testscript.TestScript, _ bool, args []string) {
	cmd := command(ts, args[2:])
	if !slices.ContainsFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "TERM=") }) {
		cmd.Env = append(cmd.Env, "TERM=xterm")
	}
	input, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	screen, err := onTerminal(cmd, input)
	ts.Logf("[terminal]\n%q", screen)
	fmt.Fprint(ts.Stdout(), screen)
	if got := exitStatus(ts, err); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}
