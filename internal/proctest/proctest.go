// Package proctest has tests run other programs.
package proctest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// limit is how long a program may take. A first build of all that muster needs is slow on a
// small machine.
const limit = 5 * time.Minute

// Run runs a program to its end, in dir. env comes on top of this process's own. A program
// that can't be started, or is not done after 5 minutes, fails the test.
func Run(t *testing.T, dir string, env []string, words ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%q: not done after %s\n%s%s", words, limit, out.String(), errs.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", words, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// Output runs a program to its good end, and returns what it has printed; any other end
// fails the test.
func Output(t *testing.T, dir string, env []string, words ...string) string {
	t.Helper()
	status, stdout, stderr := Run(t, dir, env, words...)
	if status != 0 {
		t.Fatalf("%q ends with %d\n%s%s", words, status, stdout, stderr)
	}
	return stdout
}

// Need skips a test where a program is missing, and says which.
func Need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: %v", p, err)
		}
	}
}
