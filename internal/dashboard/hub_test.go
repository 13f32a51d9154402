package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/html"

	"github.com/musterhq/muster/internal/redistest"
)

// inHub runs a test of a hub on a clock of its own.
func inHub(t *testing.T, renderers map[string]renderer, test func(t *testing.T, h *hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log := logrus.New()
		log.SetOutput(io.Discard)
		h := newHub(renderers, log)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.run(ctx) }()
		test(t, h)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// rest lets time pass, and what is due in it end.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// visit lets a browser in.
func visit(t *testing.T, h *hub, topics ...string) *browser {
	t.Helper()
	b := newBrowser(topics, func() {})
	if _, ok := h.join(b); !ok {
		t.Fatal("not let in")
	}
	return b
}

// got is what waits for a browser: the event and its region.
func got(b *browser) (list []string) {
	for _, m := range b.take() {
		var data struct{ Region, HTML string }
		_ = json.Unmarshal(m.data, &data)
		list = append(list, m.event+" "+data.Region+" "+data.HTML)
	}
	return list
}

func TestHub(t *testing.T) {
	t.Parallel()
	var renders atomic.Int64
	var broken atomic.Bool
	swaps := map[string]renderer{"numbers": func(context.Context, string) (string, error) {
		n := renders.Add(1)
		if broken.Load() {
			return "", errors.New("Redis is away")
		}
		return fmt.Sprint(n / 2), nil
	}}
	inHub(t, swaps, func(t *testing.T, h *hub) {
		h.touch("numbers", "roll") // nobody looks
		both, other := visit(t, h, "numbers", "roll", "roll"), visit(t, h, "host:a")
		rest(time.Second)
		if renders.Load() != 0 || got(both) != nil {
			t.Error("a message of what was before the browser")
		}

		if !h.followed("roll") || h.followed("news") || !slices.Equal(h.abouts("host"), []string{"a"}) || h.abouts("roll") != nil {
			t.Errorf("what is followed: %v %v", h.abouts("host"), h.abouts("roll"))
		}

		// Many changes are one message, of the newest.
		for range 100 {
			h.touch("numbers", "roll")
		}
		rest(time.Second)
		if list := got(both); len(list) != 2 || renders.Load() != 1 || got(other) != nil {
			t.Errorf("%v, %d renders", list, renders.Load())
		}

		// What looks as before is not sent.
		broken.Store(true)
		h.touch("numbers")
		rest(time.Second) // and one that can't be made is made later
		if list := got(both); list != nil || renders.Load() != 2 {
			t.Errorf("%v, %d renders", list, renders.Load())
		}
		broken.Store(false)
		rest(renderAgain)
		if list := got(both); len(list) != 1 || list[0] != "swap numbers 1" {
			t.Errorf("%v, %d renders", list, renders.Load())
		}
		renders.Store(1)
		h.touch("numbers")
		rest(time.Second)
		if list := got(both); list != nil || renders.Load() != 2 {
			t.Errorf("sent again: %v, %d renders", list, renders.Load())
		}

		// One that is slow finds the newest state, and nothing piles up.
		for range 50 {
			h.touch("numbers", "roll")
			rest(time.Second)
		}
		if list := got(both); len(list) != 2 {
			t.Errorf("%d messages wait", len(list))
		}

		h.touchAll()
		rest(time.Second)
		if list := got(other); len(list) != 1 || list[0] != "stale host " {
			t.Errorf("after touchAll: %v", list)
		}
		h.leave(both)
		h.leave(other)
		if len(h.topics) != 0 || len(h.browsers) != 0 {
			t.Errorf("%d topics of nobody, %d browsers", len(h.topics), len(h.browsers))
		}
	})
}

// One other machine can't take all connections; this one may, for all who come by its proxy.
func TestManyFromOneMachine(t *testing.T) {
	t.Parallel()
	from := func(remote string) *browser {
		b := newBrowser([]string{"roll"}, func() {})
		b.from = otherMachine(remote)
		return b
	}
	h := newHub(nil, nil)
	fill := func(remote string, most int) (all []*browser) {
		for len(all) <= most {
			b := from(remote)
			if _, ok := h.join(b); !ok {
				return all
			}
			all = append(all, b)
		}
		return all
	}
	greedy := fill("192.0.2.1:1", maxFromOne)
	if len(greedy) != maxFromOne {
		t.Errorf("%d browsers from one machine, want %d", len(greedy), maxFromOne)
	}
	if got := len(fill("[2001:db8::1]:1", 0)); got != 1 {
		t.Error("one from another machine is not let in")
	}
	h.leave(from("192.0.2.1:1")) // one that was not let in
	if got := len(fill("192.0.2.1:2", 0)); got != 0 {
		t.Error("it counts as gone")
	}
	h.leave(greedy[0])
	if got := len(fill("192.0.2.1:2", 1)); got != 1 {
		t.Errorf("%d instead of the one that has gone", got)
	}
	for _, b := range greedy[1:] {
		h.leave(b)
	}
	here := len(fill("127.0.0.1:1", 10)) + len(fill("[::1]:1", 10)) + len(fill("[::ffff:127.0.0.1]:1", maxBrowsers))
	if here != maxBrowsers-2 {
		t.Errorf("%d browsers here, want %d", here, maxBrowsers-2)
	}
	for b := range h.browsers {
		h.leave(b)
	}
	if len(h.from) != 0 {
		t.Errorf("%v are counted after all have left", h.from)
	}
}

// However many look and however fast the fleet flaps: each is asked to come within a time
// that grows with their number, and not more often.
func TestManyBrowsers(t *testing.T) {
	t.Parallel()
	inHub(t, nil, func(t *testing.T, h *hub) {
		var all []*browser
		for range maxBrowsers {
			all = append(all, visit(t, h, "roll"))
		}
		if _, ok := h.join(newBrowser([]string{"roll"}, func() {})); ok {
			t.Error("one too many is let in")
		}
		messages := 0
		for range 400 { // 100 s
			h.touch("roll")
			rest(hubPace)
			for _, m := range all[7].take() {
				messages++
				var data struct{ Within int }
				_ = json.Unmarshal(m.data, &data)
				if want := (maxBrowsers - 1) * int(perStale/time.Millisecond); data.Within != want {
					t.Errorf("within %d ms, want %d", data.Within, want)
				}
			}
		}
		if messages < 8 || messages > 11 {
			t.Errorf("%d messages in 100 s", messages)
		}
		for _, b := range all {
			h.leave(b)
		}
	})
}

// A region that takes long, or panics, holds up no other one.
func TestSlowRegion(t *testing.T) {
	t.Parallel()
	swaps := map[string]renderer{
		"slow":  func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() },
		"panic": func(context.Context, string) (string, error) { panic("no") },
		"fast":  func(context.Context, string) (string, error) { return time.Now().String(), nil },
	}
	inHub(t, swaps, func(t *testing.T, h *hub) {
		b := visit(t, h, "slow", "fast", "panic")
		for range 5 {
			h.touch("slow", "fast", "panic")
			rest(time.Second)
			if list := got(b); len(list) != 1 {
				t.Errorf("%d messages", len(list))
			}
		}
		h.leave(b)
	})
}

