package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// knock is how long somebody who has a port has to answer.
const knock = 2 * time.Second

// usualFiles is how many open files are enough whatever the fleet.
const usualFiles = 4096

// lookAtListenerPort looks at where a listener of this machine listens, or would.
func (d *doctor) lookAtListenerPort(ctx context.Context) finding {
	bind := get[string](d.listener, "bind")
	if err := checkReach(ctx, d.listener["bind"], get[bool](d.listener, "insecure")); err != nil {
		_, text := read(err)
		return warn("muster listener would not start: %s", text).to("choose another address in the settings, or allow this one with --insecure")
	}
	if strings.HasSuffix(bind, ":0") {
		return fine("a listener takes any free TCP port")
	}
	free, err := canListen(bind)
	switch {
	case free:
		return fine("%s is free, no listener runs here", bind)
	case !taken(err):
		return warn("muster listener can't listen on %s: %v", bind, err).to("choose another address for it, --bind")
	}
	id, err := listenerAt(ctx, nearby(bind))
	switch {
	case err != nil:
		return warn("%s is taken, not by a listener of muster", bind).
			to("if one is to run here, give it another address, --bind; %s shows who has this one", whoHas("tcp", bind))
	case d.view != nil && !d.view.Runs(id):
		return warn("the listener %s has %s, and holds no lease in this Redis", visible.Line(id), bind).
			to("give it the same --redis as muster doctor; its log says whether it reaches it")
	}
	return fine("the listener %s has %s", id, bind)
}

// canListen reports whether a TCP address is free; without an error it is.
func canListen(bind string) (bool, error) {
	ln, err := net.Listen("tcp", bind)
	if err != nil {
		return false, err
	}
	ln.Close()
	return true, nil
}

// listenerAt asks who has an address, as an agent would, but under an id that every
// listener refuses: of the form of an address that nobody has. Nothing of it gets onto
// the roll; the listener's log says that a host was refused.
func listenerAt(ctx context.Context, addr string) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, knock)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	const nobody = "192.0.2.1" // kept for documents, RFC 5737
	if _, err := conn.Write(wire.EncodeFrame(wire.Hello{ID: nobody, Instance: "doctor", UDP: wire.DefaultUDPPort})); err != nil {
		return "", err
	}
	var frames wire.Decoder
	frames.Init(conn, wire.MaxFrame)
	body, err := frames.Next()
	if err != nil {
		return "", err
	}
	m, err := wire.Decode(body, wire.Listener)
	if err != nil {
		return "", err
	}
	w, ok := m.(wire.Welcome)
	if !ok {
		return "", errors.New("the answer is no welcome")
	}
	return w.Server, nil
}

// lookAtAgentPort looks at where an agent of this machine waits for datagrams, or would.
func (d *doctor) lookAtAgentPort(ctx context.Context) finding {
	port := get[int](d.agent, "udp_port")
	ip := get[string](d.agent, "bind_ip")
	if port == 0 {
		return fine("an agent takes any free UDP port")
	}
	addr := net.JoinHostPort(ip, strconv.Itoa(port))
	conn, err := net.ListenPacket("udp", addr)
	switch {
	case err == nil:
		conn.Close()
		return fine("UDP port %d is free, no agent runs here on it", port)
	case !taken(err):
		return warn("an agent can't listen on UDP %s: %v", addr, err).to("choose another port or address for it, --udp-port and --bind-ip")
	}
	id := get[string](d.agent, "id")
	if id == "" {
		id, _ = os.Hostname()
	}
	if d.view == nil {
		return finding{mark: markUnknown, found: fmt.Sprintf("UDP port %d is taken; by whom is %s", port, withoutRedis)}
	}
	if found, err := d.view.Locate(ctx, []string{id}); err == nil && found[0].Online && int(found[0].Addr.Port()) == port {
		return fine("UDP port %d is taken, by the agent %s", port, id)
	}
	if other := d.hostAt(ctx, port); other != "" {
		return fine("UDP port %d is taken, by the agent %s", port, other)
	}
	return warn("UDP port %d is taken, and not by an agent of this machine that is online", port).
		to("if one is to run here, give it another port, --udp-port; %s shows who has this one", whoHas("udp", addr))
}

