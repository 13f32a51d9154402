package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	headerSize = 4
	// smallBuffer is what a connection keeps while nothing larger is under way. A
	// heartbeat is 45 bytes, so several fit in one read.
	smallBuffer = 512
	// firstGrowth is what a body gets that does not fit in the small buffer; it
	// then doubles as bytes really arrive, so that a length alone costs nothing.
	firstGrowth = 4 << 10
	// maxEmptyReads is how often in a row a reader may give neither bytes nor an
	// error, so that a broken one does not keep a core busy for ever.
	maxEmptyReads = 100
)

// Errors of a Decoder. Both wrap ErrAbnormal.
var (
	ErrFrameLength = fmt.Errorf("%w: frame length", ErrAbnormal)
	ErrNotUTF8     = fmt.Errorf("%w: body is not UTF-8", ErrAbnormal)
)

// AppendFrame appends the frame of body to dst. It panics if body is empty or
// longer than MaxFrame: that is a mistake of the caller, not of a peer.
func AppendFrame(dst, body []byte) []byte {
	if len(body) == 0 || len(body) > MaxFrame {
		panic(fmt.Sprintf("wire: frame of %d bytes", len(body)))
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	return append(dst, body...)
}

// Decoder cuts a stream of bytes into the bodies of its frames. It holds one
// buffer of 512 bytes, and a larger one only while a larger frame is under way.
// A Decoder is for one goroutine, and must not be copied.
type Decoder struct {
	r          io.Reader
	max        int
	start, end int // what is read and not yet given out: buf[start:end]
	buf        []byte
	small      [smallBuffer]byte
}

// NewDecoder returns a Decoder that reads from r and refuses bodies of more than
// max bytes. A max of 0, or above MaxFrame, means MaxFrame.
func NewDecoder(r io.Reader, max int) *Decoder {
	d := new(Decoder)
	d.Init(r, max)
	return d
}

// Init makes d what NewDecoder returns, for a Decoder that is part of a larger
// value.
func (d *Decoder) Init(r io.Reader, max int) {
	if max <= 0 || max > MaxFrame {
		max = MaxFrame
	}
	d.r, d.max, d.start, d.end = r, max, 0, 0
	d.buf = d.small[:]
}

// Next returns the body of the next frame. The bytes are valid until the following
// call. At the end of the stream between two frames the error is io.EOF, inside
// one io.ErrUnexpectedEOF; a broken frame gives an error that wraps ErrAbnormal;
// all others are the reader's own, and after a timeout among them Next may be
// called again. After an error that wraps ErrAbnormal the stream can't be read
// further: every call returns that error again.
func (d *Decoder) Next() ([]byte, error) {
	d.shrink()
	if err := d.fill(headerSize); err != nil {
		return nil, err
	}
	n := int32(binary.LittleEndian.Uint32(d.buf[d.start:]))
	if n <= 0 || int(n) > d.max {
		kind := KindBadLength
		if n > 0 {
			kind = KindTooBig
		}
		return nil, ofKind(kind, fmt.Errorf("%w %d, want 1 to %d", ErrFrameLength, n, d.max))
	}
	if err := d.fill(headerSize + int(n)); err != nil {
		return nil, err
	}
	body := d.buf[d.start+headerSize : d.start+headerSize+int(n)]
	if !utf8.Valid(body) {
		return nil, ErrNotUTF8 // the frame stays, so that further calls say it again
	}
	d.start += headerSize + int(n)
	return body, nil
}

// fill reads until n bytes are there to be given out.
func (d *Decoder) fill(n int) error {
	for empty := 0; d.end-d.start < n; {
		if d.start > 0 {
			copy(d.buf, d.buf[d.start:d.end])
			d.start, d.end = 0, d.end-d.start
		}
		if d.end == len(d.buf) {
			grown := make([]byte, min(n, max(firstGrowth, 2*len(d.buf))))
			copy(grown, d.buf[:d.end])
			d.buf = grown
		}
		got, err := d.r.Read(d.buf[d.end:])
		d.end += got
		if d.end-d.start >= n {
			return nil // an error that came with the last bytes comes again
		}
		if errors.Is(err, io.EOF) && d.end > d.start {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if got > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return io.ErrNoProgress
		}
	}
	return nil
}

// shrink goes back to the small buffer once what is left fits in it.
func (d *Decoder) shrink() {
	if len(d.buf) > smallBuffer && d.end-d.start <= smallBuffer {
		d.end = copy(d.small[:], d.buf[d.start:d.end])
		d.start, d.buf = 0, d.small[:]
	}
}
