// Package worker turns requests into delivered task numbers. It is the side of
// muster that works with the job queue.
//
// It owns the way of a request from the stream to the datagram, and the end of a
// task set at its deadline. It never talks to a host's connection, runs no command
// and answers nobody: what becomes of a request stands in the ledger and in the
// events.
//
// # The way of one dispatch
//
//	muster:requests ──intake──> job ──dispatch──> task set ──tell──> datagrams
//	  (stream)            (queue "dispatch")     in Redis, whole     (UDP)
//
//	intake    an entry of the stream becomes one job, whose id is the entry's;
//	          then the entry is acknowledged and deleted
//	dispatch  the job: the request is judged, the set is written, its hosts are
//	          enlisted by chunks as sent or offline, the set is opened
//	tell      every host in state sent is told the number
//	redeliver who has not answered is told again, and ended when that was often enough
//	arrive    a host that comes online is told what has waited for it
//	deadline  what is still open at its deadline is ended
//	jobs      a job whose worker has died goes back to the queue
//	sweep     the hosts of a listener that has died are taken off the roll
//
// When something is due stands in Redis, on agendas that all workers work off: nothing
// waits in a process, and nothing ends with one.
//
// Every step can be cut short anywhere and run again, also beside itself, by this
// worker or another one: an entry has one job because jobs have ids, a job has one
// set because a set bears the id of its request, and a set is opened by one caller
// only, who alone tells the old clients.
package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// Defaults of a Config.
const (
	DefaultConcurrency  = 10
	DefaultPollInterval = 10 * time.Millisecond
)

// Config configures a Worker. Only Redis is required. The clients stay the caller's
// to close.
type Config struct {
	Redis redis.UniversalClient
	// Reader waits for requests, for a second at a time, and its read timeout must be
	// longer than that. A client of its own keeps the wait from taking connections
	// that the work needs. nil means Redis.
	Reader redis.UniversalClient

	Concurrency int // jobs side by side; 0 means 10

	// PollInterval is how often an idle worker asks the job queue; 0 means 10ms. Most
	// of the time from a request to its first datagram goes into it, and most of what
	// an idle worker costs Redis comes from it:
	//
	//	 5ms   a job starts within  8 ms (99th percentile)   172 scripts/s
	//	10ms                       15 ms                      93 scripts/s
	//	20ms                       30 ms                      49 scripts/s
	//	50ms                       70 ms                      20 scripts/s
	//
	// A script is an EVALSHA of some 35 µs that makes two calls; INFO commandstats
	// counts all three, 280 calls/s at 10ms. All else that an idle worker asks is some
	// 70 calls a second, most of them for its agendas. BenchmarkIdleStart measures both.
	PollInterval time.Duration

	Keep    time.Duration // how long a set stays after its deadline; 0 means 7 days
	UDPPort int           // where an offline host whose id is an IP address is told once; 0 means 6655

	// A host that does not answer is sent the number Attempts times in all, the second
	// time after RetryAfter, then after twice that, and so on. 0 means 3s and 5.
	RetryAfter time.Duration
	Attempts   int
	// RedeliverOld sends again to old clients that speak JSON, too. They run a number as
	// often as they are sent it.
	RedeliverOld bool

	// OfflineDelete names the keys of a host, what follows muster:host:{<host>}:, that
	// are deleted when the host of a dead listener is taken off the roll. Nil means
	// info and ipv4.
	OfflineDelete []string

	Place    string             // what the log calls Redis, without a password; empty: nothing
	Observer Observer           // nil: nobody
	Log      logrus.FieldLogger // nil discards
}

// Worker turns requests into delivered task numbers. Any number of workers share
// one Redis.
type Worker struct {
	cfg       Config
	again     supervise.Pace // of services that failed
	stats     Stats
	condition atomic.Pointer[condition] // nil while it does not run

	after func(step string) error // as of dispatcher; only tests set it
	// fault is called when a service goes round, with its name; an error or a panic is
	// the service's. Only tests set it.
	fault func(service string) error
}

