package agent

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/musterhq/muster/wire"
)

// What these tests start besides cmd itself is ping, which every Windows has, and
// this test.

func runLine(t *testing.T, ctx context.Context, line string, limit, killAfter time.Duration) wire.Result {
	t.Helper()
	a := &Agent{cfg: Config{KillAfter: killAfter}}
	t.Cleanup(a.drains.close)
	return a.run(ctx, line, limit)
}

func TestHowCommandsEnd(t *testing.T) {
	t.Setenv("MUSTER_WORD", "a word")
	minusOne := ^uint32(0) // codes have no sign
	for line, want := range map[string]wire.Result{
		"exit 7":                             {ExitCode: 7},
		"exit -1":                            {ExitCode: int(minusOne)},
		"echo out& echo err>&2":              {Stdout: "out\r\n", StdoutBytes: 5, Stderr: "err\r\n", StderrBytes: 5},
		"exit 3 && echo no":                  {ExitCode: 3},
		"echo yes&& echo too":                {Stdout: "yes\r\ntoo\r\n", StdoutBytes: 10},
		`echo "a  b" 'c' \"`:                 {Stdout: "\"a  b\" 'c' \\\"\r\n", StdoutBytes: 15},
		`"%ComSpec%" /C "echo quoted"`:       {Stdout: "quoted\r\n", StdoutBytes: 8},
		`echo %MUSTER_WORD%`:                 {Stdout: "a word\r\n", StdoutBytes: 8},
		`for %i in (1 2) do @echo [%i]`:      {Stdout: "[1]\r\n[2]\r\n", StdoutBytes: 10},
		`echo apple| find "app"`:             {Stdout: "apple\r\n", StdoutBytes: 7},
		"set /p x=& if not defined x exit 5": {ExitCode: 5}, // there is nothing to read
		"a\x00b":                             {ExitCode: -1, Error: "invalid argument"},
	} {
		want.Command = line
		r := runLine(t, t.Context(), line, time.Minute, time.Second)
		r.DurationMS = 0
		if want.Error != "" && strings.Contains(r.Error, want.Error) {
			r.Error = want.Error
		}
		if r != want {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
}

// TestPrinter is no test: it prints what TestOutputOfPrograms asks for.
func TestPrinter(t *testing.T) {
	switch os.Getenv("MUSTER_TEST_PRINT") {
	case "utf16":
		os.Stdout.WriteString("\xff\xfe-N\x87e\r\x00\n\x00")
	case "utf8":
		os.Stdout.WriteString("中文\n")
	default:
		return
	}
	os.Exit(0)
}

// Whatever the code page of this console is.
func TestOutputOfPrograms(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for form, want := range map[string]wire.Result{
		"utf16": {Stdout: "中文\r\n", StdoutBytes: 10},
		"utf8":  {Stdout: "中文\n", StdoutBytes: 7},
	} {
		line := "set MUSTER_TEST_PRINT=" + form + `&& "` + self + `" -test.run=^^TestPrinter$`
		want.Command = line
		r := runLine(t, t.Context(), line, time.Minute, time.Second)
		r.DurationMS = 0
		if r != want {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
}

// Whatever the shell has started is gone with it.
func TestTimeoutEndsTheJob(t *testing.T) {
	line := "start /b ping -n 300 127.0.0.1 & cmd /c ping -n 300 127.0.0.1"
	begin := time.Now()
	r := runLine(t, t.Context(), line, time.Second, 300*time.Millisecond)
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("took %v", took)
	}
	if r.Error != "timed out after 1s" {
		t.Errorf("%+v", r)
	}
	p := startLine(t, line)
	time.Sleep(500 * time.Millisecond) // so that there is something besides the shell
	if p.job == 0 || p.gone() {
		t.Fatalf("job %v, gone %t", p.job, p.gone())
	}
	p.kill()
	if code, err := p.wait(); code != 1 || err != nil {
		t.Errorf("status %d, %v", code, err)
	}
	eventually(t, "the job to be empty", p.gone)
	p.release()
}

// startLine starts line with nowhere to print.
func startLine(t *testing.T, line string) *process {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := startProcess(line, null, null)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// When the agent is killed, its jobs go with it; what a command has left in the
// background goes on when the command is over.
func TestWhatGoesWithTheJob(t *testing.T) {
	for name, release := range map[string]bool{"agent killed": false, "command over": true} {
		p := startLine(t, "ping -n 300 127.0.0.1 >nul")
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			p.wait()
		}()
		if release {
			p.release()
		} else {
			windows.CloseHandle(p.job) // as the system does for one that is dead
			<-gone
			continue
		}
		select {
		case <-gone:
			t.Errorf("%s: the process is gone", name)
		case <-time.After(300 * time.Millisecond):
		}
		exec.Command("taskkill", "/F", "/T", "/PID", strconv.Itoa(p.cmd.Process.Pid)).Run()
		p.cmd.Process.Kill()
		<-gone
	}
}
