package faults

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Proxy is a way over TCP that can be cut, slowed down and silenced.
type Proxy struct {
	Addr string // to be dialed in place of the target

	mu    sync.Mutex
	proxy *toxiproxy.Proxy
	up    bool
}

// NewProxy opens a way to target on a free port.
func NewProxy(target string) (*Proxy, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &Proxy{proxy: toxiproxy.NewProxy(server, "way", "127.0.0.1:0", target), up: true}
	if err := p.proxy.Start(); err != nil {
		return nil, fmt.Errorf("proxy to %s: %w", target, err)
	}
	p.Addr = p.proxy.Listen
	return p, nil
}

// Cut ends all connections and takes no new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up {
		p.proxy.Stop()
		p.up = false
	}
}

// Delay holds back what goes in either direction by d.
func (p *Proxy) Delay(d time.Duration) error {
	return p.both("latency", fmt.Sprintf(`{"latency":%d}`, d.Milliseconds()))
}

// Drop lets connections stand but carries nothing any more, in either direction. They
// end with Heal.
func (p *Proxy) Drop() error { return p.both("timeout", `{"timeout":0}`) }

func (p *Proxy) both(kind, attributes string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, way := range []string{"upstream", "downstream"} {
		toxic := fmt.Sprintf(`{"name":"%s-%s","type":"%s","stream":"%s","attributes":%s}`, kind, way, kind, way, attributes)
		if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// Heal makes it a good way again.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proxy.Toxics.ResetToxics(context.Background())
	if p.up {
		return nil
	}
	// A connection that was ended may still have the port for a moment.
	var err error
	for range 50 {
		if err = p.proxy.Start(); err == nil {
			p.up = true
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("heal proxy: %w", err)
}

// Close is Cut for good.
func (p *Proxy) Close() { p.Cut() }

// FreeAddr is a loopback address with a port that nobody has at the moment.
func FreeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
