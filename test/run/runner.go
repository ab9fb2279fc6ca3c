package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// heartbeat is how often a long step says that it is alive where lines cannot
// be rewritten. A build log with a silent minute in it looks hung.
const heartbeat = 30 * time.Second

// shownLines bounds what a failed step prints without -v.
const shownLines = 400

// step is one part of the suite.
type step struct {
	name  string
	about string
	// run does the work and writes what a person wants to see of it to out. It
	// returns a skip when this machine cannot do it.
	run func(ctx context.Context, out io.Writer) error
}

// skip says in one line why a step cannot be done here, and what would help.
type skip string

func (s skip) Error() string { return string(s) }

// summary counts how the steps ended.
type summary struct{ passed, failed, skipped int }

// runner runs steps one after the other and tells how they fare.
type runner struct {
	out     io.Writer
	live    bool // out is a terminal whose last line may be rewritten
	verbose bool // show the output of steps that pass, too
	strict  bool // a skip is a failure
	beat    time.Duration
}

// run returns after the last step, or early when ctx ends.
func (r runner) run(ctx context.Context, steps []step) summary {
	var sum summary
	var notes []string
	start := time.Now()
	for i, s := range steps {
		label := fmt.Sprintf("[%d/%d] %s", i+1, len(steps), s.name)
		err := r.one(ctx, label, s)
		var why skip
		switch {
		case ctx.Err() != nil:
			sum.failed++
			notes = append(notes, label+": interrupted")
		case err == nil:
			sum.passed++
		case errors.As(err, &why) && !r.strict:
			sum.skipped++
			notes = append(notes, label+" was skipped: "+string(why))
		case errors.As(err, &why):
			sum.failed++
			notes = append(notes, label+" failed: CI=true lets no step be skipped, and this one was: "+string(why))
		default:
			sum.failed++
			notes = append(notes, label+" failed: "+err.Error())
		}
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Fprintln(r.out)
	for _, n := range notes {
		fmt.Fprintln(r.out, n)
	}
	fmt.Fprintf(r.out, "total time %s\n", elapsed(start))
	fmt.Fprintf(r.out, "steps: %d passed, %d failed, %d skipped\n", sum.passed, sum.failed, sum.skipped)
	return sum
}

// one runs a step and prints its line, kept up to date while it lasts.
func (r runner) one(ctx context.Context, label string, s step) error {
	start := time.Now()
	var kept bytes.Buffer
	shared := &lockedWriter{w: &kept}
	if r.verbose {
		shared.w = r.out
	}
	fmt.Fprintf(shared.over(r.out), "%s ...%s", label, r.lineEnd())

	done := make(chan struct{})
	var ticker sync.WaitGroup
	ticker.Go(func() { r.tick(done, label, start, shared) })
	err := s.run(ctx, shared)
	close(done)
	ticker.Wait()

	word := "ok"
	var why skip
	if errors.As(err, &why) {
		word = "skipped"
	} else if err != nil {
		word = "FAILED"
	}
	fmt.Fprintf(r.out, "%s%s ... %s %s\n", r.lineStart(), label, word, elapsed(start))
	if err != nil && word == "FAILED" && !r.verbose {
		fmt.Fprint(r.out, lastLines(kept.String(), shownLines))
	}
	return err
}

// tick reprints the line with the elapsed time until done.
func (r runner) tick(done <-chan struct{}, label string, start time.Time, shared *lockedWriter) {
	every := r.beat
	if r.live {
		every = time.Second
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
			fmt.Fprintf(shared.over(r.out), "%s%s ... %s%s", r.lineStart(), label, elapsed(start), r.lineEnd())
		}
	}
}

func (r runner) lineStart() string {
	if r.live {
		return "\r"
	}
	return ""
}

func (r runner) lineEnd() string {
	if r.live {
		return ""
	}
	return "\n"
}

// lockedWriter lets a step's processes and the ticker write in turns.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// over returns a writer to w that takes turns with l.
func (l *lockedWriter) over(w io.Writer) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return w.Write(p)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func elapsed(start time.Time) string { return time.Since(start).Round(time.Second).String() }

// lastLines is the tail of text, with a word about what was cut.
func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= n {
		return text
	}
	return fmt.Sprintf("(%d earlier lines left out; -v shows all)\n%s", len(lines)-n, strings.Join(lines[len(lines)-n:], ""))
}
