package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

const defaultRedis = "redis://127.0.0.1:6379/0"

// app is one run of the program.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	verb   string          // the one that runs
	given  map[string]bool // the flags on the command line; the others come from the environment

	defaults map[string]any // of the shared flags, where the verb has its own
	file     settingsFile
	redisBy  string                                      // what says where Redis is; empty for the default
	hangup   func() (hung <-chan os.Signal, done func()) // SIGHUP, for who asks for it
}

// run is the whole program but for signals and the exit. An error becomes one line on
// stderr here; only the console says the errors of its lines itself.
//
// hangup has SIGHUP sent to a channel until done is called; without it, it ends the
// process. It may be nil.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, hangup func() (<-chan os.Signal, func())) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(stderr, "muster: internal error, please report it: %s\n", visible.Line(fmt.Sprint(r)))
			code = int(statusFailure)
		}
	}()
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, hangup: hangup}
	if len(args) > 1 && args[1] == completeVerb {
		a.complete(ctx, args[2:])
		return int(statusOK)
	}
	err := a.run(ctx, args)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		switch a.verb {
		case "up", "listener", "worker", "agent", "dashboard", "events":
			err = nil // to be ended by a signal is their good end, also while they start
		default:
			err = failf(statusFailure, "interrupted")
		}
	}
	return int(a.complain(err))
}

// complain says what is wrong, as one line, if there is something to say, and returns
// the status that it comes to.
func (a *app) complain(err error) status {
	s, text := read(err)
	if text != "" {
		fmt.Fprintf(a.stderr, "muster: %s\n", visible.Line(strings.ReplaceAll(text, "\n", "; ")))
	}
	return s
}

func (a *app) run(ctx context.Context, args []string) error {
	commands := a.commands()
	l, err := arrange(commands, args)
	if err != nil {
		return err
	}
	a.given, a.defaults = l.given, map[string]any{}
	for _, f := range commands.Command(l.args[1]).Flags {
		if text, ok := f.(*cli.StringFlag); ok && findFlag(sharedFlags("", ""), text.Name) != nil {
			a.defaults[text.Name] = text.Value
		}
	}
	return commands.RunContext(ctx, l.args)
}

func (a *app) commands() *cli.App {
	of := func(category string, verbs ...*cli.Command) []*cli.Command {
		for _, v := range verbs {
			v.Category = category
		}
		return verbs
	}
	verbs := slices.Concat(
		of(toStart, a.upVerb(), a.demoVerb(), a.listenerVerb(), a.workerVerb(), a.agentVerb(), a.dashboardVerb()),
		of(toUse, a.dispatchVerb(), a.consoleVerb(), a.cancelVerb()),
		of(toLook, a.hostsVerb(), a.statusVerb(), a.resultsVerb(), a.eventsVerb(), a.verifyVerb(), a.doctorVerb(), a.healthVerb()),
		of(toSet, a.configVerb(), a.completionVerb(), a.versionVerb(), a.helpVerb()),
	)
	for _, v := range verbs {
		v.HideHelp, v.HideHelpCommand = true, true // arrange turns --help into the verb help
		v.Before = a.checkShared
		v.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError(err) }
	}
	return &cli.App{
		Name: "muster", Usage: "keep the roll of a fleet and set it to work",
		Commands: verbs, HideHelp: true, HideVersion: true, DisableSliceFlagSeparator: true,
		Writer: a.stdout, ErrWriter: a.stderr,
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usageError(err) },
		ExitErrHandler: func(*cli.Context, error) {}, // run says it and ends
	}
}

// checkShared reads the file of settings, and finds what is wrong in it and with the
// shared flags, whatever the verb does with them. From then on the shared flags are what
// is in force.
func (a *app) checkShared(c *cli.Context) error {
	a.verb = c.Command.Name
	if a.verb == "help" || a.verb == "completion" {
		return nil // they are needed whatever the settings are
	}
	var err error
	if a.file, err = readSettings(c.String("config"), a.given["config"]); err != nil {
		return err
	}
	for _, s := range append(settingsOf("log"), settingsOf("redis")[0]) {
		f, err := a.inForce(c, s)
		if err != nil {
			return err
		}
		if s.flag == "redis" {
			a.redisBy = f.where
		}
		if text, ok := f.value.(string); ok {
			if err := c.Set(s.flag, text); err != nil {
				return err
			}
		}
	}
	if a.given["redis"] && c.String("redis") == "" {
		switch c.Command.Name {
		case "up", "demo", "agent": // none
		default:
			return misuse("--redis is empty") // a variable that is not set must not mean another Redis
		}
	}
	return nil
}

