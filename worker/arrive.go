package worker

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

const (
	// A host that comes online with a thousand numbers waiting is sent so many at once,
	// and after a pause the next: its system would drop what it can't hold.
	arriveBurst = 64
	arrivePause = 20 * time.Millisecond
)

// arrive sends a host that has come online what waits for it, the oldest set first. It
// is due again only when it comes again: a listener says so each time.
func (d *dispatcher) arrive(ctx context.Context, _ time.Time, host string) (time.Time, error) {
	view, err := d.roll.View(ctx)
	if err != nil {
		return time.Time{}, err
	}
	places, err := view.Locate(ctx, []string{host})
	if err != nil || !places[0].Online {
		return time.Time{}, err
	}
	var woken []tasks.Woken
	err = d.store.Awaited(ctx, host, func(sets []tasks.Number) error {
		for part := range slices.Chunk(sets, tasks.Chunk) {
			list, err := d.store.Wake(ctx, host, part)
			if err != nil {
				return err
			}
			woken = append(woken, list...)
		}
		return nil
	})
	// Those that are woken are told, also if a later page failed.
	slices.SortFunc(woken, func(a, b tasks.Woken) int { return a.Created.Compare(b.Created) })
	for i, w := range woken {
		if i > 0 && i%arriveBurst == 0 {
			pause.For(ctx, arrivePause)
		}
		d.send(w.Number, []netip.AddrPort{places[0].Addr}, &d.stats.First)
	}
	if len(woken) > 0 {
		d.log.WithFields(logrus.Fields{"host": host, "sets": len(woken)}).Info("host sent what waited for it")
	}
	return time.Time{}, err
}

// lookForWaiting notes those hosts that a set waits for and that are online by now.
func (d *dispatcher) lookForWaiting(ctx context.Context, n tasks.Number) error {
	view, err := d.roll.View(ctx)
	if err != nil {
		return err
	}
	return d.store.Hosts(ctx, n, func(hosts []tasks.HostState) error {
		var waiting []string
		for _, h := range hosts {
			if h.State == tasks.Waiting {
				waiting = append(waiting, h.Host)
			}
		}
		for len(waiting) > 0 {
			part := waiting[:min(len(waiting), tasks.Chunk)]
			waiting = waiting[len(part):]
			places, err := view.Locate(ctx, part)
			if err != nil {
				return err
			}
			var online []string
			for _, p := range places {
				if p.Online {
					online = append(online, p.Host)
				}
			}
			if err := d.arrived.Put(ctx, 0, online...); err != nil {
				return err
			}
		}
		return nil
	})
}
