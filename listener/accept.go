package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/musterhq/muster/internal/supervise"
)

// door is where connections come in. It is used by one goroutine at a time.
type door struct {
	ln    net.Listener                 // nil when it is to be opened again
	again func() (net.Listener, error) // nil if it can't be
}

// newDoor returns the door that ln is. What is more than a TCP listener, one with TLS
// for instance, is not to be replaced by one that is not.
func newDoor(ln net.Listener) *door {
	d := &door{ln: ln}
	if tcp, ok := ln.(*net.TCPListener); ok {
		addr := tcp.Addr().String()
		d.again = func() (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	return d
}

// open returns what to accept from.
func (d *door) open() (net.Listener, error) {
	if d.ln == nil {
		ln, err := d.again()
		if err != nil {
			return nil, err
		}
		d.ln = ln
	}
	return d.ln, nil
}

// lost says that ln was closed, by whomever.
func (d *door) lost(err error) error {
	if d.again == nil {
		return supervise.Final(err)
	}
	d.ln = nil
	return err
}

func (d *door) close() {
	if d.ln != nil {
		d.ln.Close()
	}
}

// accept gives each connection a session of its own, which reads until reading ends,
// and returns when ctx ends. Errors of one accept (too many open files, a peer that is
// gone already) pass: it waits and goes on.
func (s *Server) accept(ctx, reading context.Context, d *door) error {
	ln, err := d.open()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	s.condition.accepting.Store(true)
	defer s.condition.accepting.Store(false)
	const least, most = 5 * time.Millisecond, time.Second
	pause := least
	for {
		if err := s.round("connections"); err != nil {
			return err // what comes meanwhile waits in the system
		}
		conn, err := ln.Accept()
		if err == nil {
			pause = least
			s.serve(reading, conn)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return d.lost(fmt.Errorf("accept connections: %w", err))
		}
		s.log.WithError(err).Warn("connection not accepted")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, most)
	}
}

// serve has a connection served.
func (s *Server) serve(reading context.Context, conn net.Conn) {
	ss := newSession(s, conn)
	if !s.members.admit(ss) {
		return
	}
	s.stats.Connections.Add(1)
	go func() {
		defer s.members.sessions.Done()
		ss.serve(reading)
	}()
}
