package metrics

import (
	"context"
	"errors"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/wire"
	"github.com/musterhq/muster/worker"
)

// A part is given as a function that returns it, nil while there is none: it may be made
// anew, and its counters then begin at 0 again, which Prometheus knows how to take.

// addPart adds how a part is, and returns how to read what it counts: nothing while there
// is none.
func addPart[P interface {
	comparable
	Healthy() error
	Ready(context.Context) error
	Stats() *S
}, S any](s *Server, who string, get func() P) (stats func() *S) {
	var none P
	nothing := new(S)
	s.AddCheck(
		func() error {
			if p := get(); p != none {
				return p.Healthy()
			}
			return errors.New(who + ": does not run")
		},
		func(ctx context.Context) error {
			if p := get(); p != none {
				return p.Ready(ctx)
			}
			return nil // that it does not run is said already
		},
	)
	return func() *S {
		if p := get(); p != none {
			return p.Stats()
		}
		return nothing
	}
}

// AddListener adds what a listener counts, and how it is.
func (s *Server) AddListener(get func() *listener.Server) {
	stats := addPart(s, "listener", get)
	now := func(count func(*listener.Server) int) func() float64 {
		return func() float64 {
			if l := get(); l != nil {
				return float64(count(l))
			}
			return 0
		}
	}
	s.gauge("muster_listener_hosts", "Hosts that are connected to this listener.", now((*listener.Server).Hosts))
	s.gauge("muster_listener_connections", "Open connections of hosts, those that have not said who they are included.", now((*listener.Server).OpenConnections))
	s.counter("muster_listener_connections_accepted_total", "Connections accepted.", func() int64 { return stats().Connections.Load() })
	for code, count := range map[string]func(*listener.Stats) int64{
		string(wire.CodeHello):     func(s *listener.Stats) int64 { return s.Hellos.Load() },
		string(wire.CodeHeartbeat): func(s *listener.Stats) int64 { return s.Heartbeats.Load() },
		string(wire.CodeInfo):      func(s *listener.Stats) int64 { return s.Infos.Load() },
		string(wire.CodeStatus):    func(s *listener.Stats) int64 { return s.Statuses.Load() },
		string(wire.CodeAnswer):    func(s *listener.Stats) int64 { return s.Answers.Load() },
		string(wire.CodeLookup):    func(s *listener.Stats) int64 { return s.Lookups.Load() },
		"unknown":                  func(s *listener.Stats) int64 { return s.Unknown.Load() },
	} {
		s.counter("muster_listener_frames_total", "Frames from hosts that were understood, by message code, and those of an unknown code.",
			func() int64 { return count(stats()) }, "code", code)
	}
	for _, kind := range wire.Kinds() {
		s.counter("muster_listener_abnormal_data_total", "Connections closed for abnormal data, by what was wrong with it.",
			func() int64 { return stats().AbnormalBy[kind].Load() }, "kind", kind.String())
	}
	s.counter("muster_listener_unreadable_datagrams_total", "Answers of hosts that they could not read the datagram.", func() int64 { return stats().Unreadable.Load() })
	s.counter("muster_listener_stray_reports_total", "Reports for a task set that does not exist, or of a host that is not in it.", func() int64 { return stats().Stray.Load() })
	s.counter("muster_listener_passed_over_commands_total", "Commands in reports that are not in the task set.", func() int64 { return stats().PassedOver.Load() })
	s.counter("muster_listener_failed_writes_total", "Writes that Redis has refused for good.", func() int64 { return stats().Failed.Load() })
	s.counter("muster_listener_panics_total", "Connections closed because of a mistake in this program.", func() int64 { return stats().Panics.Load() })
	s.share(s.observer.delay, s.observer.duration, s.observer.endedVec)
}

// AddWorker adds what a worker counts, and how it is.
func (s *Server) AddWorker(get func() *worker.Worker) {
	stats := addPart(s, "worker", get)
	for result, count := range map[string]func(*worker.Stats) int64{
		"accepted":  func(s *worker.Stats) int64 { return s.Accepted.Load() },
		"rejected":  func(s *worker.Stats) int64 { return s.Rejected.Load() },
		"repeated":  func(s *worker.Stats) int64 { return s.Repeated.Load() },
		"cut_short": func(s *worker.Stats) int64 { return s.CutShort.Load() },
	} {
		s.counter("muster_worker_requests_total", "Requests by what became of a run of their job.",
			func() int64 { return count(stats()) }, "result", result)
	}
	for why, count := range map[string]func(*worker.Stats) int64{
		"first":   func(s *worker.Stats) int64 { return s.First.Load() },
		"again":   func(s *worker.Stats) int64 { return s.Again.Load() },
		"offline": func(s *worker.Stats) int64 { return s.Offline.Load() },
	} {
		s.counter("muster_worker_datagrams_sent_total", "Datagrams that have left, by why they were sent.",
			func() int64 { return count(stats()) }, "why", why)
	}
	s.counter("muster_worker_datagrams_failed_total", "Datagrams that could not be sent.", func() int64 { return stats().Unsent.Load() })
	for action, count := range map[string]func(*worker.Stats) int64{
		"start":  func(s *worker.Stats) int64 { return s.PushedStart.Load() },
		"cancel": func(s *worker.Stats) int64 { return s.PushedCancel.Load() },
	} {
		s.counter("muster_worker_pushes_total", "Agents told over their connections, by what they were told.",
			func() int64 { return count(stats()) }, "action", action)
	}
	s.gauge("muster_worker_dispatches_running", "Jobs that run now.", func() float64 { return float64(stats().Running.Load()) })
	s.share(s.observer.duration, s.observer.endedVec)
}

// AddAgent adds what an agent counts, and how it is.
func (s *Server) AddAgent(a *agent.Agent) {
	s.AddCheck(nil, a.Ready)
	stats := a.Stats()
	s.gauge("muster_agent_connected", "1 while a listener is connected, else 0.", func() float64 {
		if a.Connected() {
			return 1
		}
		return 0
	})
	s.gauge("muster_agent_task_sets", "Task sets that run or wait for their turn.", func() float64 { return float64(a.Sets()) })
	s.counter("muster_agent_connections_total", "Connections that a listener has welcomed.", stats.Connected.Load)
	s.counter("muster_agent_told_total", "Task numbers that the agent was told, by datagram and over its connection.", stats.Told.Load)
	s.counter("muster_agent_unreadable_datagrams_total", "Datagrams that could not be read.", stats.Unreadable.Load)
	s.counter("muster_agent_commands_total", "Commands that have ended, by whether they have succeeded.", stats.Ended.Load, "result", "done")
	s.counter("muster_agent_commands_total", "Commands that have ended, by whether they have succeeded.", stats.Failed.Load, "result", "failed")
}
