package endpoint

import "context"

// Source tells the endpoints of one target for as long as it runs.
//
// The caller runs it on a goroutine of its own, once. Run returns nil when ctx
// ends, and an error only when the source can never serve (a target it cannot
// mean); trouble that may pass is told to [Sink.Fail] and tried again. No
// goroutine of the source and no call of the Sink outlives Run.
//
// A source that looks (DNS) tells the Set of every look, also when nothing
// changed: two equal answers confirm each other. A source that watches tells a
// Set when it changed. After a Fail both tell the next success with an Update,
// changed or not, because that is what ends the failure.
//
// A Source may also be an [Asker].
type Source interface {
	Run(ctx context.Context, sink Sink) error
}

// Sink takes what a Source learned. A Source calls it from one goroutine at a
// time and only while Run runs. The calls do not block for long, and return when
// Run's ctx ends.
type Sink interface {
	// Update takes the complete Set, its endpoints in any order. The Set's slices
	// are the Sink's from then on: nobody writes to them. The same Set twice is a
	// no-op.
	Update(Set)
	// Fail says that the source could not look, and why; the error is not nil. It
	// never empties anything. [RefreshFailed] follows from it: a source does not
	// Note that itself.
	Fail(error)
	// Note hands on what happened beside the Set, for people and metrics.
	Note(Event)
}

// Asker is a Source that can be asked to look again before its time. Ask is
// called from any goroutine, returns at once and may be called at any time,
// also before Run and after it; the source bounds how often it really asks, and
// answers several questions that wait with one look.
type Asker interface {
	Ask(Question)
}

// Question says how to look again.
type Question struct {
	// Verify asks for an answer that can be held against the last one: from
	// every name server, over a transport that does not truncate, past every
	// cache of the source's own. The Set that answers it has Verified set.
	Verify bool
}

// Opener makes a Source for a target. It is what an application names a kind
// of source by. Open does no I/O; its error says what about the target the
// source cannot mean.
type Opener interface {
	Open(Target) (Source, error)
}

// OpenerFunc makes a function an [Opener].
type OpenerFunc func(Target) (Source, error)

// Open calls f.
func (f OpenerFunc) Open(t Target) (Source, error) { return f(t) }
