package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"golang.org/x/net/html"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // which says each time that a server that was stopped is not there
	os.Exit(m.Run())
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// site is a dashboard that serves on a loopback address, on a Redis of its own.
type site struct {
	*Server
	t     *testing.T
	redis *redistest.Server
	rdb   *redis.Client
	base  string // http://127.0.0.1:port
	end   func() // ends the server and waits for it
}

// patience is how long Redis may be silent in tests that are not about that: where it
// shares a busy processor with others, it now and then is for some seconds.
const patience = time.Minute

// brisk is the pace of tests.
func brisk() pace {
	return pace{check: 50 * time.Millisecond, every: time.Second, least: 20 * time.Millisecond, share: 2, lookBack: 100 * time.Millisecond}
}

func openSite(t *testing.T) *site {
	t.Helper()
	return serveOn(t, redistest.Open(t), brisk())
}

func serveOn(t *testing.T, r *redistest.Server, at pace) *site {
	t.Helper()
	s := &site{t: t, redis: r, rdb: r.Client, Server: newServer(t, r.Client, r.Client)}
	s.fleet.pace, s.contact.most = at, patience
	s.base, s.end = serve(t, s.Server)
	return s
}

// serve starts a dashboard on a loopback address. end ends it and waits for that; the test
// does so, too.
func serve(t *testing.T, s *Server) (base string, end func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	t.Cleanup(end)
	return "http://" + ln.Addr().String(), end
}

func newServer(t testing.TB, rdb, reader redis.UniversalClient) *Server {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := New(Config{Redis: rdb, Reader: reader, Version: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// unasked is a server that has no Redis and is not run: its roll is what the test puts
// there.
func unasked(t testing.TB) *Server {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { rdb.Close() })
	s := newServer(t, rdb, rdb)
	s.contact.answered()
	s.fleet.read = time.Now()
	return s
}

// join puts hosts online at a listener, as a listener does: with an event.
func (s *site) join(listener string, hosts ...string) {
	s.t.Helper()
	s.change(tasks.On, listener, hosts...)
}

func (s *site) change(kind tasks.ChangeKind, listener string, hosts ...string) {
	s.t.Helper()
	roll := tasks.NewRoll(s.rdb)
	lease := redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: listener}
	s.must(s.rdb.ZAdd(s.t.Context(), tasks.KeyListeners, lease).Err())
	var changes []tasks.Change
	for i, h := range hosts {
		changes = append(changes, tasks.Change{Kind: kind, Host: h, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 6655), Client: "agent i"})
	}
	changed, _, err := roll.Apply(s.t.Context(), listener, changes)
	if err != nil {
		s.t.Fatal(err)
	}
	var gone []tasks.Departure
	for i, c := range changed {
		if c.Verdict == tasks.WentOff {
			gone = append(gone, tasks.Departure{Host: hosts[i], When: c.When, Reason: "connection ended"})
		}
	}
	s.must(roll.Depart(s.t.Context(), []string{"info", "ipv4"}, gone, nil))
}

