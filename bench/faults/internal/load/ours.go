package load

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// ours is the refresher as its README has it.
func ours(opts ...refresher.Option) func(Options) (*Target, error) {
	return func(o Options) (*Target, error) {
		var d diary
		d.began = time.Now()
		all := append([]refresher.Option{refresher.WithServiceConfig("{" + methods(o) + "}"), refresher.WithEvents(d.write)}, opts...)
		r, err := refresher.New(all...)
		if err != nil {
			return nil, err
		}
		t, err := dial(fmt.Sprintf("refresh:///%s.%s:%d", o.Service, o.Namespace, Port), append([]grpc.DialOption{r.DialOption()}, refresher.ExtraDialOptions()...)...)
		if err != nil {
			return nil, err
		}
		t.Notes = d.read
		return t, nil
	}
}

// diary keeps what the refresher tells about itself.
type diary struct {
	began time.Time
	mu    sync.Mutex
	lines []string // guarded by mu, as is more
	more  int
}

// longest is how many lines are kept: a run has some dozens of events.
const longest = 150

func (d *diary) write(e refresher.Event) {
	text := describe(e.What)
	if text == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lines) == longest {
		d.more++
		return
	}
	d.lines = append(d.lines, fmt.Sprintf("%6.2fs %s", time.Since(d.began).Seconds(), text))
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.more > 0 {
		return append(d.lines, fmt.Sprintf("and %d more", d.more))
	}
	return d.lines
}

// describe is one line; empty for what happens all the time.
func describe(e endpoint.Event) string {
	switch e := e.(type) {
	case endpoint.Refreshed:
		return ""
	case endpoint.SetChanged:
		return fmt.Sprintf("set: %d added, %d removed, %d changed; %d believed, %d held, by %s",
			len(e.Diff.Added), len(e.Diff.Removed), len(e.Diff.Changed), e.Size, e.Held, e.Source)
	case endpoint.FirstCall:
		return fmt.Sprintf("first call on %s %s after it was seen", e.Endpoint, e.SinceSeen.Round(time.Millisecond))
	}
	return strings.TrimPrefix(fmt.Sprintf("%T%+v", e, e), "endpoint.")
}
