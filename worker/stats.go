package worker

import (
	"net/netip"
	"sync/atomic"

	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// Stats counts what a worker has done since it was made.
type Stats struct {
	// Requests by what became of a run of their job.
	Accepted atomic.Int64 // task sets opened: one for each good request, whoever runs its job again
	Repeated atomic.Int64 // runs of a job whose set was open already
	Rejected atomic.Int64 // requests that were no good, or given up
	CutShort atomic.Int64 // runs that failed and are tried again

	Running atomic.Int64 // jobs that run now

	// Datagrams that left, by why.
	First   atomic.Int64 // to a host that the set is for, the first one
	Again   atomic.Int64 // to a host that has not answered
	Offline atomic.Int64 // to the address of a host that is recorded as offline
	Unsent  atomic.Int64 // datagrams that could not be sent

	// Agents told over their connections, by what.
	PushedStart, PushedCancel atomic.Int64
}

// Stats returns the counters, which go on counting.
func (w *Worker) Stats() *Stats { return &w.stats }

// Observer is told what a worker measures. It is called by many goroutines, and must not
// wait.
type Observer interface {
	// Closed tells of a task set that is closed, once for each, and to one process of all.
	Closed(l tasks.Ledger)
}

// send sends a task number and counts what left and what did not.
func (d *dispatcher) send(n tasks.Number, targets []netip.AddrPort, count *atomic.Int64) (sent int) {
	if len(targets) == 0 {
		return 0
	}
	sent = d.socket.Emit(wire.AppendDatagram(nil, string(n)), targets)
	count.Add(int64(sent))
	d.stats.Unsent.Add(int64(len(targets) - sent))
	return sent
}