func (s *site) leave(listener string, hosts ...string) {
	s.t.Helper()
	s.change(tasks.Off, listener, hosts...)
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// get asks for a page and wants the status.
func (s *site) get(path string, status int) *page {
	s.t.Helper()
	resp, err := http.Get(s.base + path)
	s.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	s.must(err)
	if resp.StatusCode != status {
		s.t.Fatalf("%s: status %d, want %d: %s", path, resp.StatusCode, status, body)
	}
	return parsed(s.t, string(body))
}

// eventually waits until a page is as it should be.
func (s *site) eventually(path, what string, right func(*page) bool) *page {
	s.t.Helper()
	var p *page
	redistest.Eventually(s.t, what, func() bool {
		p = s.get(path, http.StatusOK)
		return right(p)
	})
	return p
}

// ask has a server that is not run answer.
func ask(t testing.TB, s *Server, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "localhost:8080"
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.door().ServeHTTP(w, r)
	return w
}

// page is a parsed page.
type page struct {
	t    testing.TB
	root *html.Node
}

func parsed(t testing.TB, text string) *page {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return &page{t, root}
}

// all returns the elements that are as wanted.
func (p *page) all(want func(*html.Node) bool) (list []*html.Node) {
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && want(n) {
			list = append(list, n)
		}
	}
	return list
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// id is the text of the element with an id, "none" if there is none.
func (p *page) id(id string) string {
	list := p.all(func(n *html.Node) bool { return attribute(n, "id") == id })
	if len(list) == 0 {
		return "none"
	}
	return words(list[0])
}

// region is the text of a region.
func (p *page) region(name string) string {
	list := p.all(func(n *html.Node) bool { return attribute(n, "data-region") == name })
	if len(list) != 1 {
		p.t.Fatalf("%d regions %q", len(list), name)
	}
	return words(list[0])
}

// rows are the hosts of the roll, in order.
func (p *page) rows() (ids []string) {
	for _, n := range p.all(func(n *html.Node) bool { return n.Data == "tr" && attribute(n, "data-key") != "" }) {
		ids = append(ids, attribute(n, "data-key"))
	}
	return ids
}

// href is where the first link with a text leads, empty if there is none.
func (p *page) href(of string) string {
	for _, n := range p.all(func(n *html.Node) bool { return n.Data == "a" && words(n) == of }) {

		return attribute(n, "href")
	}
	return ""
}

// stream is a live connection.
type stream struct {
	t        *testing.T
	messages chan sent
	err      error // why it has ended, once messages is closed; nil if the server ended it in order
}

type sent struct {
	event string
	data  struct {
		Region, HTML, Tag string
		Within            int
	}
}

// follow opens a live connection; its hello has been read.
func (s *site) follow(topics ...string) *stream {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/live?of="+strings.Join(topics, "&of="), nil)
	s.must(err)
	resp, err := http.DefaultClient.Do(r)
	s.must(err)
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		s.t.Fatalf("live: %s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	st := &stream{t: s.t, messages: make(chan sent, 1000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(st.messages)
		defer resp.Body.Close()
		var m sent
		lines := bufio.NewScanner(resp.Body)
		defer func() { st.err = lines.Err() }()
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				m.event = value
			case "data":
				if err := json.Unmarshal([]byte(value), &m.data); err != nil {
					s.t.Errorf("data of %s: %v", m.event, err)
				}
				st.messages <- m
				m = sent{}
			}
		}
	}()
	s.t.Cleanup(func() { cancel(); <-ended })
	if m := st.next(); m.event != "hello" || m.data.Tag == "" {
		s.t.Fatalf("first message %+v", m)
	}
	return st
}

func (st *stream) next() sent {
	st.t.Helper()
	select {
	case m, ok := <-st.messages:
		if !ok {
			return sent{event: "end"}
		}
		return m
	case <-time.After(60 * time.Second):
		st.t.Fatal("no message within a minute")
		return sent{}
	}
}

// until waits for a message.
func (st *stream) until(what string, right func(sent) bool) sent {
	st.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		m := st.next()
		if right(m) {
			return m
		}
		if m.event == "end" {
			break
		}
	}
	st.t.Fatalf("not seen: %s", what)
	return sent{}
}

// setEntry is a task set in the list of those that exist.
func setEntry(n tasks.Number, deadline time.Time) redis.Z {
	return redis.Z{Score: float64(deadline.UnixMilli()), Member: string(n)}
}

// many puts made hosts on a roll: node-0 and so on, every third without information.
func many(s *Server, n int) {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	for i := range n {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 6655)
		id := fmt.Sprintf("node-%d", i)
		s.fleet.seenLocked(tasks.Presence{
			Host: id, Online: true, Addr: addr, Listener: fmt.Sprintf("l%d", 1+i%2), Client: []string{"json", "text", "agent 0123456789abcdef"}[i%3],
		}, 0)
		if i%3 == 2 {
			continue
		}
		h := *s.fleet.hosts[id]
		h.info = newInfo([]any{
			fmt.Sprintf("srv%05d.example.org", n-i), []string{"linux", "windows"}[i%2], "amd64", fmt.Sprintf("0.8.%d", i%11),
			fmt.Sprintf(`{"rack":"r%d","role":"%s"}`, i%40, []string{"db", "web", "cache"}[i%3]),
		}, []string{addr.Addr().String(), "192.168.7.7"})
		h.hay = h.searched()
		s.fleet.putLocked(&h)
	}
	s.fleet.infos = newInfoQueue()
}
