package dashboard

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
)

const (
	membersPage   = 50 // hosts on one page
	codesShown    = 12 // exit codes of one host in the list
	commandsShown = 5  // commands whose outputs are on one page
	groupsShown   = 4  // different outputs of each
	groupsPage    = 20 // of one command, on its own page
	hostsShown    = 5  // hosts of an output that are named
	hostPage      = 20 // results on the page of one host
	outputShown   = 8 << 10
)

// taskPage is one task set.
type taskPage struct {
	ledgerPart
	Commands []tasks.Command
	Members  membersPart
	Outputs  outputsPart
}

// ledgerPart is the head of a set: what everybody sees alike.
type ledgerPart struct {
	Broken   []broken // keys of the set that can't be read
	Ledger   tasks.Ledger
	Head     head
	Bar      bar
	Counters []link
	Timeline timeline
}

// membersPart is a page of the hosts of a set.
type membersPart struct {
	Number  tasks.Number
	Search  string
	State   string
	Group   *group // only hosts with this output
	C, G    string // which part of the outputs the page shows
	Filters []link
	Any     string // the list without a filter
	Rows    []memberRow
	Found   int
	Partial bool
	Pages   paging
}

// memberRow is a host of a set.
type memberRow struct {
	tasks.Progress
	Commands int
	Codes    []code // in the order in which they ended
	More     int    // codes that are not shown
}

// code is how a command has ended on a host.
type code struct {
	Command string
	Code    int
	Error   string
	Failed  bool
}

// Text is the exit code as it is shown.
func (c code) Text() string {
	if c.Code == codeUnknown {
		return "?"
	}
	return strconv.Itoa(c.Code)
}

// outputsPart is a page of the outputs of a set.
type outputsPart struct {
	Number   tasks.Number
	Commands []commandPart
	Pages    paging // of commands, or of the outputs of the one command
	One      bool   // only one command is shown
	All      string // the outputs of all commands
	Read     int    // results that are in
	Reading  bool   // there are more to read
	Full     bool   // there are more than are kept
}

// commandPart is the outputs of a command.
type commandPart struct {
	Line    string
	Index   int // from 1 on, in the order in which they run
	Results int
	Differ  int // different outputs
	Groups  []groupPart
	More    string // where all of its outputs are, empty if they are here
}

// groupPart is results that are the same.
type groupPart struct {
	*group
	number tasks.Number
	Count  int
	Hosts  []string
	All    string       // the list of its hosts
	Result tasks.Result // one of them
	Gone   bool         // that one is no longer in Redis
	Stdout shown
	Stderr shown
	Whole  string // where the output is in full
}

// HostURL is where the output of a host is in full.
func (p groupPart) HostURL(host string) string { return resultsPath(p.number, host) }

// shown is an output as it is shown.
type shown struct {
	Text  string
	Cut   bool  // there is more of it in Redis
	Kept  int   // bytes in Redis
	Bytes int64 // bytes that the command has written
}

func showOutput(text string, bytes int64, most int) shown {
	o := shown{Text: clip(text, most), Kept: len(text), Bytes: max(bytes, int64(len(text)))}
	o.Cut = len(o.Text) < len(text)
	return o
}

// startLooks starts what keeps pages of sets true.
func (s *Server) startLooks(group *supervise.Group) { group.Go("task pages", s.watchLooks) }

// headOfPage reads the head of the set that a request is about, or answers it.
func (s *Server) headOfPage(w http.ResponseWriter, r *http.Request) (tasks.Ledger, bool) {
	n, err := tasks.ParseNumber(r.PathValue("key"))
	if err != nil {
		s.fail(w, r, http.StatusNotFound, clip(r.PathValue("key"), 100)+" is no task number: those are AC and 1 to 62 of A-Z a-z 0-9 . _ -")
		return tasks.Ledger{}, false
	}
	l, err := s.ledger(r.Context(), n)
	if errors.Is(err, tasks.ErrNotFound) {
		s.absentPage(w, r, n)
		return tasks.Ledger{}, false
	}
	if err != nil {
		s.failWith(w, r, err)
		return tasks.Ledger{}, false
	}
	return l, true
}

// ledger reads the head of a set. One that can't be read has no Stage: the rest of the set
// may be there.
func (s *Server) ledger(ctx context.Context, n tasks.Number) (tasks.Ledger, error) {
	l, err := s.store.Ledger(ctx, n)
	if isNone(err) {
		commands, err := s.store.Commands(ctx, n)
		return tasks.Ledger{Number: n, Commands: len(commands)}, passing(err)
	}
	return l, err
}

