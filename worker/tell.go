package worker

import (
	"context"
	"net/netip"
	"slices"

	"github.com/musterhq/muster/tasks"
)

// tell sends the task number to the hosts that the ledger awaits, and returns how
// many datagrams left. With everyone it is sent to old clients too, to each once.
func (d *dispatcher) tell(ctx context.Context, n tasks.Number, everyone bool) (sent int, err error) {
	count := &d.stats.First
	if !everyone {
		count = &d.stats.Again
	}
	told := map[netip.AddrPort]struct{}{} // a host can come twice, and all come again after a failure
	err = d.insist(ctx, func() error {
		return d.tellAwaited(ctx, n, everyone, func(targets []netip.AddrPort) {
			targets = slices.DeleteFunc(targets, func(t netip.AddrPort) bool {
				_, twice := told[t]
				told[t] = struct{}{}
				return twice
			})
			sent += d.send(n, targets, count)
		})
	})
	return sent, err
}

// tellAwaited calls emit with where the awaited hosts are, a chunk at a time.
func (d *dispatcher) tellAwaited(ctx context.Context, n tasks.Number, everyone bool, emit func([]netip.AddrPort)) error {
	view, err := d.roll.View(ctx)
	if err != nil {
		return err
	}
	targets := make([]netip.AddrPort, 0, tasks.Chunk)
	return d.store.Awaiting(ctx, n, func(hosts []string) error {
		places, err := view.Locate(ctx, hosts)
		if err != nil {
			return err
		}
		targets = targets[:0]
		for _, p := range places {
			switch {
			case p.Online && (everyone || p.Agent()):
				targets = append(targets, p.Addr)
			case !p.Online && everyone:
				// It went offline since it was enlisted.
				if to, ok := d.addressOf(p.Host); ok {
					targets = append(targets, to)
				}
			}
		}
		emit(targets)
		return nil
	})
}

// tellOffline sends the number once to hosts that are recorded as offline. Nothing
// waits for them; one that is there after all can still report.
func (d *dispatcher) tellOffline(n tasks.Number, targets []netip.AddrPort) int {
	return d.send(n, targets, &d.stats.Offline)
}
