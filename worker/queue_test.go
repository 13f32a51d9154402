package worker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/musterhq/muster/tasks"
)

// That Redis fails the worker is logged once, with what can't be had, and so is its end.
func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		o := watchRedis(log).Part("requests")
		o.Failed(t.Context(), errors.New("refused"))
		o.Works()
		time.Sleep(settled - time.Millisecond)
		o.Works()
		if n := len(hook.AllEntries()); n != 1 {
			t.Errorf("%d lines before it is settled", n)
		}
		time.Sleep(time.Millisecond)
		o.Works()
		entries := hook.AllEntries()
		if len(entries) != 2 || entries[0].Level != logrus.WarnLevel || entries[0].Data["what"] != "requests" ||
			entries[1].Level != logrus.InfoLevel {
			t.Errorf("logged %v", entries)
		}
	})
}

func TestQueueLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testQueueLog)
}

func testQueueLog(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	elsewhere, _ := logtest.NewNullLogger()
	o := watchRedis(elsewhere).Part("")
	q := queueLog{log, o}
	q.Debug("All queues are empty")
	q.Info("Starting processing")
	q.Warn("Retry exhausted for task id=1")
	q.Warn("lease lost")
	q.Error("Dequeue error: ", errors.New("x"))
	q.Fatal("no")
	o.Failed(t.Context(), errors.New("refused"))
	q.Error("Dequeue error: y")
	want := []logrus.Level{logrus.DebugLevel, logrus.DebugLevel, logrus.WarnLevel, logrus.ErrorLevel, logrus.ErrorLevel, logrus.DebugLevel}
	entries := hook.AllEntries()
	if len(entries) != len(want) {
		t.Fatalf("%d lines, want %d", len(entries), len(want))
	}
	for i, e := range entries {
		if e.Level != want[i] || e.Message != queueSays {
			t.Errorf("line %d: %v %q", i, e.Level, e.Message)
		}
	}
	if entries[3].Data["detail"] != "Dequeue error: x" {
		t.Errorf("detail %q", entries[3].Data["detail"])
	}
}

func TestRetryDelay(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{0: time.Second, 4: time.Second, 5: 2 * time.Second, 8: 16 * time.Second, 10: time.Minute, 900: time.Minute} {
		if got := retryDelay(n, nil, nil); got != want {
			t.Errorf("retry %d waits %v, want %v", n, got, want)
		}
	}
}

// What the queue would do otherwise: retry after up to a minute at once, look for
// delayed jobs each 5 s, serve another queue, log each time it asks.
func TestServerConfig(t *testing.T) {
	t.Parallel()
	w := &Worker{cfg: Config{Concurrency: 3, PollInterval: time.Millisecond}}
	cfg := w.serverConfig(t.Context(), &dispatcher{}, nil)
	if cfg.RetryDelayFunc == nil || cfg.RetryDelayFunc(0, nil, nil) != time.Second ||
		cfg.DelayedTaskCheckInterval != time.Second || cfg.TaskCheckInterval != time.Millisecond ||
		cfg.Concurrency != 3 || len(cfg.Queues) != 1 || cfg.Queues[tasks.JobQueue] == 0 || cfg.LogLevel != asynq.InfoLevel {
		t.Errorf("%+v", cfg)
	}
}
