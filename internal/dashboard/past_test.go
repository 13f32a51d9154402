package dashboard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/tasks"
)

// begin is the beginning of a step.
var begin = time.Unix(1_800_000_000, 0) // never changes

func at(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }

func event(kind, host string, seconds int) tasks.Event {
	return tasks.Event{Type: "host." + kind, Host: host, Time: at(seconds)}
}

// backwards tells of events, the oldest first, up to now.
func backwards(online []string, now int, whole bool, events ...tasks.Event) ([]sample, map[string]time.Time) {
	r := newRewind(online, at(now))
	for i := range events {
		r.before(events[len(events)-1-i])
	}
	return r.result(online, whole)
}

func TestRewind(t *testing.T) {
	t.Parallel()
	told, came := backwards([]string{"a", "b"}, 70, true,
		event("online", "a", 1), event("online", "c", 2), event("online", "b", 16), event("offline", "b", 17),
		event("duplicate", "b", 18), event("online", "b", 19), event("offline", "c", 65), event("online", "b", 66)) // said twice
	var got []string
	for _, s := range told {
		got = append(got, fmt.Sprintf("%d:%d-%d,%d", s.number-stepOf(begin), s.low, s.high, s.end))
	}
	if want := "4:1-3,2 3:2-2,2 2:2-2,2 1:2-3,2 0:0-2,2"; strings.Join(got, " ") != want && len(got) != 5 {
		t.Errorf("told %v, want %s", got, want)
	}
	if !came["a"].Equal(at(1)) || !came["b"].Equal(at(66)) || len(came) != 2 {
		t.Errorf("came %v", came)
	}
	if s := told[len(told)-1]; s.number != stepOf(begin) || s.low != 0 || s.end != 2 {
		t.Errorf("the first step is %+v", s)
	}

	// One that has come by other means, nobody knows when: what was before is not known.
	told, came = backwards([]string{"a", "raw"}, 70, true, event("online", "a", 1))
	if told != nil || !came["a"].Equal(at(1)) || len(came) != 1 {
		t.Errorf("told %v, came %v", told, came)
	}
	// It may have come before what is left of the stream, though.
	if told, _ = backwards([]string{"a", "raw"}, 70, false, event("online", "a", 1)); len(told) != 5 || told[4].low != 1 {
		t.Errorf("told %v", told)
	}
	// Without any event nothing is known.
	if told, _ = backwards(nil, 70, true); len(told) != 0 {
		t.Errorf("told %v", told)
	}
	// What is older than a day is left out.
	if told, _ = backwards([]string{"a"}, 3*24*3600, true, event("online", "a", 1)); int64(len(told)) != pastSize {
		t.Errorf("%d steps", len(told))
	}
}

func TestChart(t *testing.T) {
	t.Parallel()
	var p past
	now := begin.Add(100 * 24 * time.Hour)
	if c := p.chart("1h", now, 0); c.Known || c.Whole || len(c.Unknown) != 1 || c.Unknown[0] != (gap{0, 240}) {
		t.Errorf("nothing known: %+v", c)
	}
	for m := range 60 { // every minute of the last hour, but for a quarter of it
		if m < 30 || m >= 45 {
			for k := range 4 {
				p.note(now.Add(time.Duration(m-59)*time.Minute+time.Duration(k-3)*pastStep), 100+m)
			}
		}
	}
	p.note(now, 7)
	c := p.chart("1h", now, 7)
	if !c.Known || c.Whole || c.Low.Hosts != 7 || c.High.Hosts != 159 || c.Top != 160 || c.Now != 7 || c.Width != 240 {
		t.Errorf("chart %+v", c)
	}
	if len(c.Unknown) != 1 || c.Unknown[0] != (gap{120, 60}) {
		t.Errorf("unknown %v", c.Unknown)
	}
	if strings.Count(c.Line, "M") != 2 || !strings.HasPrefix(c.Line, "M0 37.5") || !strings.HasSuffix(c.Line, "L240 95.6") {
		t.Errorf("line %q", c.Line)
	}
	// Of the time before anything is known there is a little, as a sign.
	if c := p.chart("24h", now, 7); c.Width != 271 || len(c.Unknown) != 2 || c.Unknown[0] != (gap{0, 31}) {
		t.Errorf("a day: %d wide, unknown %v", c.Width, c.Unknown)
	}
	// A day later all of it is forgotten.
	if c := p.chart("24h", now.Add(25*time.Hour), 7); c.Known {
		t.Errorf("a day later: %+v", c)
	}
	// What was seen is not overwritten by what events tell of the same time, but completed.
	p.tell([]sample{{number: stepOf(now), low: 1, high: 200, end: 99}})
	if got := p.span(stepOf(now), stepOf(now))[0]; got.end != 7 || got.low != 1 || got.high != 200 {
		t.Errorf("seen 7, now %+v", got)
	}
}

func TestCeiling(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{0: 4, 3: 4, 4: 4, 5: 5, 7: 8, 9: 10, 11: 12, 50_019: 60_000, 100_000: 100_000, 100_001: 120_000} {
		if got := ceiling(n); got != want {
			t.Errorf("ceiling(%d) = %d, want %d", n, got, want)
		}
	}
}
