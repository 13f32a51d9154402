package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/wire"
)

// testJournal opens a journal in dir, "" meaning a new one.
func testJournal(t *testing.T, dir string) *journal {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	log := logrus.New()
	log.SetOutput(t.Output())
	j, err := openJournal(filepath.Join(dir, "journal"), false, new(clock), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	return j
}

func accept(number, request string, lines ...string) record {
	return record{Kind: kindAccept, Number: number, Request: request, Set: &taskSet{
		Number: number, Request: request, Commands: lines, TimeoutS: 60, DeadlineMS: time.Now().Add(time.Hour).UnixMilli()}}
}

func start(number, request string, index int) record {
	return record{Kind: kindStart, Number: number, Request: request, Ended: index,
		DeadlineMS: time.Now().Add(time.Hour).UnixMilli()}
}

func ended(number, request string, count int, output string) record {
	return record{Kind: kindStatus, Number: number, Request: request, Ended: count,
		message: wire.Status{Task: number, Phase: wire.PhaseEnded, Result: &wire.Result{Command: "c", Stdout: output}}}
}

func answer(number string) record {
	return record{Kind: kindAnswer, Number: number, message: wire.Answer{Task: number, RCC: wire.RCCReceived}}
}

func mustAppend(t *testing.T, j *journal, recs ...record) {
	t.Helper()
	if err := j.append(recs...); err != nil {
		t.Fatal(err)
	}
}

// seqs returns the numbers of the unconfirmed reports, as the messages carry them.
func seqs(t *testing.T, j *journal) (list []int64) {
	t.Helper()
	for seq := int64(0); ; {
		next, body, ok := j.after(seq)
		if !ok {
			return list
		}
		m, err := wire.Decode(body, wire.Agent)
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case wire.Status:
			seq = m.Seq
		case wire.Answer:
			seq = m.Seq
		}
		if seq != next {
			t.Errorf("report %d carries %d", next, seq)
		}
		list = append(list, seq)
		seq = next
	}
}

// told returns all that a memory holds, for comparing.
func (m *memory) told() string {
	var b strings.Builder
	fmt.Fprintf(&b, "next %d offset %d bytes %d weight %d answers %d\n", m.next, m.offsetMS, m.bytes, m.weight, m.answers)
	for _, s := range m.order {
		fmt.Fprintf(&b, "%+v found %t\n", *s, m.find(s.Number, s.Request) == s)
	}
	for _, r := range m.reports {
		fmt.Fprintf(&b, "%d %s %s %s %s\n", r.seq, r.kind, r.number, r.request, r.body)
	}
	return b.String()
}

// fill appends something of every kind.
func fill(t *testing.T, j *journal) {
	t.Helper()
	mustAppend(t, j, accept("AC1", "1-0", "a", "b", "c"), answer("AC1"))
	mustAppend(t, j, start("AC1", "1-0", 0))
	mustAppend(t, j, ended("AC1", "1-0", 1, "one\n"))
	mustAppend(t, j, start("AC1", "1-0", 1))
	mustAppend(t, j, accept("AC2", "2-0", "d"))
	mustAppend(t, j, record{Kind: kindCancel, Number: "AC2", Request: "2-0"})
	mustAppend(t, j, record{Kind: kindOver, Number: "AC2", Request: "2-0"})
	mustAppend(t, j, accept("AC3", "3-0", "e"), ended("AC3", "3-0", 1, "old"))
	mustAppend(t, j, accept("AC3", "4-0", "f"), ended("AC3", "3-0", 1, "older"))
	mustAppend(t, j, record{Kind: kindConfirm, Seq: 1}, record{Kind: kindClock, OffsetMS: -5000})
	mustAppend(t, j, answer("AC4"))
}

func TestJournalRemembers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := testJournal(t, dir)
	fill(t, j)
	want := j.memory.told()
	if got := seqs(t, j); !reflect.DeepEqual(got, []int64{2, 5}) {
		t.Errorf("unconfirmed %v, want 2 and 5: 1 is confirmed, 3 and 4 are of a request that is no more", got)
	}
	s, known := j.lookUp(setKey{"AC1", "1-0"})
	if !known || s.Ended != 1 || !s.Started || !reflect.DeepEqual(s.Commands, []string{"a", "b", "c"}) {
		t.Errorf("AC1 is %+v", s)
	}
	var names []string
	for _, s := range j.unfinished() {
		names = append(names, s.Number+" "+s.Request)
	}
	if !reflect.DeepEqual(names, []string{"AC1 1-0", "AC3 4-0"}) {
		t.Errorf("unfinished %q", names)
	}
	// Once from the records as they were appended, once from the compacted ones.
	for range 2 {
		j.close()
		j = testJournal(t, dir)
		if got := j.memory.told(); got != want {
			t.Errorf("read again:\n%s\nwant\n%s", got, want)
		}
	}
	mustAppend(t, j, answer("AC5"))
	if got := seqs(t, j); !reflect.DeepEqual(got, []int64{2, 5, 6}) {
		t.Errorf("unconfirmed %v, want 6 to follow", got)
	}
	if j.clock.offset != -5000 {
		t.Errorf("clock off by %d ms, want -5000", j.clock.offset)
	}
}

