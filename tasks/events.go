package tasks

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

// EventsCap is about how many events Redis keeps; older ones go.
const EventsCap = 100_000

// Event is something that happened, an entry of the stream {muster}:events. Fields
// that do not apply are empty.
type Event struct {
	ID   string    // of the stream entry; empty before it is recorded
	Time time.Time // from ID
	Type string    // "host.online", "task.closed", ...

	Host    string
	Key     Number
	Request string
	Reason  string
	Counts  map[State]int64   // task.closed: the ledger at its end
	Total   *int64            // how many hosts the set has
	More    map[string]string // fields of other names
}

// Record appends an event to the stream. Text in it that is not UTF-8 is quoted.
func Record(ctx context.Context, rdb redis.UniversalClient, e Event) error {
	err := rdb.XAdd(ctx, &redis.XAddArgs{
		Stream: KeyEvents, MaxLen: EventsCap, Approx: true, Values: e.values(),
	}).Err()
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Type, err)
	}
	return nil
}

// RecordAll appends events to the stream in one round trip.
func RecordAll(ctx context.Context, rdb redis.UniversalClient, events []Event) error {
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range events {
			p.XAdd(ctx, &redis.XAddArgs{Stream: KeyEvents, MaxLen: EventsCap, Approx: true, Values: e.values()})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record %d events: %w", len(events), err)
	}
	return nil
}

func (e Event) values() []string {
	values := []string{"type", e.Type}
	add := func(name, value string) {
		if value != "" {
			values = append(values, name, Printable(value))
		}
	}
	add("host", e.Host)
	add("key", string(e.Key))
	add("request", e.Request)
	add("reason", e.Reason)
	if e.Total != nil {
		add("total", strconv.FormatInt(*e.Total, 10))
	}
	if e.Counts != nil {
		for _, s := range States() {
			add(string(s), strconv.FormatInt(e.Counts[s], 10))
		}
	}
	names := make([]string, 0, len(e.More))
	for name := range e.More {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		add(name, e.More[name])
	}
	return values
}

// Printable returns s as valid UTF-8: bytes that are not are quoted as \xNN.
func Printable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// LastEvent returns the id of the newest event, "0" if there is none: where to go
// on reading from.
func LastEvent(ctx context.Context, rdb redis.UniversalClient) (string, error) {
	newest, err := rdb.XRevRangeN(ctx, KeyEvents, "+", "-", 1).Result()
	if err != nil {
		return "", fmt.Errorf("newest event: %w", err)
	}
	if len(newest) == 0 {
		return "0", nil
	}
	return newest[0].ID, nil
}

// EventsBefore returns at most limit events before the given id, "" for the newest, the
// newest first.
func EventsBefore(ctx context.Context, rdb redis.UniversalClient, before string, limit int64) ([]Event, error) {
	from := "+"
	if before != "" {
		from = "(" + before
	}
	page, err := rdb.XRevRangeN(ctx, KeyEvents, from, "-", limit).Result()
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	events := make([]Event, len(page))
	for i, m := range page {
		events[i] = parseEvent(m)
	}
	return events, nil
}

// Events returns at most limit events after the given id, "0" for the oldest. With
// a block above zero it waits that long for the first one; a cancelled ctx does not
// interrupt the wait, so it should be a second or less.
func Events(ctx context.Context, rdb redis.UniversalClient, after string, limit int64, block time.Duration) ([]Event, error) {
	if block <= 0 {
		block = -1
	} else {
		block = max(block, time.Millisecond) // Redis takes 0 ms for ever
	}
	streams, err := rdb.XRead(ctx, &redis.XReadArgs{
		Streams: []string{KeyEvents, after}, Count: limit, Block: block,
	}).Result()
	if err == redis.Nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	var events []Event
	for _, s := range streams {
		for _, m := range s.Messages {
			events = append(events, parseEvent(m))
		}
	}
	return events, nil
}

func parseEvent(m redis.XMessage) Event {
	e := Event{ID: m.ID, Counts: map[State]int64{}, More: map[string]string{}}
	if ms, _, ok := strings.Cut(m.ID, "-"); ok {
		e.Time = unixMilli(ms)
	}
	for name, v := range m.Values {
		value, _ := v.(string)
		switch name {
		case "type":
			e.Type = value
		case "host":
			e.Host = value
		case "key":
			e.Key = Number(value)
		case "request":
			e.Request = value
		case "reason":
			e.Reason = value
		case "total":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				e.Total = &n
			}
		default:
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && isState(name) {
				e.Counts[State(name)] = n
				continue
			}
			e.More[name] = value
		}
	}
	return e
}

func isState(name string) bool {
	for _, s := range States() {
		if name == string(s) {
			return true
		}
	}
	return false
}
