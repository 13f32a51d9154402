package agent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/musterhq/muster/wire"
)

// captured writes b in pieces of n bytes and returns what a report would hold.
func captured(b []byte, n int) (text string, total int64, truncated bool) {
	var c capture
	for len(b) > 0 {
		piece := b[:min(n, len(b))]
		c.Write(piece)
		b = b[len(piece):]
	}
	return c.finish()
}

func TestOutputThatFits(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("x", maxOutput)
	for in, want := range map[string]string{
		"":                            "",
		"plain\n":                     "plain\n",
		"\x00\x1b[31m":                "\x00\x1b[31m",
		"grün €\U0001F600":            "grün €\U0001F600",
		"\xff":                        "\uFFFD",
		"a\xc3":                       "a\uFFFD",
		"\xe2\x82a":                   "\uFFFD\uFFFDa",
		"\xed\xa0\x80":                "\uFFFD\uFFFD\uFFFD", // a lone surrogate
		full:                          full,
		full[2:] + "\u00fc":           full[2:] + "\u00fc",
		strings.Repeat("\xff", 21845): strings.Repeat("\uFFFD", 21845), // 65,535 bytes
	} {
		for _, piece := range []int{1, 7, 1 << 20} {
			text, total, truncated := captured([]byte(in), piece)
			if text != want || total != int64(len(in)) || truncated {
				t.Errorf("%.20q in pieces of %d: %.40q, %d bytes, truncated %t", in, piece, text, total, truncated)
			}
		}
	}
}

func TestOutputThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for name, in := range map[string][]byte{
		"one too many": []byte(strings.Repeat("x", maxOutput+1)),
		"lines":        []byte(strings.Repeat("0123456789abcde\n", 100_000)),
		"wide":         []byte(strings.Repeat("\U0001F600", 50_000)),
		"shifted wide": []byte("abc" + strings.Repeat("\U0001F600", 50_000) + "d"),
		"euros":        []byte("a" + strings.Repeat("€", 40_000)),
		"rubbish":      bytes.Repeat([]byte{0xff}, 21846), // 65,538 bytes, mended
		"more rubbish": bytes.Repeat([]byte{0xff, 'a'}, 500_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, piece := range []int{1, 999, 40_000, 1 << 20} {
				checkClipped(t, in, piece)
			}
		})
	}
}

// checkClipped holds what is captured of in to everything that is promised of it.
func checkClipped(t *testing.T, in []byte, piece int) {
	t.Helper()
	text, total, truncated := captured(in, piece)
	if total != int64(len(in)) {
		t.Errorf("counted %d bytes of %d", total, len(in))
	}
	if len(text) > maxOutput || !utf8.ValidString(text) {
		t.Fatalf("%d bytes, valid %t", len(text), utf8.ValidString(text))
	}
	whole := string(mend(nil, in))
	if !truncated {
		if text != whole {
			t.Errorf("not truncated, but not the same")
		}
		return
	}
	if len(whole) <= maxOutput {
		t.Fatalf("truncated, though it fits in %d bytes", len(whole))
	}
	at := strings.Index(text, "\n[... ")
	var left int
	if at < 0 {
		t.Fatal("no line says what is left out")
	}
	if _, err := fmt.Sscanf(text[at:], "\n[... %d bytes left out ...]\n", &left); err != nil {
		t.Fatal(err)
	}
	head, tail := text[:at], text[at+len(gap(int64(left))):]
	if !strings.HasPrefix(whole, head) || !strings.HasSuffix(whole, tail) {
		t.Error("the ends are not the output's")
	}
	const least = (maxOutput-60)/2 - 2*utf8.UTFMax
	if len(head) < least || len(tail) < least {
		t.Errorf("ends of %d and %d bytes, want at least %d", len(head), len(tail), least)
	}
	// Put together with what is left out it is the whole again.
	if kept := len(in) - left; rawLen(in, len(head))+rawLenBack(in, len(tail)) != kept {
		t.Errorf("%d bytes said to be left out, %d kept", left, kept)
	}
}

// rawLen returns how many raw bytes at the beginning of b become n mended ones.
func rawLen(b []byte, n int) (raw int) {
	for n > 0 {
		r, width := utf8.DecodeRune(b[raw:])
		n -= utf8.RuneLen(r)
		raw += width
	}
	return raw
}

func rawLenBack(b []byte, n int) (raw int) {
	for n > 0 {
		r, width := utf8.DecodeLastRune(b[:len(b)-raw])
		n -= utf8.RuneLen(r)
		raw += width
	}
	return raw
}

func FuzzOutput(f *testing.F) {
	f.Add(uint64(1), 70_000, 1000, uint8(0))
	f.Add(uint64(2), 65_537, 1, uint8(1))
	f.Add(uint64(3), 200_000, 40_000, uint8(2))
	f.Add(uint64(4), 66_000, 65_536, uint8(3))
	f.Fuzz(func(t *testing.T, seed uint64, n, piece int, mode uint8) {
		if n < 0 || n > 300_000 || piece < 1 || n/piece > 100_000 {
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		var in []byte
		for len(in) < n {
			switch mode % 4 {
			case 0: // anything
				in = binary.LittleEndian.AppendUint64(in, random.Uint64())
			case 1: // characters of all widths
				in = utf8.AppendRune(in, rune(random.IntN(0x11_0000)))
			case 2: // mostly text
				in = append(in, "a line\n\x00 €"[random.IntN(9):]...)
			case 3: // broken characters
				in = append(in, "\xe2\x82\xac\xf0\x9f\x98"[random.IntN(5):]...)
			}
		}
		checkClipped(t, in[:n], piece)
	})
}

func TestCaptureForgetsWhatIsWrittenLater(t *testing.T) {
	t.Parallel()
	var c capture
	c.Write([]byte("a"))
	c.finish()
	c.Write(make([]byte, 1<<20))
	if c.head != nil || c.tail != nil {
		t.Error("kept after the end")
	}
}

func TestCaptureIsBounded(t *testing.T) {
	t.Parallel()
	var c capture
	for range 100 {
		c.Write(make([]byte, 1<<16))
	}
	if n := cap(c.head) + cap(c.tail); n > 3*maxOutput {
		t.Errorf("%d bytes held", n)
	}
}

// The largest report there can be: every byte of it takes six in JSON.
func TestNoReportExceedsAFrame(t *testing.T) {
	t.Parallel()
	noise := bytes.Repeat([]byte{1}, 1<<20)
	text, total, truncated := captured(noise, len(noise))
	if len(text) < maxOutput-100 || !truncated {
		t.Fatalf("%d bytes", len(text))
	}
	r := wire.Result{
		Command: strings.Repeat("\x01", maxLine), ExitCode: -1 << 31, DurationMS: 1 << 53,
		Stdout: text, Stderr: text, StdoutBytes: total, StderrBytes: total,
		Truncated: true, Error: shorten(strings.Repeat("\x01", 2*maxError), maxError),
	}
	m := wire.Status{Task: "AC" + strings.Repeat("1", 62), Phase: wire.PhaseEnded, Seq: 1 << 53, Result: &r}
	if n := len(wire.Encode(m)); n > wire.MaxFrame || n < 800_000 {
		t.Errorf("report of %d bytes, want at most %d", n, wire.MaxFrame)
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"abc": "abc", "abcdef": "abcd", "abc€": "abc", "\xff\xff": "\uFFFD"} {
		if got := shorten(in, 4); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
