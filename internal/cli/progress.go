package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// progress shows on a terminal which groups of facts are still being asked for, on one line that is redrawn and wiped at
// the end. Without a terminal it shows nothing, except for requests at verbosity 2.
type progress struct {
	w       io.Writer
	verbose bool
	done    chan struct{}
	wg      sync.WaitGroup

	mu     sync.Mutex
	active []string
	drawn  bool
}

const redraw = 120 * time.Millisecond

func (a *app) newProgress() *progress {
	p := &progress{w: a.Err, verbose: a.level >= 2, done: make(chan struct{})}
	if a.term.progress {
		a.live = p
		p.wg.Go(p.draw)
	}
	return p
}

// event is called from several goroutines.
func (p *progress) event(e collect.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := string(e.Fact)
	p.active = slices.DeleteFunc(p.active, func(s string) bool { return s == name || strings.HasPrefix(s, name+" ") })
	switch e.Step {
	case collect.StepEnd:
		if p.verbose {
			p.wipe()
			fmt.Fprintf(p.w, "%s: %s %s\n", name, wordOf(e), e.Status.Reason)
		}
		return
	case collect.StepProgress:
		if e.Total > 0 {
			name = fmt.Sprintf("%s %d/%d", name, e.Done, e.Total)
		}
	}
	p.active = append(p.active, name)
}

func wordOf(e collect.Event) string {
	if e.Status.State == "" {
		return "not asked"
	}
	return string(e.Status.State)
}

func (p *progress) draw() {
	t := time.NewTicker(redraw)
	defer t.Stop()
	marks := []rune("|/-\\")
	for i := 0; ; i++ {
		select {
		case <-p.done:
			return
		case <-t.C:
		}
		p.mu.Lock()
		if len(p.active) > 0 {
			line := fmt.Sprintf("%c asking for %s", marks[i%len(marks)], strings.Join(p.active, ", "))
			fmt.Fprintf(p.w, "\r\x1b[K%.100s", line)
			p.drawn = true
		}
		p.mu.Unlock()
	}
}

// wipe clears the line, so that something else can be printed; mu is held.
func (p *progress) wipe() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// say prints one line above the progress line.
func (p *progress) say(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintln(p.w, line)
}

func (p *progress) stop() {
	close(p.done)
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
}