// taskPage answers /tasks/KEY. Its parameters: state, q, output and page for the hosts, c
// and g for the outputs.
func (s *Server) taskPage(w http.ResponseWriter, r *http.Request) {
	l, ok := s.headOfPage(w, r)
	if !ok {
		return
	}
	region := r.Header.Get(regionHeader)
	wants := func(name string) bool { return region == "" || region == name }
	var p taskPage
	err := s.looks.at(l, func(k *look) (err error) {
		if wants("outputs") {
			p.Commands, err = s.store.Commands(r.Context(), l.Number)
			if err = passing(err); err != nil {
				return err
			}
		}
		if err := passing(k.outputs.advance(r.Context(), s.store, l.Number, lookMay)); err != nil {
			return err
		}
		if wants("ledger") {
			if p.ledgerPart, err = s.ledgerPart(r.Context(), k, l); err != nil {
				return err
			}
		}
		if wants("members") {
			if p.Members, err = s.membersPart(r, k, l); err != nil {
				return err
			}
		}
		if wants("outputs") {
			p.Outputs, err = s.outputsPart(r, k, p.Commands)
		}
		return err
	})
	if err != nil {
		s.failWith(w, r, err)
		return
	}
	n := string(l.Number)
	s.show(w, r, http.StatusOK, "task", view{
		Title: n, Here: "/tasks", Live: "ledger:" + n + " members:" + n + " outputs:" + n, Data: p,
	})
}

// ledgerRegion renders the head of a set for everyone who looks at it, or that it is no
// longer there.
func (s *Server) ledgerRegion(ctx context.Context, about string) (string, error) {
	n, err := tasks.ParseNumber(about)
	if err != nil {
		return "", err
	}
	l, err := s.ledger(ctx, n)
	if errors.Is(err, tasks.ErrNotFound) {
		return s.region("task", "ledger", taskPage{ledgerPart: ledgerPart{Ledger: tasks.Ledger{Number: n}}})
	}
	if err != nil {
		return "", err
	}
	var p taskPage
	err = s.looks.at(l, func(k *look) (err error) {
		p.ledgerPart, err = s.ledgerPart(ctx, k, l)
		return err
	})
	if err != nil {
		return "", err
	}
	return s.region("task", "ledger", p)
}

func (s *Server) ledgerPart(ctx context.Context, k *look, l tasks.Ledger) (ledgerPart, error) {
	p := ledgerPart{Ledger: l, Head: headOf(l), Bar: barOf(l.Counts, l.Total)}
	for _, state := range barOrder() {
		p.Counters = append(p.Counters, link{
			Text: string(state), Count: l.Counts[state], URL: address(taskPath(l.Number), "state", string(state)) + "#members",
		})
	}
	p.Broken = s.broken(ctx, setPlaces(l.Number))
	var err error
	if l.Stage != "" {
		p.Timeline, err = s.timeline(ctx, k, l)
	}
	return p, err
}

func taskPath(n tasks.Number) string { return "/tasks/" + segment(string(n)) }

// resultsPath is where the results of one host are.
func resultsPath(n tasks.Number, host string) string { return taskPath(n) + "/hosts/" + segment(host) }

// membersPart is the page of the hosts that is asked for.
func (s *Server) membersPart(r *http.Request, k *look, l tasks.Ledger) (membersPart, error) {
	if err := passing(k.readMembers(r.Context(), s.store, l)); err != nil {
		return membersPart{}, err
	}
	q := r.URL.Query()
	p := membersPart{Number: l.Number, Search: clipped(q.Get("q")), State: q.Get("state"), C: numeral(q.Get("c")), G: numeral(q.Get("g")), Partial: k.partial}
	if !slices.Contains(tasks.States(), tasks.State(p.State)) {
		p.State = ""
	}
	key := ""
	if g, ok := k.outputs.group(q.Get("output")); ok {
		p.Group, key = g, g.Key.String()
	}
	to := func(state, output string, page int) string {
		return address(taskPath(l.Number), "state", state, "q", p.Search, "output", output, "page", pageWord(page),
			"c", p.C, "g", p.G) + "#members"
	}
	p.Any = address(taskPath(l.Number)) + "#members"
	anyState := k.find("", p.Search, p.Group)
	counts := map[uint8]int{}
	for _, m := range anyState {
		counts[m.state]++
	}
	p.Filters = []link{{"all", to("", key, 1), int64(len(anyState)), p.State == ""}}
	for i, state := range tasks.States() {
		if n := counts[uint8(i)]; n > 0 || p.State == string(state) {
			p.Filters = append(p.Filters, link{string(state), to(string(state), key, 1), int64(n), p.State == string(state)})
		}
	}
	found := anyState
	if p.State != "" {
		found = k.find(tasks.State(p.State), p.Search, p.Group)
	}
	p.Found = len(found)
	page := min(pageOf(q), pagesOf(p.Found, membersPage))
	found = found[min((page-1)*membersPage, len(found)):]
	found = found[:min(len(found), membersPage)]
	names := make([]string, len(found))
	for i, m := range found {
		names[i] = m.host
	}
	progress, err := s.store.Progress(r.Context(), l.Number, names)
	if err != nil {
		return p, err
	}
	for i, m := range found {
		if progress[i].State == "" { // the set has just gone
			progress[i].State = tasks.States()[m.state]
		}
		p.Rows = append(p.Rows, memberRowOf(k, progress[i], l.Commands))
	}
	p.Pages = pagingOf("members", page, membersPage, p.Found, len(found), func(n int) string { return to(p.State, key, n) })
	return p, nil
}

