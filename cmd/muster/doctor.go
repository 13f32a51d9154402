package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

// doctorPatience is how long hosts that are asked for have to answer: with the usual
// --retry-after of 3s that is time for three sends.
const doctorPatience = 10 * time.Second

func (a *app) doctorVerb() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "look for what is wrong with Redis, the fleet and this machine, and say what to do",
		Flags: verbFlags(
			listFlag("host", "`HOST` to reach by UDP and hear from again, once for each; it runs exit 0"),
			spanFlag("wait-timeout", doctorPatience, "how long these hosts have to answer"),
			jsonFlag(),
		),
		Action: a.doctor,
	}
}

// mark is what a check has come to.
type mark string

const (
	markOK      mark = "ok"
	markUnknown mark = "unknown" // it can't be told, or could not be looked at
	markWarning mark = "warning"
	markFailure mark = "failure"
)

// marks are all of them, the worst last.
func marks() []mark { return []mark{markOK, markUnknown, markWarning, markFailure} }

// finding is what one check has found.
type finding struct {
	check string
	host  string // that it is about; empty for most
	mark  mark
	found string
	do    string // what to do about it; empty if there is nothing
	ends  status // what a failure comes to; statusOK means statusFailure
}

func fine(format string, args ...any) finding {
	return finding{mark: markOK, found: fmt.Sprintf(format, args...)}
}

// cantTell is for what a server does not say.
func cantTell(format string, args ...any) finding {
	return finding{mark: markUnknown, found: "can't tell: " + fmt.Sprintf(format, args...)}
}

// withoutRedis is said of what can't be looked at because the check redis has failed, or
// Redis has stopped answering meanwhile.
const withoutRedis = "not checked, since redis has failed"

func (f finding) to(do string, args ...any) finding {
	f.do = fmt.Sprintf(do, args...)
	return f
}

func warn(format string, args ...any) finding {
	return finding{mark: markWarning, found: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) finding {
	return finding{mark: markFailure, found: fmt.Sprintf(format, args...)}
}

// failed is a check that an error has ended.
func failed(err error) finding {
	_, text := read(err)
	return fail("%s", text).to("see whether Redis is up, and whether its user may do this")
}

// doctor is one examination.
type doctor struct {
	app      *app
	c        *cli.Context
	log      logrus.FieldLogger
	out      *printer
	at       redisAt
	connect  dial
	hosts    []string // to be reached
	patience time.Duration

	// What the settings say of this machine.
	listener, agent values

	rdb      redis.UniversalClient // nil if Redis does not answer
	nodes    []redisNode
	view     *tasks.View // nil if it could not be read
	noWorker bool        // it is known that there is none
	counts   map[mark]int
	status   status
}

// check is something that is looked at. What needs Redis is not done without it.
type check struct {
	name  string
	redis bool
	look  func(context.Context) finding
}

// checks are all but those of named hosts, in their order.
func (d *doctor) checks() []check {
	return append([]check{
		{"redis", false, d.lookAtRedis},
		{"redis-version", true, d.lookAtVersion},
		{"redis-writes", true, d.lookAtWrites},
		{"redis-delay", true, d.lookAtDelay},
		{"redis-clock", true, d.lookAtClock},
		{"redis-policy", true, d.lookAtPolicy},
		{"redis-memory", true, d.lookAtMemory},
		{"redis-persistence", true, d.lookAtPersistence},
		{"listeners", true, d.lookAtListeners},
		{"hosts", true, d.lookAtHosts},
		{"workers", true, d.lookAtWorkers},
		{"requests", true, d.lookAtRequests},
		{"jobs", true, d.lookAtJobs},
		{"listener-port", false, d.lookAtListenerPort},
		{"agent-port", false, d.lookAtAgentPort},
		{"open-files", false, d.lookAtOpenFiles},
	}, d.checksOfPages()...)
}

func (a *app) doctor(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	d := &doctor{app: a, c: c, out: a.printer(c), at: a.redisAt(c), hosts: unique(a.list(c, "host")), counts: map[mark]int{}}
	for _, h := range d.hosts {
		if !tasks.ValidHost(h) {
			return misuse("--host %q is no host id", h)
		}
	}
	var err error
	if d.patience, err = span(c, "wait-timeout"); err != nil {
		return err
	}
	if d.listener, err = a.settings(c, "listener"); err != nil {
		return err
	}
	if d.agent, err = a.settings(c, "agent"); err != nil {
		return err
	}
	if d.connect, err = parseRedis(d.at.url); err != nil {
		return err
	}
	log, logged, err := a.log(c)
	if err != nil {
		return err
	}
	defer logged()
	d.log = log
	defer func() {
		if d.rdb != nil {
			d.rdb.Close()
		}
	}()
	return d.examine(c.Context)
}

// examine looks at one thing after the other, and says of each what it is like.
func (d *doctor) examine(ctx context.Context) error {
	for _, check := range d.checks() {
		f := finding{mark: markUnknown, found: withoutRedis}
		if d.rdb != nil || !check.redis {
			f = check.look(ctx)
		}
		f.check = check.name
		d.say(f)
		if check.redis && f.mark == markFailure && d.rdb != nil && ping(ctx, d.connect) != nil {
			d.rdb.Close()
			d.rdb = nil // each further check would only wait for it, too
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for _, f := range d.lookAtNamed(ctx) {
		d.say(f)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.sum()
	return d.out.end(d.status)
}

// say prints a finding at once: some checks take a while.
func (d *doctor) say(f finding) {
	d.counts[f.mark]++
	if f.mark == markFailure {
		d.status = worst(d.status, cmp.Or(f.ends, statusFailure))
	}
	d.out.finding(f)
	d.out.flush()
}

// sum says on a terminal what it all comes to.
func (d *doctor) sum() {
	if !d.out.terminal {
		return
	}
	var parts []string
	for _, m := range slices.Backward(marks()) {
		n := d.counts[m]
		switch {
		case n == 0:
		case m == markWarning || m == markFailure:
			parts = append(parts, plural(int64(n), string(m)))
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, m))
		}
	}
	d.out.say("")
	d.out.say("%s", d.out.paint(bold, strings.Join(parts, ", ")))
}

// finding prints what a check has found.
func (p *printer) finding(f finding) {
	if p.json {
		p.object(struct {
			Check  string `json:"check"`
			Host   string `json:"host,omitempty"`
			Result mark   `json:"result"`
			Found  string `json:"found"`
			Do     string `json:"do,omitempty"`
		}{f.check, f.host, f.mark, f.found, f.do})
		return
	}
	if f.host != "" {
		f.found = f.host + ": " + f.found
	}
	if !p.terminal {
		p.say("%s\t%s\t%s\t%s", f.mark, f.check, visible.Line(f.found), visible.Line(f.do))
		return
	}
	const left = 28
	colour := map[mark]string{markOK: green, markUnknown: cyan, markWarning: yellow, markFailure: red}[f.mark]
	head := p.paint(colour, fmt.Sprintf("%-8s", f.mark)) + fmt.Sprintf(" %-*s", left-9, f.check)
	for _, l := range wrapped(visible.Line(f.found), helpWidth-left) {
		p.say("%s%s", head, l)
		head = fmt.Sprintf("%*s", left, "")
	}
	if f.do == "" {
		return
	}
	arrow := p.paint(bold, "->")
	for _, l := range wrapped(visible.Line(f.do), helpWidth-left-3) {
		p.say("%*s%s %s", left, "", arrow, l)
		arrow = "  "
	}
}
