//go:build !linux

package agent

import (
	"net"
	"net/netip"
)

// dialer returns what connects from ip, if ip is valid.
func dialer(ip netip.Addr) *net.Dialer { return plainDialer(ip) }
