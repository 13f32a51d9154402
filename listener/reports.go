package listener

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// report is a message that belongs into a ledger.
type report struct {
	ss  *session
	seq int64 // an agent's number for it; 0 if it has none
	r   tasks.Report
}

// About what a report and a look-up take in memory, without what they carry.
const (
	reportSize = 300
	lookupSize = 150
)

// writeReports writes a batch of reports into their ledgers, and then, and only
// then, confirms them to the agents.
func (s *Server) writeReports(ctx context.Context, batch []report) {
	reports := make([]tasks.Report, 0, len(batch))
	for _, r := range batch {
		if r.r.RCC == int(wire.RCCUnreadable) {
			s.stats.Unreadable.Add(1)
		}
		if r.r.Number == "" {
			continue // a host that could not read which number it was
		}
		reports = append(reports, r.r)
	}
	written := len(reports) == 0
	if !written {
		s.insist(ctx, "reports not written", func() error {
			got, err := s.store.Report(ctx, reports)
			if err != nil {
				return err
			}
			if err := s.store.Remind(ctx, got.Again...); err != nil {
				return err
			}
			written = true
			s.stats.Stray.Add(int64(got.NoSet + got.Strangers))
			s.stats.PassedOver.Add(int64(got.PassedOver))
			if got.Failed != nil {
				s.stats.Failed.Add(1)
				s.log.WithError(got.Failed).Error("report not written")
			}
			s.logReports(reports)
			return nil
		})
	}
	if !written {
		return // the listener stops; the agents will send them again
	}
	highest := map[*session]int64{}
	for _, r := range batch {
		if r.seq > highest[r.ss] {
			highest[r.ss] = r.seq
		}
	}
	for ss, seq := range highest {
		ss.send(wire.Confirm{Seq: seq})
	}
}

// logReports says of each host that it has answered, and how each command has ended. That
// is a line for each of maybe 10,000 hosts, and so of the level debug only: what they
// came to together is said when the set is closed.
func (s *Server) logReports(reports []tasks.Report) {
	if !s.log.Logger.IsLevelEnabled(logrus.DebugLevel) {
		return
	}
	for _, r := range reports {
		log := s.log.WithFields(logrus.Fields{"host": r.Host, "task": string(r.Number)})
		switch {
		case r.RCC != 0:
			log.WithField("rcc", r.RCC).Debug("host answered")
		case r.Result != nil:
			log.WithFields(logrus.Fields{"exit_code": r.Result.ExitCode, "duration_ms": r.Result.DurationMS}).Debug("command ended")
		default:
			log.WithField("phase", r.Phase).Debug("host reported")
		}
	}
}

func resultOf(host string, r *wire.Result) *tasks.Result {
	if r == nil {
		return nil
	}
	return &tasks.Result{
		Host: host, Command: r.Command, ExitCode: r.ExitCode, DurationMS: r.DurationMS,
		Stdout: r.Stdout, Stderr: r.Stderr, StdoutBytes: r.StdoutBytes, StderrBytes: r.StderrBytes,
		Truncated: r.Truncated, Error: r.Error,
	}
}

// lookup is an agent's question for a task set.
type lookup struct {
	ss *session
	l  tasks.Lookup
}

// answerLookups answers a batch of look-ups. While Redis does not answer, neither
// does it: that there is no such set is only said when Redis has said so, and agents
// ask again.
func (s *Server) answerLookups(ctx context.Context, batch []lookup) {
	lookups := make([]tasks.Lookup, len(batch))
	for i, l := range batch {
		lookups[i] = l.l
	}
	sets, err := s.store.Find(ctx, lookups)
	if err != nil {
		if ctx.Err() == nil {
			s.redisFailed(asking, err)
		}
		return
	}
	for i, set := range sets {
		found := wire.Found{Task: string(set.Number), Found: set.Found, Cancelled: set.Cancelled}
		if set.Found {
			found.Request, found.TimeoutS, found.DeadlineMS = set.Request, int64(set.Timeout.Seconds()), set.Deadline.UnixMilli()
			for _, c := range set.Commands {
				found.Commands = append(found.Commands, wire.Command(c))
			}
		}
		batch[i].ss.send(found)
	}
}
