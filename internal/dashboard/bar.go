package dashboard

import (
	"fmt"
	"strings"

	"github.com/musterhq/muster/tasks"
)

// bar is the ledger of a set as one stacked bar.
type bar struct {
	Parts []barPart // every state has one, in the same order, so that a part grows and shrinks in place
	Words string    // "812 done, 3 failed, 185 sent of 1,000"
}

// barPart is the part of one state.
type barPart struct {
	State tasks.State
	Count int64
	X, W  int // of barWidth
}

const (
	barWidth = 10_000
	barLeast = 60 // what a part that is not empty has at least: one host of 100,000 is to be seen
)

// barOrder is the order of the parts: what has ended well grows from the left.
func barOrder() []tasks.State {
	return []tasks.State{
		tasks.Done, tasks.Failed, tasks.Expired, tasks.Cancelled, tasks.Unanswered, tasks.Missing, tasks.Offline,
		tasks.Working, tasks.Received, tasks.Acknowledged, tasks.Sent, tasks.Waiting,
	}
}

// barOf draws the counts of a set of total hosts.
func barOf(counts map[tasks.State]int64, total int64) bar {
	var b bar
	var words []string
	biggest, used := 0, 0
	for i, s := range barOrder() {
		p := barPart{State: s, Count: max(counts[s], 0)}
		if p.Count > 0 && total > 0 {
			p.W = max(int(p.Count*barWidth/total), barLeast)
			words = append(words, fmt.Sprintf("%s %s", grouped(p.Count), s))
		}
		b.Parts = append(b.Parts, p)
		if used += p.W; p.W > b.Parts[biggest].W {
			biggest = i
		}
	}
	if used > 0 { // what rounding has left over, or the least widths have taken
		b.Parts[biggest].W = max(b.Parts[biggest].W+barWidth-used, 0)
	}
	x := 0
	for i := range b.Parts {
		b.Parts[i].X = x
		x += b.Parts[i].W
	}
	switch {
	case total == 0:
		b.Words = "no host"
	case len(words) == 1:
		b.Words = words[0]
	default:
		b.Words = strings.Join(words, ", ") + " of " + grouped(total)
	}
	return b
}

// Words says how many hosts are in which state.
func (h head) Words() string {
	if h.total == 0 && h.Stage == tasks.Preparing {
		return "no host yet"
	}
	return h.Bar().Words
}

// Bar is the ledger of the set as a bar.
func (h head) Bar() bar {
	counts := make(map[tasks.State]int64, stateCount)
	for i, s := range tasks.States() {
		counts[s] = int64(h.counts[i])
	}
	return barOf(counts, h.Total())
}
