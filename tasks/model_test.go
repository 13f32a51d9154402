package tasks_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/tasks"
)

// modelHost is what the ledger should say of one host: the rules in plain Go.
type modelHost struct {
	state            tasks.State
	complete, oncall []string
	listed           bool // the list of what is to be run was made
	results          []string
	failing          bool
	working          string
}

var rank = map[tasks.State]int{
	tasks.Waiting: 1, tasks.Sent: 2, tasks.Acknowledged: 3, tasks.Received: 4, tasks.Working: 5,
}

func (h *modelHost) advance(to tasks.State, inTime bool) {
	switch {
	case !inTime || h.state.Final():
	case h.state.Open() && to.Open() && rank[to] <= rank[h.state]:
	default:
		h.state = to
	}
}

func (h *modelHost) report(r tasks.Report, commands []string, inTime bool) {
	known := func(c string) bool { return slices.Contains(commands, c) }
	switch r.RCC {
	case 1:
		h.advance(tasks.Acknowledged, inTime)
	case 2:
		if h.state == tasks.Sent {
			h.advance(tasks.Missing, inTime)
		}
	}
	if r.RCC != 0 {
		return
	}
	end := func(c string) {
		if known(c) && !slices.Contains(h.complete, c) {
			h.complete = append(h.complete, c)
			if r.Result != nil && r.Result.Command == c {
				h.results = append(h.results, c)
				h.failing = h.failing || r.Result.ExitCode != 0
			}
		}
	}
	if r.Lists {
		if !h.listed {
			h.listed = true
			for _, c := range r.OnCall {
				if known(c) && !slices.Contains(h.oncall, c) && !slices.Contains(h.complete, c) {
					h.oncall = append(h.oncall, c)
				}
			}
		}
		h.oncall = slices.DeleteFunc(h.oncall, func(c string) bool { return !slices.Contains(r.OnCall, c) })
		for _, c := range r.Complete {
			end(c)
		}
	} else if r.Result != nil {
		end(r.Result.Command)
		h.oncall = slices.DeleteFunc(h.oncall, func(c string) bool { return c == r.Result.Command })
	}
	switch {
	case len(h.complete) == len(commands) && h.failing:
		h.advance(tasks.Failed, inTime)
	case len(h.complete) == len(commands):
		h.advance(tasks.Done, inTime)
	case r.Phase == 1:
		h.advance(tasks.Received, inTime)
	default:
		h.advance(tasks.Working, inTime)
	}
	if known(r.Working) && h.state.Open() && inTime && !slices.Contains(h.complete, r.Working) {
		h.working = r.Working
	}
	if slices.Contains(h.complete, h.working) {
		h.working = ""
	}
}

// model is one task set.
type model struct {
	f        fixture
	n        tasks.Number
	commands []string
	hosts    map[string]*modelHost
	stage    tasks.Stage
	past     bool
}

func (m *model) settle() {
	open := false
	for _, h := range m.hosts {
		open = open || h.state.Open()
	}
	if m.stage == tasks.Open && !open {
		m.stage = tasks.Closed
	}
}

func (m *model) step(rng *rand.Rand, history *[]tasks.Report) string {
	ctx := m.f.Context()
	switch dice := rng.IntN(40); {
	case dice == 0 && m.stage == tasks.Preparing:
		_, err := m.f.store.Open(ctx, m.n)
		m.f.must(err)
		m.stage = tasks.Open
		m.settle()
		return "open"
	case dice == 1 && len(*history) > 60 && !m.past:
		m.f.past(m.n)
		m.past = true
		return "the deadline passes"
	case dice <= 3:
		m.f.must(m.f.store.Expire(ctx, m.n))
		if m.past {
			for _, h := range m.hosts {
				if h.state.Open() {
					h.state = tasks.Expired
				}
			}
			if m.stage == tasks.Preparing {
				m.stage = tasks.Open
			}
			m.settle()
		}
		return "expire"
	case dice <= 6:
		host, state := fmt.Sprint("web-", rng.IntN(8)), []tasks.State{tasks.Sent, tasks.Sent, tasks.Offline, tasks.Waiting, tasks.Unanswered}[rng.IntN(5)]
		enlisted := []tasks.Enlisted{{Host: host, State: state}}
		m.f.await(m.n, enlisted)
		_, err := m.f.store.Enlist(ctx, m.n, enlisted)
		m.f.must(err)
		if m.stage == tasks.Preparing && m.hosts[host] == nil {
			m.hosts[host] = &modelHost{state: state}
		}
		return "enlist " + host
	}
	var batch []tasks.Report
	for range 1 + rng.IntN(4) {
		if len(*history) > 0 && rng.IntN(3) == 0 {
			batch = append(batch, (*history)[rng.IntN(len(*history))]) // again, and late
			continue
		}
		r := m.random(rng)
		*history = append(*history, r)
		if rng.IntN(8) > 0 { // else it comes later than the next ones
			batch = append(batch, r)
		}
	}
	_, err := m.f.store.Report(ctx, batch)
	m.f.must(err)
	for _, r := range batch {
		if h := m.hosts[r.Host]; h != nil {
			h.report(r, m.commands, !m.past)
		}
	}
	m.settle()
	return fmt.Sprintf("report %+v", batch)
}

