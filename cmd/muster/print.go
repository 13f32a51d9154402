package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

// printer writes what a verb has to say to standard output: as text, or with --json
// as one JSON object a line.
//
// Text of hosts goes through visible or visibleLines on its way, and all JSON is
// printable ASCII, so that a terminal never obeys it.
type printer struct {
	w        *bufio.Writer
	json     bool
	terminal bool // tables are drawn
	colour   bool
	err      error // the first that went wrong; nothing is written after it
}

func (a *app) printer(c *cli.Context) *printer {
	return &printer{
		w: bufio.NewWriter(a.stdout), json: c.Bool("json"),
		terminal: isTerminal(a.stdout), colour: colourful(a.stdout),
	}
}

// say writes one line of text. It writes nothing with --json.
func (p *printer) say(format string, args ...any) {
	if !p.json {
		p.write([]byte(fmt.Sprintf(format, args...) + "\n"))
	}
}

// object writes v as one line of JSON.
func (p *printer) object(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		p.fail(err)
		return
	}
	p.write(append(ascii(b), '\n'))
}

func (p *printer) write(b []byte) {
	if p.err == nil {
		_, err := p.w.Write(b)
		p.fail(err)
	}
}

func (p *printer) fail(err error) {
	if p.err == nil && err != nil {
		p.err = failf(statusFailure, "write: %w", err)
	}
}

// flush brings out what was written, and returns the first error.
func (p *printer) flush() error {
	if p.err == nil {
		p.fail(p.w.Flush())
	}
	return p.err
}

// end is flush, and then the status with which the verb ends.
func (p *printer) end(s status) error {
	if err := p.flush(); err != nil {
		return err
	}
	return ends(s)
}

// Colours, as the parameters of SGR.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (p *printer) paint(colour, text string) string {
	if !p.colour || text == "" || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// state paints a host's state.
func (p *printer) state(s tasks.State) string {
	colour := map[tasks.State]string{
		tasks.Done: green, tasks.Failed: red, tasks.Cancelled: red, tasks.Expired: red,
		tasks.Offline: yellow, tasks.Missing: yellow, tasks.Unanswered: yellow,
	}[s]
	if colour == "" {
		colour = cyan
	}
	return p.paint(colour, visible.Line(string(s)))
}

// isTerminal reports whether what is written to w, or read from it, is a terminal's.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colourful reports whether w is to be written to in colour.
func colourful(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// ascii returns the same JSON with every character outside of printable ASCII as an
// escape. Such characters stand inside strings only.
func ascii(b []byte) []byte {
	if visible.Plain(string(b)) {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/4)
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r >= ' ' && r <= '~':
			out = append(out, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		b = b[size:]
	}
	return out
}
