package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/tasks"
)

// takenWithin is how long a dispatch waits for a worker when nothing else is said.
const takenWithin = 30 * time.Second

func (a *app) dispatchVerb() *cli.Command {
	return &cli.Command{
		Name: "dispatch", Usage: "have hosts run commands",
		Flags: verbFlags(
			textFlag("key", "", "task `NUMBER`, AC and 1 to 62 of A-Z a-z 0-9 . _ -; left out, one is made"),
			listFlag("host", "`HOST` that is to run it; once for each"),
			boolFlag("all", "every host that is online"),
			boolFlag("yes", "do not ask whether all of them are meant"),
			listFlag("run", "`COMMAND` to run; once for each, in the order given"),
			textFlag("commands", "", "`FILE` (- for standard input) with a JSON object of command and priority"),
			textFlag("request", "", "`FILE` (- for standard input) with a whole request as JSON"),
			textFlag("offline", tasks.OfflineReport, "`WHAT` to do with hosts that are offline: report, or wait until they come online"),
			spanFlag("command-timeout", tasks.DefaultTimeout, "limit for each command, whole seconds"),
			spanFlag("deadline", tasks.DefaultDeadline, "when the ledger closes, whole seconds"),
			boolFlag("wait", "wait until every host has ended, and show how"),
			spanFlag("wait-timeout", 0, "stop waiting after this; 0: with --wait never, else 30s"),
			jsonFlag(),
		),
		Action: a.dispatch,
	}
}

func (a *app) dispatch(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	patience, err := waitSpan(c)
	if err != nil {
		return err
	}
	r, err := a.request(c)
	if err != nil {
		return err
	}
	log, logged, err := a.log(c)
	if err != nil {
		return err
	}
	defer logged()
	if c.Bool("all") && !c.Bool("yes") && !a.canAsk(c) {
		return failf(statusRefused, "--all needs --yes where nobody can be asked")
	}
	rdb, _, err := open(c.Context, a.redisAt(c))
	if err != nil {
		return err
	}
	defer rdb.Close()
	if c.Bool("all") && !c.Bool("yes") {
		if err := a.confirm(c.Context, rdb); err != nil {
			return err
		}
	}
	if err := a.sayAbsent(c, rdb, r); err != nil {
		return err
	}
	d := newDelivery(rdb, log, a.printer(c))
	if d.wait = c.Bool("wait"); d.wait && isTerminal(a.stderr) && os.Getenv("TERM") != "dumb" {
		d.bar = a.stderr
	}
	d.patience = patience
	if patience == 0 && !d.wait {
		d.patience = takenWithin
	}
	return d.run(c.Context, r)
}

// canAsk reports whether a person can answer: standard input is a terminal, and no
// file is to come from it.
func (a *app) canAsk(c *cli.Context) bool {
	return isTerminal(a.stdin) && c.String("commands") != "-"
}

// confirm asks whether all hosts are meant.
func (a *app) confirm(ctx context.Context, rdb redis.UniversalClient) error {
	n, err := countOnline(ctx, rdb)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "dispatch to every online host (%d)? [y/N] ", n)
	// Nothing interrupts a read from a terminal, so it is left behind when ctx ends;
	// the process ends then too.
	answer := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(a.stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(text))
	}()
	select {
	case text := <-answer:
		if text == "y" || text == "yes" {
			return nil
		}
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
	}
	return failf(statusRefused, "not confirmed, nothing was dispatched")
}

// sayAbsent says who the request will not reach, before it is sent. With --json the
// objects of the hosts say it afterwards.
func (a *app) sayAbsent(c *cli.Context, rdb redis.UniversalClient, r tasks.Request) error {
	if c.Bool("json") {
		return nil
	}
	absence, err := tasks.NewRoll(rdb).Absence(c.Context, r.Hosts)
	if err != nil {
		return err
	}
	switch {
	case absence.Nobody:
		fmt.Fprintln(a.stderr, "no host is online")
	case len(absence.Offline) > 0 && r.Offline == tasks.OfflineWait:
		fmt.Fprintln(a.stderr, "offline, waited for:", someOf(absence.Offline))
	case len(absence.Offline) > 0:
		fmt.Fprintln(a.stderr, "offline:", someOf(absence.Offline))
	}
	return nil
}

// delivery is one request on its way, as the one who made it sees it.
type delivery struct {
	rdb   redis.UniversalClient
	store *tasks.Store
	log   logrus.FieldLogger
	out   *printer

	wait     bool          // until every host has ended, not only until the set is sent
	all      bool          // the report on the end shows hosts that are done, too
	patience time.Duration // from the request on; 0 means without end
	bar      io.Writer     // where a progress bar is drawn; nil for none

	follow follower
}

