package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/tasks"
)

// maxRequestFile bounds what is read of a file: a request at its limits has 100,000
// hosts of 128 bytes.
const maxRequestFile = 64 << 20

// request makes the dispatch request that the flags ask for. Nothing has been asked
// of Redis by then.
func (a *app) request(c *cli.Context) (tasks.Request, error) {
	if file := c.String("request"); file != "" || a.given["request"] {
		for _, other := range []string{"key", "host", "all", "run", "commands", "offline", "command-timeout", "deadline"} {
			if a.given[other] {
				return tasks.Request{}, misuse("--request is the whole request, --%s can't stand beside it", other)
			}
		}
		b, err := a.readFile("request", file)
		if err != nil {
			return tasks.Request{}, err
		}
		r, err := tasks.ParseRequest(b)
		if err != nil {
			return r, misuse("--request: %w", err)
		}
		return r, nil
	}
	r := tasks.Request{Hosts: a.list(c, "host"), Offline: c.String("offline")}
	if len(r.Hosts) == 0 && !c.Bool("all") {
		return r, misuse("to whom? --host HOST, once for each, or --all")
	}
	if len(r.Hosts) > 0 && c.Bool("all") {
		return r, misuse("--host and --all exclude each other")
	}
	var err error
	if key := c.String("key"); key != "" || a.given["key"] {
		if r.Key, err = tasks.ParseNumber(key); err != nil {
			return r, flagError(err)
		}
	}
	if a.given["offline"] && r.Offline == "" {
		return r, misuse("--offline is empty, want %s or %s", tasks.OfflineReport, tasks.OfflineWait)
	}
	if r.Timeout, err = span(c, "command-timeout"); err != nil {
		return r, err
	}
	if r.Deadline, err = span(c, "deadline"); err != nil {
		return r, err
	}
	if r.Commands, err = a.requestCommands(c); err != nil {
		return r, err
	}
	if r, err = r.Validate(); err != nil {
		return r, flagError(err)
	}
	return r, nil
}

// requestCommands reads --run and --commands.
func (a *app) requestCommands(c *cli.Context) ([]tasks.Command, error) {
	lines, file := a.list(c, "run"), c.String("commands")
	named := file != "" || a.given["commands"]
	switch {
	case len(lines) > 0 && named:
		return nil, misuse("--run and --commands exclude each other")
	case len(lines) > 0:
		commands := make([]tasks.Command, len(lines))
		for i, l := range lines {
			commands[i] = tasks.Command{Line: l, Priority: float64(len(lines) - i)}
		}
		return commands, nil
	case !named:
		return nil, misuse("what? --run COMMAND, once for each, --commands FILE or --request FILE")
	}
	b, err := a.readFile("commands", file)
	if err != nil {
		return nil, err
	}
	// The one reader of commands reads whole requests. Valid JSON is one value, so
	// nothing of it can become another field of this one.
	if !json.Valid(b) {
		return nil, misuse("--commands: not a JSON object of command and priority")
	}
	r, err := tasks.ParseRequest(fmt.Appendf(nil, `{"commands":%s}`, b))
	if err != nil {
		return nil, misuse("--commands: %w", err)
	}
	return r.Commands, nil
}

// readFile reads the file that a flag names, "-" for standard input.
func (a *app) readFile(flag, name string) ([]byte, error) {
	var from io.Reader
	switch name {
	case "":
		return nil, misuse("--%s: no file named", flag)
	case "-":
		from = a.stdin
	default:
		f, err := os.Open(name)
		if err != nil {
			return nil, failf(statusFailure, "--%s: %w", flag, err)
		}
		defer f.Close()
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, maxRequestFile+1))
	if err != nil {
		return nil, failf(statusFailure, "--%s: %w", flag, err)
	}
	if len(b) > maxRequestFile {
		return nil, misuse("--%s: more than %d bytes", flag, maxRequestFile)
	}
	return bytes.TrimPrefix(b, []byte("\ufeff")), nil // editors on Windows put a mark there
}

// flagError names the flag in place of the field of a request.
func flagError(err error) error {
	var invalid *tasks.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	flag := map[string]string{
		"key": "--key", "commands": "--run", "hosts": "--host", "offline": "--offline",
		"timeout_s": "--command-timeout", "deadline_s": "--deadline",
	}[invalid.Field]
	if flag == "" {
		return err
	}
	return misuse("%s: %s", flag, invalid.Reason)
}

// waitSpan is --wait-timeout: 0 for none.
func waitSpan(c *cli.Context) (time.Duration, error) {
	d := c.Duration("wait-timeout")
	if d < 0 {
		return 0, misuse("--wait-timeout %v: want more than zero, or 0 for none", d)
	}
	return d, nil
}
