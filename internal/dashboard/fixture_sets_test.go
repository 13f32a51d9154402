package dashboard

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/net/html"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// bench is a dashboard on a Redis of its own, and what tests of task sets do with it.
type bench struct {
	*testing.T
	rdb   *redis.Client
	store *tasks.Store
	srv   *Server
	door  http.Handler
}

// newBench makes a dashboard whose services do not run: tests of what a page shows call
// what they would do by hand.
func newBench(t *testing.T) *bench {
	t.Helper()
	r := redistest.Open(t)
	reader := redis.NewClient(r.Client.Options())
	t.Cleanup(func() { reader.Close() })
	srv := newServer(t, r.Client, reader)
	srv.sets.pace.beat, srv.sets.pace.idle, srv.sets.pace.check = 50*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
	srv.looks.beat = 50 * time.Millisecond
	srv.fleet.pace, srv.contact.most = brisk(), patience
	return benchOf(t, r.Client, srv)
}

// benchOf is what tests of task sets do with a dashboard that is there.
func benchOf(t *testing.T, rdb *redis.Client, srv *Server) *bench {
	return &bench{t, rdb, tasks.NewStore(rdb, tasks.StoreConfig{}), srv, srv.door()}
}

// serve starts the dashboard, and returns where it is.
func (b *bench) serve() string {
	b.Helper()
	base, _ := serve(b.T, b.srv)
	return base
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// set makes a set of commands "a", "b", ... that run in this order, on hosts, which are
// sent to unless they are named "offline-...", and opens it.
func (b *bench) set(n tasks.Number, commands string, hosts ...string) {
	b.Helper()
	r := tasks.Request{Key: n, Timeout: 600 * time.Second, Deadline: time.Hour}
	for i, c := range strings.Split(commands, "") {
		r.Commands = append(r.Commands, tasks.Command{Line: c, Priority: float64(100 - i)})
	}
	b.prepare(r, hosts...)
	_, err := b.store.Open(b.Context(), n)
	b.must(err)
}

func (b *bench) prepare(r tasks.Request, hosts ...string) {
	b.Helper()
	_, err := b.store.Prepare(b.Context(), "request of "+string(r.Key), r)
	b.must(err)
	var part []tasks.Enlisted
	for i, h := range hosts {
		state := tasks.Sent
		if strings.HasPrefix(h, "offline-") {
			state = tasks.Offline
		}
		if part = append(part, tasks.Enlisted{Host: h, State: state}); len(part) == tasks.Chunk || i == len(hosts)-1 {
			_, err := b.store.Enlist(b.Context(), r.Key, part)
			b.must(err)
			part = nil
		}
	}
}

// report brings reports in as a listener does.
func (b *bench) report(reports ...tasks.Report) {
	b.Helper()
	got, err := b.store.Report(b.Context(), reports)
	b.must(err)
	if got.Failed != nil || got.NoSet+got.Strangers+got.PassedOver > 0 {
		b.Fatalf("reported: %+v", got)
	}
}

// ended is the report of a command that has ended.
func ended(n tasks.Number, host, command string, code int, stdout string) tasks.Report {
	return tasks.Report{Number: n, Host: host, Phase: 3, Result: &tasks.Result{
		Command: command, ExitCode: code, DurationMS: 7, Stdout: stdout, StdoutBytes: int64(len(stdout)),
	}}
}

// index brings the index of sets up to date.
func (b *bench) index() {
	b.Helper()
	b.must(b.srv.sets.reconcile(b.Context()))
}

// get asks for a page, with a region for that only.
func (b *bench) get(url, region string) *httptest.ResponseRecorder {
	b.Helper()
	r := httptest.NewRequest("GET", url, nil)
	r.Host = "localhost:8080"
	if region != "" {
		r.Header.Set(regionHeader, region)
	}
	w := httptest.NewRecorder()
	b.door.ServeHTTP(w, r)
	return w
}

// page asks for a page that is there, and parses it.
func (b *bench) page(url string) *html.Node {
	b.Helper()
	w := b.get(url, "")
	if w.Code != http.StatusOK {
		b.Fatalf("%s: %d %s", url, w.Code, w.Body)
	}
	return parsed(b.T, w.Body.String()).root
}

// all are the elements below n for which is holds.
func all(n *html.Node, is func(*html.Node) bool) (found []*html.Node) {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && is(d) {
			found = append(found, d)
		}
	}
	return found
}

// having is a test for elements of a name that have a class, either "" for any.
func having(name, class string) func(*html.Node) bool {
	return func(n *html.Node) bool {
		if name != "" && n.Data != name {
			return false
		}
		return class == "" || strings.Contains(" "+attribute(n, "class")+" ", " "+class+" ")
	}
}

// text is the text of an element, with single blanks.
func text(n *html.Node) string { return strings.Join(strings.Fields(raw(n)), " ") }

// raw is the text of an element as it is.
func raw(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// column is the text of a column of the first table.
func column(n *html.Node, class string) (cells []string) {
	for _, td := range all(n, having("td", class)) {
		cells = append(cells, text(td))
	}
	return cells
}

func hostNames(format string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(format, i)
	}
	return names
}
