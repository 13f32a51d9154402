// Pictures takes the pictures of the dashboard that stand in docs/images: it runs muster,
// a process each for Redis, listener, worker, dashboard and some hosts, gives it work, and
// looks at it with a headless Chromium.
//
//	go run ./scripts/pictures
//
// What is to be seen is staged, but it is muster that shows it: the hosts are real agents
// under invented names, the hours before they came are made of invented events. It needs
// Linux, redis-server and Chromium.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/internal/browser"
	"github.com/musterhq/muster/internal/faults"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, "docs/images"); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

// picture is one to take.
type picture struct {
	name, path string
	view       browser.View
	ready      string // a JavaScript expression that is true when all is there
}

func pictures() []picture {
	desktop := browser.View{Width: 1200, Height: 860}
	dark := desktop
	dark.Dark = true
	short := func(v browser.View, height int) browser.View { v.Height = height; return v }
	shows := func(text string) string { return fmt.Sprintf(`document.body.innerText.includes(%q)`, text) }
	return []picture{
		{"fleet", "/", short(desktop, 900), shows("1–14 of 14") + " && " + shows("AC-long")},
		{"fleet-dark", "/", short(dark, 900), shows("1–14 of 14") + " && " + shows("AC-long")},
		{"fleet-phone", "/", browser.Phone, shows("14")},
		{"tasks", "/tasks", short(desktop, 760), shows("AC-check") + " && " + shows("Rejected")},
		{"task", "/tasks/AC-check", short(desktop, 1180), shows("12 hosts") + " && " + shows("out of space")},
		{"task-phone", "/tasks/AC-check", browser.Phone, shows("AC-check")},
		{"host", "/hosts/db-2", short(desktop, 900), shows("AC-check") + " && " + shows("linux")},
		{"queues", "/queues/queues/dispatch?status=archived", short(desktop, 720), shows("muster:dispatch")},
	}
}

func run(ctx context.Context, into string) error {
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "muster-pictures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := startStage(ctx, dir)
	if s != nil {
		defer s.close()
	}
	if err != nil {
		return err
	}
	err = faults.Wait(ctx, time.Minute, "the page is there", func() bool {
		answer, err := http.Get(s.page + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	if err != nil {
		return err
	}
	b, err := browser.Start(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, p := range pictures() {
		png, err := take(b, s.page+p.path, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := os.WriteFile(filepath.Join(into, p.name+".png"), png, 0o644); err != nil {
			return err
		}
		fmt.Printf("%s.png  %d KiB\n", p.name, len(png)>>10)
	}
	return nil
}

func take(b *browser.Browser, url string, p picture) ([]byte, error) {
	tab, err := b.Open(p.view)
	if err != nil {
		return nil, err
	}
	defer tab.Close()
	if err := tab.Go(url); err != nil {
		return nil, err
	}
	if err := tab.Until(p.ready); err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // bars move to where they belong
	return tab.Picture(false)
}
