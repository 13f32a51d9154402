//go:build unix && !linux

package main

import (
	"errors"
	"os/exec"
)

func onTerminal(*exec.Cmd, string) (string, error) {
	return "", errors.New("terminals are tested on Linux only")
}
