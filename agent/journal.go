package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/wire"
)

// minCompact is the size in bytes below which a journal is not worth rewriting.
const minCompact = 1 << 20

// journal is the agent's memory on disk: one file that is appended to, and from
// time to time rewritten with what still counts. What append has returned for is
// there after kill -9 and after a power cut.
//
// Appends that meet share one sync: each leaves its records in the queue, and
// whoever gets the disk first writes the queue of all.
type journal struct {
	path     string
	clock    *clock
	log      logrus.FieldLogger
	reported func() // called when a report was added; set before the first append

	disk      sync.Mutex  // held while writing; taken before mu
	file      journalFile // nil if it could not be opened again
	size      int64       // bytes of file that count
	suspect   bool        // file may not hold what was synced: rewrite it first
	compactAt int64       // size at which to rewrite next

	mu     sync.Mutex
	queue  []*entry
	memory memory // changes with both locks held, is read with either
	closed bool
}

// journalFile is what the journal needs of an *os.File.
type journalFile interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// entry is what one append adds.
type entry struct {
	recs []record
	sync bool
	done bool
	err  error
}

var errClosed = errors.New("journal closed")

// openJournal reads the journal at path, or begins one. expected says that there
// should be one. A tail that a crash has torn is cut off. A file that is damaged
// elsewhere is kept beside as path.damaged-<Unix time>, and what can be read of it
// counts.
func openJournal(path string, expected bool, c *clock, log logrus.FieldLogger) (*journal, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	missing := err != nil
	j := &journal{path: path, clock: c, log: log, memory: newMemory()}
	whole, damaged := replay(data, j.memory.apply)
	if damaged || missing && expected {
		// Numbers may be lost that were used. A report a millisecond from the
		// beginning of Unix time is more than any agent has sent.
		j.memory.next = max(j.memory.next, time.Now().UnixMilli())
	}
	c.assume(j.memory.offsetMS)
	j.size = int64(whole)
	switch {
	case damaged:
		aside := path + ".damaged-" + strconv.FormatInt(time.Now().Unix(), 10)
		if err := setAside(path, aside); err != nil {
			return nil, fmt.Errorf("set damaged journal aside: %w", err)
		}
		log.WithFields(logrus.Fields{"file": path, "kept": aside}).Error("journal damaged, went on with what can be read")
		if err := j.rewrite(); err != nil {
			return nil, fmt.Errorf("write journal anew: %w", err)
		}
	default:
		if err := j.rewrite(); err != nil {
			// Not a reason to stay away: the old one is good, once its tail is cut.
			log.WithError(err).Warn("journal not compacted")
			if err := j.reopen(); err != nil {
				return nil, fmt.Errorf("open journal: %w", err)
			}
			if err := j.file.Truncate(j.size); err != nil {
				return nil, errors.Join(fmt.Errorf("cut torn journal: %w", err), j.file.Close())
			}
			j.suspect = false
		}
	}
	j.memory.dropped = func(number string, seq int64) {
		log.WithFields(logrus.Fields{"task": number, "seq": seq}).Warn("too many unconfirmed reports, output of the oldest dropped")
	}
	return j, nil
}

// setAside keeps the file at path under a second name, so that no crash leaves
// none; where the file system knows no links, under another one.
func setAside(path, aside string) error {
	if os.Link(path, aside) == nil {
		return nil
	}
	return os.Rename(path, aside)
}

// append adds recs, all or none, and returns once they are synced. Answers and
// statuses among them get their numbers in order and are then sent.
func (j *journal) append(recs ...record) error {
	return j.add(&entry{recs: recs, sync: true})
}

// note adds recs without waiting for the disk: what a power cut may undo.
func (j *journal) note(recs ...record) error {
	return j.add(&entry{recs: recs})
}

func (j *journal) add(e *entry) error {
	j.mu.Lock()
	j.queue = append(j.queue, e)
	j.mu.Unlock()

	j.disk.Lock()
	defer j.disk.Unlock()
	if e.done {
		return e.err // another one has written it on the way
	}
	j.mu.Lock()
	batch := j.queue
	j.queue = nil
	j.mu.Unlock()

	err := j.write(batch)
	reports := false
	j.mu.Lock()
	for _, e := range batch {
		e.done = true
		if err != nil && e.err == nil {
			e.err = err
		}
		if e.err == nil {
			j.memory.apply(e.recs)
			reports = reports || slices.ContainsFunc(e.recs, func(r record) bool { return r.message != nil })
		}
	}
	j.mu.Unlock()
	if reports && j.reported != nil {
		j.reported()
	}
	j.compactIfGrown()
	return e.err
}