func TestHubEnds(t *testing.T) {
	t.Parallel()
	inHub(t, nil, func(t *testing.T, h *hub) {
		cut := 0
		b := newBrowser([]string{"roll"}, func() { cut++ })
		h.join(b)
		h.end()
		if _, ok := h.join(newBrowser([]string{"roll"}, func() {})); ok || cut != 1 {
			t.Errorf("let in %v, cut %d", ok, cut)
		}
	})
}

// A browser is told what was touched after its page was made, whoever followed it.
func TestSince(t *testing.T) {
	t.Parallel()
	h := newHub(nil, nil)
	b := newBrowser([]string{"roll", "chart:1h", "host:a", "news"}, func() {})
	old := h.stamp()
	h.touch("roll", "news")
	now := h.stamp()
	h.touch("chart:1h", "host:b", "host:"+strings.Repeat("x", maxTopic))
	if len(h.at) != 4 {
		t.Errorf("%d topics are kept", len(h.at))
	}
	check := func(stamp, regions string, known bool) {
		t.Helper()
		if got, ok := h.since(b, stamp); fmt.Sprint(got) != regions || ok != known {
			t.Errorf("since %s: %v %v, want %s %v", stamp, got, ok, regions, known)
		}
	}
	check(old, "[chart news roll]", true)
	check(now, "[chart]", true)
	check(h.stamp(), "[]", true)
	check(newHub(nil, nil).stamp()+"0", "[]", false)
	for _, bad := range []string{"", "x", "1", "1-", "-", "1-2-3"} {
		check(bad, "[]", false)
	}
	h.touchAll()
	check(now, "[]", false)
	check(h.stamp(), "[]", true)
	old = h.stamp()
	for i := range mostTouched + 1 {
		h.touch(fmt.Sprint("host:", i))
	}
	if check(old, "[]", false); len(h.at) > mostTouched {
		t.Errorf("%d topics are kept", len(h.at))
	}
}

// A page that was just loaded is not asked for again, unless something has changed since.
func TestHello(t *testing.T) {
	t.Parallel()
	at := brisk()
	at.every, at.check = time.Hour, time.Hour
	s := serveOn(t, redistest.Open(t), at)
	s.eventually("/", "the roll is read", func(p *page) bool { return p.id("hosts-online") == "0" })
	stamp := func() string {
		main := s.get("/", http.StatusOK).all(func(n *html.Node) bool { return n.Data == "main" })
		return attribute(main[0], "data-stamp")
	}
	hello := func(since string) (m struct {
		Known   bool
		Changed []string
	}) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "GET", s.base+"/live?of=mine&of=roll:x&since="+since, nil)
		s.must(err)
		w, err := http.DefaultClient.Do(r)
		s.must(err)
		defer w.Body.Close()
		for lines := bufio.NewScanner(w.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				s.must(json.Unmarshal([]byte(data), &m))
				return m
			}
		}
		t.Fatal("no hello")
		return m
	}
	loaded := stamp()
	if m := hello(loaded); !m.Known || len(m.Changed) != 0 {
		t.Errorf("nothing has changed: %+v", m)
	}
	s.hub.touch("roll:x")
	if m := hello(loaded); !m.Known || !slices.Equal(m.Changed, []string{"roll"}) {
		t.Errorf("the roll has changed: %+v", m)
	}
	if m := hello(stamp()); !m.Known || len(m.Changed) != 0 {
		t.Errorf("and the page was loaded again: %+v", m)
	}
	if m := hello(""); m.Known {
		t.Errorf("without a stamp: %+v", m)
	}
}
