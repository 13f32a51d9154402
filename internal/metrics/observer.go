package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/tasks"
)

// Observer takes what is measured as it happens. It is the Observer of package listener
// and of package worker.
type Observer struct {
	delay    prometheus.Histogram
	duration prometheus.Histogram
	ended    map[tasks.State]prometheus.Counter
	endedVec *prometheus.CounterVec
}

func newObserver() *Observer {
	o := &Observer{
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "muster_answer_delay_seconds",
			Help:    "Time from when a task number was first sent to a host to the host's first answer, by the clock of Redis; once for each host that answers.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 50, 100},
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "muster_dispatch_duration_seconds",
			Help:    "Time from when a task set was created to when it was closed; once for each set, by the process that counts it.",
			Buckets: []float64{.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600},
		}),
		endedVec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_hosts_ended_total",
			Help: "Hosts of task sets that are closed, by their state at that moment.",
		}, []string{"state"}),
		ended: map[tasks.State]prometheus.Counter{},
	}
	for _, s := range tasks.States() {
		if !s.Open() {
			o.ended[s] = o.endedVec.WithLabelValues(string(s))
		}
	}
	return o
}

// Answered implements listener.Observer.
func (o *Observer) Answered(after time.Duration) { o.delay.Observe(after.Seconds()) }

// Closed implements listener.Observer and worker.Observer.
func (o *Observer) Closed(l tasks.Ledger) {
	o.duration.Observe(max(0, l.Closed.Sub(l.Created)).Seconds())
	for state, count := range o.ended {
		count.Add(float64(max(0, l.Counts[state])))
	}
}
