package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/DeRuina/timberjack"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

// log makes the log that the settings ask for. The caller calls done when nothing logs
// any more.
func (a *app) log(c *cli.Context) (log *logrus.Logger, done func(), err error) {
	v, err := a.settings(c, "log")
	if err != nil {
		return nil, nil, err
	}
	log = newLog(v, a.stderr)
	done = func() {}
	if get[string](v, "file") != "" {
		file, err := openLogFile(v)
		if err != nil {
			return nil, nil, failf(statusFailure, "--log-file: %w", err)
		}
		log.SetOutput(file)
		if text, ok := log.Formatter.(*logrus.TextFormatter); ok {
			text.DisableColors, text.ForceColors = true, false
		}
		ignored := a.openAgain(file, log)
		done = func() { ignored(); file.Close() }
	}
	// It would print on standard error with every attempt to connect while Redis is away.
	redis.SetLogger(redisChatter{log})
	return log, done, nil
}

// newLog makes a log of the level and in the form that the settings name.
func newLog(v values, to io.Writer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(to)
	if level, err := logrus.ParseLevel(get[string](v, "level")); err == nil { // it was checked
		log.SetLevel(level)
	}
	if get[string](v, "format") == "json" {
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
		return log
	}
	log.SetFormatter(&logrus.TextFormatter{
		FullTimestamp: true, TimestampFormat: time.RFC3339,
		DisableColors: !colourful(to), ForceColors: colourful(to),
	})
	return log
}

// logFile is a log file that is rotated, and that can be opened again when somebody else
// has put it aside.
type logFile struct {
	fresh func() *timberjack.Logger

	mu  sync.Mutex
	now *timberjack.Logger
}

func openLogFile(v values) (*logFile, error) {
	compression := "none"
	if get[bool](v, "compress") {
		compression = "gzip"
	}
	f := &logFile{fresh: func() *timberjack.Logger {
		return &timberjack.Logger{
			Filename: get[string](v, "file"), MaxSize: get[int](v, "max_size_mb"), MaxAge: get[int](v, "max_age_days"),
			MaxBackups: get[int](v, "max_backups"), Compression: compression,
		}
	}}
	return f, f.open()
}

// open goes on in the file that has the name now. If that can't be opened it goes on in
// the one that it has.
func (f *logFile) open() error {
	next := f.fresh()
	// Opened here, because the rotating writer opens it with the first line only.
	made, err := os.OpenFile(next.Filename, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	made.Close()
	f.mu.Lock()
	last := f.now
	f.now = next
	f.mu.Unlock()
	if last != nil {
		return last.Close()
	}
	return nil
}

func (f *logFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.Write(p)
}

func (f *logFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.Close()
}

// openAgain opens the log file again with each SIGHUP, as logrotate has it, until done
// is called. A process without a log file ends with SIGHUP, as every other does.
func (a *app) openAgain(file *logFile, log *logrus.Logger) (done func()) {
	if a.hangup == nil {
		return func() {}
	}
	hung, ignore := a.hangup()
	over := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-hung:
			}
			if err := file.open(); err != nil {
				log.WithError(err).Error("log file not opened again, the old one goes on")
				continue
			}
			log.Info("log file opened again")
		}
	})
	return func() {
		ignore()
		close(over)
		waiting.Wait()
	}
}

// redisChatter takes what the Redis client has to say of itself. What matters of it
// comes back as errors.
type redisChatter struct{ log logrus.FieldLogger }

func (r redisChatter) Printf(_ context.Context, format string, args ...any) {
	r.log.WithField("said", fmt.Sprintf(format, args...)).Debug("redis client")
}
