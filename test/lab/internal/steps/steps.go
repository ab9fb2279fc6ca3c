// Package steps prints what the lab is doing, one line a step, each with its
// time, so that nobody watches a silent terminal for minutes.
//
// It writes to the writer it is given (stderr, by the driver) and never to
// stdout, which carries answers. On a terminal the running step is redrawn in
// place; elsewhere a step that lasts is reported every few seconds.
package steps

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	// redraw is how often a running step is redrawn on a terminal.
	redraw = 200 * time.Millisecond
	// repeat is how often a running step is reported elsewhere.
	repeat = 15 * time.Second
	// maxLive bounds a redrawn line when the terminal's width is unknown.
	maxLive = 78
)

// Log prints steps. It is safe for concurrent use; make one with [New].
type Log struct {
	start time.Time
	tty   bool
	width int

	mu sync.Mutex
	w  io.Writer
	// live is the step now drawn on a terminal's last line, nil when none.
	live *Step
}

// New returns a Log that prints to w, redrawing lines when w is a terminal.
func New(w io.Writer) *Log {
	l := &Log{start: time.Now(), w: w, width: maxLive}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		l.tty = true
		if cols, _, err := term.GetSize(int(f.Fd())); err == nil && cols > 20 {
			l.width = cols - 1
		}
	}
	return l
}

// Elapsed is the time since the Log was made.
func (l *Log) Elapsed() time.Duration { return time.Since(l.start) }

// Note prints a line that is no step.
func (l *Log) Note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.eraseLocked()
	fmt.Fprintf(l.w, "%s  %s\n", seconds(time.Since(l.start)), fmt.Sprintf(format, args...))
}

// Step is one piece of work under way. End it with [Step.Done] or [Step.Fail].
type Step struct {
	log   *Log
	name  string
	start time.Time
	stop  chan struct{}
	ended sync.WaitGroup

	mu     sync.Mutex
	detail string
}

// Begin starts a step called name ("build cluster").
func (l *Log) Begin(name string) *Step {
	s := &Step{log: l, name: name, start: time.Now(), stop: make(chan struct{})}
	every := repeat
	if l.tty {
		every = redraw
	}
	s.ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				l.draw(s)
			}
		}
	})
	return s
}

// Update says what the step is at; shown while it runs and replaced by the next.
func (s *Step) Update(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detail = fmt.Sprintf(format, args...)
}

// Done ends the step well. The detail may be empty.
func (s *Step) Done(detail string) { s.end("", detail) }

// Fail ends the step with err.
func (s *Step) Fail(err error) { s.end("FAILED: ", err.Error()) }

// End is Fail(err) when err is not nil, else Done(detail). It returns err.
func (s *Step) End(err error, detail string) error {
	if err != nil {
		s.Fail(err)
	} else {
		s.Done(detail)
	}
	return err
}

func (s *Step) end(prefix, detail string) {
	close(s.stop)
	s.ended.Wait()
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.eraseLocked()
	text := s.name
	if prefix+detail != "" {
		text += ": " + prefix + detail
	}
	fmt.Fprintf(l.w, "%s  %s (%s)\n", seconds(time.Since(l.start)), text, strings.TrimSpace(seconds(time.Since(s.start))))
}

// draw shows a running step.
func (l *Log) draw(s *Step) {
	s.mu.Lock()
	text := s.name
	if s.detail != "" {
		text += ": " + s.detail
	}
	s.mu.Unlock()
	took := strings.TrimSpace(seconds(time.Since(s.start)))
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.tty {
		fmt.Fprintf(l.w, "%s  ... %s (%s so far)\n", seconds(time.Since(l.start)), text, took)
		return
	}
	// Of several steps under way the first to draw keeps the line.
	if l.live != nil && l.live != s {
		return
	}
	l.live = s
	line := fmt.Sprintf("%s  ... %s (%s)", seconds(time.Since(l.start)), text, took)
	if r := []rune(line); len(r) > l.width {
		line = string(r[:l.width])
	}
	fmt.Fprintf(l.w, "\r\x1b[K%s", line)
}

// eraseLocked clears the redrawn line, if there is one. Callers hold l.mu.
func (l *Log) eraseLocked() {
	if l.live != nil {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.live = nil
	}
}

func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%6.2fs", d.Seconds())
	}
	return fmt.Sprintf("%3dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
