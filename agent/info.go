package agent

import (
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/musterhq/muster/wire"
)

// info gathers what the agent tells of its host. The addresses begin with the one
// from which it reaches the listener, and the MAC is that interface's: on a host
// with many it is the one that can be reached.
func (a *Agent) info(local net.Addr) wire.Info {
	name, err := os.Hostname()
	if err != nil {
		name = a.cfg.ID
	}
	m := wire.Info{
		Hostname: name, OS: runtime.GOOS, Arch: runtime.GOARCH,
		Version: a.cfg.Version, Tags: a.cfg.Tags,
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		a.log.WithError(err).Warn("network interfaces can't be listed")
	}
	var near net.IP
	if tcp, ok := local.(*net.TCPAddr); ok {
		near = tcp.IP
	}
	m.IPv4, m.MAC = addresses(cards(ifaces), near)
	return m
}

// card is a network interface, as far as it is reported.
type card struct {
	mac      string
	loopback bool
	ips      []net.IP
}

func cards(ifaces []net.Interface) []card {
	var list []card
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		c := card{loopback: i.Flags&net.FlagLoopback != 0}
		if len(i.HardwareAddr) > 0 {
			c.mac = strings.ToUpper(strings.ReplaceAll(i.HardwareAddr.String(), ":", "-"))
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // the interface has just gone
		}
		for _, addr := range addrs {
			if n, ok := addr.(*net.IPNet); ok {
				c.ips = append(c.ips, n.IP)
			}
		}
		list = append(list, c)
	}
	return list
}

// addresses returns the IPv4 addresses of the cards, near first, and near's MAC or
// else the first one there is. Loopback counts only where near is on it.
func addresses(list []card, near net.IP) (ipv4 []string, mac string) {
	for _, c := range list {
		isNear := false
		for _, ip := range c.ips {
			four := ip.To4()
			switch {
			case ip.Equal(near):
				isNear = true
				if four != nil {
					ipv4 = append([]string{four.String()}, ipv4...)
				}
			case four != nil && !c.loopback:
				ipv4 = append(ipv4, four.String())
			}
		}
		if c.mac != "" && !c.loopback && (isNear || mac == "") {
			mac = c.mac
		}
	}
	return ipv4, mac
}