// hostAt is the host that is online with a port of this machine, empty if none is known.
func (d *doctor) hostAt(ctx context.Context, port int) (host string) {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	errFound := errors.New("found")
	_ = d.view.Each(ctx, func(page []tasks.Presence) error { // what can't be read is not known
		for _, p := range page {
			here := slices.ContainsFunc(own, func(a net.Addr) bool {
				n, ok := a.(*net.IPNet)
				return ok && n.IP.Equal(p.Addr.Addr().AsSlice())
			})
			if here && int(p.Addr.Port()) == port {
				host = p.Host
				return errFound
			}
		}
		return nil
	})
	return host
}

// whoHas is the command of this system that shows who has an address.
func whoHas(network, addr string) string { return whoHasOn(runtime.GOOS, network, addr) }

func whoHasOn(system, network, addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	switch system {
	case "windows":
		return fmt.Sprintf(`netstat -ano -p %s | findstr ":%s "`, network, port)
	case "linux":
		return fmt.Sprintf("ss -l%cnp 'sport = :%s'", network[0], port)
	}
	return fmt.Sprintf("lsof -nP -i%s:%s", strings.ToUpper(network), port)
}

// checksOfPages are those of the addresses that are set for pages and metrics.
func (d *doctor) checksOfPages() (all []check) {
	for _, s := range settings() {
		if s.path() != "dashboard.bind" && s.name != "metrics_bind" {
			continue
		}
		name := strings.ReplaceAll(strings.TrimSuffix(s.group+"-"+s.name, "_bind"), "-bind", "") + "-port"
		f, err := d.app.inForce(d.c, s)
		bind, _ := f.value.(string)
		// MUSTER_BIND is the listener's as well, and more often meant for it.
		if err == nil && (f.from == fromDefault || bind == "" || f.from == fromEnv && s.flag == "bind") {
			continue
		}
		all = append(all, check{name, false, func(ctx context.Context) finding {
			if err != nil {
				_, text := read(err)
				return fail("%s", text).to("correct the setting")
			}
			if s.group == "dashboard" && s.name == "bind" {
				return lookAtPage(ctx, bind, "/", "muster")
			}
			return lookAtPage(ctx, bind, "/healthz", "")
		}})
	}
	return all
}

// lookAtPage looks at an address for a page: what is muster's answers at path with
// status 200, and with a text that has a word in it.
func lookAtPage(ctx context.Context, bind, path, word string) finding {
	free, err := canListen(bind)
	switch {
	case free:
		return fine("%s is free, nothing of muster's is there", bind)
	case !taken(err):
		return warn("nothing can listen on %s: %v", bind, err).to("choose another address in the settings")
	}
	ready, lines, err := ask(ctx, "http://"+nearby(bind)+path)
	says := strings.Join(lines, ", ")
	switch {
	case err != nil:
		_, says = read(err)
	case ready && strings.Contains(says, word):
		return fine("%s answers, and is well", bind)
	case ready:
		says = "it is a page of something else"
	}
	return warn("%s is taken, and does not say that it is well: %s", bind, says).to("%s shows who has it", whoHas("tcp", bind))
}

// lookAtOpenFiles compares the limit of this user with the fleet: a listener has a file
// open for each host.
func (d *doctor) lookAtOpenFiles(ctx context.Context) finding {
	limit, ok := openFiles()
	if !ok {
		return fine("this system has no limit for each process")
	}
	need := uint64(usualFiles)
	if d.rdb != nil && d.view != nil && d.view.Listeners() > 0 {
		if n, err := countOnline(ctx, d.rdb); err == nil {
			need = max(need, 2*uint64(n))
		}
	}
	if limit < need {
		return warn("%d for each process, a listener needs one for each host and should have %d", limit, need).
			to("ulimit -n %d for the user of the listener, LimitNOFILE= in its unit of systemd, or another listener beside it", need)
	}
	if limit >= 1<<30 {
		return fine("no limit for each process")
	}
	return fine("%d for each process, a listener needs one for each host", limit)
}
