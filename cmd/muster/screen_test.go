package main

import (
	"bytes"
	"regexp"
	"sync"
)

// screen is what has appeared on a terminal, or anywhere that several write to.
type screen struct {
	mu   sync.Mutex
	text []byte
	from int // behind what was seen
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, b...)
	return len(b), nil
}

func (s *screen) seen(pattern *regexp.Regexp) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := pattern.FindIndex(s.text[s.from:])
	if at != nil {
		s.from += at[1]
	}
	return at != nil
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(bytes.Clone(s.text))
}
