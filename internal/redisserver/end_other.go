//go:build !linux

package redisserver

import "os/exec"

func endWithUs(*exec.Cmd) {}