func memberRowOf(k *look, progress tasks.Progress, commands int) memberRow {
	row := memberRow{Progress: progress, Commands: commands}
	if !progress.State.Open() {
		row.Working = "" // what a host has last said of itself before it was ended
	}
	var newest []code
	k.outputs.ended(progress.Host, func(_ resultRef, g *group) {
		newest = append(newest, code{g.Command, g.Code, g.Error, g.Failed()})
	})
	slices.Reverse(newest)
	row.Codes = newest[:min(len(newest), codesShown)]
	row.More = len(newest) - len(row.Codes)
	return row
}

// outputsPart is the page of the outputs that is asked for: of some commands the most
// frequent ones, or of one command more of them.
func (s *Server) outputsPart(r *http.Request, k *look, commands []tasks.Command) (outputsPart, error) {
	o := k.outputs
	p := outputsPart{Number: k.number, Read: len(o.results), Reading: !o.complete, Full: o.full, All: taskPath(k.number) + "#outputs"}
	q := r.URL.Query()
	page, _ := strconv.Atoi(numeral(q.Get("g")))
	page = max(page, 1)
	one, _ := strconv.Atoi(numeral(q.Get("c")))
	from, size := 0, commandsShown
	if p.One = one >= 1 && one <= len(commands); p.One {
		from, size = one-1, 1
	} else {
		page = min(page, pagesOf(len(commands), commandsShown))
		from = (page - 1) * commandsShown
	}
	to := func(c, g int) string {
		return address(taskPath(k.number), "c", pageOrNone(c), "g", pageWord(g), "state", q.Get("state"), "q", clipped(q.Get("q"))) + "#outputs"
	}
	part := commands[min(from, len(commands)):min(from+size, len(commands))]
	for i, c := range part {
		groups, count := o.of(c.Line)
		cp := commandPart{Line: c.Line, Index: from + i + 1, Results: count, Differ: len(groups)}
		if p.One {
			page = min(page, pagesOf(len(groups), groupsPage))
			first := (page - 1) * groupsPage
			shown := groups[first:min(first+groupsPage, len(groups))]
			p.Pages = pagingOf("outputs", page, groupsPage, len(groups), len(shown), func(n int) string { return to(one, n) })
			groups = shown
		} else if len(groups) > groupsShown {
			groups, cp.More = groups[:groupsShown], to(cp.Index, 1)
		}
		for _, g := range groups {
			cp.Groups = append(cp.Groups, groupPartOf(o, k.number, g))
		}
		p.Commands = append(p.Commands, cp)
	}
	if !p.One {
		p.Pages = pagingOf("outputs", page, commandsShown, len(commands), len(part), func(n int) string { return to(0, n) })
	}
	return p, s.readShown(r.Context(), k.number, p.Commands)
}

// numeral is s if it is a small number, else nothing.
func numeral(s string) string {
	if n, err := strconv.Atoi(s); err != nil || n < 1 || n > 1_000_000 {
		return ""
	}
	return s
}

func pageOrNone(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func groupPartOf(o *outputs, n tasks.Number, g *group) groupPart {
	p := groupPart{group: g, number: n, Count: len(g.hosts), Hosts: o.some(g, hostsShown)}
	if p.Count > len(p.Hosts) {
		p.All = address(taskPath(n), "output", g.Key.String()) + "#members"
	}
	return p
}

// readShown reads the outputs that are shown, one of each group.
func (s *Server) readShown(ctx context.Context, n tasks.Number, commands []commandPart) error {
	var ids []string
	for _, c := range commands {
		for _, g := range c.Groups {
			ids = append(ids, g.first.id())
		}
	}
	results, err := s.store.ResultsAt(ctx, n, ids)
	if err != nil {
		return err
	}
	for i := range commands {
		for j := range commands[i].Groups {
			g := &commands[i].Groups[j]
			g.Result, results = results[0], results[1:]
			if g.Gone = g.Result.ID == ""; g.Gone || g.Loose {
				continue
			}
			g.Stdout = showOutput(g.Result.Stdout, g.Result.StdoutBytes, outputShown)
			g.Stderr = showOutput(g.Result.Stderr, g.Result.StderrBytes, outputShown)
			g.Whole = resultsPath(n, g.Result.Host)
		}
	}
	return nil
}
