package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopMost is how long a process has to end in good order: a worker may take 8 s for
// the jobs that are under way, a listener for the agents that move away.
const stopMost = 30 * time.Second

// Process is a program that is started, killed and started again, on the same words.
// Its output of all runs goes into one file. It ends with the process that started it.
type Process struct {
	Name string
	Log  string // the file

	path string
	args []string
	env  []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
	state *os.ProcessState
}

// NewProcess returns a process that is not running. Its log is dir/name.log; env comes
// on top of this process's own.
func NewProcess(name, dir, path string, env []string, args ...string) *Process {
	return &Process{Name: name, Log: filepath.Join(dir, name+".log"), path: path, args: args, env: env}
}

// Start starts it. It must not be running.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	ended := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.ended, p.state = cmd, ended, nil
	p.mu.Unlock()
	go func() { // waited for by Kill and Stop
		_ = cmd.Wait() // what matters of it is in the state
		p.mu.Lock()
		p.state = cmd.ProcessState
		p.mu.Unlock()
		close(ended)
	}()
	return nil
}

// Pid is its process id, of the last run if it does not run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Running reports whether it was started and has not ended.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && p.state == nil
}

// Kill ends it as a crash would, and waits for its end. One that does not run is left.
func (p *Process) Kill() {
	if p.Running() {
		_ = p.signal(syscall.SIGKILL) // it has ended meanwhile: as good
		<-p.ended
	}
}

// Stop asks it to end and waits for it. It is an error if it does not end with status 0
// within half a minute, and then it is killed.
func (p *Process) Stop() error {
	if !p.Running() {
		return nil
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(stopMost):
		p.Kill()
		return fmt.Errorf("%s did not end within %v", p.Name, stopMost)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.state.Success() {
		return fmt.Errorf("%s: %v", p.Name, p.state)
	}
	return nil
}

// Pause holds it still; Resume lets it go on.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a process go on that was held still.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

// signal goes through os.Process, which knows when the process has ended: no other one
// that got its id is ever meant.
func (p *Process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%v to %s: %w", s, p.Name, err)
	}
	return nil
}

// Memory is its resident memory, in bytes.
func (p *Process) Memory() (int64, error) { return Memory(p.Pid()) }

// Memory is the resident memory of a process, in bytes.
func Memory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", pid)
}