// A power cut may leave any beginning of what was being written: what had been
// synced counts, each entry as a whole.
func TestJournalTornAnywhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := testJournal(t, dir)
	type point struct {
		size int64
		told string
	}
	base := j.size
	points := []point{{base, j.memory.told()}}
	for _, add := range [][]record{
		{accept("AC1", "1-0", "a", "b"), answer("AC1")},
		{start("AC1", "1-0", 0)},
		{ended("AC1", "1-0", 1, "output")},
	} {
		mustAppend(t, j, add...)
		points = append(points, point{j.size, j.memory.told()})
	}
	j.close()
	data, err := os.ReadFile(j.path)
	if err != nil || int64(len(data)) != points[len(points)-1].size {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	torn := t.TempDir()
	for n := base; n <= int64(len(data)); n++ {
		want := points[0]
		for _, p := range points {
			if p.size <= n {
				want = p
			}
		}
		for name, tail := range map[string][]byte{"cut": nil, "rubbish": bytes.Repeat([]byte{0xaa}, 20)} {
			os.WriteFile(filepath.Join(torn, "journal"), append(bytes.Clone(data[:n]), tail...), 0o600)
			j := testJournal(t, torn)
			if got := j.memory.told(); got != want.told {
				t.Fatalf("%s at %d:\n%s\nwant\n%s", name, n, got, want.told)
			}
			mustAppend(t, j, answer("AC9"))
			j.close()
		}
	}
	if list, _ := filepath.Glob(filepath.Join(torn, "*damaged*")); len(list) > 0 {
		t.Errorf("a torn tail was taken for damage: %q", list)
	}
}

// Damage in the middle loses what is damaged and nothing else; the file is kept,
// and no number of a report comes twice.
func TestJournalDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := testJournal(t, dir)
	mustAppend(t, j, accept("AC1", "1-0", "a"))
	before := j.size
	mustAppend(t, j, accept("AC2", "2-0", "b"))
	mustAppend(t, j, start("AC2", "2-0", 0))
	mustAppend(t, j, answer("AC1"), answer("AC1"))
	j.close()
	data, _ := os.ReadFile(j.path)
	data[before+30] ^= 1
	os.WriteFile(j.path, data, 0o600)

	j = testJournal(t, dir)
	if _, known := j.lookUp(setKey{"AC1", "1-0"}); !known {
		t.Error("what stands before the damage is lost")
	}
	// Its acceptance is lost, but it had begun: it must not be run again.
	if s, known := j.lookUp(setKey{"AC2", "2-0"}); !known || !s.Over {
		t.Errorf("AC2 is %+v, known %t", s, known)
	}
	mustAppend(t, j, answer("AC3"))
	got := seqs(t, j)
	if len(got) != 3 || got[2] < time.Now().Add(-time.Hour).UnixMilli() {
		t.Errorf("unconfirmed %v, want 1, 2 and one far above", got)
	}
	list, _ := filepath.Glob(j.path + ".damaged-*")
	if len(list) != 1 {
		t.Fatalf("kept %q", list)
	}
	if kept, _ := os.ReadFile(list[0]); !bytes.Equal(kept, data) {
		t.Error("the damaged file was changed")
	}
	j.close()
	if j = testJournal(t, dir); len(seqs(t, j)) != 3 {
		t.Errorf("after another start %v", seqs(t, j))
	}
}

func TestJournalLostAltogether(t *testing.T) {
	t.Parallel()
	j, err := openJournal(filepath.Join(t.TempDir(), "journal"), true, new(clock), logrus.New())
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	mustAppend(t, j, answer("AC1"))
	if got := seqs(t, j); got[0] < time.Now().Add(-time.Hour).UnixMilli() {
		t.Errorf("numbers begin at %d, where others may have been", got[0])
	}
}

