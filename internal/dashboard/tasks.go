package dashboard

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
)

const (
	setsPage    = 50  // task sets on one page
	searchLimit = 100 // bytes of a search, more are cut off
)

// tasksPage is the list of the task sets.
type tasksPage struct {
	Search   string
	Outcome  string
	Filters  []link
	Listed   listed
	Pages    paging
	Rejected rejectedPart
}

// link is one of several views of a list.
type link struct {
	Text  string
	URL   string
	Count int64
	Here  bool
}

// runningPart is what the region "running" is made of: the data of a page that shows it
// has a field Running like this one.
type runningPart struct{ Running running }

// rejectedPart is what the region "rejected" is made of.
type rejectedPart struct{ Requests []happening }

// tasksPage answers /tasks?q=SEARCH&show=OUTCOME&page=N.
func (s *Server) tasksPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := tasksPage{Search: clipped(q.Get("q")), Outcome: q.Get("show")}
	o, known := outcomes()[p.Outcome]
	if !known {
		p.Outcome = ""
	}
	page := pageOf(q)
	p.Listed = s.sets.Newest(p.Search, o, (page-1)*setsPage, setsPage)
	if last := pagesOf(p.Listed.Found, setsPage); page > last {
		page = last
		p.Listed = s.sets.Newest(p.Search, o, (page-1)*setsPage, setsPage)
	}
	to := func(outcome string, page int) string {
		return address("/tasks", "q", p.Search, "show", outcome, "page", pageWord(page))
	}
	p.Filters = []link{{"all", to("", 1), int64(p.Listed.All), p.Outcome == ""}}
	for _, name := range []string{"running", "done", "failed", "unreached", "cancelled", "expired"} {
		p.Filters = append(p.Filters, link{name, to(name, 1), int64(p.Listed.Of[outcomes()[name]]), p.Outcome == name})
	}
	p.Pages = pagingOf("sets", page, setsPage, p.Listed.Found, len(p.Listed.Sets), func(n int) string { return to(p.Outcome, n) })
	p.Rejected.Requests = s.rejected.newest()
	s.show(w, r, http.StatusOK, "tasks", view{Title: "Tasks", Here: "/tasks", Live: "sets rejected", Data: p})
}

// runningRegion renders the running sets for everyone who looks at them.
func (s *Server) runningRegion(context.Context, string) (string, error) {
	return s.region("tasks", "running", runningPart{s.sets.Running(runningShown)})
}

// rejectedRegion renders the requests that were rejected.
func (s *Server) rejectedRegion(context.Context, string) (string, error) {
	return s.region("tasks", "rejected", struct{ Rejected rejectedPart }{rejectedPart{s.rejected.newest()}})
}

// startTasks starts what keeps the task sets true.
func (s *Server) startTasks(group *supervise.Group) {
	group.Go("task sets", s.sets.run)
	s.startLooks(group)
	group.Go("rejected requests", func(ctx context.Context) error {
		return s.rejected.load(ctx, func(ctx context.Context, id string) ([]tasks.Event, error) {
			return tasks.EventsBefore(ctx, s.cfg.Redis, id, eventsPage)
		})
	})
}

// taskRegions are the regions of task sets that everyone sees alike.
func (s *Server) taskRegions(r map[string]renderer) {
	r["running"] = s.runningRegion
	r["rejected"] = s.rejectedRegion
	r["ledger"] = s.ledgerRegion
}

// taskRoutes are the pages of task sets.
func (s *Server) taskRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /tasks", s.tasksPage)
	mux.HandleFunc("GET /tasks/{key}", s.taskPage)
	mux.HandleFunc("GET /tasks/{key}/hosts/{host}", s.taskHostPage)
	s.queues.routes(mux)
}

// paging says which part of a list a page shows, and where the other parts are.
type paging struct {
	Region       string // of the page, which holds the list
	From, To, Of int    // from 1 on
	First        string
	Prev, Next   string // empty: there is none
	Last         string
}

func pagingOf(region string, page, size, of, shown int, to func(int) string) paging {
	p := paging{Region: region, From: (page-1)*size + 1, Of: of}
	if shown == 0 {
		p.From = 0
	}
	p.To = (page-1)*size + shown
	if page > 1 {
		p.First, p.Prev = to(1), to(page-1)
	}
	if last := pagesOf(of, size); page < last {
		p.Next, p.Last = to(page+1), to(last)
	}
	return p
}

func pagesOf(of, size int) int { return max((of+size-1)/size, 1) }

// pageOf is the page that is asked for, from 1 on.
func pageOf(q url.Values) int {
	n, err := strconv.Atoi(q.Get("page"))
	if err != nil || n < 1 || n > 1_000_000 {
		return 1
	}
	return n
}

// pageWord is a page in an address: the first one needs none.
func pageWord(n int) string {
	if n <= 1 {
		return ""
	}
	return strconv.Itoa(n)
}

// address is a path with those of its parameters (name, value, ...) that are not empty.
func address(path string, parameters ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		if parameters[i+1] != "" {
			q.Set(parameters[i], parameters[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// segment is a text as one part of a path.
func segment(s string) string { return url.PathEscape(s) }

// clipped is a search as it is used.
func clipped(s string) string { return clip(s, searchLimit) }

// taskFunctions are what the templates of task sets call besides.
func taskFunctions() template.FuncMap {
	return template.FuncMap{
		"grouped":    grouped[int64],
		"age":        func(t time.Time) string { return inWords(time.Since(t)) },
		"took":       took,
		"ms":         func(ms int64) string { return took(time.Duration(ms) * time.Millisecond) },
		"bytes":      inBytes[int64],
		"segment":    segment,
		"stateClass": stateClass,
	}
}

// inWords is about how long d is. Below a minute it goes by steps of five seconds, so
// that what is shown changes now and then only.
func inWords(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 5*time.Second:
		return "a moment"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds())/5*5)
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

// took is how long something ran.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return twoUnits(int(d.Minutes()), "min", int(d.Seconds())%60, "s")
	case d < 48*time.Hour:
		return twoUnits(int(d.Hours()), "h", int(d.Minutes())%60, "min")
	}
	return twoUnits(int(d.Hours())/24, "days", int(d.Hours())%24, "h")
}

func twoUnits(big int, unit string, small int, smaller string) string {
	if small == 0 {
		return fmt.Sprintf("%d %s", big, unit)
	}
	return fmt.Sprintf("%d %s %d %s", big, unit, small, smaller)
}

// inBytes is a number of bytes.
func inBytes[T int | int64](n T) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 10_000:
		return grouped(int64(n)) + " bytes"
	case n < 10<<20:
		return grouped(int64(n)>>10) + " KiB"
	}
	return grouped(int64(n)>>20) + " MiB"
}
