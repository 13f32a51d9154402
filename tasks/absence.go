package tasks

import (
	"context"
	"errors"
)

// Absence is who a request would not reach at this moment.
type Absence struct {
	Offline []string // the named hosts that are not online, each once, in the order named
	Nobody  bool     // every host that is online is meant, and there is none
}

// Absence looks up who of hosts is not online, or, with nil for every host that is
// online, whether there is any. It is known by the roll alone; nothing is sent.
func (r *Roll) Absence(ctx context.Context, hosts []string) (Absence, error) {
	view, err := r.View(ctx)
	if err != nil {
		return Absence{}, err
	}
	if hosts == nil {
		found, err := view.anyone(ctx)
		return Absence{Nobody: err == nil && !found}, err
	}
	var a Absence
	seen := map[string]bool{}
	err = view.LocateAll(ctx, hosts, func(page []Presence) error {
		for _, p := range page {
			if !p.Online && !seen[p.Host] {
				seen[p.Host] = true
				a.Offline = append(a.Offline, p.Host)
			}
		}
		return nil
	})
	if err != nil {
		return Absence{}, err
	}
	return a, nil
}

// anyone reports whether a host is online. It stops at the first one.
func (v *View) anyone(ctx context.Context) (bool, error) {
	found := errors.New("one is online")
	err := v.Each(ctx, func(page []Presence) error {
		if len(page) > 0 {
			return found
		}
		return nil
	})
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}
