package dashboard

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/tasks"
)

const (
	timelineEvents = 4 * eventsPage  // events after the beginning of a set that are looked through
	timelineSpan   = 2 * time.Minute // and how long after it
	resentRead     = 2_000           // hosts whose further sends are counted
	curveWidth     = 600             // of the picture
	curveHeight    = 60
)

// milestones are what the events tell of a set and its head does not.
type milestones struct {
	accepted  time.Time
	sent      time.Time
	datagrams int64
	looked    bool // there is no more to be found
}

// timeline is what became of a set when.
type timeline struct {
	Steps []step
	Curve string // how many commands had ended, as the points of a line; empty if none
	Ended int    // commands that have ended
	Of    int64  // commands of all hosts
	From  time.Time
	To    time.Time
	Width int
	Tall  int
}

// step is something that happened.
type step struct {
	At    time.Time
	After string // since the creation
	What  string
	Kind  string // "", "good", "bad", "warn", "next"
}

func (s *Server) timeline(ctx context.Context, k *look, l tasks.Ledger) (timeline, error) {
	if err := passing(k.times.find(ctx, s, l)); err != nil {
		return timeline{}, err
	}
	resent, all, err := s.store.Resent(ctx, l.Number, resentRead)
	if err = passing(err); err != nil {
		return timeline{}, err
	}
	t := timeline{Width: curveWidth, Tall: curveHeight}
	add := func(at time.Time, kind, format string, a ...any) {
		if !at.IsZero() {
			t.Steps = append(t.Steps, step{at, "+" + took(max(at.Sub(l.Created), 0)), fmt.Sprintf(format, a...), kind})
		}
	}
	add(l.Created, "", "created")
	add(k.times.accepted, "", "written whole, for %s", hostsInWords(l.Total))
	if sent := k.times.sent; !sent.IsZero() {
		add(sent, "", "number sent, %s", countOf(grouped(k.times.datagrams), "datagram"))
	} else {
		add(l.Sent, "", "opened, its number goes out")
	}
	for i, hosts := range resent {
		about := ""
		if !all {
			about = "at least "
		}
		at := l.Sent.Add(l.Retry * (1<<(i+1) - 1))
		add(at, "warn", "%s send due for %s%s without an answer", ordinal(i+2), about, hostsInWords(int64(hosts)))
	}
	if c := k.outputs.curve; len(c.counts) > 0 {
		add(time.UnixMilli(k.outputs.results[0].ms), "", "first command ended")
		t.draw(c, l)
	}
	add(l.Cancelled, "bad", "cancelled")
	if n := l.Counts[tasks.Unanswered]; n > 0 && !l.Sent.IsZero() {
		add(l.Sent.Add(l.Retry*(1<<max(len(resent)+1, 1)-1)), "warn", "%s had not answered", hostsInWords(n))
	}
	add(l.Closed, closedKind(l), "closed")
	if l.Stage != tasks.Closed || l.Counts[tasks.Expired] > 0 {
		add(l.Deadline, "next", "deadline")
	}
	sortSteps(t.Steps)
	return t, nil
}

func closedKind(l tasks.Ledger) string {
	switch {
	case l.Counts[tasks.Failed] > 0:
		return "bad"
	case l.Counts[tasks.Done] == l.Total:
		return "good"
	}
	return "warn"
}

// sortSteps puts steps into the order of their times; those of one time keep theirs.
func sortSteps(steps []step) {
	for i := 1; i < len(steps); i++ {
		for j := i; j > 0 && steps[j].At.Before(steps[j-1].At); j-- {
			steps[j], steps[j-1] = steps[j-1], steps[j]
		}
	}
}

// draw draws how many commands had ended at which time, from the creation to the last of
// them, or to the end of the set.
func (t *timeline) draw(c curve, l tasks.Ledger) {
	end := max(c.last, l.Closed.UnixMilli(), c.begin+1)
	t.From, t.To = l.Created, time.UnixMilli(end)
	t.Of = l.Total * int64(l.Commands)
	for _, n := range c.counts {
		t.Ended += n
	}
	most := max(int64(t.Ended), t.Of, 1)
	var points []string
	point := func(ms int64, n int) {
		x := float64(min(ms, end)-c.begin) / float64(end-c.begin) * curveWidth
		y := curveHeight - float64(n)/float64(most)*curveHeight
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
	}
	point(c.begin, 0)
	sum := 0
	for i, n := range c.counts {
		if n == 0 && i+1 < len(c.counts) && c.counts[i+1] == 0 {
			continue // a level stretch needs its ends only
		}
		sum += n
		point(c.begin+int64(i+1)*c.width, sum)
	}
	point(end, sum)
	t.Curve = strings.Join(points, " ")
}

// find looks for what the events tell, once.
func (m *milestones) find(ctx context.Context, s *Server, l tasks.Ledger) error {
	if m.looked {
		return nil
	}
	after := strconv.FormatInt(l.Created.UnixMilli()-1, 10)
	for range timelineEvents / eventsPage {
		events, err := tasks.Events(ctx, s.cfg.Redis, after, eventsPage, 0)
		if err != nil {
			return err
		}
		for _, e := range events {
			if after = e.ID; e.Key != l.Number {
				continue
			}
			switch {
			case e.Type == "task.accepted" && m.accepted.IsZero():
				m.accepted = e.Time
			case e.Type == "task.sent" && m.sent.IsZero():
				m.sent = e.Time
				m.datagrams, _ = strconv.ParseInt(e.More["datagrams"], 10, 64)
			}
			if !m.accepted.IsZero() && !m.sent.IsZero() {
				m.looked = true
				return nil
			}
			if e.Time.Sub(l.Created) > timelineSpan {
				m.looked = true
				return nil
			}
		}
		if len(events) < eventsPage {
			m.looked = time.Since(l.Created) > timelineSpan
			return nil
		}
	}
	m.looked = true
	return nil
}

func hostsInWords(n int64) string { return countOf(grouped(n), "host") }

func countOf(n, what string) string {
	if n == "1" {
		return "1 " + what
	}
	return n + " " + what + "s"
}

func ordinal(n int) string {
	switch n {
	case 2:
		return "2nd"
	case 3:
		return "3rd"
	}
	return fmt.Sprintf("%dth", n)
}
