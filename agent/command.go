package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/musterhq/muster/wire"
)

// How long the agent waits for what should be over at once.
const (
	pipeGrace = time.Second            // for the pipes of a command that ended by itself
	reapGrace = 2 * time.Second        // for the end of a killed command: a busy system is late to tell
	killGrace = 250 * time.Millisecond // for its pipes, after that
	gonePoll  = 20 * time.Millisecond  // between two looks whether a group is gone
)

// Why a command is ended before its time, as its report says it.
var (
	errCancelled   = errors.New("cancelled")
	errInterrupted = errors.New("interrupted: the agent stopped while the command ran")
)

// run runs one command to its end, or to that of its limit or of ctx, and returns
// how it ended. When the limit or ctx ended it, its whole group is gone.
func (a *Agent) run(ctx context.Context, line string, limit time.Duration) wire.Result {
	result := wire.Result{Command: line, ExitCode: -1}
	if ctx.Err() != nil {
		result.Error = reason(ctx)
		return result
	}
	stdout, stderr, err := newPipes(outputCodePage())
	if err != nil {
		result.Error = shorten(err.Error(), maxError)
		return result
	}
	begin := time.Now()
	p, err := startProcess(line, stdout.w, stderr.w)
	stdout.follow()
	stderr.follow()
	if err != nil {
		result.Error = shorten(err.Error(), maxError)
		a.drains.add(stdout)
		a.drains.add(stderr)
		return result
	}
	exited := make(chan exit, 1)
	go func() { // waited for below, unless the system can't end the process
		code, err := p.wait()
		exited <- exit{code, err}
	}()
	defer p.release()

	timer := time.NewTimer(limit)
	defer timer.Stop()
	grace := pipeGrace
	var end *exit
	select {
	case e := <-exited:
		end = &e
	case <-timer.C:
		result.Error = fmt.Sprintf("timed out after %ds", int64(limit/time.Second))
	case <-ctx.Done():
		result.Error = reason(ctx)
	}
	if end == nil {
		grace = killGrace
		end = endGroup(p, exited, a.cfg.KillAfter)
	}
	result.DurationMS = time.Since(begin).Milliseconds()
	switch {
	case end == nil:
		result.Error += "; its end was not seen"
	case end.err != nil:
		result.Error = shorten(end.err.Error(), maxError)
	default:
		result.ExitCode = end.code
	}

	// What the command has left in the background may hold the pipes open. It is
	// none of the command: it is let live and write, but nobody waits for it.
	deadline := time.Now().Add(grace)
	stdout.wait(time.Until(deadline))
	stderr.wait(time.Until(deadline))
	var cutOut, cutErr bool
	result.Stdout, result.StdoutBytes, cutOut = stdout.finish()
	result.Stderr, result.StderrBytes, cutErr = stderr.finish()
	result.Truncated = cutOut || cutErr
	a.drains.add(stdout)
	a.drains.add(stderr)
	return result
}

type exit struct {
	code int
	err  error
}

func reason(ctx context.Context) string {
	if errors.Is(context.Cause(ctx), errCancelled) {
		return errCancelled.Error()
	}
	return errInterrupted.Error()
}

// endGroup asks the group to end and kills what is left of it after killAfter. It
// returns nil if the shell's end was not seen even then.
func endGroup(p *process, exited <-chan exit, killAfter time.Duration) *exit {
	p.terminate()
	var end *exit
	patience := time.NewTimer(killAfter)
	defer patience.Stop()
	look := time.NewTicker(gonePoll)
	defer look.Stop()
	for {
		select {
		case e := <-exited:
			end, exited = &e, nil
		case <-look.C:
		case <-patience.C:
			p.kill()
			if end != nil {
				return end
			}
			select {
			case e := <-exited:
				return &e
			case <-time.After(reapGrace):
				return nil
			}
		}
		if end != nil && p.gone() {
			return end
		}
	}
}

// pipe carries one output of a command to its transcript.
type pipe struct {
	transcript
	r, w *os.File
	done chan struct{} // closed once nothing more can come
}

func newPipes(codePage uint32) (stdout, stderr *pipe, err error) {
	if stdout, err = newPipe(codePage); err != nil {
		return nil, nil, err
	}
	if stderr, err = newPipe(codePage); err != nil {
		stdout.r.Close()
		stdout.w.Close()
		return nil, nil, err
	}
	return stdout, stderr, nil
}

func newPipe(codePage uint32) (*pipe, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &pipe{transcript: transcript{codePage: codePage}, r: r, w: w, done: make(chan struct{})}, nil
}

// follow reads until nobody can write any more or close is called. The command has
// its own copy of w by now.
func (p *pipe) follow() {
	p.w.Close()
	go func() {
		defer close(p.done)
		buf := make([]byte, 16<<10)
		for {
			n, err := p.r.Read(buf)
			p.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
}

// wait waits until nothing more can come, for d at most.
func (p *pipe) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	}
}

// drains are the pipes of commands that have ended. Those that something in the
// background still holds are read on, so that it is not killed by writing.
type drains struct {
	mu   sync.Mutex
	open map[*pipe]struct{}
	wait sync.WaitGroup
}

// add takes over p, which closes once nobody holds it.
func (d *drains) add(p *pipe) {
	d.mu.Lock()
	if d.open == nil {
		d.open = map[*pipe]struct{}{}
	}
	d.open[p] = struct{}{}
	d.mu.Unlock()
	d.wait.Go(func() {
		<-p.done
		p.r.Close()
		d.mu.Lock()
		delete(d.open, p)
		d.mu.Unlock()
	})
}

// close stops reading, and waits until it has stopped.
func (d *drains) close() {
	d.mu.Lock()
	for p := range d.open {
		p.r.Close()
	}
	d.mu.Unlock()
	d.wait.Wait()
}
