package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ergochat/readline"
	"golang.org/x/term"

	"github.com/musterhq/muster/tasks"
)

const (
	completeWithin = 500 * time.Millisecond // how long Tab may take
	completeHosts  = 100                    // how many hosts it offers at most
)

// editor reads lines from a terminal on which they can be edited: with a history, and
// with Tab to complete them.
type editor struct {
	s       *session
	rl      *readline.Instance
	history *history
	typed   bool // the line has something in it
}

func newEditor(s *session, keys, screen *os.File) (*editor, error) {
	e := &editor{s: s, history: openHistory(s.log)}
	t := &uprightTerminal{keys: keys, screen: screen}
	colours := s.out.colour || s.out.json && colourful(screen)
	ask := prompt
	if colours {
		ask = "\x1b[" + cyan + "m" + strings.TrimSpace(prompt) + "\x1b[0m "
	}
	var err error
	e.rl, err = readline.NewFromConfig(&readline.Config{
		Prompt: ask, EOFPrompt: "exit()",
		HistoryLimit: historyLines, DisableAutoSaveHistory: true, HistorySearchFold: true,
		AutoComplete: e,
		Listener: func(line []rune, _ int, _ rune) ([]rune, int, bool) {
			e.typed = len(line) > 0
			return nil, 0, false
		},
		Stdin: t, Stdout: t, Stderr: t,
		FuncIsTerminal: func() bool { return true },
		FuncGetSize:    func() (int, int) { return sizeOf(screen) },
	})
	if err != nil {
		return nil, failf(statusFailure, "terminal: %w", err)
	}
	for _, line := range e.history.lines {
		e.rl.SaveToHistory(line)
	}
	return e, nil
}

// sizeOf is the size of a terminal, a usual one where it does not know.
func sizeOf(screen *os.File) (width, height int) {
	width, height, err := term.GetSize(int(screen.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

func (e *editor) next(ctx context.Context) (string, error) {
	defer context.AfterFunc(ctx, func() { e.rl.Close() })() // it ends the reading
	for {
		text, err := e.rl.ReadLine()
		switch {
		case errors.Is(err, readline.ErrInterrupt) && e.typed:
			continue // it was the line that was to go
		case errors.Is(err, readline.ErrInterrupt):
			return "", errInterrupted
		case err != nil:
			return "", io.EOF
		}
		// A line that begins with a blank is not kept, as in many shells. An empty one
		// is only handed on, so that the next recall begins at the newest.
		if kept := strings.TrimSpace(text); kept != "" && text[0] != ' ' {
			e.rl.SaveToHistory(kept)
			e.history.add(kept)
		} else {
			e.rl.SaveToHistory("")
		}
		return text, nil
	}
}

func (e *editor) close() {
	e.rl.Close()
	e.history.close()
}

// Do implements readline.AutoCompleter: it returns how the word before pos can go on,
// and how long that word is.
func (e *editor) Do(line []rune, pos int) (ends [][]rune, length int) {
	word, found := e.s.complete(string(line[:pos]))
	for _, f := range found {
		ends = append(ends, []rune(strings.TrimPrefix(f, word)))
	}
	return ends, len([]rune(word))
}

// complete returns the part of a line that can be completed, and what it may become.
func (s *session) complete(line string) (word string, found []string) {
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	line = strings.TrimLeft(line, " \t")
	target, rest, more := strings.Cut(line, " ")
	switch {
	case strings.HasPrefix(line, "@") && !more:
		word = line[strings.LastIndexAny(line, "@,")+1:]
		return word, s.hostsStartingWith(ctx, word)
	case strings.HasPrefix(line, "@"):
		word = strings.TrimLeft(rest, " \t")
		return word, spaced(startingWith(word, s.names()))
	case target == ":hosts" && more:
		word = line[strings.LastIndexByte(line, ' ')+1:]
		return word, spaced(s.hostsStartingWith(ctx, word))
	case target == ":results" && more && s.last != "":
		return rest, spaced(startingWith(rest, []string{string(s.last)}))
	case line == "":
		return "", append(spaced(consoleVerbs()), spaced(s.names())...)
	}
	return line, spaced(append(startingWith(line, consoleVerbs()), startingWith(line, s.names())...))
}

// spaced puts a blank behind each word.
func spaced(words []string) []string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = w + " "
	}
	return all
}

// hostsStartingWith returns the first hosts that are online and begin so. What Redis
// does not say in time is left out.
func (s *session) hostsStartingWith(ctx context.Context, prefix string) []string {
	var names []string
	view, err := tasks.NewRoll(s.rdb).View(ctx)
	if err != nil {
		return nil
	}
	enough := errors.New("enough")
	view.Each(ctx, func(page []tasks.Presence) error {
		for _, h := range page {
			if strings.HasPrefix(h.Host, prefix) && tasks.ValidHost(h.Host) {
				names = append(names, h.Host)
			}
		}
		if len(names) >= completeHosts {
			return enough
		}
		return nil
	})
	names = startingWith(prefix, names)
	return names[:min(len(names), completeHosts)]
}

// uprightTerminal is a terminal that the editor need not ask where its cursor is. The
// editor does so before each prompt, and without an answer waits for ever; but not
// every terminal answers, and here a prompt always begins a line.
type uprightTerminal struct {
	keys, screen *os.File

	mu     sync.Mutex
	answer []byte // what the terminal would say
}

func (t *uprightTerminal) Write(b []byte) (int, error) {
	if bytes.Equal(b, []byte("\x1b[6n")) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.answer = []byte("\x1b[1;1R")
		return len(b), nil
	}
	return t.screen.Write(b)
}

func (t *uprightTerminal) Read(b []byte) (int, error) {
	t.mu.Lock()
	n := copy(b, t.answer)
	t.answer = t.answer[n:]
	t.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	return t.keys.Read(b)
}
