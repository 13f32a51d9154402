package tasks

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
)

// Chunk is how many hosts one script call, or one read, takes at most: at 500
// hosts a call holds Redis for about a millisecond.
const Chunk = 500

// Defaults of a StoreConfig.
const (
	DefaultKeep        = 7 * 24 * time.Hour
	DefaultOutputLimit = 64 << 20
	DefaultRetryAfter  = 3 * time.Second
	DefaultAttempts    = 5
	MaxAttempts        = 20
)

// StoreConfig configures a Store. The zero value is fit for use.
type StoreConfig struct {
	Keep        time.Duration // how long a set's keys stay after its deadline; 0 means 7 days
	OutputLimit int64         // bytes of output kept of one set; 0 means 64 MiB

	// A host that does not answer is sent the number Attempts times in all, MaxAttempts
	// at most: RetryAfter after the first time, then after twice that, and so on; it
	// counts as unanswered when the wait after the last one is over. 0 means 3s and 5:
	// sent at 0, 3, 9, 21 and 45 s, unanswered at 93 s.
	RetryAfter time.Duration
	Attempts   int

	// OnClosed is called when a set is closed, with the ledger at that moment: once for
	// each set, by one of all the Stores that have an OnClosed, also if the set was closed
	// by one that has none (muster cancel). It is lost with a process that dies between the
	// two. nil calls nothing.
	OnClosed func(Ledger)

	// OnAnswer is called for each host that is heard of for the first time, with the time,
	// by Redis's clock, since the number was first sent to it. nil calls nothing.
	OnAnswer func(time.Duration)
}

// Store is the task sets in Redis. All methods may be called by many goroutines and
// many processes at once; each change is one script that is safe to repeat.
type Store struct {
	rdb redis.UniversalClient
	cfg StoreConfig
	due *Agenda
}

// NewStore returns a Store on rdb, which stays the caller's to close.
func NewStore(rdb redis.UniversalClient, cfg StoreConfig) *Store {
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.OutputLimit <= 0 {
		cfg.OutputLimit = DefaultOutputLimit
	}
	if cfg.RetryAfter <= 0 {
		cfg.RetryAfter = DefaultRetryAfter
	}
	if cfg.Attempts <= 0 {
		cfg.Attempts = DefaultAttempts
	}
	cfg.Attempts = min(cfg.Attempts, MaxAttempts)
	return &Store{rdb: rdb, cfg: cfg, due: NewAgenda(rdb, KeyDue)}
}

//go:embed lua/ledger.lua
var ledgerLua string

//go:embed lua/prepare.lua
var prepareLua string

//go:embed lua/list.lua
var listLua string

//go:embed lua/enlist.lua
var enlistLua string

//go:embed lua/open.lua
var openLua string

//go:embed lua/expire.lua
var expireLua string

//go:embed lua/announced.lua
var announcedLua string

// The scripts; values that never change.
var (
	prepareScript   = script.New(ledgerLua, prepareLua)
	listScript      = script.New(agendaLua, listLua)
	enlistScript    = script.New(ledgerLua, enlistLua)
	openScript      = script.New(ledgerLua, openLua)
	expireScript    = script.New(ledgerLua, expireLua)
	announcedScript = script.New(announcedLua)
)

// Prepared is a task set that is written but for its hosts.
type Prepared struct {
	Stage    Stage
	Created  time.Time // by Redis's clock
	Deadline time.Time // by Redis's clock
}

