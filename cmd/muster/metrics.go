package main

import (
	"context"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/metrics"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/worker"
)

// meter is the metrics of this process, at the address that they are served at. A nil one
// is good for use and does nothing: nobody wants metrics.
//
// A verb opens it before it makes clients of Redis, has these watched, says in serve what
// parts the process has, and closes it when all else has ended. One with a.service has
// only serve to call.
type meter struct {
	*metrics.Server
	log logrus.FieldLogger
	ln  net.Listener // nil once it is served from
	rdb redis.UniversalClient

	end     context.CancelFunc
	serving sync.WaitGroup
}

// openMetrics takes the address that the settings of a group name, nil if they name none.
// connect is how Redis is reached, nil for a process without it.
func (a *app) openMetrics(c *cli.Context, group string, log logrus.FieldLogger, connect dial) (*meter, error) {
	v, err := a.settings(c, group, "metrics_bind")
	if err != nil {
		return nil, err
	}
	bind := get[string](v, "metrics_bind")
	if bind == "" {
		return nil, nil
	}
	m := &meter{log: log}
	if m.ln, err = net.Listen("tcp", bind); err != nil {
		return nil, failf(statusFailure, "metrics: %w", err)
	}
	cfg := metrics.Config{Bind: m.ln.Addr().String(), Version: version, Log: log}
	if connect != nil {
		m.rdb = connect(brief)
		cfg.Redis = m.rdb
	}
	if m.Server, err = metrics.New(cfg); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// watch measures the round trips of a client.
func (m *meter) watch(rdb redis.UniversalClient) {
	if m != nil {
		m.Watch(rdb)
	}
}

// serve serves what parts adds, until close.
func (m *meter) serve(parts func(*metrics.Server)) {
	if m == nil {
		return
	}
	parts(m.Server)
	ctx, end := context.WithCancel(context.Background())
	m.end = end
	services := supervise.New(m.log, supervise.Pace{})
	group := services.Group(ctx)
	ln := m.ln
	m.ln = nil
	group.Go("metrics", func(ctx context.Context) error {
		first := ln
		if ln = nil; first == nil { // it was started before
			return m.Run(ctx)
		}
		return m.Serve(ctx, first)
	})
	m.serving.Go(func() {
		defer group.Stop()
		select {
		case <-ctx.Done():
		case <-services.Failed(): // no reason to end what the process is for
			m.log.WithError(services.Err()).Error("metrics are no longer served")
			<-ctx.Done()
		}
	})
}

// close ends the serving.
func (m *meter) close() {
	if m == nil {
		return
	}
	if m.end != nil {
		m.end()
		m.serving.Wait()
	}
	if m.ln != nil {
		m.ln.Close()
	}
	if m.rdb != nil {
		m.rdb.Close()
	}
}

// listenerObserver is who a listener tells what it measures; nil for nobody.
func (m *meter) listenerObserver() listener.Observer {
	if m == nil {
		return nil
	}
	return m.Observer()
}

// workerObserver is listenerObserver for a worker.
func (m *meter) workerObserver() worker.Observer {
	if m == nil {
		return nil
	}
	return m.Observer()
}
