package wire

import (
	"strings"
	"unicode/utf8"
)

// Code is the code of a message, its member "flag".
type Code string

// The message codes, and who sends each.
const (
	CodeHello     Code = "ADH01" // agent
	CodeWelcome   Code = "ADH02" // listener
	CodeHeartbeat Code = "ADH18" // host
	CodeStatus    Code = "ADH27" // host
	CodeAnswer    Code = "ADH33" // host
	CodePush      Code = "ADH34" // listener
	CodeConfirm   Code = "ADH35" // listener
	CodeLookup    Code = "ADH36" // agent
	CodeFound     Code = "ADH37" // listener
	CodeInfo      Code = "ADH56" // host
)

// Version is the protocol version that a hello names.
const Version = 2

// Message is one of Hello, Welcome, Heartbeat, Info, Status, Answer, Push,
// Confirm, Lookup and Found.
type Message interface {
	Code() Code
	body() []byte
}

// Peer is who wrote a message. It decides which codes are known and which members
// are required.
type Peer int

const (
	OldClient Peer = iota // a client that has not said hello
	Agent                 // a client that has said hello
	Listener              // a listener, as an agent sees it
)

// Encode returns the body of m. What JSON can't say is mended: bytes that are not
// UTF-8 become U+FFFD, an infinite number the largest finite one, and NaN 0. So a
// value that someone wrote into Redis by hand breaks no connection.
func Encode(m Message) []byte { return m.body() }

// EncodeFrame returns the frame of m. Like AppendFrame it panics if the body is
// longer than MaxFrame. The limits of a task set and of a command's output keep a
// report within it; who fills an Info, or a Found from foreign keys, sees to that
// by the length of Encode.
func EncodeFrame(m Message) []byte {
	body := m.body()
	return AppendFrame(make([]byte, 0, headerSize+len(body)), body)
}

// Decode reads the body of a message that came from the given peer. Every error
// wraps ErrAbnormal; a code that this version does not know gives ErrUnknownCode.
// The message keeps nothing of body.
//
// A number may be written in any way that JSON has, so 1, 1.0 and 1e0 are the same.
// An optional member that is null counts as absent; a required one must not be.
//
// A hello is read from an OldClient only: it is an agent's first message and no
// other. So is the text form, in which a body does not begin with '{'.
func Decode(body []byte, from Peer) (Message, error) {
	if !utf8.Valid(body) {
		return nil, ErrNotUTF8
	}
	if from == OldClient && len(body) > 0 && body[0] != '{' {
		return decodeText(body)
	}
	o, err := parseObject(body)
	if err != nil {
		return nil, ofKind(KindNotMessage, err)
	}
	flag, err := o.text("flag")
	if err != nil {
		return nil, ofKind(KindNoCode, err)
	}
	code := Code(flag)
	read, known := readers[code]
	if !known {
		return nil, ErrUnknownCode
	}
	if !read.from(from) {
		return nil, ofKind(KindWrongPeer, abnormal("message %s is not for this peer to send", code))
	}
	m, err := read.read(o, from)
	if err != nil {
		return nil, ofKind(KindBadMember, abnormal("message %s: %s", code, strings.TrimPrefix(err.Error(), ErrAbnormal.Error()+": ")))
	}
	return m, nil
}

type reader struct {
	read func(object, Peer) (Message, error)
	from func(Peer) bool
}

var readers = map[Code]reader{
	CodeHello:     {readHello, func(p Peer) bool { return p == OldClient }},
	CodeWelcome:   {readWelcome, isListener},
	CodeHeartbeat: {readHeartbeat, isHost},
	CodeStatus:    {readStatus, isHost},
	CodeAnswer:    {readAnswer, isHost},
	CodePush:      {readPush, isListener},
	CodeConfirm:   {readConfirm, isListener},
	CodeLookup:    {readLookup, func(p Peer) bool { return p == Agent }},
	CodeFound:     {readFound, isListener},
	CodeInfo:      {readInfo, isHost},
}

func isHost(p Peer) bool     { return p == OldClient || p == Agent }
func isListener(p Peer) bool { return p == Listener }
