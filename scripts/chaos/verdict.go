package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/faults"
	"github.com/musterhq/muster/internal/pause"
)

const (
	settleMost = longDeadline*time.Second + time.Minute // then every deadline has passed
	settleMore = 20 * time.Second                       // for reports that are still under way
)

// verdict is what was counted. A list names what must not be.
type verdict struct {
	asked, taken, accepted, rejected int
	commands, interrupted, cut       int
	states                           map[string]int // hosts by end state
	kinds                            map[string]int
	late                             int

	twice, lost, wrong, open, crashed []string
	reasons                           []string // of rejections
}

// settle waits until every ledger is closed, and counts. What looks wrong is looked at
// again for a while: reports may be under way.
func (c *chaos) settle(ctx context.Context) (*verdict, error) {
	var v *verdict
	var err error
	quiet := time.Time{}
	for end := time.Now().Add(settleMost); time.Now().Before(end); {
		if v, err = c.count(ctx); ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			if len(v.open) == 0 && len(v.lost)+len(v.wrong) == 0 {
				break
			}
			if len(v.open) == 0 && quiet.IsZero() {
				quiet = time.Now()
			}
			if !quiet.IsZero() && time.Since(quiet) > settleMore {
				break
			}
			c.say("%d open, %d not reported, %d do not add up", len(v.open), len(v.lost), len(v.wrong))
		}
		pause.For(ctx, time.Second)
	}
	if err == nil {
		// Nothing runs twice late: whatever is told again now is told in vain.
		pause.For(ctx, 2*time.Second)
		v, err = c.count(ctx)
	}
	return v, err
}

func (c *chaos) count(ctx context.Context) (*verdict, error) {
	v := &verdict{states: map[string]int{}, kinds: map[string]int{}}
	rejections, err := c.rejections(ctx)
	if err != nil {
		return nil, err
	}
	effects := make([]map[string]int, len(c.sys.Agents))
	for i := range effects {
		if effects[i], err = c.sys.Effects(i); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.dispatches {
		v.asked++
		a, err := faults.Recount(ctx, c.sys.DB, d.key)
		if err != nil {
			return nil, err
		}
		reason, rejected := rejections[d.key]
		switch {
		case !d.taken && !a.Exists && !rejected:
			continue // Redis never had it
		case rejected:
			v.taken, v.rejected = v.taken+1, v.rejected+1
			v.reasons = append(v.reasons, d.key+": "+reason)
		case !a.Exists:
			v.taken++
			v.lost = append(v.lost, d.key+" has neither a set nor a rejection")
		default:
			v.taken, v.accepted = v.taken+1, v.accepted+1
		}
		v.kinds[d.kind]++
		v.ledger(a)
		for i := range effects {
			v.agent(d, a, c.sys.AgentID(i), effects[i])
		}
		for n := range c.hosts {
			v.host(a, c.swarm.ID(n), c.swarm.Heard(n, d.key).Runs)
			v.late += c.swarm.Heard(n, d.key).Late
		}
	}
	for i := range effects {
		for mark := range effects[i] {
			v.wrong = append(v.wrong, fmt.Sprintf("%s has run %s, which was not asked for", c.sys.AgentID(i), mark))
		}
	}
	v.crashed = append(slices.Clone(c.crashed), c.panics()...)
	return v, nil
}

// rejections are the reasons by task number.
func (c *chaos) rejections(ctx context.Context) (map[string]string, error) {
	events, err := c.sys.DB.XRange(ctx, "{muster}:events", "-", "+").Result()
	if err != nil {
		return nil, err
	}
	reasons := map[string]string{}
	for _, e := range events {
		if e.Values["type"] == "request.rejected" {
			key, _ := e.Values["key"].(string)
			reasons[key], _ = e.Values["reason"].(string)
		}
	}
	return reasons, nil
}

func (v *verdict) ledger(a faults.Account) {
	if !a.Exists {
		return
	}
	v.wrong = append(v.wrong, a.Wrong...)
	for _, state := range a.Hosts {
		v.states[state]++
	}
	for _, state := range []string{"waiting", "sent", "acknowledged", "received", "working"} {
		if n := a.Counted(state); n > 0 {
			v.open = append(v.open, fmt.Sprintf("%s: %d hosts are %s", a.Key, n, state))
		}
	}
	if a.State != "closed" {
		v.open = append(v.open, a.Key+" is "+a.State)
	}
}

// agent holds what an agent has done against what it has reported, and strikes its marks.
func (v *verdict) agent(d *dispatch, a faults.Account, host string, effects map[string]int) {
	for i, command := range d.commands {
		mark := d.mark(i)
		ran := effects[mark]
		delete(effects, mark)
		r, reported := a.Results[host][command]
		what := fmt.Sprintf("%s on %s (%s, %s)", mark, host, d.kind, a.Hosts[host])
		if ran > 1 {
			v.twice = append(v.twice, fmt.Sprintf("%s: %d times", what, ran))
		}
		switch {
		case !reported && ran > 0:
			v.lost = append(v.lost, what+" was run and is not reported")
		case !reported:
			continue
		case a.Hosts[host] == "":
			v.wrong = append(v.wrong, what+" is reported by a host that is not in the set")
		case strings.HasPrefix(r.Error, "interrupted"):
			v.interrupted++
		case r.Error != "":
			v.cut++ // cancelled while it ran
		case ran == 0:
			v.lost = append(v.lost, what+" is reported and has left no mark")
		}
		v.commands++
	}
}

// host does so for one that runs nothing: what it says it has done is its own count.
func (v *verdict) host(a faults.Account, host string, runs int) {
	if runs > 1 {
		v.twice = append(v.twice, fmt.Sprintf("%s on %s: %d times", a.Key, host, runs))
	}
	if a.Hosts[host] == "done" && runs != 1 {
		v.wrong = append(v.wrong, fmt.Sprintf("%s: %s is done and has run it %d times", a.Key, host, runs))
	}
}

// panics are logs in which a process says that it crashed.
func (c *chaos) panics() []string {
	var list []string
	for _, p := range c.processes() {
		b, err := os.ReadFile(p.Log)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "DATA RACE") {
				list = append(list, p.Name+": "+strings.TrimSpace(line))
			}
		}
	}
	return list
}

