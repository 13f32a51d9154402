package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// badFile is a file that fails when told to.
type badFile struct {
	journalFile
	failed, syncs   atomic.Int64
	noSpace, noSync atomic.Bool
	only            string // what a write has to hold to find no space
	slow            time.Duration
}

func (f *badFile) WriteAt(b []byte, at int64) (int, error) {
	if f.noSpace.Load() && bytes.Contains(b, []byte(f.only)) {
		f.failed.Add(1)
		n, _ := f.journalFile.WriteAt(b[:len(b)/2], at)
		return n, errors.New("no space left on device")
	}
	return f.journalFile.WriteAt(b, at)
}

func (f *badFile) Sync() error {
	f.syncs.Add(1)
	time.Sleep(f.slow)
	if f.noSync.Load() {
		return errors.New("input/output error")
	}
	return f.journalFile.Sync()
}

// What could not be written did not happen, and its numbers are given again.
func TestJournalOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, failure := range []string{"write", "sync"} {
		dir := t.TempDir()
		j := testJournal(t, dir)
		bad := &badFile{journalFile: j.file}
		j.file = bad
		mustAppend(t, j, accept("AC1", "1-0", "a"), answer("AC1"))
		want := j.memory.told()
		bad.noSpace.Store(failure == "write")
		bad.noSync.Store(failure == "sync")
		if err := j.append(start("AC1", "1-0", 0), ended("AC1", "1-0", 1, "x")); err == nil {
			t.Fatalf("%s: no error", failure)
		}
		if got := j.memory.told(); got != want {
			t.Errorf("%s: remembered\n%s\nwant\n%s", failure, got, want)
		}
		copied := t.TempDir()
		data, _ := os.ReadFile(j.path)
		os.WriteFile(filepath.Join(copied, "journal"), data, 0o600)
		if got := testJournal(t, copied).memory.told(); got != want {
			t.Errorf("%s: on disk\n%s\nwant\n%s", failure, got, want)
		}
		bad.noSpace.Store(false) // a failed sync heals by writing all again
		mustAppend(t, j, answer("AC2"))
		if got := seqs(t, j); !reflect.DeepEqual(got, []int64{1, 2}) {
			t.Errorf("%s: unconfirmed %v, want 1 and 2", failure, got)
		}
		if _, same := j.file.(*badFile); same == (failure == "sync") {
			t.Errorf("%s: the same file %t", failure, same)
		}
		want = j.memory.told()
		j.close()
		if got := testJournal(t, dir).memory.told(); got != want {
			t.Errorf("%s: read again\n%s\nwant\n%s", failure, got, want)
		}
	}
}

// One report that can't be sent does not spoil those that are written with it.
func TestJournalRefusesWhatFitsInNoFrame(t *testing.T) {
	t.Parallel()
	j := testJournal(t, "")
	if err := j.append(ended("AC1", "1-0", 1, strings.Repeat("\x01", 400_000))); err == nil {
		t.Error("taken")
	}
	mustAppend(t, j, answer("AC1"))
	if got := seqs(t, j); !reflect.DeepEqual(got, []int64{1}) {
		t.Errorf("unconfirmed %v", got)
	}
}

// Appends that meet share a sync, and each has its number in its order.
func TestJournalSharesSyncs(t *testing.T) {
	t.Parallel()
	j := testJournal(t, "")
	bad := &badFile{journalFile: j.file, slow: 5 * time.Millisecond}
	j.file = bad
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 10 {
				if err := j.append(answer("AC1"), answer("AC1")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := seqs(t, j)
	for i, seq := range got {
		if seq != int64(i+1) {
			t.Fatalf("numbers %v", got)
		}
	}
	if n := bad.syncs.Load(); len(got) != 400 || n < 10 || n > 60 {
		t.Errorf("%d reports with %d syncs, want 400 with 10 or some more", len(got), n)
	}
	if bad.syncs.Store(0); j.note(record{Kind: kindConfirm, Seq: 400}) != nil || bad.syncs.Load() != 0 {
		t.Error("a note was synced")
	}
	if err := j.close(); err != nil {
		t.Error(err)
	}
	if err := j.append(answer("AC1")); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// Where there is no room to compact, the journal does as it is; but not over damage,
// which only a new file can heal.
func TestJournalThatCannotBeRewritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := testJournal(t, dir)
	fill(t, j)
	want := j.memory.told()
	j.close()
	data, _ := os.ReadFile(j.path)
	os.WriteFile(j.path, append(bytes.Clone(data), "torn"...), 0o600)
	if err := os.Mkdir(j.path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		j = testJournal(t, dir)
		if got := j.memory.told(); got != want {
			t.Errorf("read again:\n%s\nwant\n%s", got, want)
		}
		mustAppend(t, j, answer("AC7"), ended("AC1", "1-0", 1, strings.Repeat("x", 100_000)))
		mustAppend(t, j, record{Kind: kindConfirm, Seq: j.memory.next - 1})
		for range 11 { // too much of it for what it holds, but it must go on
			mustAppend(t, j, ended("AC1", "1-0", 1, strings.Repeat("x", 100_000)))
			mustAppend(t, j, record{Kind: kindConfirm, Seq: j.memory.next - 1})
		}
		want = j.memory.told()
		j.close()
	}
	data[base(data)+20] ^= 1
	os.WriteFile(j.path, data, 0o600)
	if _, err := openJournal(j.path, false, new(clock), j.log); err == nil || !strings.Contains(err.Error(), "write journal anew") {
		t.Errorf("opened over damage: %v", err)
	}
	if list, _ := filepath.Glob(j.path + ".damaged-*"); len(list) != 1 {
		t.Errorf("kept %q", list)
	}
}

// base returns where the second entry of a journal begins.
func base(data []byte) int {
	_, n, _ := cutEntry(data)
	return n
}
