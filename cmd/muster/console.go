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

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

// consoleSlack is how much longer than its command a dispatch of the console may take
// when nothing else is said: time for hosts that are slow to answer.
const consoleSlack = 5 * time.Minute

func (a *app) consoleVerb() *cli.Command {
	return &cli.Command{
		Name: "console", Usage: "have every online host run what is typed, line by line",
		Flags: verbFlags(
			spanFlag("command-timeout", tasks.DefaultTimeout, "limit for each command, whole seconds"),
			spanFlag("deadline", 0, "when a line's ledger closes, whole seconds; 0: 5m after the limit for its command"),
			spanFlag("wait-timeout", 0, "stop waiting for a line after this; 0: when its ledger closes"),
			jsonFlag(),
		),
		Action: a.console,
	}
}

func (a *app) console(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	cfg, err := a.consoleConfig(c)
	if err != nil {
		return err
	}
	log, logged, err := a.log(c)
	if err != nil {
		return err
	}
	defer logged()
	rdb, _, err := open(c.Context, a.redisAt(c))
	if err != nil {
		return err
	}
	defer rdb.Close()
	return a.newSession(rdb, log, a.printer(c), cfg).run(c.Context)
}

// instructions are the commands that have a name, by name.
func (a *app) instructions(*cli.Context) (map[string]string, error) { return a.file.instructions, nil }

// consoleConfig says what the lines of a console mean.
type consoleConfig struct {
	instructions map[string]string // name to command
	timeout      time.Duration     // limit for each command
	deadline     time.Duration     // when the ledger of a line closes
	patience     time.Duration     // how long a line is waited for; 0 means without end
}

func (a *app) consoleConfig(c *cli.Context) (cfg consoleConfig, err error) {
	if cfg.patience, err = waitSpan(c); err != nil {
		return cfg, err
	}
	if cfg.timeout, err = span(c, "command-timeout"); err != nil {
		return cfg, err
	}
	switch cfg.deadline = c.Duration("deadline"); {
	case cfg.deadline < 0:
		return cfg, misuse("--deadline %v: want more than zero, or 0 for %v after the limit for a command", cfg.deadline, consoleSlack)
	case cfg.deadline == 0:
		cfg.deadline = min(cfg.timeout+consoleSlack, tasks.MaxSpan)
	}
	// What each line is made of is judged once, before the first one is typed.
	if _, err := (cfg.request(nil, "-")).Validate(); err != nil {
		return cfg, flagError(err)
	}
	cfg.instructions, err = a.instructions(c)
	return cfg, err
}

// request is the dispatch request of one command. No hosts means all that are online.
func (cfg consoleConfig) request(hosts []string, command string) tasks.Request {
	return tasks.Request{
		Hosts: hosts, Commands: []tasks.Command{{Line: command}}, Timeout: cfg.timeout, Deadline: cfg.deadline,
	}
}

// session is one run of the console: a line after the other, each to its end.
type session struct {
	app   *app
	cfg   consoleConfig
	rdb   redis.UniversalClient
	store *tasks.Store
	log   logrus.FieldLogger
	out   *printer

	lines  lineSource
	asked  bool          // somebody types at a terminal
	ctrlC  chan struct{} // has one element when Ctrl-C was typed; only if asked
	last   tasks.Number  // of the last dispatch
	status status        // the worst of the lines so far
}

// errInterrupted is a line that was given up with Ctrl-C.
var errInterrupted = errors.New("interrupted")

// lineSource is where lines come from.
type lineSource interface {
	// next returns the next line without its end. The error is io.EOF after the last
	// one, errInterrupted, or a verdict on this line.
	next(ctx context.Context) (string, error)
	close()
}

func (a *app) newSession(rdb redis.UniversalClient, log logrus.FieldLogger, out *printer, cfg consoleConfig) *session {
	return &session{
		app: a, cfg: cfg, rdb: rdb, store: tasks.NewStore(rdb, tasks.StoreConfig{}), log: log, out: out,
		asked: isTerminal(a.stdin), ctrlC: make(chan struct{}, 1),
	}
}

// run obeys the lines, and returns the verdict on all of them.
func (s *session) run(ctx context.Context) error {
	if s.asked {
		defer interruptsOf(ctx).ask(func() {
			select {
			case s.ctrlC <- struct{}{}:
			default: // it is still to be heard
			}
		})()
		if err := s.greet(ctx); err != nil {
			return err
		}
	}
	if err := s.openLines(); err != nil {
		return err
	}
	defer s.lines.close()
	for number := 1; ctx.Err() == nil && s.out.err == nil; number++ {
		text, err := s.lines.next(ctx)
		switch {
		case errors.Is(err, errInterrupted):
			fmt.Fprintln(s.app.stderr, "exit() or Ctrl-D leaves, :help shows what can be typed")
			continue
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return s.end()
		case err == nil:
			if isExit(text) {
				return s.end()
			}
			err = s.line(ctx, text)
		}
		if _, text := read(err); text != "" && !s.asked { // which one is not to be seen
			err = fmt.Errorf("line %d: %w", number, err)
		}
		s.status = worst(s.status, s.app.complain(err))
		if err := s.out.flush(); err != nil {
			return err
		}
	}
	return s.end()
}

func (s *session) end() error { return s.out.end(s.status) }

