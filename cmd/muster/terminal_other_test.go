//go:build unix && !linux

package main

import (
	"errors"
	"os"
	"os/exec"
)

func startOnTerminal(*exec.Cmd) (*os.File, error) {
	return nil, errors.New("terminals are tested on Linux only")
}

func onTerminal(*exec.Cmd, string) (string, error) {
	return "", errors.New("terminals are tested on Linux only")
}