// New returns a Worker. It touches neither Redis nor the network.
func New(cfg Config) (*Worker, error) {
	if cfg.Redis == nil {
		return nil, errors.New("worker: Redis is required")
	}
	for _, c := range []struct {
		name  string
		wrong bool
	}{
		{"Concurrency", cfg.Concurrency < 0},
		{"PollInterval", cfg.PollInterval < 0},
		{"Keep", cfg.Keep < 0},
		{"RetryAfter", cfg.RetryAfter < 0},
		{"Attempts", cfg.Attempts < 0 || cfg.Attempts > tasks.MaxAttempts},
		{"UDPPort", cfg.UDPPort < 0 || cfg.UDPPort > math.MaxUint16},
	} {
		if c.wrong {
			return nil, fmt.Errorf("worker: %s is out of range", c.name)
		}
	}
	if cfg.Reader == nil {
		cfg.Reader = cfg.Redis
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = DefaultConcurrency
	}
	if cfg.PollInterval == 0 {
		cfg.PollInterval = DefaultPollInterval
	}
	if cfg.Keep == 0 {
		cfg.Keep = tasks.DefaultKeep
	}
	if cfg.RetryAfter == 0 {
		cfg.RetryAfter = tasks.DefaultRetryAfter
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = tasks.DefaultAttempts
	}
	if cfg.UDPPort == 0 {
		cfg.UDPPort = wire.DefaultUDPPort
	}
	if cfg.OfflineDelete == nil {
		cfg.OfflineDelete = []string{"info", "ipv4"}
	}
	if cfg.Log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		cfg.Log = discard
	}
	return &Worker{cfg: cfg}, nil
}

