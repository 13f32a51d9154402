package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// startOnTerminal starts cmd on a terminal of its own, and returns the other side of it.
func startOnTerminal(cmd *exec.Cmd) (master *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := startOn(master, cmd); err != nil {
		master.Close()
		return nil, err
	}
	return master, nil
}

func startOn(master *os.File, cmd *exec.Cmd) error {
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}); err != nil {
		return err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return cmd.Start()
}

// onTerminal runs cmd on a terminal of its own, types input when a question is asked,
// and returns what appears.
func onTerminal(cmd *exec.Cmd, input string) (screen string, err error) {
	master, err := startOnTerminal(cmd)
	if err != nil {
		return "", err
	}
	defer master.Close()
	var b []byte
	buf := make([]byte, 4096)
	for { // until nobody has the other side any more, which is an error here
		n, err := master.Read(buf)
		if b = append(b, buf[:n]...); err != nil {
			return string(b), cmd.Wait()
		}
		if input != "" && bytes.HasSuffix(b, []byte("[y/N] ")) {
			if _, err := io.WriteString(master, input); err != nil {
				return string(b), err
			}
			input = ""
		}
	}
}
