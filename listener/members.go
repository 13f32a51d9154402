package listener

import (
	"maps"
	"slices"
	"sync"

	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// members are the connections of this listener and the hosts behind them.
//
// A host has one connection here, or, if it is an old client, several from its
// address, of which the newest says what kind of client it is. The order in which changes of a host are put into the queue is the order
// in which they happened, because both happen under one lock.
type members struct {
	sessions sync.WaitGroup // one for each connection that is served

	mu      sync.Mutex
	stopped bool
	moving  bool          // agents are to move; new ones too
	agents  int           // of hosts: those that are agents
	left    chan struct{} // while moving: closed when there is no agent any more
	all     map[*session]struct{}
	hosts   map[string]*session // the newest connection; older ones follow by next
	leaving map[string]int      // departures that are queued and not yet written
}

func (m *members) init() {
	m.all, m.hosts, m.leaving = map[*session]struct{}{}, map[string]*session{}, map[string]int{}
	m.left = make(chan struct{})
}

// admit counts a connection in. After closeAll it closes it instead.
func (m *members) admit(ss *session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		ss.conn.Close()
		return false
	}
	m.all[ss] = struct{}{}
	m.sessions.Add(1)
	return true
}

func (m *members) closeAll(reason string) {
	m.mu.Lock()
	m.stopped = true
	m.mu.Unlock()
	for _, ss := range m.sessionsNow() {
		ss.close(reason)
	}
}

// sessionsNow returns the connections of this moment.
func (m *members) sessionsNow() []*session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.all))
}

// move asks every agent to connect to another listener, and those that come later. The
// channel is closed when none is left.
func (m *members) move() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moving = true
	for _, ss := range m.hosts {
		if ss.agent {
			ss.push(wire.Push{Action: wire.ActionMove})
		}
	}
	m.noteLeft()
	return m.left
}

// noteLeft needs the lock.
func (m *members) noteLeft() {
	if m.moving && m.agents == 0 {
		m.moving = false
		close(m.left)
	}
}

// of returns the newest connection of a host, nil if it has none.
func (m *members) of(host string) *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hosts[host]
}

// names returns the hosts that are connected.
func (m *members) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.hosts))
	for host := range m.hosts {
		names = append(names, host)
	}
	return names
}

// count is how many hosts are connected.
func (m *members) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.hosts)
}

// join makes a connection its host's newest and puts the change into the queue, to
// be answered on answer if that is not nil. It returns false if the host is
// connected here as another: another instance, or an old client beside an agent.
func (s *Server) join(ss *session, answer chan joined) bool {
	m := &s.members
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.hosts[ss.host]
	if before != nil && (before.agent || ss.agent) && before.client != ss.client {
		s.putDuplicate(ss)
		return false
	}
	m.hosts[ss.host] = ss
	if ss.agent {
		if m.moving {
			ss.push(wire.Push{Action: wire.ActionMove})
		}
		if before == nil {
			m.agents++
		} else {
			go before.close("replaced by a newer connection") // takes a lock of its own
		}
	} else {
		ss.next = before
	}
	if before == nil || before.client != ss.client || before.addr != ss.addr || answer != nil {
		s.putOn(ss, answer)
	}
	return true
}

// leave takes a connection off its host. When it was the last one, the host goes
// offline.
func (s *Server) leave(ss *session, reason string) {
	m := &s.members
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, ss)
	newest := m.hosts[ss.host]
	if newest == nil {
		return
	}
	if newest != ss {
		for at := newest; at != nil; at = at.next {
			if at.next == ss {
				at.next = ss.next
			}
		}
		return // replaced, refused, or one of several
	}
	if ss.next != nil {
		m.hosts[ss.host] = ss.next
		if ss.next.client != ss.client {
			s.changes.put(change{kind: tasks.Hold, ss: ss.next}, changeSize)
		}
		return
	}
	delete(m.hosts, ss.host)
	if ss.agent {
		m.agents--
		m.noteLeft()
	}
	m.leaving[ss.host]++
	s.putOff(ss, reason)
}

// departed says that a departure is written.
func (m *members) departed(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaving[host]--; m.leaving[host] <= 0 {
		delete(m.leaving, host)
	}
}

// push sends a message to a host's newest connection, if it is an agent.
func (s *Server) push(host string, m wire.Push) {
	if ss := s.members.of(host); ss != nil && ss.agent {
		ss.push(m)
	}
}