func (v *verdict) print(out io.Writer, c *chaos) error {
	table := func(m map[string]int) string {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
		}
		return strings.Join(parts, ", ")
	}
	fmt.Fprintf(out, "faults      %s\n", c.faultsDone())
	fmt.Fprintf(out, "dispatched  %d; %d more that Redis, being away, did not take\n", v.taken, v.asked-v.taken)
	fmt.Fprintf(out, "accepted    %d: %s\n", v.accepted, table(v.kinds))
	fmt.Fprintf(out, "rejected    %d %s\n", v.rejected, strings.Join(v.reasons, "; "))
	fmt.Fprintf(out, "hosts       %s\n", table(v.states))
	fmt.Fprintf(out, "commands    %d reported by agents, of which %d interrupted, %d ended by a cancel\n", v.commands, v.interrupted, v.cut)
	fmt.Fprintf(out, "told late   %d messages came to a host after its answer was confirmed\n", v.late)
	bad := false
	for _, m := range []struct {
		what string
		list []string
	}{
		{"run twice", v.twice}, {"lost", v.lost}, {"ledgers that do not add up", v.wrong},
		{"not closed", v.open}, {"processes that ended badly", v.crashed},
	} {
		fmt.Fprintf(out, "must be 0   %-27s %d\n", m.what, len(m.list))
		for i, line := range m.list {
			if i == 40 {
				fmt.Fprintf(out, "              and %d more\n", len(m.list)-i)
				break
			}
			fmt.Fprintf(out, "              %s\n", line)
		}
		bad = bad || len(m.list) > 0
	}
	if bad {
		return errWrong
	}
	return nil
}