// Prepare writes the commands of a request under its number, which must be set.
// Called again for the same request it changes nothing and tells how far the set is.
// The error is ErrInUse if the number is another request's.
func (s *Store) Prepare(ctx context.Context, request string, r Request) (Prepared, error) {
	args := []any{request, seconds(r.Deadline), seconds(r.Timeout), s.cfg.Keep.Milliseconds()}
	for _, c := range r.Commands {
		args = append(args, c.Line, strconv.FormatFloat(c.Priority, 'g', -1, 64))
	}
	reply, err := s.run(ctx, prepareScript, setKeys(r.Key), args)
	if err != nil {
		return Prepared{}, fmt.Errorf("prepare %s: %w", r.Key, err)
	}
	if verdict := text(reply, 0); verdict == "used" {
		if whose := text(reply, 1); whose != "" {
			return Prepared{}, fmt.Errorf("%w: %s belongs to request %s", ErrInUse, r.Key, whose)
		}
		return Prepared{}, fmt.Errorf("%w: keys of %s hold something else", ErrInUse, r.Key)
	}
	p := Prepared{Stage(text(reply, 1)), unixMilli(text(reply, 2)), unixMilli(text(reply, 3))}
	// The set is findable before anything else is done for it: its deadline is kept and its
	// hosts are looked after that do not answer, whatever becomes of the process.
	args = []any{string(r.Key), p.Deadline.UnixMilli(), s.cfg.RetryAfter.Milliseconds()}
	if _, err := s.run(ctx, listScript, []string{KeySets, KeyDue}, args); err != nil {
		return Prepared{}, fmt.Errorf("prepare %s: %w", r.Key, err)
	}
	return p, nil
}

// Enlisted is a host that Enlist writes into a set.
type Enlisted struct {
	Host  string
	State State // Sent, Offline or Waiting
}

// Enlist writes hosts, at most Chunk of them, into a set that is being prepared. A
// host that is in the set already keeps its state. It returns false if the set is
// no longer being prepared, or was cancelled; nothing is written then. For hosts that
// are to wait, the set must have been noted by Await before.
func (s *Store) Enlist(ctx context.Context, n Number, hosts []Enlisted) (bool, error) {
	if len(hosts) == 0 {
		return true, nil
	}
	args := make([]any, 0, 2*len(hosts))
	for _, h := range hosts {
		args = append(args, h.Host, string(h.State))
	}
	reply, err := s.run(ctx, enlistScript, ledgerKeys(n), args)
	if err != nil {
		return false, fmt.Errorf("enlist hosts of %s: %w", n, err)
	}
	return integer(reply, 0) == 1, nil
}

// Open ends the preparation of a set. It returns true to the one caller that has
// opened it. A set without an open host is closed at once.
func (s *Store) Open(ctx context.Context, n Number) (bool, error) {
	reply, err := s.run(ctx, openScript, []string{KeyMeta(n)}, []any{rand.Text(), s.cfg.RetryAfter.Milliseconds(), s.cfg.Attempts})
	if err != nil {
		return false, fmt.Errorf("open %s: %w", n, err)
	}
	if integer(reply, 0) < 0 {
		return false, fmt.Errorf("open %s: %w", n, ErrNotFound)
	}
	return integer(reply, 0) == 1, s.announceIf(ctx, n, integer(reply, 1))
}

// Due returns sets whose deadline lies in the span from..until, the earliest first,
// and where the span goes on, zero if that were all. A page is limit sets long, or
// longer: sets of the same millisecond stay together, so that pages join whatever is
// struck from the list meanwhile.
func (s *Store) Due(ctx context.Context, from, until time.Time, limit int64) (page []Number, next time.Time, err error) {
	limit = max(limit, 1)
	span := &redis.ZRangeBy{
		Min: strconv.FormatInt(from.UnixMilli(), 10), Max: strconv.FormatInt(until.UnixMilli(), 10), Count: limit,
	}
	list, err := s.rdb.ZRangeByScoreWithScores(ctx, KeySets, span).Result()
	if err == nil && int64(len(list)) == limit {
		end := int64(list[limit-1].Score)
		next = time.UnixMilli(end + 1)
		span = &redis.ZRangeBy{Min: span.Min, Max: "(" + strconv.FormatInt(end+1, 10)}
		list, err = s.rdb.ZRangeByScoreWithScores(ctx, KeySets, span).Result()
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sets past their deadline: %w", err)
	}
	for _, z := range list {
		name, _ := z.Member.(string)
		page = append(page, Number(name))
	}
	return page, next, nil
}

// errNotDue says that a deadline has not passed, or that there is no such set.
var errNotDue = errors.New("not due")