func TestJournalCompacts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := testJournal(t, dir)
	output := strings.Repeat("x", 60_000)
	mustAppend(t, j, accept("AC1", "1-0", "a"))
	var most int64
	for i := range 200 {
		mustAppend(t, j, ended("AC1", "1-0", 1, output))
		j.note(record{Kind: kindConfirm, Seq: int64(i + 1)})
		most = max(most, j.size)
	}
	if most > minCompact || most < minCompact-100_000 {
		t.Errorf("grew to %d bytes, want nearly %d", most, minCompact)
	}
	if info, err := os.Stat(j.path); err != nil || info.Size() != j.size {
		t.Errorf("file of %d bytes, want %d; %v", info.Size(), j.size, err)
	}
	want := j.memory.told()
	j.close()
	if got := testJournal(t, dir).memory.told(); got != want {
		t.Errorf("read again:\n%s\nwant\n%s", got, want)
	}
	if _, err := os.Stat(j.path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// A crash while a journal is rewritten leaves the one before, and perhaps rubbish
// beside it.
func TestJournalCrashWhileCompacting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := testJournal(t, dir)
	fill(t, j)
	want := j.memory.told()
	j.close()
	os.WriteFile(j.path+".new", []byte("half of it"), 0o600)
	if got := testJournal(t, dir).memory.told(); got != want {
		t.Errorf("read again:\n%s\nwant\n%s", got, want)
	}
}

func TestJournalForgetsOldSets(t *testing.T) {
	t.Parallel()
	m := newMemory()
	now := time.Now().UnixMilli()
	const hour = 3_600_000
	for name, ageMS := range map[string]int64{"ACold": hour + 1, "ACyoung": hour - 60_000, "ACopen": 9 * hour, "ACreported": 9 * hour} {
		rec := accept(name, "1", "a")
		rec.Set.DeadlineMS = now - ageMS
		m.apply([]record{rec})
		if name != "ACopen" {
			m.apply([]record{{Kind: kindOver, Number: name, Request: "1"}})
		}
	}
	m.apply([]record{{Kind: kindStatus, Number: "ACreported", Request: "1", Seq: 1, body: []byte("{}")}})
	m.forgetSets(now)
	for name, want := range map[string]bool{"ACold": false, "ACyoung": true, "ACopen": true, "ACreported": true} {
		if known := m.find(name, "1") != nil; known != want {
			t.Errorf("%s known: %t, want %t", name, known, want)
		}
	}
	m.apply([]record{{Kind: kindConfirm, Seq: 1}})
	m.forgetSets(now)
	if m.find("ACreported", "1") != nil || len(m.order) != 2 {
		t.Error("confirmed, but not forgotten")
	}
	m.apply([]record{{Kind: kindOver, Number: "ACopen", Request: "1"}})
	m.forgetSets(now + 9*hour)
	if len(m.order) != 0 || len(m.sets) != 0 || m.weight != 0 {
		t.Errorf("left: %s", m.told())
	}
}

// Beyond the bound the oldest lose what the commands printed, and only that.
func TestJournalDropsTheOldestOutputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := testJournal(t, dir)
	j.memory.maxBytes = 100_000
	var dropped []int64
	j.memory.dropped = func(_ string, seq int64) { dropped = append(dropped, seq) }
	mustAppend(t, j, answer("AC1"))
	for range 12 {
		mustAppend(t, j, ended("AC1", "1-0", 1, strings.Repeat("x", 10_000)))
	}
	if j.memory.bytes > 100_000 || !reflect.DeepEqual(dropped, []int64{2, 3, 4}) {
		t.Errorf("%d bytes, dropped of %v", j.memory.bytes, dropped)
	}
	for seq := int64(1); seq < 13; seq++ {
		_, body, _ := j.after(seq)
		m, err := wire.Decode(body, wire.Agent)
		if err != nil {
			t.Fatal(err)
		}
		r := m.(wire.Status).Result
		if gone := seq+1 < 5; r.Truncated != gone || (r.Stdout == "") != gone || r.Command != "c" {
			t.Errorf("report %d: %d bytes of output, truncated %t", seq+1, len(r.Stdout), r.Truncated)
		}
	}
	if j.full() {
		t.Error("full, though there is room")
	}
	j.memory.maxBytes = 10
	mustAppend(t, j, answer("AC1"))
	if !j.full() {
		t.Error("not full with more than may be, and nothing left to drop")
	}
}
