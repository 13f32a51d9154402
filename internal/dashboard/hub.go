package dashboard

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/supervise"
)

const (
	maxBrowsers = 1000                   // live connections at the same time
	maxFromOne  = maxBrowsers / 2        // from one other machine: there is room for the rest, and for many behind a proxy
	hubPace     = 250 * time.Millisecond // changes within it are one message
	mostTouched = 20_000                 // topics of which it is known when they were touched
	maxRenders  = 4                      // regions that are made at the same time
	renderLimit = 10 * time.Second       // for one region
	renderAgain = 2 * time.Second        // after which one that could not be made is tried again

	// What each browser more adds to the time between two messages of a topic that all of
	// them follow: sending a region out, and answering for one, cost about this much.
	perSwap  = 2 * time.Millisecond
	perStale = 10 * time.Millisecond
)

// A browser follows topics. A topic is the name of a region of pages ("roll"), with what
// it is about if there are several ("ledger:AC131"). When a topic was touched, those who
// follow it get one of two messages:
//
//	swap   {"region": "ledger", "html": "..."}   the region, as everyone sees it
//	stale  {"region": "roll", "within": 3000}    it has changed: ask for it again, since
//	                                             each sees another page of it. Not all at
//	                                             once: at any moment within so many ms
//
// A topic has a renderer if it is of the first kind.

// renderer makes the HTML of a region for a topic; about is what follows the colon.
type renderer func(ctx context.Context, about string) (string, error)

// message is one server-sent event.
type message struct {
	event string
	data  []byte
}

// hub passes changes on to browsers.
type hub struct {
	renderers map[string]renderer // by region
	log       logrus.FieldLogger
	renders   chan struct{} // one for each render that runs

	mu       sync.Mutex
	ended    bool
	browsers map[*browser]bool
	from     map[string]int    // how many of them come from another machine, by its address
	topics   map[string]*topic // those that somebody follows

	// What was touched when, also of what nobody follows yet: a page that was just loaded
	// asks only for what has changed since. Times are counts of touches.
	began   int64 // when this hub was made, Unix ns: another one counts anew
	touches uint64
	at      map[string]uint64 // by topic
	floor   uint64            // what was touched up to then is not known by topic
}

// topic is what is known of one.
type topic struct {
	followers map[*browser]bool
	touched   bool
	busy      bool      // it is being made
	next      time.Time // no message before
	html      string    // what was sent last
}

// browser is one live connection. What waits for it is the newest message of each of
// its topics: one that is slow misses what came between.
type browser struct {
	topics []string
	from   string             // the address of another machine; empty for this one
	cut    context.CancelFunc // lets it go
	wake   chan struct{}

	mu      sync.Mutex
	waiting map[string]message // by topic
}

func newBrowser(topics []string, cut context.CancelFunc) *browser {
	slices.Sort(topics)
	return &browser{topics: slices.Compact(topics), cut: cut, wake: make(chan struct{}, 1), waiting: map[string]message{}}
}

func (b *browser) put(topic string, m message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting[topic] = m
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns what waits, and leaves nothing.
func (b *browser) take() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.Collect(maps.Values(b.waiting))
	clear(b.waiting)
	return list
}

func newHub(renderers map[string]renderer, log logrus.FieldLogger) *hub {
	return &hub{
		renderers: renderers, log: log, renders: make(chan struct{}, maxRenders),
		browsers: map[*browser]bool{}, from: map[string]int{}, topics: map[string]*topic{}, began: time.Now().UnixNano(), at: map[string]uint64{},
	}
}

// touch says that what a topic shows has changed. It never waits.
func (h *hub) touch(topics ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.touches++
	for _, name := range topics {
		if t := h.topics[name]; t != nil {
			t.touched = true
		}
		if len(name) > maxTopic { // which nobody can follow
			continue
		}
		if len(h.at) >= mostTouched {
			clear(h.at)
			h.floor = h.touches
		}
		h.at[name] = h.touches
	}
}

// stamp is the time by which a page is told apart from what is touched after it.
func (h *hub) stamp() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%x-%x", h.began, h.touches)
}

// since returns the regions of a browser that were touched after a stamp; known is false if
// that is not known, as of a stamp of another hub.
func (h *hub) since(b *browser, stamp string) (regions []string, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var began int64
	var touches uint64
	if n, err := fmt.Sscanf(stamp, "%x-%x", &began, &touches); n != 2 || err != nil || began != h.began || touches < h.floor {
		return nil, false
	}
	for _, name := range b.topics {
		if h.at[name] > touches {
			region, _, _ := strings.Cut(name, ":")
			regions = append(regions, region)
		}
	}
	return regions, true
}