func newDelivery(rdb redis.UniversalClient, log logrus.FieldLogger, out *printer) *delivery {
	return &delivery{rdb: rdb, store: tasks.NewStore(rdb, tasks.StoreConfig{}), log: log, out: out}
}

// run hands the request over, follows it as far as is asked, prints what became of it
// and returns the verdict.
func (d *delivery) run(ctx context.Context, r tasks.Request) error {
	d.follow = follower{rdb: d.rdb, store: d.store, log: d.log}
	if err := d.follow.submit(ctx, r); err != nil {
		return err
	}
	watched, stop := ctx, func() {}
	if d.patience > 0 {
		watched, stop = context.WithTimeout(ctx, d.patience)
	}
	defer stop()
	l, err := d.follow.untilSent(watched)
	if err == nil && d.wait {
		l, err = d.untilClosed(watched, l)
	}
	switch {
	case err != nil && watched.Err() != nil:
		return d.stopped(ctx)
	case err != nil:
		return err
	case d.wait || !l.Cancelled.IsZero():
		return d.reportEnd(ctx, l)
	}
	return d.reportSent(ctx, l)
}

// untilClosed is the follower's, with a progress bar where one can be drawn.
func (d *delivery) untilClosed(ctx context.Context, l tasks.Ledger) (tasks.Ledger, error) {
	if d.bar == nil || l.Total == 0 {
		return d.follow.untilClosed(ctx, l, func(tasks.Ledger) {})
	}
	bar := newProgress(d.bar, l)
	defer bar.end()
	return d.follow.untilClosed(ctx, l, bar.show)
}

// stopped says how far the dispatch was when the waiting ended. The dispatch itself
// goes on.
func (d *delivery) stopped(ctx context.Context) error {
	why := fmt.Sprintf("not within %v", d.patience)
	if ctx.Err() != nil {
		why = "stopped waiting"
	}
	if d.follow.sent {
		// How far it is may be of use, and is no reason to wait longer.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if l, err := d.store.Ledger(last, d.follow.number); err == nil {
			if err := d.reportEnd(last, l); d.out.err != nil {
				return err
			}
		}
	}
	return d.follow.left(why, fmt.Sprintf("muster status %s", d.follow.number))
}

// reportSent prints what is known once the set is sent: to how many hosts, and which
// ones it did not go to. Those that are offline and waited for are nothing to complain
// of.
func (d *delivery) reportSent(ctx context.Context, l tasks.Ledger) error {
	p := d.out
	offline, waiting := l.Counts[tasks.Offline], l.Counts[tasks.Waiting]
	var absent []tasks.HostState
	if offline+waiting > 0 {
		var err error
		absent, err = hostsOf(ctx, d.store, l.Number, func(s tasks.State) bool { return s == tasks.Offline || s == tasks.Waiting })
		if err != nil {
			return err
		}
	}
	switch {
	case p.json:
		p.head(l)
	case l.Total == 0:
		p.sayNobody(l)
	default:
		text := fmt.Sprintf("sent to %d of %s", l.Total-offline-waiting, plural(l.Total, "host"))
		switch {
		case waiting == 1:
			text += ", 1 waits to come online"
		case waiting > 1:
			text += fmt.Sprintf(", %d wait to come online", waiting)
		}
		p.say("%s  %s", p.paint(bold, string(l.Number)), text)
	}
	p.hosts(l.Number, absent, nil)
	s := statusOK
	if offline > 0 || l.Total == 0 {
		s = statusAbsent
	}
	return p.end(s)
}

// sayNobody is printed of a set without a host.
func (p *printer) sayNobody(l tasks.Ledger) {
	why := "no host is online"
	if !l.Cancelled.IsZero() {
		why = "cancelled before it had a host"
	}
	p.say("%s  %s", p.paint(bold, string(l.Number)), why)
}

// reportEnd prints how the set ended: the counts, and each host that is not done;
// with --json each host.
func (d *delivery) reportEnd(ctx context.Context, l tasks.Ledger) error {
	p := d.out
	want := func(s tasks.State) bool { return p.json || d.all || s != tasks.Done }
	hosts, err := hostsOf(ctx, d.store, l.Number, want)
	if err != nil {
		return err
	}
	if p.json {
		p.head(l)
	} else if l.Total == 0 {
		p.sayNobody(l)
	} else {
		p.say("%s  %s", p.paint(bold, string(l.Number)), p.counts(l))
	}
	p.hosts(l.Number, hosts, nil)
	return p.end(statusOfLedger(l))
}
