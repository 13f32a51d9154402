//go:build unix

package agent

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// process is a command that runs in a shell, at the head of its own group.
type process struct{ cmd *exec.Cmd }

// startProcess starts line in the shell, with nothing to read.
func startProcess(line string, stdout, stderr *os.File) (*process, error) {
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// A group of its own, so that whatever the shell starts can be ended with it,
	// and a signal to the agent's group does not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd}, nil
}

// wait waits for the shell and returns its status, 128+n if signal n ended it.
func (p *process) wait() (code int, err error) {
	err = p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// terminate asks the group to end.
func (p *process) terminate() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) }

// kill ends the group.
func (p *process) kill() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// gone reports whether nothing of the group is left.
func (p *process) gone() bool { return syscall.Kill(-p.cmd.Process.Pid, 0) != nil }

// release does nothing here.
func (p *process) release() {}

// outputCodePage is of no matter here: text is UTF-8.
func outputCodePage() uint32 { return codePageNone }