// Expire ends what is still open in a set whose deadline has passed, also where the
// set was closed and a host was heard of afterwards. It changes nothing before the
// deadline, and nothing the second time. A set that is gone from Redis is struck from
// the list of sets.
func (s *Store) Expire(ctx context.Context, n Number) error {
	l, mark, err := s.head(ctx, n)
	if errors.Is(err, ErrNotFound) {
		if err := s.rdb.ZRem(ctx, KeySets, string(n)).Err(); err != nil {
			return fmt.Errorf("strike %s from the list: %w", n, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("expire: %w", err)
	}
	if l.Stage == Closed && mark != "" && l.Open() == 0 {
		return s.count(ctx, l, mark) // most sets, each time: one read
	}
	err = s.endOpen(ctx, n, func(hosts []any) error {
		reply, err := s.run(ctx, expireScript, ledgerKeys(n), hosts)
		if err == nil && integer(reply, 0) < 0 {
			err = errNotDue
		}
		return err
	})
	if errors.Is(err, errNotDue) {
		return nil // and what waits goes on waiting
	}
	if err != nil {
		return fmt.Errorf("expire %s: %w", n, err)
	}
	reply, err := s.run(ctx, expireScript, ledgerKeys(n), nil)
	if err != nil {
		return fmt.Errorf("expire %s: %w", n, err)
	}
	return s.announceIf(ctx, n, integer(reply, 0))
}

// announceIf records once that a set has closed, if over is 1. The event and the
// mark lie in different slots: after a crash between the two it is recorded again,
// by whoever next touches the set, and never lost.
func (s *Store) announceIf(ctx context.Context, n Number, over int64) error {
	if over != 1 {
		return nil
	}
	l, mark, err := s.head(ctx, n)
	if errors.Is(err, ErrNotFound) {
		return nil // gone since
	}
	if err != nil || mark != "" {
		return err
	}
	e := Event{Type: "task.closed", Key: n, Request: l.Request, Counts: l.Counts, Total: &l.Total}
	if err := Record(ctx, s.rdb, e); err != nil {
		return err
	}
	return s.markAnnounced(ctx, l)
}

// uncounted is the mark of a set whose end was announced by a Store without OnClosed.
const uncounted = "uncounted"

// markAnnounced notes that the end of a set is announced, and calls OnClosed if nobody
// else has or will. By script, so that the mark never makes a key that has just expired
// anew.
func (s *Store) markAnnounced(ctx context.Context, l Ledger) error {
	token := ""
	if s.cfg.OnClosed != nil {
		token = rand.Text()
	}
	reply, err := s.run(ctx, announcedScript, []string{KeyMeta(l.Number)}, []any{token})
	if err != nil {
		return fmt.Errorf("mark %s as announced: %w", l.Number, err)
	}
	if integer(reply, 0) == 1 {
		s.cfg.OnClosed(l)
	}
	return nil
}

// count calls OnClosed for a set whose end is announced, where nobody has.
func (s *Store) count(ctx context.Context, l Ledger, mark string) error {
	if mark != uncounted || s.cfg.OnClosed == nil {
		return nil
	}
	return s.markAnnounced(ctx, l)
}

func (s *Store) run(ctx context.Context, sc *script.Script, keys []string, args []any) ([]any, error) {
	return runScript(ctx, s.rdb, sc, keys, args)
}

// runScript runs one script. A reply that is no list is given as a list of one.
func runScript(ctx context.Context, rdb redis.UniversalClient, sc *script.Script, keys []string, args []any) ([]any, error) {
	results, err := script.Run(ctx, rdb, script.Call{Script: sc, Keys: keys, Args: args})
	if err != nil {
		return nil, err
	}
	if results[0].Err != nil {
		return nil, results[0].Err
	}
	if list, ok := results[0].Value.([]any); ok {
		return list, nil
	}
	return []any{results[0].Value}, nil
}

// setKeys are the keys that a set has once, in the order in which scripts take them.
func setKeys(n Number) []string {
	return []string{
		KeyMeta(n), KeyHosts(n), KeyAwaiting(n), KeySet(n), KeyWorking(n),
		KeyComplete(n), KeyOnCall(n), KeyFailing(n), KeyResults(n), KeySends(n),
	}
}

func ledgerKeys(n Number) []string { return []string{KeyMeta(n), KeyHosts(n), KeyAwaiting(n)} }

func text(reply []any, i int) string {
	if i >= len(reply) {
		return ""
	}
	s, _ := reply[i].(string)
	return s
}

func integer(reply []any, i int) int64 {
	if i >= len(reply) {
		return 0
	}
	n, _ := reply[i].(int64)
	return n
}

func unixMilli(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
