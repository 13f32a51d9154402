//go:build unix

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/wire"
)

// runLine runs one command as an agent would that gives up on it after killAfter.
func runLine(t *testing.T, ctx context.Context, line string, limit, killAfter time.Duration) wire.Result {
	t.Helper()
	a := &Agent{cfg: Config{KillAfter: killAfter}}
	t.Cleanup(a.drains.close)
	return a.run(ctx, line, limit)
}

func TestHowCommandsEnd(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]wire.Result{
		"true":                        {},
		"exit 7":                      {ExitCode: 7},
		"kill -TERM $$":               {ExitCode: 128 + 15},
		"kill -KILL $$":               {ExitCode: 128 + 9},
		"no-such-command-at-all 2>&-": {ExitCode: 127},
		"cat":                         {}, // there is nothing to read
		"echo out; echo err >&2":      {Stdout: "out\n", StdoutBytes: 4, Stderr: "err\n", StderrBytes: 4},
		`printf 'a\377b'`:             {Stdout: "a\uFFFDb", StdoutBytes: 3},
		"echo $0 '\"' \\' %PATH%":     {Stdout: "/bin/sh \" ' %PATH%\n", StdoutBytes: 19},
		"a\x00b":                      {ExitCode: -1, Error: "fork/exec /bin/sh: invalid argument"},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			want.Command = line
			r := runLine(t, t.Context(), line, time.Minute, time.Second)
			r.DurationMS = 0
			if r != want {
				t.Errorf("%+v, want %+v", r, want)
			}
		})
	}
}

func TestMuchOutput(t *testing.T) {
	t.Parallel()
	r := runLine(t, t.Context(), "head -c 3000000 /dev/zero; head -c 100000 /dev/zero >&2", time.Minute, time.Second)
	if r.ExitCode != 0 || r.StdoutBytes != 3_000_000 || r.StderrBytes != 100_000 || !r.Truncated ||
		len(r.Stdout) > maxOutput || len(r.Stderr) > maxOutput {
		t.Errorf("code %d, %d and %d bytes, truncated %t", r.ExitCode, r.StdoutBytes, r.StderrBytes, r.Truncated)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	r := runLine(t, t.Context(), "sleep 0.2", time.Minute, time.Second)
	if r.DurationMS < 200 || r.DurationMS > 20_000 {
		t.Errorf("%d ms for sleeping 200", r.DurationMS)
	}
}

// pidIn returns the process that a command has written to a file.
func pidIn(t *testing.T, path string) (pid int) {
	t.Helper()
	eventually(t, "a process id in "+path, func() bool {
		b, _ := os.ReadFile(path)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return pid > 0 && bytes.HasSuffix(b, []byte("\n"))
	})
	return pid
}

// alive reports whether a process runs. One that is dead but not buried, because
// the test's host has nobody to do it, does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// Whatever the shell has started is gone with it, also what does not listen.
func TestTimeoutEndsTheGroup(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line      string // $F is a file for a grandchild's id
		code      int
		killAfter time.Duration
		atLeast   time.Duration
	}{
		"obeys":                  {"sleep 300 & echo $! >$F; wait", 143, time.Minute, 0},
		"shell does not listen":  {"trap '' TERM; sleep 300 & echo $! >$F; while :; do wait; done", 137, 300 * time.Millisecond, 300 * time.Millisecond},
		"child does not listen":  {"sh -c 'trap \"\" TERM; echo $$ >$F; while :; do sleep 1; done' & wait", 143, 300 * time.Millisecond, 300 * time.Millisecond},
		"shell ends in its way":  {"trap 'exit 5' TERM; sleep 300 & echo $! >$F; wait", 5, time.Minute, 0},
		"prints without an end":  {"echo $$ >$F; while :; do echo; done", 143, time.Minute, 0},
		"child holds the output": {"sleep 300 & echo $! >$F; sleep 300", 143, time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			begin := time.Now()
			r := runLine(t, t.Context(), "F="+file+"; export F; "+test.line, time.Second, test.killAfter)
			if took := time.Since(begin); took < time.Second+test.atLeast || took > time.Minute {
				t.Errorf("took %v", took)
			}
			if r.ExitCode != test.code || r.Error != "timed out after 1s" {
				t.Errorf("code %d, error %q, want %d", r.ExitCode, r.Error, test.code)
			}
			pid := pidIn(t, file)
			eventually(t, "the grandchild to be gone", func() bool { return !alive(pid) })
		})
	}
}

// What is left in the background holds up no report for long; it lives on and can
// print without dying of it.
func TestBackgroundIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, goOn := filepath.Join(dir, "pid"), filepath.Join(dir, "go")
	line := fmt.Sprintf("(while [ ! -e %[2]s ]; do sleep 0.05; done; echo late; echo late; echo $$ >%[1]s; exec sleep 300) & echo $! >%[1]s.first; echo early", file, goOn)
	begin := time.Now()
	r := runLine(t, t.Context(), line, time.Minute, time.Second)
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("report after %v", took)
	}
	if r.ExitCode != 0 || r.Error != "" || r.Stdout != "early\n" || r.Truncated {
		t.Errorf("%+v", r)
	}
	pid := pidIn(t, file+".first")
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
	os.WriteFile(goOn, nil, 0o600)
	pidIn(t, file) // written after it had printed
	if !alive(pid) {
		t.Error("what was in the background is gone")
	}
}

func TestContextEndsTheGroup(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{errCancelled, nil} {
		ctx, cancel := context.WithCancelCause(t.Context())
		file := filepath.Join(t.TempDir(), "pid")
		go func() {
			for range 2000 { // bounded: the test fails by itself if nothing comes
				if b, _ := os.ReadFile(file); bytes.HasSuffix(b, []byte("\n")) {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			cancel(cause)
		}()
		r := runLine(t, ctx, "sleep 300 & echo begun; echo $! >"+file+"; wait", time.Minute, time.Minute)
		want := "cancelled"
		if cause == nil {
			want = "interrupted: the agent stopped while the command ran"
		}
		if r.ExitCode != 143 || r.Error != want || r.Stdout != "begun\n" {
			t.Errorf("%+v, want 143 and %q", r, want)
		}
		if pid := pidIn(t, file); alive(pid) {
			eventually(t, "the grandchild to be gone", func() bool { return !alive(pid) })
		}
		if r = runLine(t, ctx, "echo >"+file+".2", time.Minute, time.Minute); r.ExitCode != -1 || r.Error != want {
			t.Errorf("started afterwards: %+v", r)
		}
	}
}
