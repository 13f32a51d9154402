// Package deploy_test holds the ways to install muster to what they promise: Dockerfile,
// docker-compose.yml, the systemd units, and what scripts/release makes. No container is
// run: what a container would run is run as processes, on loopback addresses.
package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

const root = "../.." // of the project, seen from this package

// output runs a program to its good end, and returns what it has printed.
func output(t *testing.T, dir string, env []string, words ...string) string {
	t.Helper()
	status, stdout, stderr := run(t, dir, env, words...)
	if status != 0 {
		t.Fatalf("%q ends with %d\n%s%s", words, status, stdout, stderr)
	}
	return stdout
}

// run runs a program to its end. env comes on top of this process's own.
func run(t *testing.T, dir string, env []string, words ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", words, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// need skips a test where a program is missing, and says so.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: %v", p, err)
		}
	}
}
