package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/faults"
	"github.com/musterhq/muster/internal/redisserver"
)

// stage is what the pictures are of.
type stage struct {
	dir, binary, page string
	redis             *redisserver.Server
	db                *redis.Client
	processes         []*faults.Process
}

// hosts are the agents, two of which come too late for the first dispatches.
func hosts() []string {
	return strings.Fields("web-1 web-2 web-3 web-4 web-5 web-6 db-1 db-2 lab-01 lab-02 lab-03 lab-04 kiosk-7 kiosk-8")
}

func startStage(ctx context.Context, dir string) (*stage, error) {
	s := &stage{dir: dir}
	var err error
	if s.binary, err = faults.Build(ctx, dir); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "redis")
	if err := os.Mkdir(data, 0o755); err != nil {
		return nil, err
	}
	if s.redis, err = redisserver.Open(data, false); err != nil {
		return s, err
	}
	s.db = s.redis.NewClient(3)
	if err := s.past(ctx); err != nil {
		return s, err
	}
	return s, s.play(ctx)
}

func (s *stage) close() {
	for i := len(s.processes) - 1; i >= 0; i-- {
		s.processes[i].Kill()
	}
	if s.db != nil {
		s.db.Close()
	}
	if s.redis != nil {
		s.redis.Kill()
	}
}

// past invents the hours before: the fleet that is there since then, but for a lab that is
// switched on, off, and on again.
func (s *stage) past(ctx context.Context) error {
	start := time.Now().Add(-6 * time.Hour)
	_, err := s.db.Pipelined(ctx, func(p redis.Pipeliner) error {
		n := 0
		event := func(minutes int, kind, host string) {
			n++
			p.XAdd(ctx, &redis.XAddArgs{
				Stream: "{muster}:events", ID: fmt.Sprintf("%d-%d", start.Add(time.Duration(minutes)*time.Minute).UnixMilli(), n),
				Values: []string{"type", "host." + kind, "host", host, "listener", "l1"},
			})
		}
		servers, lab, kiosks := hosts()[:8], hosts()[8:12], hosts()[12:]
		for i, id := range servers {
			event(1+i/3, "online", id)
		}
		for i, id := range lab {
			event(70+3*i, "online", id)
		}
		for i, id := range lab {
			event(190+i, "offline", id)
		}
		for i, id := range kiosks {
			event(240+25*i, "online", id)
		}
		for i, id := range lab {
			event(300+4*i, "online", id)
		}
		return nil
	})
	return err
}

// forget has the coming of the hosts not told of: they are said to have come before.
func (s *stage) forget(ctx context.Context) error {
	events, err := s.db.XRange(ctx, "{muster}:events", fmt.Sprint(time.Now().Add(-30*time.Minute).UnixMilli()), "+").Result()
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Values["type"] == "host.online" {
			if err := s.db.XDel(ctx, "{muster}:events", e.ID).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// start starts a process of muster.
func (s *stage) start(name string, env []string, args ...string) error {
	p := faults.NewProcess(name, s.dir, s.binary, env, args...)
	if err := p.Start(); err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return nil
}

// play starts muster and gives it work.
func (s *stage) play(ctx context.Context) error {
	door, err := faults.FreeAddr()
	if err != nil {
		return err
	}
	page, err := faults.FreeAddr()
	if err != nil {
		return err
	}
	s.page = "http://" + page
	at := []string{"--redis", s.redis.URL()}
	for _, args := range [][]string{{"listener", "--id", "l1", "--bind", door}, {"worker", "--retry-after", "500ms"}} {
		if err := s.start(args[0], nil, append(args, at...)...); err != nil {
			return err
		}
	}
	if err := s.tools(); err != nil {
		return err
	}
	all := hosts()
	for i, id := range all {
		if i == len(all)-2 {
			if err := s.work(ctx, all[:i]); err != nil {
				return err
			}
		}
		env := []string{"PATH=" + s.dir + ":" + os.Getenv("PATH"), "NAME=" + id}
		err := s.start(id, env, "agent", "--id", id, "--server", door, "--udp-port", "0", "--bind-ip", "127.0.0.1", "--state-dir", filepath.Join(s.dir, id+".state"))
		if err != nil {
			return err
		}
	}
	if err := s.gathered(ctx, len(all)); err != nil {
		return err
	}
	if err := s.forget(ctx); err != nil {
		return err
	}
	return s.start("dashboard", nil, append([]string{"dashboard", "--bind", page}, at...)...)
}

func (s *stage) gathered(ctx context.Context, n int) error {
	return faults.Wait(ctx, time.Minute, fmt.Sprintf("%d hosts online", n), func() bool {
		return s.db.HLen(ctx, "{muster}:online").Val() == int64(n)
	})
}

// tools writes a program for the hosts to run, which does not say the same on all of them.
func (s *stage) tools() error {
	return os.WriteFile(filepath.Join(s.dir, "backup-check"), []byte(`#!/bin/sh
case "$NAME" in
db-2) echo "backup of $NAME: out of space on /srv/backup" >&2; exit 1;;
kiosk*|lab*) echo "nothing to back up here";;
*) echo "last backup: today, 03:00, verified";;
esac
`), 0o755)
}

func (s *stage) work(ctx context.Context, there []string) error {
	if err := s.gathered(ctx, len(there)); err != nil {
		return err
	}
	for _, d := range []struct {
		key      string
		hosts    []string
		commands []string
		end      bool
	}{
		{"AC-uptime", there, []string{"uptime"}, true},
		{"AC-kernel", there[:6], []string{"uname -sr", "df -h / | tail -1"}, true},
		{"AC-check", there, []string{"backup-check", "date -u +%F"}, true},
		{"AC-kiosks", []string{"kiosk-1", "kiosk-2", "web-1"}, []string{"hostname"}, true},
		{"AC-long", there, []string{`case $NAME in web*) sleep 2;; *) sleep 300;; esac`}, false},
	} {
		priorities := map[string]int{}
		for i, c := range d.commands {
			priorities[c] = 10 * (len(d.commands) - i)
		}
		if err := s.ask(ctx, "key", d.key, "commands", encode(priorities), "hosts", encode(d.hosts)); err != nil {
			return err
		}
		if !d.end {
			continue
		}
		err := faults.Wait(ctx, time.Minute, d.key+" closed", func() bool {
			return s.db.HGet(ctx, "{"+d.key+"}:meta", "state").Val() == "closed"
		})
		if err != nil {
			return err
		}
	}
	if err := s.ask(ctx, "key", "AC-nobody", "commands", `{"uptime": 1}`, "hosts", "[]"); err != nil {
		return err
	}
	return faults.Wait(ctx, time.Minute, "web hosts are done", func() bool {
		return s.db.HGet(ctx, "{AC-long}:meta", "done").Val() == "6"
	})
}

func (s *stage) ask(ctx context.Context, fields ...string) error {
	return s.db.XAdd(ctx, &redis.XAddArgs{Stream: "muster:requests", Values: fields}).Err()
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // names and numbers only
		panic(err)
	}
	return string(b)
}
