package metrics

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// hook measures the round trips of Redis clients.
type hook struct {
	commands, scripts, pipelines prometheus.Observer
	noAnswer, refused            prometheus.Counter
	clients                      []redis.UniversalClient // set before the server serves
}

func newHook(reg prometheus.Registerer) *hook {
	delay := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "muster_redis_roundtrip_seconds",
		Help: "Time that Redis took for a command, a script or a whole pipeline, with all tries; what waits on purpose is left out.",
		// On one machine a command takes some 0.1 ms.
		Buckets: []float64{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
	}, []string{"what"})
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_redis_errors_total",
		Help: "Round trips that failed: no_answer, or refused by Redis.",
	}, []string{"why"})
	reg.MustRegister(delay, failed)
	return &hook{
		commands: delay.WithLabelValues("command"), scripts: delay.WithLabelValues("script"), pipelines: delay.WithLabelValues("pipeline"),
		noAnswer: failed.WithLabelValues("no_answer"), refused: failed.WithLabelValues("refused"),
	}
}

// Watch measures the round trips of a client, and counts its connections. It does nothing
// if the process is said to have no Redis.
func (s *Server) Watch(rdb redis.UniversalClient) {
	if s.hook == nil {
		return
	}
	rdb.AddHook(s.hook)
	s.hook.clients = append(s.hook.clients, rdb)
}

// DialHook implements redis.Hook.
func (h *hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		switch name := cmd.Name(); {
		case waits(cmd):
		case strings.HasPrefix(name, "eval") || strings.HasPrefix(name, "EVAL"):
			h.scripts.Observe(time.Since(began).Seconds())
		default:
			h.commands.Observe(time.Since(began).Seconds())
		}
		h.failed(err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		h.pipelines.Observe(time.Since(began).Seconds())
		if h.failed(err) {
			return err
		}
		for _, cmd := range cmds {
			if h.failed(cmd.Err()) {
				break
			}
		}
		return err
	}
}

// waits reports whether a command waits for something to happen.
func waits(cmd redis.Cmder) bool {
	if name := cmd.Name(); !strings.EqualFold(name, "xreadgroup") && !strings.EqualFold(name, "xread") {
		return false
	}
	return slices.ContainsFunc(cmd.Args(), func(arg any) bool {
		word, _ := arg.(string)
		return strings.EqualFold(word, "block")
	})
}

// failed counts an error, unless it is an answer that is expected: that there is nothing,
// that a script is not known yet, that a group exists. It reports whether it did.
func (h *hook) failed(err error) bool {
	var reply redis.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil), errors.Is(err, context.Canceled),
		redis.HasErrorPrefix(err, "NOSCRIPT"), redis.HasErrorPrefix(err, "BUSYGROUP"):
		return false
	case errors.As(err, &reply):
		h.refused.Inc()
	default:
		h.noAnswer.Inc()
	}
	return true
}

// watchPools shows the connections of all clients together.
func (s *Server) watchPools() {
	sum := func(of func(*redis.PoolStats) uint32) int64 {
		var n int64
		for _, rdb := range s.hook.clients {
			n += int64(of(rdb.PoolStats()))
		}
		return n
	}
	now := func(of func(*redis.PoolStats) uint32) func() float64 {
		return func() float64 { return float64(sum(of)) }
	}
	all := func(p *redis.PoolStats) uint32 { return p.TotalConns }
	idle := func(p *redis.PoolStats) uint32 { return p.IdleConns }
	s.gauge("muster_redis_connections", "Connections to Redis.", now(all))
	s.gauge("muster_redis_connections_idle", "Connections to Redis that nobody uses.", now(idle))
	s.counter("muster_redis_pool_timeouts_total", "Times that no connection to Redis was free in time.", func() int64 {
		return sum(func(p *redis.PoolStats) uint32 { return p.Timeouts })
	})
	s.counter("muster_redis_pool_misses_total", "Times that no connection to Redis was free, and one was made.", func() int64 {
		return sum(func(p *redis.PoolStats) uint32 { return p.Misses })
	})
}

// redisReady returns nil if Redis answers.
func (s *Server) redisReady(ctx context.Context) error {
	err := s.cfg.Redis.Ping(ctx).Err()
	var reply redis.Error
	var late net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &reply):
		word, _, _ := strings.Cut(reply.Error(), " ")
		return errors.New("redis refuses to work: " + word)
	case errors.As(err, &late) && late.Timeout(): // the end of ctx is one too
		return errors.New("redis does not answer within " + ReadyTime.String())
	}
	return errors.New("redis does not answer")
}
