package dashboard

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/tasks"
)

// Bounds of what is kept of one set's results. The outputs themselves are not kept: what
// is shown is read again by its id.
const (
	resultsKept = 2_000_000 // 24 bytes each
	groupsKept  = 20_000    // different outputs; those that come later are counted together
	looseKept   = 2_000     // of such, by command and exit code
	errorKept   = 200       // bytes of an error

	codeUnknown = -1 << 31 // an exit code that is not kept
)

// outputs is the results of one set with equal ones together. It is brought up to date
// page by page, and costs about 30 bytes a result and 300 each different output.
type outputs struct {
	after    string // the id of the newest result that was read
	full     bool   // there are more results than are kept
	complete bool   // all that there were at the last look are in

	hosts    []string
	hostAt   map[string]uint32
	lastOf   []uint32 // by host: its newest result, counted from 1
	results  []resultRef
	groups   []*group
	byKey    map[groupKey]uint32
	loose    int
	commands map[string]*commandOutputs
	curve    curve
}

// resultRef is one result: where it is in the stream, and its group.
type resultRef struct {
	ms    int64
	seq   uint32
	group uint32
	prev  uint32 // the result before of the same host, counted from 1; 0 for none
}

func (r resultRef) id() string { return fmt.Sprintf("%d-%d", r.ms, r.seq) }

// groupKey is a hash of what a group has in common.
type groupKey [16]byte

func (k groupKey) String() string { return hex.EncodeToString(k[:]) }

// group is results of one command that are the same.
type group struct {
	Key     groupKey
	Command string
	Code    int
	Error   string // clipped
	Loose   bool   // too many different ones: only the command and the exit code are the same

	first resultRef
	hosts []uint32
}

// Failed reports whether the command went wrong there.
func (g *group) Failed() bool { return g.Code != 0 || g.Error != "" }

// CodeText is the exit code as it is shown.
func (g *group) CodeText() string {
	if g.Code == codeUnknown {
		return "?"
	}
	return strconv.Itoa(g.Code)
}

// commandOutputs is the results of one command.
type commandOutputs struct {
	groups []*group // the biggest first, once sorted
	sorted bool
	count  int
}

func newOutputs(created time.Time) *outputs {
	return &outputs{
		hostAt: map[string]uint32{}, byKey: map[groupKey]uint32{}, commands: map[string]*commandOutputs{},
		curve: curve{begin: created.UnixMilli(), width: 100},
	}
}

var errEnough = errors.New("enough for now")