func (m *model) random(rng *rand.Rand) tasks.Report {
	r := tasks.Report{Number: m.n, Host: fmt.Sprint("web-", rng.IntN(9))} // web-8 is never in the set
	if rng.IntN(3) == 0 {
		r.RCC = 1 + rng.IntN(3)
		return r
	}
	named := append(slices.Clone(m.commands), "strange")
	r.Phase = 1 + rng.IntN(3)
	if rng.IntN(2) == 0 {
		r.Working = named[rng.IntN(len(named))]
	}
	if rng.IntN(2) == 0 {
		r.Lists = true
		rng.Shuffle(len(named), func(i, j int) { named[i], named[j] = named[j], named[i] })
		cut := rng.IntN(len(named) + 1)
		r.Complete, r.OnCall = named[:cut:cut], named[cut:]
	}
	if rng.IntN(2) == 0 {
		r.Result = &tasks.Result{Command: named[rng.IntN(len(named))], ExitCode: max(0, rng.IntN(3)-1)}
	}
	return r
}

// check holds what Redis has against the model.
func (m *model) check() error {
	f := m.f
	f.sound(m.n)
	states := map[string]tasks.State{}
	for name, h := range m.hosts {
		states[name] = h.state
	}
	if got := f.states(m.n); !maps.Equal(got, states) {
		return fmt.Errorf("states %v, want %v", got, states)
	}
	l, err := f.store.Ledger(f.Context(), m.n)
	f.must(err)
	if l.Stage != m.stage || l.Total != int64(len(m.hosts)) || l.Closed.IsZero() != (m.stage != tasks.Closed) {
		return fmt.Errorf("ledger %+v, want %s of %d", l, m.stage, len(m.hosts))
	}
	results := map[string][]string{}
	f.must(f.store.Results(f.Context(), m.n, "", func(r tasks.Result) error {
		results[r.Host] = append(results[r.Host], r.Command)
		return nil
	}))
	working, err := f.rdb.HGetAll(f.Context(), tasks.KeyWorking(m.n)).Result()
	f.must(err)
	for name, h := range m.hosts {
		complete := f.rdb.LRange(f.Context(), tasks.KeyCompleteOf(m.n, name), 0, -1).Val()
		oncall := f.rdb.LRange(f.Context(), tasks.KeyOnCallOf(m.n, name), 0, -1).Val()
		got := fmt.Sprint(complete, oncall, results[name], working[name])
		if want := fmt.Sprint(h.complete, h.oncall, h.results, h.working); got != want {
			return fmt.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	return nil
}

// Random answers and reports of several hosts, doubled and in any order, lead where
// the model says; and after every step the ledger adds up.
func TestLedgerAgainstModel(t *testing.T) {
	t.Parallel()
	f := open(t)
	reached := map[tasks.State]bool{tasks.Cancelled: true} // nothing leads there yet
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		m := &model{f: f, n: tasks.Number(fmt.Sprint("AC", seed)), hosts: map[string]*modelHost{}, stage: tasks.Preparing}
		m.commands = letters("abcd"[:1+rng.IntN(4)])
		f.prepare(m.n, strings.Join(m.commands, ""))
		var history []tasks.Report
		var done []string
		for range 60 {
			done = append(done, m.step(rng, &history))
			for _, h := range m.hosts {
				reached[h.state] = true
			}
			if err := m.check(); err != nil {
				t.Fatalf("seed %d: %v, after\n%s", seed, err, strings.Join(done[max(0, len(done)-5):], "\n"))
			}
		}
		if m.stage == tasks.Closed {
			f.closedOnce(m.n)
		}
		f.must(f.rdb.FlushDB(t.Context()).Err()) // so that the next is not slower
	}
	for _, s := range tasks.States() {
		if !reached[s] {
			t.Errorf("no host was ever %s: the sequences are not worth much", s)
		}
	}
}
