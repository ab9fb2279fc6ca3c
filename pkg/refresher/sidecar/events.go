package sidecar

import (
	"context"
	"log/slog"
	"sync"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// queueSize is how many events may wait for a slow consumer.
const queueSize = 1024

// events hands events to one consumer, in order. It never makes the producer wait:
// it drops what does not fit.
type events struct {
	mu      sync.Mutex
	waiting []endpoint.Event
	wake    chan struct{} // holds a token when something waits
}

func newEvents() *events { return &events{wake: make(chan struct{}, 1)} }

func (q *events) put(e endpoint.Event) {
	q.mu.Lock()
	if len(q.waiting) < queueSize {
		q.waiting = append(q.waiting, e)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run delivers until stop is closed and nothing waits.
func (q *events) run(stop <-chan struct{}, deliver func(endpoint.Event)) {
	for ended := false; !ended; {
		select {
		case <-q.wake:
		case <-stop:
			ended = true
		}
		q.mu.Lock()
		batch := q.waiting
		q.waiting = nil
		q.mu.Unlock()
		for _, e := range batch {
			deliver(e)
		}
	}
}

// deliver writes an event to the log and hands it on, on the queue's goroutine.
func (p *Proxy) deliver(e endpoint.Event) {
	p.mu.Lock()
	log, hand := p.settings.Logger, p.settings.Events
	p.mu.Unlock()
	p.log(log, e)
	if hand != nil {
		hand(e)
	}
}

// log writes what a person should act on as a warning, what explains a change of
// behaviour as information, and the rest at Debug. What fails again and again for
// the same reason is a warning once.
func (p *Proxy) log(l *slog.Logger, e endpoint.Event) {
	switch e := e.(type) {
	case endpoint.SetChanged:
		p.failing = ""
		l.Info("endpoints changed", "size", e.Size, "held", e.Held, "added", len(e.Diff.Added), "removed", len(e.Diff.Removed), "source", e.Source)
	case endpoint.GuardDecision:
		l.Info("guard decided", "verdict", e.Verdict, "reason", e.Reason, "before", e.Before, "after", e.After)
	case endpoint.RefreshFailed:
		level, text := slog.LevelWarn, e.Err.Error()
		if p.failing == text {
			level = slog.LevelDebug
		}
		p.failing = text
		if e.Source != "" { // none has answered yet
			l = l.With("source", e.Source)
		}
		l.Log(context.Background(), level, "refresh failed, the endpoints stay", "err", e.Err)
	case endpoint.SourceSwitched:
		l.Warn("another source is in use", "from", e.From, "to", e.To, "reason", e.Reason)
	case endpoint.ClusterIPTarget:
		l.Warn("the name is a ClusterIP, which balances connections and not calls", "name", e.Name, "vip", e.VIP, "twin", e.Twin)
	case endpoint.Ejected:
		l.Warn("pod ejected", "pod", e.Endpoint, "reason", e.Reason, "for", e.For)
	case endpoint.Returned:
		l.Info("pod is back", "pod", e.Endpoint, "reason", e.Reason)
	case endpoint.Panicked:
		if e.On {
			l.Warn("too few pods are usable: ejections are set aside", "usable", e.Usable, "size", e.Size)
		} else {
			l.Info("enough pods are usable: ejections count again", "usable", e.Usable, "size", e.Size)
		}
	case endpoint.Warning:
		l.Warn(e.Text)
	case endpoint.FirstCall:
		l.Debug("first call on a new pod", "pod", e.Endpoint, "since_seen", e.SinceSeen, "since_change", e.SinceChange)
	case endpoint.Refreshed:
		if e.Outcome == "ok" || e.Outcome == "unchanged" {
			p.failing = ""
		}
		l.Debug("refreshed", "source", e.Source, "took", e.Took, "outcome", e.Outcome)
	}
}
