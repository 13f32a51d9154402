package main

import (
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/musterhq/muster/tasks"
)

// progress is a bar on a terminal: how many hosts of a set have ended.
type progress struct {
	all *mpb.Progress
	bar *mpb.Bar
}

// newProgress draws a bar for l, which has at least one host.
func newProgress(w io.Writer, l tasks.Ledger) *progress {
	all := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	bar := all.AddBar(l.Total,
		mpb.BarRemoveOnComplete(), // the summary takes its place
		mpb.PrependDecorators(decor.Name(string(l.Number)+" ")),
		mpb.AppendDecorators(decor.CountersNoUnit("%d of %d hosts ended")),
	)
	return &progress{all, bar}
}

func (p *progress) show(l tasks.Ledger) { p.bar.SetCurrent(l.Total - l.Open()) }

// end takes the bar away, as far as it has come, and waits until it is gone.
func (p *progress) end() {
	p.bar.Abort(true)
	p.all.Wait()
}
