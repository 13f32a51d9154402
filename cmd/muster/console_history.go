package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/visible"
)

const (
	historyLines = 1000    // that are kept
	historyBytes = 4 << 20 // of the file that are read at most
)

// history is what was typed before. It is in a file that only its owner can read; where
// there is no place for one it lasts as long as the session.
type history struct {
	lines []string // those of earlier sessions, the oldest first
	file  *os.File // nil: there is none
}

// historyPath is where the history is, "" for nowhere.
func historyPath() string {
	if runtime.GOOS == "windows" {
		if dir := os.Getenv("LocalAppData"); filepath.IsAbs(dir) {
			return filepath.Join(dir, "muster", "history")
		}
		return ""
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "muster", "history")
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "muster", "history")
	}
	return ""
}

// openHistory reads the history, and opens its file for what comes. What goes wrong is
// no reason to work without a console.
func openHistory(log logrus.FieldLogger) *history {
	h := &history{}
	path := historyPath()
	if path == "" {
		return h
	}
	if err := h.open(path); err != nil {
		log.WithField("err", err).Warn("there will be no history of this session")
	}
	return h
}

func (h *history) open(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	all, whole, err := readHistory(path)
	if err != nil {
		return err
	}
	h.lines = all[max(0, len(all)-historyLines):]
	if !whole || len(all) > 2*historyLines { // now and then, not with each session
		if err := h.shorten(path); err != nil {
			return err
		}
	}
	h.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	return h.file.Chmod(0o600)
}

// readHistory returns the lines of a file that a terminal may show; of a file that is
// too large those at its end.
func readHistory(path string) (lines []string, whole bool, err error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	from := max(0, info.Size()-historyBytes)
	b := make([]byte, info.Size()-from)
	n, err := f.ReadAt(b, from)
	if n < len(b) && err != nil {
		return nil, false, err
	}
	for i, line := range strings.Split(string(b), "\n") {
		if cut := i == 0 && from > 0; !cut && line != "" && visible.Line(line) == line {
			lines = append(lines, line)
		}
	}
	return lines, from == 0, nil
}

// shorten leaves in the file what is kept.
func (h *history) shorten(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "history-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(h.lines, "\n") + "\n")
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// add keeps a line. One that can't be written is not worth a word.
func (h *history) add(line string) {
	if h.file != nil {
		h.file.WriteString(line + "\n")
	}
}

func (h *history) close() {
	if h.file != nil {
		h.file.Close()
	}
}
