package kube

import (
	"sync"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// questions are those that wait; several become one.
type questions struct {
	mu      sync.Mutex
	waiting bool
	verify  bool
}

func (q *questions) add(one endpoint.Question) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = true
	q.verify = q.verify || one.Verify
}

// take returns what waits and forgets it.
func (q *questions) take() (waiting, verify bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting, verify = q.waiting, q.verify
	q.waiting, q.verify = false, false
	return waiting, verify
}
