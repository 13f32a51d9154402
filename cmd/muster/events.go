package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

const (
	eventsPage  = 1000
	eventsBlock = 500 * time.Millisecond // an interrupt is seen this late at most
	retryEvery  = 500 * time.Millisecond // how often a lost Redis is tried again
)

func (a *app) eventsVerb() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "show what happened: hosts coming and going, dispatches",
		Flags: verbFlags(
			boolFlag("follow", "go on with what happens, until interrupted"),
			intFlag("last", 100, "begin with the last `N` events"),
			jsonFlag(),
		),
		Action: a.events,
	}
}

// eventObject is an event in JSON.
type eventObject struct {
	ID      string                `json:"id"`
	TimeMS  int64                 `json:"time_ms"`
	Type    string                `json:"type"`
	Host    string                `json:"host,omitempty"`
	Key     tasks.Number          `json:"key,omitempty"`
	Request string                `json:"request,omitempty"`
	Reason  string                `json:"reason,omitempty"`
	Total   *int64                `json:"total,omitempty"`
	Counts  map[tasks.State]int64 `json:"counts,omitempty"`
	More    map[string]string     `json:"more,omitempty"`
}

func (a *app) events(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	last, err := integer(c, "last", 0, tasks.EventsCap)
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
	p := a.printer(c)
	after, until, err := lastEvents(c.Context, rdb, last)
	if err != nil {
		return err
	}
	if until == "0" && last > 0 && !p.json {
		fmt.Fprintln(a.stderr, "no event yet")
	}
	for after != until { // what was there at the start
		page, err := tasks.Events(c.Context, rdb, after, eventsPage, 0)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if after != until {
				p.event(e)
				after = e.ID
			}
		}
	}
	if err := p.flush(); err != nil || !c.Bool("follow") {
		return err
	}
	return followEvents(c.Context, rdb, log, after, func(page []tasks.Event) error {
		for _, e := range page {
			p.event(e)
		}
		return p.flush()
	})
}

// lastEvents returns the id behind which the last n events stand, and the id of the
// newest one.
func lastEvents(ctx context.Context, rdb redis.UniversalClient, n int) (after, newest string, err error) {
	end, newest := "+", "0"
	for seen := 0; ; {
		page, err := rdb.XRevRangeN(ctx, tasks.KeyEvents, end, "-", eventsPage).Result()
		if err != nil {
			return "", "", fmt.Errorf("last events: %w", err)
		}
		if seen == 0 && len(page) > 0 {
			newest = page[0].ID
		}
		if n-seen < len(page) {
			return page[n-seen].ID, newest, nil
		}
		if len(page) < eventsPage {
			return "0", newest, nil
		}
		seen += len(page)
		end = "(" + page[len(page)-1].ID
	}
}

// followEvents gives visit the events after an id as they happen, until ctx ends or
// visit returns an error. While Redis is away it keeps trying.
func followEvents(ctx context.Context, rdb redis.UniversalClient, log logrus.FieldLogger, after string, visit func([]tasks.Event) error) error {
	away := false
	for ctx.Err() == nil {
		page, err := tasks.Events(ctx, rdb, after, eventsPage, eventsBlock)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if !away {
				log.WithField("err", err).Warn("redis is away, trying again")
			}
			away = true
			pause.For(ctx, retryEvery)
			continue
		case away:
			log.Info("redis is back")
			away = false
		}
		if len(page) == 0 {
			continue
		}
		if err := visit(page); err != nil {
			return err
		}
		after = page[len(page)-1].ID
	}
	return nil
}

// event prints one event.
func (p *printer) event(e tasks.Event) {
	if p.json {
		o := eventObject{e.ID, e.Time.UnixMilli(), e.Type, e.Host, e.Key, e.Request, e.Reason, e.Total, e.Counts, e.More}
		p.object(o)
		return
	}
	parts := []string{p.paint(dim, clock(e.Time)), p.paint(bold, visible.Line(e.Type))}
	for _, s := range []string{e.Host, string(e.Key)} {
		if s != "" {
			parts = append(parts, visible.Line(s))
		}
	}
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+visible.Line(value))
		}
	}
	add("request", e.Request)
	add("reason", e.Reason)
	if e.Total != nil {
		add("total", fmt.Sprint(*e.Total))
	}
	for _, s := range tasks.States() {
		if n := e.Counts[s]; n > 0 {
			add(string(s), fmt.Sprint(n))
		}
	}
	names := make([]string, 0, len(e.More))
	for name := range e.More {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		add(visible.Line(name), e.More[name])
	}
	p.say("%s", strings.Join(parts, "  "))
}
