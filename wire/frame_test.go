package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func rawFrame(length int32, body string) string {
	return string(binary.LittleEndian.AppendUint32(nil, uint32(length))) + body
}

func TestAppendFrame(t *testing.T) {
	t.Parallel()
	if got, want := string(AppendFrame([]byte("x"), []byte("aé"))), "x\x03\x00\x00\x00aé"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, size := range []int{0, MaxFrame + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a body of %d bytes did not panic", size)
				}
			}()
			AppendFrame(nil, make([]byte, size))
		}()
	}
}

// stream is 500 frames of all sizes around the bounds of the buffers.
func stream() (frames []byte, bodies []string) {
	sizes := []int{1, 45, smallBuffer - 5, smallBuffer - 4, smallBuffer - 3, smallBuffer, firstGrowth - 4, firstGrowth, 3 * firstGrowth, 45, 2}
	for i := range 500 {
		body := strings.Repeat(string(rune('a'+i%26)), sizes[i%len(sizes)])
		if i%7 == 0 {
			body = strings.Repeat("é", 1+len(body)/2)
		}
		frames, bodies = AppendFrame(frames, []byte(body)), append(bodies, body)
	}
	return frames, bodies
}

func checkStream(t *testing.T, r io.Reader, bodies []string) {
	t.Helper()
	d := NewDecoder(r, 0)
	for i, want := range bodies {
		got, err := d.Next()
		if err != nil || string(got) != want {
			t.Fatalf("frame %d: %d bytes, %v, want %d", i, len(got), err, len(want))
		}
	}
	for range 2 {
		if body, err := d.Next(); err != io.EOF || body != nil {
			t.Fatalf("at the end: %q, %v", body, err)
		}
	}
}

func TestDecoderAnyCut(t *testing.T) {
	t.Parallel()
	frames, bodies := stream()
	for name, r := range map[string]io.Reader{
		"500 in one write": bytes.NewReader(frames),
		"byte by byte":     iotest.OneByteReader(bytes.NewReader(frames)),
		"halves":           iotest.HalfReader(bytes.NewReader(frames)),
		"end with data":    iotest.DataErrReader(bytes.NewReader(frames)),
		"sevens":           &cutReader{data: frames, size: 7},
		"empty reads":      &cutReader{data: frames, size: 501, empty: maxEmptyReads - 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkStream(t, r, bodies)
		})
	}
}

// cutReader gives size bytes a read, each after some reads that give nothing.
type cutReader struct {
	data               []byte
	size, empty, given int
}

func (r *cutReader) Read(p []byte) (int, error) {
	if r.given < r.empty {
		r.given++
		return 0, nil
	}
	r.given = 0
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.data[:min(r.size, len(r.data))])
	r.data = r.data[n:]
	return n, nil
}

func TestDecoderAbnormal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stream string
		max          int
		want         error
	}{
		{"length 0", rawFrame(0, ""), 0, ErrFrameLength},
		{"length 0 and more", rawFrame(0, "abc"), 0, ErrFrameLength},
		{"length -1", rawFrame(-1, "abc"), 0, ErrFrameLength},
		{"smallest length", rawFrame(math.MinInt32, "abc"), 0, ErrFrameLength},
		{"largest length", rawFrame(math.MaxInt32, "abc"), 0, ErrFrameLength},
		{"one too long", rawFrame(MaxFrame+1, "abc"), 0, ErrFrameLength},
		{"one too long, no limit is higher", rawFrame(MaxFrame+1, "abc"), MaxFrame + 1, ErrFrameLength},
		{"one too long for its limit", rawFrame(11, "abcdefghijk"), 10, ErrFrameLength},
		{"big-endian", "\x00\x00\x00\x2d" + heartbeatBody, 0, ErrFrameLength},
		{"a web browser", "GET / HTTP/1.1\r\n\r\n", 0, ErrFrameLength},
		{"not UTF-8", rawFrame(3, "a\xffb"), 0, ErrNotUTF8},
		{"half a character", rawFrame(2, "a\xc3") + rawFrame(1, "\xa9"), 0, ErrNotUTF8},
		{"surrogate", rawFrame(3, "\xed\xa0\x80"), 0, ErrNotUTF8},
		{"overlong", rawFrame(2, "\xc0\x80"), 0, ErrNotUTF8},
		{"beyond Unicode", rawFrame(4, "\xf4\x90\x80\x80"), 0, ErrNotUTF8},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// What came before it is still given out, and nothing that comes after.
			d := NewDecoder(strings.NewReader(rawFrame(1, "a")+c.stream+rawFrame(1, "b")), c.max)
			if body, err := d.Next(); err != nil || string(body) != "a" {
				t.Fatalf("first frame: %q, %v", body, err)
			}
			for range 2 {
				if body, err := d.Next(); !errors.Is(err, c.want) || !errors.Is(err, ErrAbnormal) || body != nil {
					t.Errorf("%q, %v, want %v", body, err, c.want)
				}
			}
		})
	}
}

func TestDecoderLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ max, size int }{{10, 10}, {0, MaxFrame}, {-1, MaxFrame}, {MaxFrame + 1, MaxFrame}} {
		frame := AppendFrame(nil, bytes.Repeat([]byte("x"), c.size))
		if body, err := NewDecoder(bytes.NewReader(frame), c.max).Next(); err != nil || len(body) != c.size {
			t.Errorf("limit %d: %d bytes, %v, want %d", c.max, len(body), err, c.size)
		}
	}
}

func TestDecoderReaderErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	frame := string(AppendFrame(nil, []byte("abc")))
	for n := range len(frame) {
		d := NewDecoder(io.MultiReader(strings.NewReader(frame[:n]), iotest.ErrReader(broken)), 0)
		if _, err := d.Next(); err != broken {
			t.Errorf("after %d bytes: %v, want the reader's own error", n, err)
		}
	}
	if _, err := NewDecoder(&cutReader{empty: maxEmptyReads}, 0).Next(); err != io.ErrNoProgress {
		t.Errorf("a reader that gives nothing: %v", err)
	}
	// A timeout loses nothing of what has come.
	d := NewDecoder(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(frame))), 0)
	if _, err := d.Next(); err != iotest.ErrTimeout {
		t.Errorf("got %v, want a timeout", err)
	}
	if body, err := d.Next(); err != nil || string(body) != "abc" {
		t.Errorf("after a timeout: %q, %v", body, err)
	}
}

// watchedReader looks at the decoder's buffer before each read.
type watchedReader struct {
	io.Reader
	d       *Decoder
	got     int
	problem string
}

func (r *watchedReader) Read(p []byte) (int, error) {
	if size := len(r.d.buf); size > max(smallBuffer, firstGrowth, 2*r.got) && r.problem == "" {
		r.problem = fmt.Sprintf("a buffer of %d bytes after %d had come", size, r.got)
	}
	n, err := r.Reader.Read(p)
	r.got += n
	return n, err
}

// A buffer grows with what has come, not with what was announced.
func TestDecoderGrowth(t *testing.T) {
	t.Parallel()
	frame := AppendFrame(nil, bytes.Repeat([]byte("x"), MaxFrame))
	for _, cut := range []int{4, 5, 100, smallBuffer, smallBuffer + 1, firstGrowth, 100_000, len(frame)} {
		d := new(Decoder)
		r := &watchedReader{Reader: &cutReader{data: frame[:cut], size: 97}, d: d}
		d.Init(r, 0)
		body, err := d.Next()
		if r.problem != "" {
			t.Errorf("frame cut after %d: %s", cut, r.problem)
		}
		if cut == len(frame) {
			if err != nil || len(body) != MaxFrame {
				t.Errorf("whole frame: %d bytes, %v", len(body), err)
			}
			continue
		}
		if err != io.ErrUnexpectedEOF {
			t.Errorf("frame cut after %d: %v", cut, err)
		}
		if cut <= smallBuffer-1 && len(d.buf) != smallBuffer {
			t.Errorf("frame cut after %d: a buffer of %d bytes", cut, len(d.buf))
		}
	}
}

// After a large frame a connection costs as little as before it.
func TestDecoderShrinks(t *testing.T) {
	t.Parallel()
	large := AppendFrame(nil, bytes.Repeat([]byte("x"), MaxFrame))
	small := AppendFrame(nil, []byte(heartbeatBody))
	for _, following := range []int{0, 1, 10, 100} { // that came in the same reads
		frames := append(bytes.Clone(large), bytes.Repeat(small, following)...)
		d := new(Decoder)
		atEnd := 0
		d.Init(io.MultiReader(bytes.NewReader(frames), readerFunc(func([]byte) (int, error) {
			atEnd = len(d.buf)
			return 0, os.ErrDeadlineExceeded
		})), 0)
		for i := range 1 + following {
			if _, err := d.Next(); err != nil {
				t.Fatalf("frame %d of %d: %v", i, 1+following, err)
			}
		}
		if _, err := d.Next(); err != os.ErrDeadlineExceeded {
			t.Fatal(err)
		}
		if atEnd != smallBuffer || &d.buf[0] != &d.small[0] {
			t.Errorf("%d frames after it: waits with a buffer of %d bytes", following, atEnd)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The tests below count allocations of the whole process, so they don't run beside
// others.

func TestLyingLengthCostsNothing(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const peers = 1000
	for range peers {
		if _, err := NewDecoder(strings.NewReader(rawFrame(MaxFrame, "{")), 0).Next(); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / peers; each > 2*smallBuffer {
		t.Errorf("a length of %d costs %d bytes", MaxFrame, each)
	}
}

func TestDecoderAllocatesNothing(t *testing.T) {
	for name, body := range map[string]string{
		"heartbeat":                             heartbeatBody,
		"one byte":                              "x",
		"largest that fits in the small buffer": strings.Repeat("é", (smallBuffer-headerSize)/2),
	} {
		var d Decoder
		d.Init(&endless{frames: AppendFrame(nil, []byte(body))}, 0)
		var known Heartbeats
		if n := testing.AllocsPerRun(5000, func() {
			got, err := d.Next()
			if err != nil || len(got) != len(body) || known.Known(got) != (name == "heartbeat") {
				t.Fatal(len(got), err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a frame", name, n)
		}
	}
}

// endless repeats frames for ever, however much is asked for.
type endless struct {
	frames []byte
	i      int
}

func (r *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c := copy(p[n:], r.frames[r.i:])
		n, r.i = n+c, (r.i+c)%len(r.frames)
	}
	return n, nil
}

func BenchmarkDecoderHeartbeats(b *testing.B) {
	d := NewDecoder(&endless{frames: AppendFrame(nil, []byte(heartbeatBody))}, 0)
	var known Heartbeats
	b.ReportAllocs()
	for b.Loop() {
		if body, err := d.Next(); err != nil || !known.Known(body) {
			b.Fatal(err)
		}
	}
}
