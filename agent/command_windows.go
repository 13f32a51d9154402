package agent

import (
	"errors"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// process is a command that runs in a shell, in its own job.
type process struct {
	cmd   *exec.Cmd
	job   windows.Handle
	ended atomic.Bool
}

// startProcess starts line in the shell, with nothing to read.
func startProcess(line string, stdout, stderr *os.File) (*process, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("cmd")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// With /S cmd takes off the outer quotes and leaves the rest as it is.
		CmdLine:       `cmd /S /C "` + line + `"`,
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP,
	}
	if err := cmd.Start(); err != nil {
		windows.CloseHandle(job)
		return nil, err
	}
	p := &process{cmd: cmd, job: job}
	// What the shell starts from here on is in the job as well. Without a job only
	// the shell itself can be ended.
	assign := func(h uintptr) { err = windows.AssignProcessToJobObject(job, windows.Handle(h)) }
	if e := cmd.Process.WithHandle(assign); e != nil || err != nil {
		windows.CloseHandle(job)
		p.job = 0
	}
	return p, nil
}

// wait waits for the shell and returns its status.
func (p *process) wait() (code int, err error) {
	err = p.cmd.Wait()
	p.ended.Store(true)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err
	}
	// Windows has unsigned codes of 32 bits; ExitCode gives the same on all platforms.
	return int(uint32(p.cmd.ProcessState.ExitCode())), nil
}

// terminate asks the group to end, if it has the agent's console.
func (p *process) terminate() {
	windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(p.cmd.Process.Pid))
}

// kill ends the job, and so all that the shell has started.
func (p *process) kill() {
	if p.job == 0 {
		p.cmd.Process.Kill()
		return
	}
	windows.TerminateJobObject(p.job, 1)
}

// gone reports whether nothing of the job is left.
func (p *process) gone() bool {
	if p.job == 0 {
		return p.ended.Load()
	}
	var info jobAccounting
	err := windows.QueryInformationJobObject(p.job, windows.JobObjectBasicAccountingInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)), nil)
	return err == nil && info.ActiveProcesses == 0
}

// release gives the job back. What still runs in it goes on.
func (p *process) release() {
	if p.job != 0 {
		windows.CloseHandle(p.job)
	}
}

// jobAccounting is JOBOBJECT_BASIC_ACCOUNTING_INFORMATION.
type jobAccounting struct {
	TotalUserTime, TotalKernelTime                 int64
	ThisPeriodTotalUserTime, ThisPeriodTotalKernel int64
	TotalPageFaultCount, TotalProcesses            uint32
	ActiveProcesses, TotalTerminatedProcesses      uint32
}
