package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"

	"github.com/musterhq/muster/wire"
)

// kind is what a journal's record says.
type kind string

const (
	kindAccept  kind = "accept"  // a set is taken up; of an older request of its number nothing is sent any more
	kindStart   kind = "start"   // the command Ended of a set is about to start
	kindStatus  kind = "status"  // a report on a set; Ended commands have ended, if it is not 0
	kindAnswer  kind = "answer"  // an answer to a datagram
	kindConfirm kind = "confirm" // reports up to Seq are in Redis
	kindCancel  kind = "cancel"  // a set was cancelled
	kindOver    kind = "over"    // nothing of a set is run any more
	kindClock   kind = "clock"   // Redis's clock is OffsetMS before the host's
	kindKnown   kind = "known"   // in a compacted journal: a set and how far it is
	kindNext    kind = "next"    // in a compacted journal: the next report's number
)

// record is one fact of the journal.
type record struct {
	Kind     kind     `json:"k"`
	Number   string   `json:"n,omitempty"`
	Request  string   `json:"r,omitempty"`
	Set      *taskSet `json:"set,omitempty"` // with accept and known
	Ended    int      `json:"e,omitempty"`
	Seq      int64    `json:"q,omitempty"`
	OffsetMS int64    `json:"ms,omitempty"`

	DeadlineMS int64 `json:"d,omitempty"` // with start: the set's, in case its acceptance is lost

	message wire.Message // with status and answer, before it has its Seq
	body    []byte       // with status and answer: the message as it is sent
}

// taskSet is a set that was taken up, and how far it is.
type taskSet struct {
	Number     string   `json:"n"`
	Request    string   `json:"r"`
	Commands   []string `json:"c,omitempty"` // as they are run; nil once it is over
	TimeoutS   int64    `json:"t"`
	DeadlineMS int64    `json:"d"` // Redis's clock, Unix milliseconds

	Ended      int  `json:"e,omitempty"` // commands that have ended; they end in order
	Started    bool `json:"s,omitempty"` // the command Ended was started
	Cancelled  bool `json:"x,omitempty"`
	Superseded bool `json:"u,omitempty"` // the number belongs to a newer request
	Over       bool `json:"o,omitempty"`
}

// unfinished reports whether the set is to go on.
func (s *taskSet) unfinished() bool { return !s.Over && !s.Superseded }

// On disk an entry is what was appended together. It counts as a whole or not at
// all:
//
//	0       4        8        12              12+n
//	+-------+--------+--------+----------------+
//	| mark  | n      | crc    | records        |
//	+-------+--------+--------+----------------+
//	         uint32   CRC-32C
//	         little-endian, the crc covers n and the records
//
// A record is its JSON and its body, each after its length as a uvarint. JSON has
// no zero byte, and n below 2^24 always has one: nothing that a command prints can
// look like an entry.
const (
	entryMark   = "mj1\n"
	entryHeader = 12
	maxEntry    = 1<<24 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errEntryTooBig = errors.New("journal entry too big")

// appendEntry appends the entry of recs to dst.
func appendEntry(dst []byte, recs []record) ([]byte, error) {
	start := len(dst)
	dst = append(dst, entryMark+"\x00\x00\x00\x00\x00\x00\x00\x00"...)
	for i := range recs {
		head, err := json.Marshal(&recs[i])
		if err != nil {
			return dst[:start], err
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(head))), head...)
		dst = append(binary.AppendUvarint(dst, uint64(len(recs[i].body))), recs[i].body...)
	}
	entry := dst[start:]
	n := len(entry) - entryHeader
	if n > maxEntry {
		return dst[:start], errEntryTooBig
	}
	binary.LittleEndian.PutUint32(entry[4:], uint32(n))
	binary.LittleEndian.PutUint32(entry[8:], checksum(entry))
	return dst, nil
}

func checksum(entry []byte) uint32 {
	sum := crc32.Update(0, castagnoli, entry[4:8])
	return crc32.Update(sum, castagnoli, entry[entryHeader:])
}

// cutEntry reads the entry with which data begins, and its length in bytes.
func cutEntry(data []byte) (recs []record, length int, ok bool) {
	if len(data) < entryHeader || string(data[:4]) != entryMark {
		return nil, 0, false
	}
	n := binary.LittleEndian.Uint32(data[4:])
	if n > maxEntry || int(n) > len(data)-entryHeader {
		return nil, 0, false
	}
	entry := data[:entryHeader+int(n)]
	if binary.LittleEndian.Uint32(entry[8:]) != checksum(entry) {
		return nil, 0, false
	}
	rest := entry[entryHeader:]
	for len(rest) > 0 {
		var head, body []byte
		if head, rest, ok = cutField(rest); !ok {
			return nil, 0, false
		}
		if body, rest, ok = cutField(rest); !ok {
			return nil, 0, false
		}
		rec := record{body: bytes.Clone(body)}
		if json.Unmarshal(head, &rec) != nil || (rec.Kind == kindAccept || rec.Kind == kindKnown) && rec.Set == nil {
			return nil, 0, false
		}
		recs = append(recs, rec)
	}
	return recs, len(entry), true
}

func cutField(b []byte) (field, rest []byte, ok bool) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, false
	}
	return b[used : used+int(n)], b[used+int(n):], true
}

// replay hands every whole entry of data to apply, in order. It returns where the
// first broken one begins, or the length of data. If whole entries come after a
// broken one, the file is not merely torn at its end but damaged.
func replay(data []byte, apply func([]record)) (whole int, damaged bool) {
	broken := false
	for off := 0; off < len(data); {
		recs, n, ok := cutEntry(data[off:])
		if ok {
			apply(recs)
			off += n
			if damaged = broken; !broken {
				whole = off
			}
			continue
		}
		broken = true
		next := bytes.Index(data[off+1:], []byte(entryMark))
		if next < 0 {
			break
		}
		off += 1 + next
	}
	return whole, damaged
}
