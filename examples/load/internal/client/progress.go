package client

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/grpclb/kubectl-grpclb/examples/internal/tally"
)

// How often the progress display is renewed: a bar on a terminal, a line in a log.
const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 5 * time.Second
)

// display shows how many calls are done, and takes itself away or ends its line when finished.
type display struct {
	every  time.Duration
	show   func(done int64)
	finish func()
}

// withProgress runs work, shows done of total on w until it returns, and returns its error.
func withProgress(ctx context.Context, w io.Writer, total int64, done func() int64, work func(context.Context) error) error {
	d := newDisplay(w, total)
	ended := make(chan error, 1)
	go func() { ended <- work(ctx) }()
	ticker := time.NewTicker(d.every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.show(done())
		case err := <-ended:
			d.show(done())
			d.finish()
			return err
		}
	}
}

func newDisplay(w io.Writer, total int64) display {
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return newBar(w, total)
	}
	last := int64(-1)
	return display{
		every: lineInterval,
		show: func(done int64) {
			// A stalled run would otherwise fill a log with one and the same line.
			if done == last {
				return
			}
			last = done
			fmt.Fprintf(w, "%s of %s calls (%d %%)\n", tally.Thousands(done), tally.Thousands(total), 100*done/total)
		},
		finish: func() {},
	}
}

func newBar(w io.Writer, total int64) display {
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("calls"),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("calls"),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(barInterval),
		progressbar.OptionClearOnFinish(),
	)
	return display{
		every: barInterval,
		// The bar is decoration: a terminal that has gone away must not end the run.
		show:   func(done int64) { _ = bar.Set64(done) },
		finish: func() { _ = bar.Clear() },
	}
}