// Run works until ctx ends and then returns nil. Jobs under way then have 8 seconds
// to finish; what is not finished by then goes back to the queue. While Redis is
// away Run goes on trying. What fails inside is started again; an error says what can't
// be kept up, or is that of the UDP socket.
func (w *Worker) Run(ctx context.Context) error {
	socket, err := openSocket()
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	defer socket.Close()

	store := tasks.NewStore(w.cfg.Redis, tasks.StoreConfig{
		Keep: w.cfg.Keep, RetryAfter: w.cfg.RetryAfter, Attempts: w.cfg.Attempts,
		OnClosed: w.closed,
	})
	all := watchRedis(w.cfg.Log)
	in := newIntake(w.cfg, all.Part("requests"))
	end := &deadlines{rdb: w.cfg.Redis, store: store, keep: w.cfg.Keep, log: w.cfg.Log, away: all.Part("deadlines")}
	sweeper := tasks.NewSweeper(tasks.NewRoll(w.cfg.Redis), w.cfg.OfflineDelete, 0)
	d := w.dispatcher(store, socket)
	d.recovering = sweeper.Recovering
	in.emptied = d.noteEmptied
	in.done = d.done
	held := newJobs(w.cfg.Redis, w.cfg.Log, all.Part("jobs"))
	due := w.agenda(tasks.KeyDue, "task", w.redeliverer(d).tend, all)
	arrived := w.agenda(tasks.KeyArrived, "host", d.arrive, all)

	services := supervise.New(w.cfg.Log, w.again)
	now := &condition{services: services, intake: in, trouble: all, begun: w.begun}
	in.took = now.look
	w.condition.Store(now)
	defer w.condition.Store(nil)
	loops := services.Group(ctx)
	w.keepUp(loops, "requests", in.run)
	w.keepUp(loops, "deadlines", end.run)
	w.keepUp(loops, "due", due.run)
	w.keepUp(loops, "arrived", arrived.run)
	w.keepUp(loops, "jobs", held.watch)
	away := all.Part("sweep")
	w.keepUp(loops, "sweep", func(ctx context.Context, round func() error) error {
		return sweep(ctx, w.cfg.Log, sweeper, away, round)
	})
	// The jobs outlive ctx, so that they may finish.
	lasting := context.WithoutCancel(ctx)
	jobs, cancel := context.WithCancel(lasting)
	renewing := services.Group(lasting)
	w.keepUp(renewing, "holding", held.renew)
	queue := services.Group(lasting)
	h := &handler{d: d, held: held}
	w.keepUp(queue, "queue", func(ctx context.Context, round func() error) error {
		server := asynq.NewServerFromRedisClient(patient{w.cfg.Redis}, w.serverConfig(jobs, d, in.outage))
		if err := server.Start(h); err != nil {
			return err
		}
		defer server.Shutdown()
		now.queue.Store(true)
		now.look()
		defer now.queue.Store(false)
		if err := round(); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})

	select {
	case <-ctx.Done():
	case <-services.Failed():
	}
	loops.Stop()
	queue.Stop()
	// The queue waits for no handler whose job it has given back or given up.
	cancel()
	h.running.Wait()
	renewing.Stop()
	if err := services.Err(); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

// keepUp starts a service, which is given what to call when it goes round: a test may
// have it fail there.
func (w *Worker) keepUp(in *supervise.Group, name string, run func(context.Context, func() error) error) {
	round := func() error {
		if w.fault == nil {
			return nil
		}
		return w.fault(name)
	}
	in.Go(name, func(ctx context.Context) error { return run(ctx, round) })
}

// handler is what the job queue's library runs jobs with.
type handler struct {
	d       *dispatcher
	held    *jobs
	running sync.WaitGroup
}

// ProcessTask implements asynq.Handler. A panic is an error like others: the library
// would log the whole stack.
func (h *handler) ProcessTask(ctx context.Context, t *asynq.Task) error {
	h.running.Add(1)
	defer h.running.Done()
	h.d.stats.Running.Add(1)
	defer h.d.stats.Running.Add(-1)
	err := supervise.Safely(func() error {
		if err := h.d.done("taken"); err != nil {
			return &setback{err}
		}
		id, _ := asynq.GetTaskID(ctx)
		release, err := h.held.hold(ctx, id)
		if err != nil {
			return &setback{err}
		}
		defer release()
		return h.d.ProcessTask(ctx, t)
	})
	if panicked, ok := err.(*supervise.Panic); ok {
		err = &setback{panicked}
	}
	var again *setback
	if errors.As(err, &again) {
		h.d.stats.CutShort.Add(1)
	}
	return err
}

// begun says that requests are taken and carried out, for those who look into the log
// for it.
func (w *Worker) begun() {
	log := w.cfg.Log.WithField("concurrency", w.cfg.Concurrency)
	if w.cfg.Place != "" {
		log = log.WithField("redis", w.cfg.Place)
	}
	log.Info("worker is ready")
}

// closed is told of a set that is closed.
func (w *Worker) closed(l tasks.Ledger) {
	w.cfg.Log.WithFields(l.Fields()).Info("task set closed")
	if w.cfg.Observer != nil {
		w.cfg.Observer.Closed(l)
	}
}

func (w *Worker) dispatcher(store *tasks.Store, socket emitter) *dispatcher {
	return &dispatcher{
		rdb: w.cfg.Redis, store: store, roll: tasks.NewRoll(w.cfg.Redis), socket: socket,
		arrived: tasks.NewAgenda(w.cfg.Redis, tasks.KeyArrived), udpPort: uint16(w.cfg.UDPPort), log: w.cfg.Log, recovering: func() bool { return false },
		answerIn: listenersCalled,
		after:    w.after, stats: &w.stats,
	}
}

func (w *Worker) redeliverer(d *dispatcher) *redeliverer {
	return &redeliverer{
		dispatcher: d, redeliverOld: w.cfg.RedeliverOld, retryAfter: w.cfg.RetryAfter, attempts: w.cfg.Attempts,
	}
}

func (w *Worker) agenda(key, what string, do func(context.Context, time.Time, string) (time.Time, error), all *outage.Watch) *agenda {
	return &agenda{list: tasks.NewAgenda(w.cfg.Redis, key), what: what, log: w.cfg.Log, away: all.Part(what), do: do}
}
