package agent

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// process is a command that runs in a shell, in its own job.
type process struct {
	cmd   *exec.Cmd
	job   windows.Handle // 0 if the system did not let it have one
	ended atomic.Bool
}

// startProcess starts line in the shell, with nothing to read.
func startProcess(line string, stdout, stderr *os.File) (*process, error) {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(system, "cmd.exe"))
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// With /S cmd takes off the outer quotes and leaves the rest as it is.
		CmdLine: `cmd /S /C "` + line + `"`,
		// A group of its own, for terminate. Suspended, so that nothing is started
		// by it before it is in its job.
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_SUSPENDED,
		HideWindow:    true, // an agent without a console makes cmd open one
	}
	job, err := newJob()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		windows.CloseHandle(job)
		return nil, err
	}
	p := &process{cmd: cmd, job: job}
	// An agent that is itself in a job of a certain kind can't give it one. Then the
	// command runs all the same, but only the shell can be ended.
	assign := func(h uintptr) { err = windows.AssignProcessToJobObject(job, windows.Handle(h)) }
	if e := cmd.Process.WithHandle(assign); e != nil || err != nil {
		windows.CloseHandle(job)
		p.job = 0
	}
	if err := resume(uint32(cmd.Process.Pid)); err != nil {
		p.kill()
		p.wait()
		p.release()
		return nil, err
	}
	return p, nil
}

// newJob makes a job whose processes end with the agent, should that be killed.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, os.NewSyscallError("CreateJobObject", err)
	}
	if err := limitJob(job, windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE); err != nil {
		windows.CloseHandle(job)
		return 0, err
	}
	return job, nil
}

func limitJob(job windows.Handle, flags uint32) error {
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = flags
	_, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	return os.NewSyscallError("SetInformationJobObject", err)
}

// resume lets a process run that was started suspended. It has one thread, of which
// os/exec keeps no handle.
func resume(pid uint32) error {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return os.NewSyscallError("CreateToolhelp32Snapshot", err)
	}
	defer windows.CloseHandle(all)
	entry := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(all, &entry); err == nil; err = windows.Thread32Next(all, &entry) {
		if entry.OwnerProcessID != pid {
			continue
		}
		thread, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, entry.ThreadID)
		if err != nil {
			return os.NewSyscallError("OpenThread", err)
		}
		defer windows.CloseHandle(thread)
		_, err = windows.ResumeThread(thread)
		return os.NewSyscallError("ResumeThread", err)
	}
	return os.NewSyscallError("Thread32Next", err)
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

// terminate asks the group to end. It is heard where the agent has a console, which
// the group shares; elsewhere, in a service for instance, all waits for kill.
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

// release gives the job back. What the command has left in the background goes on.
func (p *process) release() {
	if p.job != 0 {
		limitJob(p.job, 0)
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

// outputCodePage is the code page in which the next command will write: that of the
// agent's console, which it shares, or that of the console that it opens.
func outputCodePage() uint32 {
	if cp, err := windows.GetConsoleOutputCP(); err == nil && cp != 0 {
		return cp
	}
	cp, _, _ := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetOEMCP").Call()
	return uint32(cp)
}
