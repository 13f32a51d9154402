package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/DeRuina/timberjack"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

const (
	logFileMB   = 100 // a log file is rotated at this size,
	logFileKept = 5   // and this many old ones are kept
)

// log makes the log that the shared flags ask for. The caller calls done when nothing
// logs any more.
func (a *app) log(c *cli.Context) (log *logrus.Logger, done func(), err error) {
	if log, err = newLog(c, a.stderr); err != nil {
		return nil, nil, err
	}
	done = func() {}
	if name := c.String("log-file"); name != "" {
		// Opened here, because the rotating writer opens it with the first line only.
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return nil, nil, failf(statusFailure, "--log-file: %w", err)
		}
		f.Close()
		rotated := &timberjack.Logger{Filename: name, MaxSize: logFileMB, MaxBackups: logFileKept, Compression: "gzip"}
		log.SetOutput(rotated)
		if text, ok := log.Formatter.(*logrus.TextFormatter); ok {
			text.DisableColors, text.ForceColors = true, false
		}
		done = func() { rotated.Close() }
	}
	// It would print on standard error with every attempt to connect while Redis is away.
	redis.SetLogger(redisChatter{log})
	return log, done, nil
}

// newLog makes a log with the level and in the form that the shared flags name.
func newLog(c *cli.Context, to io.Writer) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(to)
	var err error
	if log.Level, err = logrus.ParseLevel(orDefault(c.String("log-level"), "info")); err != nil {
		return nil, misuse("--log-level %q: want debug, info, warn or error", c.String("log-level"))
	}
	switch form := orDefault(c.String("log-format"), "text"); form {
	case "text":
		log.SetFormatter(&logrus.TextFormatter{
			FullTimestamp: true, TimestampFormat: time.RFC3339,
			DisableColors: !colourful(to), ForceColors: colourful(to),
		})
	case "json":
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	default:
		return nil, misuse("--log-format %q: want text or json", form)
	}
	return log, nil
}

// redisChatter takes what the Redis client has to say of itself. What matters of it
// comes back as errors.
type redisChatter struct{ log logrus.FieldLogger }

func (r redisChatter) Printf(_ context.Context, format string, args ...any) {
	r.log.WithField("said", fmt.Sprintf(format, args...)).Debug("redis client")
}
