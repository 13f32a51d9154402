package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
)

const (
	healthTime = 3 * time.Second // for the whole of it
	healthMost = 64 << 10        // bytes of the answer
	readyPath  = "/readyz"
)

func (a *app) healthVerb() *cli.Command {
	return &cli.Command{
		Name: "health", Usage: "ask a process whether it is ready",
		Flags: verbFlags(
			textFlag("url", "", "`URL` that is asked (default: "+readyPath+" at the address of the metrics)"),
			settingsOf("listener", "metrics_bind")[0].asFlag(),
			jsonFlag(),
		),
		Action: a.health,
	}
}

// health is for who keeps a process up and can run nothing else, in a container without a
// shell for instance. It asks neither Redis nor anybody but that process.
func (a *app) health(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	target, err := a.healthURL(c)
	if err != nil {
		return err
	}
	ready, lines, err := ask(c.Context, target)
	if err != nil {
		return err
	}
	p := a.printer(c)
	if p.json {
		p.object(struct {
			Ready bool     `json:"ready"`
			Says  []string `json:"says"`
		}{ready, lines})
	}
	for _, line := range lines {
		p.say("%s", visible.Line(line))
	}
	if ready {
		return p.end(statusOK)
	}
	return p.end(statusFailure)
}

// healthURL is what is to be asked.
func (a *app) healthURL(c *cli.Context) (string, error) {
	text := c.String("url")
	if text == "" && a.given["url"] {
		return "", misuse("--url is empty")
	}
	if text == "" {
		bind, err := a.metricsAddress(c)
		if err != nil {
			return "", err
		}
		return (&url.URL{Scheme: "http", Host: nearby(bind), Path: readyPath}).String(), nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", misuse("--url %q: want http://host:port", text)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = readyPath
	}
	return u.String(), nil
}

// metricsAddress is the address that the settings name for metrics: that of the flag or
// the variable, else the one that the file has, in whichever group.
func (a *app) metricsAddress(c *cli.Context) (string, error) {
	var found []string
	for _, s := range settings() {
		if s.name != "metrics_bind" {
			continue
		}
		f, err := a.inForce(c, s)
		if err != nil {
			return "", err
		}
		if bind, _ := f.value.(string); bind != "" && !slices.Contains(found, bind) {
			found = append(found, bind)
		}
	}
	switch {
	case len(found) == 0:
		return "", misuse("no address is known: --url or --metrics-bind names it, or a process's metrics_bind in the settings")
	case len(found) > 1:
		return "", misuse("the settings name several addresses, %s: --url or --metrics-bind says which is meant", strings.Join(found, " and "))
	}
	if _, port, _ := net.SplitHostPort(found[0]); port == "0" || port == "" {
		return "", misuse("%s is any free port, --url names the one that was taken", found[0])
	}
	return found[0], nil
}

// nearby is an address on which this machine reaches what listens on bind.
func nearby(bind string) string {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		return bind
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "", err == nil && ip == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// ask asks whether a process is ready, and returns what it says.
func ask(ctx context.Context, target string) (ready bool, lines []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return false, nil, misuse("%w", err)
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // no proxy: it is about this process, or one near
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		var body []byte
		if body, err = io.ReadAll(io.LimitReader(resp.Body, healthMost)); err == nil {
			return resp.StatusCode == http.StatusOK, said(resp, string(body)), nil
		}
	}
	var of *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = errors.New("no answer within " + healthTime.String())
	case errors.As(err, &of):
		err = of.Err // the URL is said before it
	}
	return false, nil, failf(statusFailure, "%s: %w", target, err)
}

// said is an answer, a line each. One of somebody who is no muster process is told by its
// status alone.
func said(resp *http.Response, body string) []string {
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return []string{"answers " + resp.Status}
	}
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return []string{"answers " + resp.Status}
	}
	return lines
}
