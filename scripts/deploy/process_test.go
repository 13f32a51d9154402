package deploy_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// process is a program that runs until it is stopped, or until the test is over.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // how, once it has ended
}

// startProcess starts a program. What it prints goes to the file log, and is shown if the
// test fails.
func startProcess(t *testing.T, name string, cmd *exec.Cmd, log string) *process {
	t.Helper()
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %q: %v", name, cmd.Args, err)
	}
	p := &process{name: name, cmd: cmd, ended: make(chan struct{})}
	go func() { // waited for below
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may well have ended
		<-p.ended
		if t.Failed() {
			said, _ := os.ReadFile(log)
			t.Logf("%s, %q\n%s", name, cmd.Args, said)
		}
	})
	return p
}

// stop ends it as those do that run services: SIGTERM, and the time that they give. It has
// to end with status 0 within that.
func (p *process) stop(t *testing.T, grace time.Duration) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself, which is seen below
	select {
	case <-p.ended:
		if p.err != nil {
			t.Errorf("%s ends with %v", p.name, p.err)
		}
	case <-time.After(grace):
		t.Errorf("%s does not end within %v", p.name, grace)
	}
}
