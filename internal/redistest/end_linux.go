package redistest

import (
	"os/exec"
	"syscall"
)

// endWithTest lets the kernel end the server when the test binary is killed.
func endWithTest(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
