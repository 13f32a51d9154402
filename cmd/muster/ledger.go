package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

// ledgerObject is a set's head in JSON.
type ledgerObject struct {
	Key         tasks.Number          `json:"key"`
	Stage       tasks.Stage           `json:"stage"`
	Request     string                `json:"request"`
	CreatedMS   int64                 `json:"created_ms"`
	DeadlineMS  int64                 `json:"deadline_ms"`
	ClosedMS    int64                 `json:"closed_ms,omitempty"`
	CancelledMS int64                 `json:"cancelled_ms,omitempty"`
	TimeoutS    int64                 `json:"timeout_s"`
	Commands    int                   `json:"commands"`
	Total       int64                 `json:"total"`
	Counts      map[tasks.State]int64 `json:"counts"`
}

// hostObject is a host of a set in JSON.
type hostObject struct {
	Key     tasks.Number `json:"key"`
	Host    string       `json:"host"`
	State   tasks.State  `json:"state"`
	Working string       `json:"working,omitempty"` // the command now running
}

// head prints the head of a set.
func (p *printer) head(l tasks.Ledger) {
	if p.json {
		o := ledgerObject{
			Key: l.Number, Stage: l.Stage, Request: l.Request, CreatedMS: l.Created.UnixMilli(),
			DeadlineMS: l.Deadline.UnixMilli(), TimeoutS: int64(l.Timeout / time.Second),
			Commands: l.Commands, Total: l.Total, Counts: l.Counts,
		}
		if !l.Closed.IsZero() {
			o.ClosedMS = l.Closed.UnixMilli()
		}
		if !l.Cancelled.IsZero() {
			o.CancelledMS = l.Cancelled.UnixMilli()
		}
		p.object(o)
		return
	}
	p.say("%s  %s  %s", p.paint(bold, visible.Line(string(l.Number))), visible.Line(string(l.Stage)), p.counts(l))
	p.say("request   %s", visible.Line(l.Request))
	p.say("created   %s", clock(l.Created))
	p.say("deadline  %s", clock(l.Deadline))
	if !l.Cancelled.IsZero() {
		p.say("cancelled %s", clock(l.Cancelled))
	}
	if !l.Closed.IsZero() {
		p.say("closed    %s", clock(l.Closed))
	}
	p.say("commands  %d, at most %v each", l.Commands, l.Timeout)
}

// counts words how many hosts are in each state.
func (p *printer) counts(l tasks.Ledger) string {
	if l.Total == 0 {
		return "no host"
	}
	parts := []string{plural(l.Total, "host")}
	for _, s := range tasks.States() {
		if n := l.Counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, p.state(s)))
		}
	}
	return parts[0] + ": " + strings.Join(parts[1:], ", ")
}

// hosts prints the states of a set's hosts.
func (p *printer) hosts(n tasks.Number, hosts []tasks.HostState, working map[string]string) {
	if p.json {
		for _, h := range hosts {
			p.object(hostObject{n, h.Host, h.State, working[h.Host]})
		}
		return
	}
	names, rows := []string{"HOST", "STATE"}, make([][]string, len(hosts))
	if len(working) > 0 {
		names = append(names, "WORKING")
	}
	for i, h := range hosts {
		rows[i] = []string{visible.Line(h.Host), p.state(h.State)}
		if len(working) > 0 {
			rows[i] = append(rows[i], visible.Line(working[h.Host]))
		}
	}
	p.table(names, rows)
}

// hostsOf returns the hosts of a set that want accepts, in order.
func hostsOf(ctx context.Context, store *tasks.Store, n tasks.Number, want func(tasks.State) bool) ([]tasks.HostState, error) {
	states := map[string]tasks.State{}
	err := store.Hosts(ctx, n, func(page []tasks.HostState) error {
		for _, h := range page {
			if want(h.State) {
				states[h.Host] = h.State
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	hosts := make([]tasks.HostState, 0, len(states))
	for host, state := range states {
		hosts = append(hosts, tasks.HostState{Host: host, State: state})
	}
	slices.SortFunc(hosts, func(a, b tasks.HostState) int { return cmp.Compare(a.Host, b.Host) })
	return hosts, nil
}

// workingOn returns the command that runs now, for each host on which one does.
func workingOn(ctx context.Context, rdb redis.UniversalClient, n tasks.Number) (map[string]string, error) {
	working := map[string]string{}
	var cursor uint64
	for {
		page, next, err := rdb.HScan(ctx, tasks.KeyWorking(n), cursor, "", tasks.Chunk).Result()
		if err != nil {
			return nil, fmt.Errorf("commands now running of %s: %w", n, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			working[page[i]] = page[i+1]
		}
		if cursor = next; cursor == 0 {
			return working, nil
		}
	}
}

func anyState(tasks.State) bool { return true }

// clock is a time as it is shown: the machine's own, to the second.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -0700") }

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
