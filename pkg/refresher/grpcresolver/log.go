package grpcresolver

import (
	"context"
	"log/slog"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// deliver hands an event to the application and writes it to the log. It runs on
// the queue's goroutine.
func (b *Builder) deliver(n named) {
	if l := b.options.Logger; l != nil {
		logEvent(l.With("target", n.target), n.event, b.again(n))
	}
	if b.options.Events != nil {
		b.options.Events(n.target, n.event)
	}
}

// again reports whether the event says what the one before said: a source that
// fails does so every few seconds.
func (b *Builder) again(n named) bool {
	switch e := n.event.(type) {
	case endpoint.RefreshFailed:
		text := e.Err.Error()
		if b.failing[n.target] == text {
			return true
		}
		b.failing[n.target] = text
	case endpoint.Refreshed:
		if e.Outcome == "ok" || e.Outcome == "unchanged" {
			delete(b.failing, n.target)
		}
	case endpoint.SetChanged:
		delete(b.failing, n.target)
	}
	return false
}

// logEvent writes what a person should act on as a warning, what explains a
// change of behaviour as information, and the rest at Debug.
func logEvent(l *slog.Logger, e endpoint.Event, again bool) {
	switch e := e.(type) {
	case endpoint.SetChanged:
		l.Debug("endpoints changed", "size", e.Size, "held", e.Held, "added", len(e.Diff.Added), "removed", len(e.Diff.Removed), "source", e.Source)
	case endpoint.GuardDecision:
		l.Info("guard decided", "verdict", e.Verdict, "reason", e.Reason, "before", e.Before, "after", e.After)
	case endpoint.RefreshFailed:
		level := slog.LevelWarn
		if again {
			level = slog.LevelDebug
		}
		if e.Source != "" { // "" before the first answer
			l = l.With("source", e.Source)
		}
		l.Log(context.Background(), level, "refresh failed, the endpoints stay", "err", e.Err)
	case endpoint.SourceSwitched:
		if e.From == "" { // the first choice
			l.Info("a source is chosen", "source", e.To, "reason", e.Reason)
			return
		}
		l.Warn("another source is in use", "from", e.From, "to", e.To, "reason", e.Reason)
	case endpoint.ClusterIPTarget:
		l.Warn("the name is a ClusterIP, which balances connections and not calls", "name", e.Name, "vip", e.VIP, "twin", e.Twin)
	case endpoint.Ejected:
		l.Warn("endpoint ejected", "endpoint", e.Endpoint, "reason", e.Reason, "for", e.For)
	case endpoint.Returned:
		l.Info("endpoint is back", "endpoint", e.Endpoint, "reason", e.Reason)
	case endpoint.Panicked:
		if !e.On {
			l.Info("enough endpoints are usable: ejections count again", "usable", e.Usable, "size", e.Size)
			return
		}
		l.Warn("too few endpoints are usable: ejections are set aside", "usable", e.Usable, "size", e.Size)
	case endpoint.Warning:
		l.Warn(e.Text)
	case endpoint.FirstCall:
		l.Debug("first call on a new endpoint", "endpoint", e.Endpoint, "since_seen", e.SinceSeen, "since_change", e.SinceChange)
	case endpoint.Refreshed:
		l.Debug("refreshed", "source", e.Source, "took", e.Took, "outcome", e.Outcome)
	}
}