// touchAll touches all that there is.
func (h *hub) touchAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.touches++
	h.floor = h.touches
	clear(h.at)
	for _, t := range h.topics {
		t.touched = true
	}
}

// followed reports whether somebody looks at a topic.
func (h *hub) followed(topic string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.topics[topic] != nil
}

// watched reports whether there is any browser.
func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.browsers) > 0
}

// abouts are what those topics of a region are about that somebody looks at.
func (h *hub) abouts(region string) (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.topics {
		if of, about, _ := strings.Cut(name, ":"); of == region && about != "" {
			list = append(list, about)
		}
	}
	slices.Sort(list)
	return list
}

// join lets a browser in, unless there are too many, also of its address, or the hub has
// ended. Within is how long it may take to ask for its regions.
func (h *hub) join(b *browser) (within time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || len(h.browsers) >= maxBrowsers || h.from[b.from] >= maxFromOne {
		return 0, false
	}
	h.browsers[b] = true
	if b.from != "" {
		h.from[b.from]++
	}
	for _, name := range b.topics {
		t := h.topics[name]
		if t == nil {
			t = &topic{followers: map[*browser]bool{}}
			h.topics[name] = t
		}
		t.followers[b] = true
	}
	return time.Duration(len(h.browsers)-1) * perStale, true
}

func (h *hub) leave(b *browser) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.browsers[b] {
		return
	}
	delete(h.browsers, b)
	if b.from != "" {
		if h.from[b.from]--; h.from[b.from] == 0 {
			delete(h.from, b.from)
		}
	}
	for _, name := range b.topics {
		if t := h.topics[name]; t != nil {
			if delete(t.followers, b); len(t.followers) == 0 {
				delete(h.topics, name)
			}
		}
	}
}

// end lets all browsers go, and no other in.
func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for b := range h.browsers {
		b.cut()
	}
}

// run sends what has changed, until ctx ends.
func (h *hub) run(ctx context.Context) error {
	var renders sync.WaitGroup
	defer renders.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(hubPace)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for name, t := range h.due(now) {
				region, about, _ := strings.Cut(name, ":")
				if render, shared := h.renderers[region]; shared {
					renders.Go(func() { h.swap(ctx, name, t, render, about) })
				} else {
					h.stale(t, name, region)
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// due returns the topics of which there is something to send. They are no more touched,
// and busy if they have to be made.
func (h *hub) due(now time.Time) map[string]*topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	due := map[string]*topic{}
	for name, t := range h.topics {
		if !t.touched || t.busy || now.Before(t.next) {
			continue
		}
		region, _, _ := strings.Cut(name, ":")
		cost := perStale
		if _, t.busy = h.renderers[region]; t.busy {
			cost = perSwap
		}
		t.touched, t.next = false, now.Add(time.Duration(len(t.followers)-1)*cost)
		due[name] = t
	}
	return due
}

// stale has those who follow a topic ask for it again, each in its own time.
func (h *hub) stale(t *topic, name, region string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	within := time.Duration(len(t.followers)-1) * perStale
	m := message{"stale", encode(map[string]any{"region": region, "within": within.Milliseconds()})}
	for b := range t.followers {
		b.put(name, m)
	}
}

// swap makes a region and sends it to those who follow it. One that can't be made, since
// Redis is away, is tried again.
func (h *hub) swap(ctx context.Context, name string, t *topic, render renderer, about string) {
	select {
	case h.renders <- struct{}{}:
		defer func() { <-h.renders }()
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		t.busy = false
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renderLimit)
	defer cancel()
	var html string
	err := supervise.Safely(func() (err error) {
		html, err = render(ctx, about)
		return err
	})
	if err != nil {
		h.log.WithError(err).WithField("topic", name).Debug("region could not be made")
		supervise.LogStack(h.log, err)
	}
	region, _, _ := strings.Cut(name, ":")
	h.mu.Lock()
	defer h.mu.Unlock()
	t.busy = false
	if err != nil {
		t.touched, t.next = true, time.Now().Add(renderAgain)
		return
	}
	if t.html == html {
		return
	}
	t.html = html
	m := message{"swap", encode(map[string]string{"region": region, "html": html})}
	for b := range t.followers {
		b.put(name, m)
	}
}
