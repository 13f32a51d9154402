package wire

import "errors"

// Kind is what is wrong with abnormal data, one of a fixed set: fit for a counter, where
// the error itself, with what a peer has chosen in it, is fit for a log only.
type Kind uint8

// The kinds.
const (
	KindOther       Kind = iota // none of the others: a hello that is not the first message
	KindBadLength               // a frame length of 0 or less
	KindTooBig                  // a frame length above the limit
	KindNotUTF8                 // a body that is not UTF-8
	KindNotMessage              // a body that begins with neither { nor ADH; JSON that is malformed, too deep, or has a name twice
	KindNoCode                  // a JSON object without a message code
	KindUnknownCode             // a code that this version does not know
	KindWrongPeer               // a message that is not for this peer to send
	KindBadMember               // a member that is missing, or of a wrong type or value
	KindBadText                 // a message of the text form that is malformed

	KindCount // how many there are
)

// Kinds lists every kind.
func Kinds() []Kind {
	all := make([]Kind, KindCount)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// String is the name of a kind: lower case, with _ between words.
func (k Kind) String() string {
	switch k {
	case KindBadLength:
		return "bad_length"
	case KindTooBig:
		return "too_big"
	case KindNotUTF8:
		return "not_utf8"
	case KindNotMessage:
		return "not_a_message"
	case KindNoCode:
		return "no_code"
	case KindUnknownCode:
		return "unknown_code"
	case KindWrongPeer:
		return "wrong_peer"
	case KindBadMember:
		return "bad_member"
	case KindBadText:
		return "bad_text"
	}
	return "other"
}

// KindOf says what is wrong with the data that err, an error of this package, is about.
func KindOf(err error) Kind {
	var k *kindError
	switch {
	case errors.As(err, &k):
		return k.kind
	case errors.Is(err, ErrNotUTF8):
		return KindNotUTF8
	case errors.Is(err, ErrUnknownCode):
		return KindUnknownCode
	}
	return KindOther
}

// kindError is an error of a kind that can't be told from the error alone.
type kindError struct {
	kind Kind
	error
}

func (k *kindError) Unwrap() error { return k.error }

func ofKind(k Kind, err error) error { return &kindError{k, err} }
