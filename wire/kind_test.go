package wire

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// Each way to break the protocol has its kind, and each kind a name of its own.
func TestKinds(t *testing.T) {
	t.Parallel()
	decode := func(body string, from Peer) error {
		_, err := Decode([]byte(body), from)
		return err
	}
	next := func(stream string) error {
		_, err := NewDecoder(strings.NewReader(stream), 100).Next()
		return err
	}
	seen := map[Kind]bool{}
	for _, c := range []struct {
		want Kind
		err  error
	}{
		{KindBadLength, next("\x00\x00\x00\x00")},
		{KindBadLength, next("\xff\xff\xff\xff")},
		{KindTooBig, next("\x65\x00\x00\x00")},
		{KindTooBig, next("\xff\xff\xff\x7f")},
		{KindNotUTF8, next("\x01\x00\x00\x00\xff")},
		{KindNotUTF8, decode("{\xff}", OldClient)},
		{KindNotMessage, decode("GET / HTTP/1.1", OldClient)},
		{KindNotMessage, decode(`{"flag"`, OldClient)},
		{KindNotMessage, decode(`{"flag":"ADH18","flag":"ADH18"}`, OldClient)},
		{KindNotMessage, decode(nested(MaxDepth+1), OldClient)},
		{KindNotMessage, decode(heartbeatText, Agent)},
		{KindNoCode, decode(`{"ACK":"keepAlive"}`, OldClient)},
		{KindNoCode, decode(`{"flag":18}`, OldClient)},
		{KindUnknownCode, decode(`{"flag":"ADH99"}`, OldClient)},
		{KindUnknownCode, decode(`ADH99/keepAlive`, OldClient)},
		{KindWrongPeer, decode(`{"flag":"ADH35","seq":1}`, OldClient)},
		{KindBadMember, decode(`{"flag":"ADH18","ACK":"no","phase":1}`, OldClient)},
		{KindBadMember, decode(`{"flag":"ADH27"}`, Agent)},
		{KindBadText, decode(`ADH18/no`, OldClient)},
		{KindBadText, decode(`ADH27I/keepGotIt/AC131/None/[]`, OldClient)},
		{KindOther, fmt.Errorf("%w: something else", ErrAbnormal)},
	} {
		if !errors.Is(c.err, ErrAbnormal) {
			t.Errorf("%v is not abnormal", c.err)
		}
		if got := KindOf(c.err); got != c.want {
			t.Errorf("%v is of the kind %v, want %v", c.err, got, c.want)
		}
		seen[c.want] = true
	}
	names := map[string]bool{}
	for _, k := range Kinds() {
		if !seen[k] {
			t.Errorf("nothing is of the kind %v", k)
		}
		names[k.String()] = true
	}
	if len(names) != int(KindCount) {
		t.Errorf("the kinds have the names %v", names)
	}
	if KindOf(io.EOF) != KindOther {
		t.Error("the end of a stream has a kind")
	}
	if !errors.Is(next("\x00\x00\x00\x00"), ErrFrameLength) {
		t.Error("a frame length is no ErrFrameLength")
	}
}