// write puts a batch into the file. An entry that can't be written as it is gets
// an error of its own. On error the file holds what it held before, or is suspect.
func (j *journal) write(batch []*entry) error {
	if j.closed {
		return errClosed
	}
	if j.suspect || j.file == nil {
		if err := j.rewrite(); err != nil {
			return err
		}
	}
	var buf []byte
	sync := false
	next := j.memory.next
	for _, e := range batch {
		after := next
		for i := range e.recs {
			if r := &e.recs[i]; r.message != nil {
				r.Seq = after
				r.body = numbered(r.message, after)
				after++
				if len(r.body) > wire.MaxFrame {
					e.err = fmt.Errorf("report of %d bytes does not fit in a frame", len(r.body))
				}
			}
		}
		if e.err == nil {
			buf, e.err = appendEntry(buf, e.recs)
		}
		if e.err == nil {
			next, sync = after, sync || e.sync
		}
	}
	if _, err := j.file.WriteAt(buf, j.size); err != nil {
		j.suspect = j.file.Truncate(j.size) != nil
		return fmt.Errorf("write journal: %w", err)
	}
	if sync {
		if err := j.file.Sync(); err != nil {
			// The system may now take for written what is not: trust nothing of
			// what was not synced before, but write it all again.
			j.suspect = true
			j.file.Truncate(j.size) // so that after a crash less of it is found
			return fmt.Errorf("sync journal: %w", err)
		}
	}
	j.size += int64(len(buf))
	return nil
}

func numbered(m wire.Message, seq int64) []byte {
	switch m := m.(type) {
	case wire.Status:
		m.Seq = seq
		return wire.Encode(m)
	case wire.Answer:
		m.Seq = seq
		return wire.Encode(m)
	}
	panic("agent: only reports are numbered")
}

func (j *journal) compactIfGrown() {
	if j.closed || j.size <= max(j.compactAt, minCompact, 4*int64(j.memory.bytes+j.memory.weight)) {
		return
	}
	if err := j.rewrite(); err != nil {
		j.log.WithError(err).Warn("journal not compacted")
		j.compactAt = 2 * j.size
	}
}

// rewrite replaces the file with one that holds what still counts. j.disk is held,
// or nobody else has j yet. After an error j.suspect says whether the old file may
// still be appended to.
func (j *journal) rewrite() error {
	wasSuspect := j.suspect || j.file == nil
	j.suspect = true
	j.mu.Lock()
	j.memory.forgetSets(j.clock.now())
	recs := j.memory.snapshot()
	j.mu.Unlock()

	size, err := writeRecords(j.path+".new", recs)
	if err != nil {
		j.suspect = wasSuspect
		return err
	}
	if j.file != nil { // Windows renames no open file
		j.file.Close()
		j.file = nil
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return err
	}
	j.size = size
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		return err
	}
	if err := j.reopen(); err != nil {
		return err
	}
	j.suspect, j.compactAt = false, 0
	return nil
}

func (j *journal) reopen() error {
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	j.file = f
	return nil
}

// writeRecords makes a synced file of recs and returns its size.
func writeRecords(path string, recs []record) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	var buf []byte
	for i := range recs {
		if buf, err = appendEntry(buf[:0], recs[i:i+1]); err != nil {
			break
		}
		size += int64(len(buf))
		if _, err = w.Write(buf); err != nil {
			break
		}
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path) // a full disk wants it back
	}
	return size, err
}

// learnOffset keeps how far Redis's clock is from the host's, if that is news.
func (j *journal) learnOffset(ms int64) error {
	j.mu.Lock()
	change := ms - j.memory.offsetMS
	j.mu.Unlock()
	if -1000 < change && change < 1000 {
		return nil
	}
	return j.note(record{Kind: kindClock, OffsetMS: ms})
}

// lookUp returns a copy of what is known of a set.
func (j *journal) lookUp(k setKey) (s taskSet, known bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p := j.memory.find(k.number, k.request); p != nil {
		return *p, true
	}
	return taskSet{}, false
}

// unfinished returns the sets that are to go on, in the order of acceptance.
func (j *journal) unfinished() []taskSet {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []taskSet
	for _, s := range j.memory.order {
		if s.unfinished() {
			list = append(list, *s)
		}
	}
	return list
}

// toCancel returns the sets of a number that are unfinished and not yet cancelled.
func (j *journal) toCancel(number string) []setKey {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []setKey
	for _, s := range j.memory.sets[number] {
		if s.unfinished() && !s.Cancelled {
			list = append(list, setKey{s.Number, s.Request})
		}
	}
	return list
}

// after returns the first unconfirmed report with a number above seq.
func (j *journal) after(seq int64) (number int64, body []byte, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := j.memory.reports
	i := sort.Search(len(list), func(i int) bool { return list[i].seq > seq })
	if i == len(list) {
		return 0, nil, false
	}
	return list[i].seq, list[i].body, true
}

// answers returns how many answers wait for their confirmation.
func (j *journal) answers() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.memory.answers
}

// full reports whether the unconfirmed reports take more than they may, although
// their outputs were dropped.
func (j *journal) full() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.memory.bytes > j.memory.maxBytes
}

// close syncs and closes the file. What is appended later fails.
func (j *journal) close() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	j.closed = true
	if j.file == nil {
		return nil
	}
	if err := errors.Join(j.file.Sync(), j.file.Close()); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
