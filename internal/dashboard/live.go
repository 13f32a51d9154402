package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	maxTopics  = 16               // of one connection
	maxTopic   = 160              // bytes; "host:" and an id of 128 fit
	keepAlive  = 15 * time.Second // silence after which a browser is told that all is well
	writeLimit = 10 * time.Second // for one message; a browser slower than that is let go
)

// live is a live connection: /live?of=TOPIC&of=TOPIC&since=STAMP.
//
// Its first message is hello. It names the regions that have changed since the page with
// that stamp was made; without a stamp, or with one of another server, any may have, and
// the browser asks for all of them again. Where all is quiet there is a still every 15 s: a
// browser that misses it, as after a sleep, connects again.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	topics := r.URL.Query()["of"]
	if len(topics) == 0 || len(topics) > maxTopics {
		http.Error(w, fmt.Sprintf("of: 1 to %d topics", maxTopics), http.StatusBadRequest)
		return
	}
	for _, t := range topics {
		if t == "" || len(t) > maxTopic {
			http.Error(w, fmt.Sprintf("of: a topic has 1 to %d bytes", maxTopic), http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	if r.Method == http.MethodHead {
		return
	}
	ctx, cut := context.WithCancel(r.Context())
	defer cut()
	b := newBrowser(topics, cut)
	b.from = otherMachine(r.RemoteAddr)
	within, ok := s.hub.join(b)
	if !ok {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many live connections", http.StatusServiceUnavailable)
		return
	}
	defer s.hub.leave(b)
	out := http.NewResponseController(w)
	write := func(m message) bool {
		if out.SetWriteDeadline(time.Now().Add(writeLimit)) != nil {
			return false
		}
		_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", m.event, m.data)
		return err == nil
	}
	// When this server has gone its browsers do not come back all at once.
	fmt.Fprintf(w, "retry: %d\n\n", 1000+rand.IntN(2000)+int(within/time.Millisecond))
	changed, known := s.hub.since(b, r.URL.Query().Get("since")) // what is touched from here on comes by itself
	hello := map[string]any{"within": within.Milliseconds(), "tag": s.pages.tag, "known": known, "changed": changed}
	if !write(message{"hello", encode(hello)}) || out.Flush() != nil {
		return
	}
	idle := time.NewTimer(keepAlive)
	defer idle.Stop()
	for {
		messages := []message{{"still", []byte("{}")}}
		select {
		case <-b.wake:
			messages = b.take()
		case <-idle.C:
		case <-ctx.Done():
			return
		}
		for _, m := range messages {
			if !write(m) {
				return
			}
		}
		if out.Flush() != nil {
			return
		}
		idle.Reset(keepAlive)
	}
}

// otherMachine is the address of the machine that a request comes from, empty if it is this
// one: a proxy here brings the browsers of everybody.
func otherMachine(remote string) string {
	addr, err := netip.ParseAddrPort(remote)
	if err == nil && addr.Addr().Unmap().IsLoopback() {
		return ""
	}
	host, _, _ := net.SplitHostPort(remote)
	return host
}

// encode is v as one line of JSON.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // strings and numbers only
		panic(err)
	}
	return b
}