// openLines opens what the lines come from: an editor where there is a terminal that
// one can work with.
func (s *session) openLines() (err error) {
	screen, onTerminal := s.app.stdout.(*os.File)
	if s.out.json || !isTerminal(s.app.stdout) { // nothing but the answers goes there
		screen, onTerminal = s.app.stderr.(*os.File)
	}
	keys, _ := s.app.stdin.(*os.File)
	switch {
	case !s.asked:
		s.lines = newPlainLines(s.app.stdin, nil, nil)
	case onTerminal && isTerminal(screen) && os.Getenv("TERM") != "dumb":
		s.lines, err = newEditor(s, keys, screen)
	default:
		s.lines = newPlainLines(s.app.stdin, s.app.stderr, s.ctrlC)
	}
	return err
}

// greet says what there is, and how to leave.
func (s *session) greet(ctx context.Context) error {
	n, err := countOnline(ctx, s.rdb)
	if err != nil {
		return err
	}
	online := plural(int64(n), "host") + " online."
	if n == 0 {
		online = "No host is online."
	}
	fmt.Fprintln(s.app.stderr, online, "What is typed runs on every one; :help shows more, exit() leaves.")
	return nil
}

// line obeys one line and returns the verdict on it.
func (s *session) line(ctx context.Context, text string) error {
	ctx, stop := s.untilCtrlC(ctx)
	defer stop()
	l, err := parseLine(text)
	switch {
	case err != nil:
		return err
	case l.verb != "":
		return s.verb(ctx, l)
	case l.command == "":
		return nil
	}
	if command, ok := s.cfg.instructions[l.command]; ok {
		s.note("%s stands for: %s", s.out.paint(bold, visible.Line(l.command)), visible.Line(command))
		l.command = command
	}
	r, err := s.cfg.request(l.hosts, l.command).Validate()
	if err != nil {
		return lineError(err)
	}
	if len(l.hosts) == 0 {
		if err := s.anybody(ctx); err != nil {
			return err
		}
	}
	return s.dispatch(ctx, r)
}

// untilCtrlC returns a context that ends with the next Ctrl-C.
func (s *session) untilCtrlC(ctx context.Context) (context.Context, func()) {
	select {
	case <-s.ctrlC: // it was too late for the line before
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-s.ctrlC:
			fmt.Fprintln(s.app.stderr) // behind the ^C that the terminal shows
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// note says something about a line that is no answer to it: not on standard output
// where that is for programs.
func (s *session) note(format string, args ...any) {
	if s.out.json {
		fmt.Fprintf(s.app.stderr, format+"\n", args...)
		return
	}
	s.out.say(format, args...)
	s.out.flush()
}

// anybody is an error if no host is online.
func (s *session) anybody(ctx context.Context) error {
	view, err := tasks.NewRoll(s.rdb).View(ctx)
	if err != nil {
		return err
	}
	found := errors.New("found")
	err = view.Each(ctx, func(page []tasks.Presence) error {
		if len(page) > 0 {
			return found
		}
		return nil
	})
	switch {
	case errors.Is(err, found):
		return nil
	case err != nil:
		return err
	}
	return failf(statusAbsent, "no host is online, nothing was dispatched")
}

// verb carries out a line that begins with a colon.
func (s *session) verb(ctx context.Context, l consoleLine) error {
	switch l.verb {
	case ":help":
		s.help()
		return nil
	case ":list":
		s.list()
		return nil
	case ":hosts":
		for _, h := range l.words {
			if !tasks.ValidHost(h) {
				return misuse("%q is no host id", h)
			}
		}
		return s.app.showHosts(ctx, s.rdb, l.words, s.out)
	case ":results":
		return s.results(ctx, l.words)
	}
	return misuse("there is no %s%s", l.verb, s.near(l.verb))
}

// results shows those of a set: of the last dispatch where none is named.
func (s *session) results(ctx context.Context, words []string) error {
	n := s.last
	switch {
	case len(words) > 1:
		return misuse(":results takes one task number, got %q too", words[1])
	case len(words) == 0 && n == "":
		return misuse(":results needs a task number")
	case len(words) == 1:
		var invalid *tasks.InvalidError
		var err error
		if n, err = tasks.ParseNumber(words[0]); errors.As(err, &invalid) {
			return misuse("%s", invalid.Reason)
		}
	}
	return s.app.showResults(ctx, s.rdb, n, "", s.out)
}

// list shows the instructions.
func (s *session) list() {
	names := s.names()
	if len(names) == 0 {
		s.note("there are no instructions")
		return
	}
	rows := make([][]string, len(names))
	for i, name := range names {
		if s.out.json {
			s.out.object(struct {
				Name    string `json:"name"`
				Command string `json:"command"`
			}{name, s.cfg.instructions[name]})
		}
		rows[i] = []string{visible.Line(name), visible.Line(s.cfg.instructions[name])}
	}
	s.out.table([]string{"NAME", "COMMAND"}, rows)
}

// names are those of the instructions, in order.
func (s *session) names() []string {
	names := make([]string, 0, len(s.cfg.instructions))
	for name := range s.cfg.instructions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *session) help() {
	s.note("%s", strings.TrimSpace(`
COMMAND                 runs on every host that is online
@HOST[,HOST...] COMMAND runs on these hosts; no blanks between their names
NAME                    runs the command that has this name among the instructions
:list                   the instructions
:hosts [HOST...]        who is online, or whether these hosts are
:results [KEY]          exit codes and output, of the last dispatch where no task number is given
:help                   this
# ...                   nothing, as an empty line
exit(), exit, Ctrl-D    leaves
Ctrl-C                  ends the waiting, not what the hosts run`))
}
