package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	prompt = "muster> "
	// maxLine bounds a line: a command at its limit, and the names of 100,000 hosts.
	maxLine = 16 << 20
)

// plainLines reads lines as they are: from a file, a pipe, or a terminal on which
// nothing can be edited.
type plainLines struct {
	lines chan plainLine
	gone  chan struct{}
	ask   io.Writer       // where the prompt goes; nil for none
	ctrlC <-chan struct{} // nil where nobody types
}

type plainLine struct {
	text string
	err  error
}

func newPlainLines(from io.Reader, ask io.Writer, ctrlC <-chan struct{}) *plainLines {
	p := &plainLines{lines: make(chan plainLine), gone: make(chan struct{}), ask: ask, ctrlC: ctrlC}
	// Nothing interrupts a read, so it is left behind when the session ends before its
	// input; the process ends then too.
	go p.read(bufio.NewReader(from))
	return p
}

func (p *plainLines) read(from *bufio.Reader) {
	first := true
	for {
		text, err := readLine(from)
		if first {
			text = strings.TrimPrefix(text, "\ufeff") // editors on Windows put a mark there
			first = false
		}
		select {
		case p.lines <- plainLine{text, err}:
		case <-p.gone:
			return
		}
		if s, _ := read(err); err != nil && s != statusUsage {
			return
		}
	}
}

// readLine reads a line, which may be the last one without its end. Of one that is too
// long nothing is left but the error.
func readLine(from *bufio.Reader) (string, error) {
	var line []byte
	long := false
	for {
		part, err := from.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return "", failf(statusFailure, "read a line: %w", err)
		case long:
			return "", misuse("a line of more than %d bytes", maxLine)
		case err != nil && len(line) == 0:
			return "", io.EOF
		}
		return strings.TrimRight(string(line), "\r\n"), nil
	}
}

func (p *plainLines) next(ctx context.Context) (string, error) {
	if p.ask != nil {
		fmt.Fprint(p.ask, prompt)
	}
	select {
	case l := <-p.lines:
		return l.text, l.err
	case <-p.ctrlC:
		fmt.Fprintln(p.ask)
		return "", errInterrupted
	case <-ctx.Done():
		return "", io.EOF
	}
}

func (p *plainLines) close() { close(p.gone) }
