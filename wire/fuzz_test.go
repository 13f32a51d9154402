package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// What comes out of a Decoder, framed again, is the bytes that went in, and it
// does not matter how they were cut.
func FuzzDecoder(f *testing.F) {
	var all []byte
	for _, g := range golden {
		f.Add(EncodeFrame(g.message), 0)
		all = append(all, EncodeFrame(g.message)...)
	}
	f.Add(all, 0)
	f.Add(all[:len(all)-1], 100)
	f.Add(append(AppendFrame(nil, bytes.Repeat([]byte("x"), 3*firstGrowth)), all...), 0)
	for _, s := range []string{"", "\x00", rawFrame(0, ""), rawFrame(-1, "a"), rawFrame(MaxFrame+1, "a"), rawFrame(2, "a\xff")} {
		f.Add([]byte(s), 10)
	}
	f.Fuzz(func(t *testing.T, stream []byte, limit int) {
		whole, err := decodeAll(t, bytes.NewReader(stream), limit)
		if !bytes.HasPrefix(stream, whole) {
			t.Fatalf("%q became %q", stream, whole)
		}
		rest := stream[len(whole):]
		switch {
		case err == io.EOF:
			if len(rest) != 0 {
				t.Fatalf("%d bytes were left, and no error said so", len(rest))
			}
		case err == io.ErrUnexpectedEOF:
			if len(rest) == 0 {
				t.Fatal("an end inside a frame, but nothing was left")
			}
		case !errors.Is(err, ErrAbnormal):
			t.Fatal(err)
		}
		cut, cutErr := decodeAll(t, iotest.OneByteReader(bytes.NewReader(stream)), limit)
		if !bytes.Equal(whole, cut) || err.Error() != cutErr.Error() {
			t.Fatalf("whole: %q, %v\nbyte by byte: %q, %v", whole, err, cut, cutErr)
		}
	})
}

func decodeAll(t *testing.T, r io.Reader, limit int) (frames []byte, err error) {
	d := NewDecoder(r, limit)
	for {
		body, err := d.Next()
		if err != nil {
			return frames, err
		}
		if len(body) == 0 || len(body) > MaxFrame || limit > 0 && len(body) > limit || !utf8.Valid(body) {
			t.Fatalf("a body that no frame may have: %q", body)
		}
		frames = AppendFrame(frames, body)
	}
}

// Whatever decodes is the same after it was encoded and decoded again, and every
// JSON library reads it.
func FuzzDecode(f *testing.F) {
	for _, g := range golden {
		f.Add([]byte(g.body), byte(g.from))
	}
	for _, a := range abnormalBodies {
		if len(a.body) < 4096 {
			f.Add([]byte(a.body), byte(a.from))
		}
	}
	for _, a := range acceptedBodies {
		f.Add([]byte(a.body), byte(a.from))
	}
	f.Fuzz(func(t *testing.T, body []byte, peer byte) {
		from := Peer(peer % 3)
		m, err := Decode(body, from)
		if err != nil {
			if m != nil || !errors.Is(err, ErrAbnormal) {
				t.Fatalf("%v, %v", m, err)
			}
			if len(err.Error()) > 1024 {
				t.Fatalf("an error of %d bytes is not fit for a log", len(err.Error()))
			}
			return
		}
		if from == OldClient && body[0] != '{' {
			return // FuzzDecodeText
		}
		var members map[string]any
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		if err := dec.Decode(&members); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if got := members["flag"]; got != string(m.Code()) {
			t.Fatalf("the flag is %v, the message %v", got, m)
		}
		again, err := Decode(Encode(m), from)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%#v\nencoded: %s\ndecoded: %#v, %v", m, Encode(m), again, err)
		}
	})
}

// Whatever decodes from the text form is the same after it was encoded and decoded
// again, and its one encoding stays as it is. Where the current command ends is not a
// matter of taste: no other place would do.
func FuzzDecodeText(f *testing.F) {
	for _, g := range goldenTexts {
		f.Add([]byte(g.body))
	}
	for _, a := range abnormalTexts {
		if len(a.body) < 4096 {
			f.Add([]byte(a.body))
		}
	}
	for _, a := range acceptedTexts {
		f.Add([]byte(a.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 0 && body[0] == '{' {
			return
		}
		m, err := Decode(body, OldClient)
		if err != nil {
			if m != nil || !errors.Is(err, ErrAbnormal) {
				t.Fatalf("%v, %v", m, err)
			}
			if len(err.Error()) > 1024 {
				t.Fatalf("an error of %d bytes is not fit for a log", len(err.Error()))
			}
			return
		}
		text, ok := EncodeText(m)
		if !ok {
			t.Fatalf("%#v has no text form", m)
		}
		again, err := Decode(text, OldClient)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%#v\nencoded: %s\ndecoded: %#v, %v", m, text, again, err)
		}
		if same, _ := EncodeText(again); !bytes.Equal(text, same) {
			t.Fatalf("%s\nencoded again: %s", text, same)
		}
		if json, err := Decode(Encode(m), OldClient); err != nil || !reflect.DeepEqual(m, json) {
			t.Fatalf("%#v\nin JSON: %#v, %v", m, json, err)
		}
		if _, status := m.(Status); status && len(body) < 500 {
			if n := splits(body); n != 1 {
				t.Fatalf("%q can be read in %d ways", body, n)
			}
		}
	})
}

// splits is in how many ways a status can be cut into its fields, tried out one by one
// with the reader that goes forward.
func splits(body []byte) (n int) {
	isList := func(b []byte) bool {
		_, err := literalJSON(b)
		return err == nil && b[0] == '['
	}
	rest := bytes.SplitN(body, []byte("/"), 4)[3]
	for j := range rest {
		if rest[j] != '/' || !isList(rest[j+1:]) {
			continue
		}
		for i := range j {
			if rest[i] == '/' && isList(rest[i+1:j]) {
				n++
			}
		}
	}
	return n
}

func FuzzDatagram(f *testing.F) {
	for _, s := range []string{"", "AC", "AC131", "AC1 ", "AC1\n", "ac131", "AC1763840000000-0", "AC\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		number, err := ParseDatagram(b)
		if err != nil {
			if number != "" || !errors.Is(err, ErrAbnormal) {
				t.Fatalf("%q, %v", number, err)
			}
			return
		}
		if !ValidNumber(number) || !bytes.Equal(AppendDatagram(nil, number), b) || len(b) > MaxDatagram {
			t.Fatalf("%q became %q", b, number)
		}
	})
}
