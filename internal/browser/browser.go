// Package browser drives a headless Chromium, for tests of the dashboard and for its
// pictures. Nothing in it leaves this machine: the browser is told to look up no name and
// to fetch nothing by itself.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// ErrNone is that there is no Chromium on this machine.
var ErrNone = errors.New("no Chromium: install the package chromium, or name the program in MUSTER_TEST_BROWSER")

// Path is where Chromium is, or ErrNone.
func Path() (string, error) {
	if named := os.Getenv("MUSTER_TEST_BROWSER"); named != "" {
		return exec.LookPath(named)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNone
}

// patience is how long one step may take on a loaded machine.
const patience = 3 * time.Minute

// Browser is a running Chromium.
type Browser struct {
	ctx context.Context
	end []context.CancelFunc
}

// Start starts Chromium. It ends in Close, or with ctx.
func Start(ctx context.Context) (*Browser, error) {
	path, err := Path()
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.DisableGPU,
		chromedp.Flag("no-sandbox", os.Getuid() == 0), // as root it does not start otherwise
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"),
		chromedp.WSURLReadTimeout(time.Minute), // a loaded machine
	)
	b := &Browser{}
	alloc, end := chromedp.NewExecAllocator(ctx, options...)
	b.end = append(b.end, end)
	tab, end := chromedp.NewContext(alloc)
	b.end = append(b.end, end)
	b.ctx = tab
	if err := chromedp.Do(tab); err != nil {
		b.Close()
		return nil, fmt.Errorf("start Chromium: %w", err)
	}
	return b, nil
}

// Close ends the browser and waits for it.
func (b *Browser) Close() {
	for i := len(b.end) - 1; i >= 0; i-- {
		b.end[i]()
	}
	b.end = nil
}

// View is how a page is looked at.
type View struct {
	Width, Height int  // in CSS pixels
	Phone         bool // touch, and twice as many pixels
	Dark          bool
}

// The usual ones.
var (
	Desktop = View{Width: 1280, Height: 900}
	Phone   = View{Width: 375, Height: 812, Phone: true}
)

// Tab is one page of the browser. What goes wrong in it is noted.
type Tab struct {
	ctx   context.Context
	close context.CancelFunc

	mu       sync.Mutex
	problems []string
	fetched  []string
}

// Open opens a tab.
func (b *Browser) Open(v View) (*Tab, error) {
	ctx, cancel := chromedp.NewContext(b.ctx)
	t := &Tab{ctx: ctx, close: cancel}
	if err := t.prepare(v); err != nil {
		cancel()
		return nil, fmt.Errorf("open a tab: %w", err)
	}
	return t, nil
}

func (t *Tab) prepare(v View) error {
	if err := chromedp.Listen(t.ctx, t.heard); err != nil {
		return err
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	scale := 1.0
	if v.Phone {
		scale = 2
	}
	return errors.Join(
		call(t, runtime.Enable, cdp.Empty{}), call(t, log.Enable, cdp.Empty{}), call(t, network.Enable, network.EnableParams{}),
		call(t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: int64(v.Width), Height: int64(v.Height), DeviceScaleFactor: scale, Mobile: v.Phone,
		}),
		call(t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
	)
}

func call[P, R any](t *Tab, command cdp.Command[P, R], params P) error {
	_, err := chromedp.Call(t.ctx, command, params)
	return err
}

// heard notes what the page complains of and what it fetches. A breach of the content
// security policy is an entry of the log.
func (t *Tab) heard(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		t.problems = append(t.problems, "script: "+text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Source == log.EntrySourceSecurity {
			t.problems = append(t.problems, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		t.fetched = append(t.fetched, e.Request.URL)
	}
}

// Problems are what scripts threw, and what the browser logged as an error.
func (t *Tab) Problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.problems)
}

// Fetched is every address that the page has asked for.
func (t *Tab) Fetched() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.fetched)
}

// Close closes the tab.
func (t *Tab) Close() { t.close() }

// Do does something in the tab, at most for patience.
func Do[T any](t *Tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// Go loads a page.
func (t *Tab) Go(url string) error {
	_, err := Do(t, chromedp.Navigate(url))
	return err
}

// Eval is the value of a JavaScript expression, a promise's when it is there.
func Eval[T any](t *Tab, expression string) (T, error) {
	return Do(t, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Until waits until a JavaScript expression is true, also over a loading of the page.
func (t *Tab) Until(expression string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		is, err := Eval[bool](t, "Boolean("+expression+")")
		if err == nil && is {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("not within %v: %s", patience, expression), err)
		}
	}
}

// Picture is what is in sight of the page, as a PNG, or the whole of it.
func (t *Tab) Picture(whole bool) ([]byte, error) {
	if whole {
		return Do(t, chromedp.FullScreenshot(100))
	}
	return Do(t, chromedp.CaptureScreenshot())
}
