package agent

import (
	"fmt"
	"sync"
	"unicode/utf8"
)

// maxOutput is how many bytes of a command's stdout, and of its stderr, a report
// holds. JSON makes at most six bytes of one, so two of them, a command of 8,192
// bytes and an error of 1,024 take at most 6 × 140,288 = 841,728 of the 1,048,576
// bytes of a frame.
const (
	maxOutput = 64 << 10
	keptEnd   = maxOutput / 2 // raw bytes kept of either end, while it is not known how much will come
	maxError  = 1024
)

// capture keeps the beginning and the end of what is written to it, in bounded
// memory, and counts the rest.
type capture struct {
	mu     sync.Mutex
	total  int64
	head   []byte
	tail   []byte // a ring once it is full; the oldest byte at total % keptEnd
	closed bool   // nothing is kept any more
}

// Write never fails: whoever prints is not to be disturbed.
func (c *capture) Write(p []byte) (int, error) {
	n := len(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return n, nil
	}
	if room := keptEnd - len(c.head); room > 0 {
		take := min(room, len(p))
		c.head = append(c.head, p[:take]...)
		c.total += int64(take)
		p = p[take:]
	}
	if skip := len(p) - keptEnd; skip > 0 {
		c.total += int64(skip) // would be overwritten by what follows it in p
		p = p[skip:]
		c.tail = append(c.tail, make([]byte, keptEnd-len(c.tail))...)
	}
	for len(p) > 0 {
		at := int(c.total % keptEnd)
		var took int
		if len(c.tail) < keptEnd { // then len(c.tail) == at, since head is full
			took = min(keptEnd-len(c.tail), len(p))
			c.tail = append(c.tail, p[:took]...)
		} else {
			took = copy(c.tail[at:], p)
		}
		c.total += int64(took)
		p = p[took:]
	}
	return n, nil
}

// finish returns the text for a report, the count of all bytes written, and
// whether some are left out of the text. Of what is written later nothing is kept.
func (c *capture) finish() (text string, total int64, truncated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tail := c.tail
	if c.total > 2*keptEnd {
		at := int(c.total % keptEnd)
		tail = append(append([]byte{}, c.tail[at:]...), c.tail[:at]...)
	}
	text, truncated = clip(c.head, tail, c.total)
	c.closed, c.head, c.tail = true, nil, nil
	return text, c.total, truncated
}

// clip makes valid UTF-8 of at most maxOutput bytes from total bytes of output, of
// which head and tail are the two ends; together they are all of it if it is no
// longer than they. A byte that belongs to no character becomes U+FFFD. What is
// too long loses its middle, between characters; a line says how much is gone.
func clip(head, tail []byte, total int64) (text string, truncated bool) {
	if total == int64(len(head)+len(tail)) {
		head = append(head[:len(head):len(head)], tail...)
		tail = head
		if size(head) <= maxOutput {
			return string(mend(make([]byte, 0, len(head)), head)), false
		}
	}
	// The line takes more room than a character: what of head and tail was cut
	// within one, where the middle was not kept, is out of reach.
	room := (maxOutput - len(gap(total))) / 2
	first := beginning(head, room)
	last := ending(tail, room)
	text = string(mend(nil, head[:first]))
	text += gap(total - int64(first) - int64(len(tail)-last))
	return text + string(mend(nil, tail[last:])), true
}

// gap is the line that stands for n bytes. A smaller n makes no longer line.
func gap(n int64) string { return fmt.Sprintf("\n[... %d bytes left out ...]\n", n) }

// beginning returns how many bytes of b, mended, take at most room.
func beginning(b []byte, room int) int {
	i := 0
	for i < len(b) {
		r, width := utf8.DecodeRune(b[i:])
		if room -= utf8.RuneLen(r); room < 0 {
			break
		}
		i += width
	}
	return i
}

// ending returns from where on b, mended, takes at most room.
func ending(b []byte, room int) int {
	i := len(b)
	for i > 0 {
		r, width := utf8.DecodeLastRune(b[:i])
		if room -= utf8.RuneLen(r); room < 0 {
			break
		}
		i -= width
	}
	return i
}

// mend appends b to dst with U+FFFD for each byte that belongs to no character.
func mend(dst, b []byte) []byte {
	for len(b) > 0 {
		r, width := utf8.DecodeRune(b)
		dst = utf8.AppendRune(dst, r)
		b = b[width:]
	}
	return dst
}

// size returns the length of b, mended.
func size(b []byte) (n int) {
	for len(b) > 0 {
		r, width := utf8.DecodeRune(b)
		n += utf8.RuneLen(r)
		b = b[width:]
	}
	return n
}

// shorten makes s a valid text of at most n bytes.
func shorten(s string, n int) string {
	return string(mend(nil, []byte(s)[:beginning([]byte(s), n)]))
}
