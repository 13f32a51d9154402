package agent

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/transform"
)

// transcript keeps one output of a command for its report: twice where the system has
// code pages, as it was written and decoded, since only the end tells what it was:
//
//	begins with FF FE                            UTF-16, as some programs write it
//	valid UTF-8 with characters beyond ASCII     UTF-8, whatever the code page is
//	anything else                                the code page
//
// UTF-8 has to be so from the first byte to the last. In a code page of double bytes
// it also has to hold a character of three bytes or more, which all of its Chinese,
// Japanese and Korean ones are: "字" is no rare output, and short words in GBK are
// too often valid UTF-8 of two bytes a character.
type transcript struct {
	raw      capture
	codePage uint32 // of the command's console; codePageNone keeps raw alone

	mu      sync.Mutex
	first   []byte            // until two bytes have come
	decided bool              // what decode is
	decode  *transform.Writer // into decoded; nil if raw is all there is
	decoded capture
	seen    utf8Check
	closed  bool // nothing is looked at any more
}

// Write never fails: whoever prints is not to be disturbed.
func (t *transcript) Write(p []byte) (int, error) {
	t.raw.Write(p)
	if t.codePage == codePageNone {
		return len(p), nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return len(p), nil
	}
	t.seen.add(p)
	b := p
	if !t.decided {
		t.first = append(t.first, p...)
		if len(t.first) < 2 {
			return len(p), nil
		}
		b = t.first
		t.decide()
	}
	if t.decode != nil {
		t.decode.Write(b) // a capture takes all, and a decoder of text never fails
	}
	return len(p), nil
}

// decide chooses what decodes, by the first two bytes.
func (t *transcript) decide() {
	codePage := t.codePage
	if bytes.HasPrefix(t.first, []byte{0xff, 0xfe}) { // which no UTF-8 begins with
		codePage = codePageUTF16
	}
	if d := decoder(codePage); d != nil {
		t.decode = transform.NewWriter(&t.decoded, d)
	}
	t.decided, t.first = true, nil
}

// finish returns the text for a report, the count of all bytes as the command wrote
// them, and whether some of the text is left out. Of what is written later nothing is
// kept.
func (t *transcript) finish() (text string, total int64, truncated bool) {
	text, total, truncated = t.raw.finish()
	if t.codePage == codePageNone {
		return text, total, truncated
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if !t.decided {
		b := t.first
		t.decide()
		if t.decode != nil {
			t.decode.Write(b)
		}
	}
	if t.decode == nil {
		return text, total, truncated
	}
	t.decode.Close() // what ends within a character is U+FFFD
	decoded, _, cut := t.decoded.finish()
	if t.seen.isUTF8(doubleByte(t.codePage)) {
		return text, total, truncated
	}
	return decoded, total, cut
}

// utf8Check looks whether what comes, in pieces, is UTF-8.
type utf8Check struct {
	rest    []byte // the beginning of a character
	invalid bool
	wide    bool // there was a character of three bytes or more
}

func (c *utf8Check) add(p []byte) {
	if c.invalid {
		return
	}
	b := p
	if len(c.rest) > 0 {
		b = append(c.rest, p...)
	}
	for len(b) > 0 {
		if b[0] < utf8.RuneSelf {
			b = b[1:]
			continue
		}
		if !utf8.FullRune(b) {
			break
		}
		r, width := utf8.DecodeRune(b)
		if r == utf8.RuneError && width == 1 {
			c.invalid = true
			return
		}
		c.wide = c.wide || width > 2
		b = b[width:]
	}
	c.rest = append([]byte(nil), b...)
}

// isUTF8 is the verdict on all of it. A command that is killed may end within a
// character: where the rest leaves no doubt, that is UTF-8 too.
func (c *utf8Check) isUTF8(needWide bool) bool {
	return !c.invalid && (c.wide || !needWide && len(c.rest) == 0)
}
