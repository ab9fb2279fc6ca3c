package grpcresolver

import (
	"sync"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// queueSize is how many events may wait for a slow consumer. A set of 10,000
// endpoints that comes up at once makes as many FirstCall events; a consumer
// that is behind by more than this has a problem of its own.
const queueSize = 1024

// named is an event with the target that it belongs to.
type named struct {
	target string
	event  endpoint.Event
}

// queue hands events to one consumer, one after the other and in order, on a
// goroutine of its own. It never makes the producer wait: it drops what does not
// fit. The goroutine exists while there is something to hand over, so that
// nothing has to be closed.
type queue struct {
	deliver func(named)

	mu      sync.Mutex
	waiting []named
	busy    bool
	dropped uint64
}

// put hands on an event; deliver may be nil.
func (q *queue) put(target string, e endpoint.Event) {
	if q.deliver == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= queueSize {
		q.dropped++
		return
	}
	q.waiting = append(q.waiting, named{target, e})
	if !q.busy {
		q.busy = true
		go q.run()
	}
}

func (q *queue) run() {
	for {
		q.mu.Lock()
		batch := q.waiting
		q.waiting = nil
		q.busy = len(batch) > 0
		q.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, n := range batch {
			q.deliver(n)
		}
	}
}

// drops is how many events found no room.
func (q *queue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
