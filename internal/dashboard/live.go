package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	hubPace      = 250 * time.Millisecond // changes within it are one message
	maxBrowsers  = 1000                   // live connections at the same time
	maxTopics    = 16                     // of one connection
	maxTopic     = 128                    // bytes
	keepAlive    = 15 * time.Second       // silence after which a comment is sent, for proxies
	writeLimit   = 10 * time.Second       // for one message; a browser slower than that is let go
	browserQueue = 64                     // messages that wait for one browser
)

// A browser follows topics. A topic is the name of a region of pages ("roll"), with what
// it is about if there are several ("ledger:AC131"). When a topic was touched, those who
// follow it get one of two messages:
//
//	swap   {"region": "ledger", "html": "..."}   the region, as everyone sees it
//	stale  {"region": "roll"}                    it has changed: ask for it again, since
//	                                             each sees another page of it
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

	mu       sync.Mutex
	browsers map[*browser]bool
	touched  map[string]bool // topics that have changed and that somebody follows
}

// browser is one live connection.
type browser struct {
	topics []string
	queue  chan message
	cut    context.CancelFunc // lets it go
}

func newHub(renderers map[string]renderer, log logrus.FieldLogger) *hub {
	return &hub{renderers: renderers, log: log, browsers: map[*browser]bool{}, touched: map[string]bool{}}
}

// touch says that what a topic shows has changed. It never blocks.
func (h *hub) touch(topics ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range topics {
		if h.followedLocked(t) {
			h.touched[t] = true
		}
	}
}

// followed reports whether somebody looks at a topic.
func (h *hub) followed(topic string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.followedLocked(topic)
}

func (h *hub) followedLocked(topic string) bool {
	for b := range h.browsers {
		for _, t := range b.topics {
			if t == topic {
				return true
			}
		}
	}
	return false
}

// abouts are what those topics of a region are about that somebody looks at.
func (h *hub) abouts(region string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for b := range h.browsers {
		for _, t := range b.topics {
			if of, about, _ := strings.Cut(t, ":"); of == region && about != "" {
				list = append(list, about)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// run sends what has changed, until ctx ends.
func (h *hub) run(ctx context.Context) error {
	tick := time.NewTicker(hubPace)
	defer tick.Stop()
	last := map[string]string{} // what was sent of a topic
	for {
		select {
		case <-tick.C:
			h.send(ctx, last)
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *hub) send(ctx context.Context, last map[string]string) {
	h.mu.Lock()
	touched := h.touched
	h.touched = map[string]bool{}
	h.mu.Unlock()
	for topic := range touched {
		region, about, _ := strings.Cut(topic, ":")
		render, shared := h.renderers[region]
		if !shared {
			h.tell(topic, message{"stale", encode(map[string]string{"region": region})})
			continue
		}
		html, err := render(ctx, about)
		if err != nil { // Redis is away, or the set has gone: there is nothing new to show
			h.log.WithError(err).WithField("topic", topic).Debug("region could not be made")
			continue
		}
		if last[topic] == html {
			continue
		}
		last[topic] = html
		h.tell(topic, message{"swap", encode(map[string]string{"region": region, "html": html})})
	}
	for topic := range last {
		if !h.followed(topic) {
			delete(last, topic)
		}
	}
}

// tell queues a message for those who follow a topic. Who has not taken the ones before is
// let go: the browser comes again and asks for everything.
func (h *hub) tell(topic string, m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for b := range h.browsers {
		for _, t := range b.topics {
			if t != topic {
				continue
			}
			select {
			case b.queue <- m:
			default:
				b.cut()
			}
		}
	}
}

func (h *hub) join(b *browser) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.browsers) >= maxBrowsers {
		return false
	}
	h.browsers[b] = true
	return true
}

func (h *hub) leave(b *browser) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.browsers, b)
}

// live is a live connection: /live?of=TOPIC&of=TOPIC.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	topics := r.URL.Query()["of"]
	if len(topics) == 0 || len(topics) > maxTopics {
		http.Error(w, fmt.Sprintf("of: 1 to %d topics", maxTopics), http.StatusBadRequest)
		return
	}
	for _, t := range topics {
		if t == "" || len(t) > maxTopic {
			http.Error(w, "of: a topic is too long", http.StatusBadRequest)
			return
		}
	}
	ctx, cut := context.WithCancel(r.Context())
	defer cut()
	b := &browser{topics: topics, queue: make(chan message, browserQueue), cut: cut}
	if !s.hub.join(b) {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many live connections", http.StatusServiceUnavailable)
		return
	}
	defer s.hub.leave(b)
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	out := http.NewResponseController(w)
	// The first event has the browser ask again for what it follows: something may have
	// changed since its page was made.
	m := message{"hello", []byte("{}")}
	idle := time.NewTicker(keepAlive)
	defer idle.Stop()
	for {
		if err := out.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
			return
		}
		var err error
		if m.event == "" {
			_, err = fmt.Fprint(w, ": still here\n\n")
		} else {
			_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", m.event, m.data)
		}
		if err != nil || out.Flush() != nil {
			return
		}
		select {
		case m = <-b.queue:
		case <-idle.C:
			m = message{}
		case <-ctx.Done():
			return
		}
	}
}

// encode is v as one line of JSON.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // strings and maps of strings only
		panic(err)
	}
	return b
}