// usageError words the flag package's error as this program writes its flags.
func usageError(err error) error {
	text := err.Error()
	if value, rest, ok := strings.Cut(text, " for flag -"); ok {
		text = value + " for flag --" + rest
	}
	return misuse("%s", strings.TrimSuffix(text, ": parse error"))
}

// sharedFlags are the flags of every verb.
func sharedFlags(redisURL, level string) []cli.Flag {
	flags := []cli.Flag{textFlag("config", "", "`FILE` of settings (default: "+defaultFile+", where it exists)")}
	for _, s := range append(settingsOf("redis"), settingsOf("log")...) {
		switch s.flag {
		case "":
			continue
		case "redis":
			s.value = redisURL
		case "log-level":
			s.value = level
		}
		flags = append(flags, s.asFlag())
	}
	return flags
}

// verbFlags are the shared flags and those of one verb.
func verbFlags(own ...cli.Flag) []cli.Flag {
	return append(own, sharedFlags(defaultRedis, "info")...)
}

func env(name string) []string {
	return []string{"MUSTER_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
}

func textFlag(name, value, usage string) cli.Flag {
	return &cli.StringFlag{Name: name, Value: value, Usage: usage, EnvVars: env(name)}
}

func listFlag(name, usage string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Usage: usage, EnvVars: env(name), KeepSpace: true}
}

func boolFlag(name, usage string) cli.Flag {
	return &cli.BoolFlag{Name: name, Usage: usage, EnvVars: env(name)}
}

func intFlag(name string, value int, usage string) cli.Flag {
	return &cli.IntFlag{Name: name, Value: value, Usage: usage, EnvVars: env(name)}
}

func spanFlag(name string, value time.Duration, usage string) cli.Flag {
	return &cli.DurationFlag{Name: name, Value: value, Usage: usage, EnvVars: env(name)}
}

func jsonFlag() cli.Flag {
	return boolFlag("json", "print one JSON object a line, and nothing else on standard output")
}

// list returns the values of a list flag. Its variable, if it is there and empty, is
// as good as not there.
func (a *app) list(c *cli.Context, name string) []string {
	values := c.StringSlice(name)
	if len(values) == 1 && values[0] == "" && !a.given[name] {
		return nil
	}
	return values
}

// orDefault is a setting, or its default where its variable is there and empty.
func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// span returns a duration flag that must be above zero.
func span(c *cli.Context, name string) (time.Duration, error) {
	d := c.Duration(name)
	if d <= 0 {
		return 0, misuse("--%s %v: want more than zero", name, d)
	}
	return d, nil
}

// integer returns a number flag that must lie between least and most.
func integer(c *cli.Context, name string, least, most int) (int, error) {
	n := c.Int(name)
	if n < least || n > most {
		return 0, misuse("--%s %d: want %d to %d", name, n, least, most)
	}
	return n, nil
}

// noWords says that a verb takes no arguments.
func noWords(c *cli.Context) error {
	if c.NArg() > 0 {
		return misuse("%s takes no argument, got %q", c.Command.Name, c.Args().First())
	}
	return nil
}

// oneNumber returns the task number that is the verb's one argument.
func oneNumber(c *cli.Context) (tasks.Number, error) {
	if c.NArg() == 0 {
		return "", misuse("%s needs a task number", c.Command.Name)
	}
	if c.NArg() > 1 {
		return "", misuse("%s takes one task number, got %q too", c.Command.Name, c.Args().Get(1))
	}
	n, err := tasks.ParseNumber(c.Args().First())
	var invalid *tasks.InvalidError
	if errors.As(err, &invalid) {
		return "", misuse("%s", invalid.Reason)
	}
	return n, err
}
