//go:build unix

package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// dialog STATUS FILE program args: the program has a terminal, on which what FILE says
// goes on, and ends with that status. Its lines are "type TEXT", with Go's escapes, and
// "see REGEXP": it appears behind what was seen before, within a minute.
func dialog(ts *testscript.TestScript, _ bool, args []string) {
	cmd := command(ts, args[2:])
	if !slices.ContainsFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "TERM=") }) {
		cmd.Env = append(cmd.Env, "TERM=xterm")
	}
	master, err := startOnTerminal(cmd)
	ts.Check(err)
	defer master.Close()
	var s screen
	var reading sync.WaitGroup
	reading.Go(func() { io.Copy(&s, master) }) // until nobody has the other side, an error here
	defer reading.Wait()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { ts.Logf("[terminal]\n%q", s.all()) }()
	failed := true
	defer func() {
		if failed {
			cmd.Process.Kill()
		}
	}()
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "type":
			text, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
			ts.Check(err)
			_, err = io.WriteString(master, text)
			ts.Check(err)
		case "see":
			pattern := regexp.MustCompile(rest)
			poll(ts, fmt.Sprintf("never seen: %s in %q", rest, s.all()), func() bool { return s.seen(pattern) })
		default:
			ts.Fatalf("%q", line)
		}
	}
	select {
	case err := <-ended:
		failed = false
		if got := exitStatus(ts, err); strconv.Itoa(got) != args[0] {
			ts.Fatalf("exit status %d, want %s", got, args[0])
		}
	case <-time.After(45 * time.Second):
		ts.Fatalf("it does not end")
	}
	reading.Wait()
	fmt.Fprint(ts.Stdout(), s.all())
}