// advance reads results that have come in, for about as long as it may.
func (o *outputs) advance(ctx context.Context, store *tasks.Store, n tasks.Number, may time.Duration) error {
	if o.full {
		return nil
	}
	end := time.Now().Add(may)
	read := 0
	_, err := store.ResultsAfter(ctx, n, o.after, func(r tasks.Result) error {
		if read++; read%32 == 0 && time.Now().After(end) {
			return errEnough
		}
		if len(o.results) >= resultsKept {
			o.full = true
			return errEnough
		}
		o.add(r)
		o.after = r.ID
		return nil
	})
	o.complete = passing(err) == nil || o.full // of a key of another type no more will be read
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (o *outputs) add(r tasks.Result) {
	ms, seq, _ := strings.Cut(r.ID, "-")
	var ref resultRef
	ref.ms, _ = strconv.ParseInt(ms, 10, 64)
	number, _ := strconv.ParseUint(seq, 10, 32)
	ref.seq = uint32(number)

	host, known := o.hostAt[r.Host]
	if !known {
		name := strings.Clone(r.Host)
		host = uint32(len(o.hosts))
		o.hosts, o.lastOf = append(o.hosts, name), append(o.lastOf, 0)
		o.hostAt[name] = host
	}
	c := o.commands[r.Command]
	if c == nil {
		c = &commandOutputs{}
		o.commands[strings.Clone(r.Command)] = c
	}
	c.count++
	at, g := o.groupFor(r, c)
	if len(g.hosts) == 0 {
		g.first = ref
	}
	g.hosts = append(g.hosts, host)
	c.sorted = false

	ref.group, ref.prev = at, o.lastOf[host]
	o.results = append(o.results, ref)
	o.lastOf[host] = uint32(len(o.results))
	o.curve.add(ref.ms)
}

// groupFor returns the group of a result, a new one if there is none like it.
func (o *outputs) groupFor(r tasks.Result, c *commandOutputs) (uint32, *group) {
	key := keyOf(r)
	at, known := o.byKey[key]
	loose := !known && len(o.groups)-o.loose >= groupsKept
	code := r.ExitCode
	if loose {
		if o.loose >= looseKept {
			code = codeUnknown
		}
		key = hashOf("loose", r.Command, strconv.Itoa(code), strconv.FormatBool(r.Error != ""))
		at, known = o.byKey[key]
	}
	if known {
		return at, o.groups[at]
	}
	g := &group{Key: key, Command: strings.Clone(r.Command), Code: code, Error: strings.Clone(clip(r.Error, errorKept)), Loose: loose}
	at = uint32(len(o.groups))
	o.groups = append(o.groups, g)
	o.byKey[key] = at
	c.groups = append(c.groups, g)
	if loose {
		o.loose++
	}
	return at, g
}

// keyOf is what equal results have in common. Of what was left out of an output only the
// size is known; if nothing of it was kept, not even that parts them.
func keyOf(r tasks.Result) groupKey {
	sizes := ""
	if r.Truncated && r.Stdout+r.Stderr != "" {
		sizes = fmt.Sprint(r.StdoutBytes, r.StderrBytes)
	}
	return hashOf(r.Command, strconv.Itoa(r.ExitCode), r.Error, r.Stdout, r.Stderr, strconv.FormatBool(r.Truncated), sizes)
}

func hashOf(parts ...string) groupKey {
	h := sha256.New()
	var size [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	return groupKey(h.Sum(nil)[:16])
}

// of returns the groups of a command, the biggest first, and how many results it has.
func (o *outputs) of(command string) ([]*group, int) {
	c := o.commands[command]
	if c == nil {
		return nil, 0
	}
	if !c.sorted {
		slices.SortStableFunc(c.groups, func(a, b *group) int {
			return cmp.Or(cmp.Compare(len(b.hosts), len(a.hosts)), cmp.Compare(a.first.ms, b.first.ms), cmp.Compare(a.first.seq, b.first.seq))
		})
		c.sorted = true
	}
	return c.groups, c.count
}

// ended calls visit with the results of a host, the newest first.
func (o *outputs) ended(host string, visit func(resultRef, *group)) {
	at, known := o.hostAt[host]
	if !known {
		return
	}
	for i := o.lastOf[at]; i > 0; i = o.results[i-1].prev {
		visit(o.results[i-1], o.groups[o.results[i-1].group])
	}
}

// group returns the group with a key as it stands in an address.
func (o *outputs) group(key string) (*group, bool) {
	b, err := hex.DecodeString(key)
	if err != nil || len(b) != len(groupKey{}) {
		return nil, false
	}
	at, known := o.byKey[groupKey(b)]
	if !known {
		return nil, false
	}
	return o.groups[at], true
}

// some are the first hosts of a group that were heard of, in order.
func (o *outputs) some(g *group, most int) []string {
	names := make([]string, 0, most)
	for _, h := range g.hosts[:min(len(g.hosts), most)] {
		names = append(names, o.hosts[h])
	}
	slices.Sort(names)
	return names
}

// curveSpans is how many spans of time a curve has at most.
const curveSpans = 120

// curve is how many commands had ended at which time.
type curve struct {
	begin  int64 // Unix ms
	width  int64 // of a span, ms
	counts []int
	last   int64 // Unix ms of the newest
}

func (c *curve) add(ms int64) {
	at := max(ms-c.begin, 0)
	for at/c.width >= curveSpans { // half as many spans, each twice as long
		for i := range c.counts {
			if i%2 == 0 {
				c.counts[i/2] = c.counts[i]
			} else {
				c.counts[i/2] += c.counts[i]
			}
		}
		c.counts = c.counts[:(len(c.counts)+1)/2]
		c.width *= 2
	}
	for int64(len(c.counts)) <= at/c.width {
		c.counts = append(c.counts, 0)
	}
	c.counts[at/c.width]++
	c.last = max(c.last, ms)
}
