package kube

import (
	"errors"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// When what is done. Thousands of clients live through the same outage, so all
// of it is spread at random.
const (
	// staleAfter: servers send a bookmark every 60 to 61.25 s (a timer of 1 to
	// 1.25 s looks after a minute), so that one may be late and none missing.
	staleAfter = 90 * time.Second
	// staleMost: a server or proxy that never sends bookmarks is asked at most
	// this rarely.
	staleMost = 10 * time.Minute
	// syncLimit is how long a server may be silent that was asked for the state.
	syncLimit = 10 * time.Second
	// serviceLimit is for reading one object.
	serviceLimit = 5 * time.Second
	// serviceRetry is when it is read again if that failed, at least.
	serviceRetry = 5 * time.Second
	// watchLeast and watchMost are the seconds after which the server ends a
	// watch. Silence is found otherwise; this spreads clients over servers again
	// after one of them was away, at a cost of under one request per second for a
	// thousand clients.
	watchLeast, watchMost = 15 * 60, 30 * 60
	// verifyEvery bounds how often the state is asked for because of questions.
	verifyEvery = 5 * time.Second

	// shortMost watches in a row that end at once are a failure.
	shortMost = 3

	firstTry    = time.Second      // after a break: spread over this
	retryLeast  = time.Second      // then doubled
	retryMost   = 30 * time.Second //
	deniedLeast = 5 * time.Second  // a Role that is applied together with the pod comes soon
	deniedMost  = 5 * time.Minute  // or when somebody notices
)

// When Sets are told.
const (
	// gap is the least time between two Sets; the first of a burst goes at once.
	gap = 50 * time.Millisecond
	// gapShare times what the last one took is the least time, too: a Service of
	// 10,000 endpoints in a rollout takes a twentieth of a core (13 ms each). But a
	// new pod is to be seen within a second.
	gapShare, gapMost = 20, 500 * time.Millisecond
	// settle is how long an address may be missing while the controller moves it
	// to another slice: it writes slices one after the other.
	settle = 200 * time.Millisecond
	// settleGone is the same for a slice that is deleted with endpoints in it:
	// when a Service is deleted, its slices go one by one.
	settleGone = time.Second
)

var (
	errSilent = errors.New("the API server accepts the watch and is silent")
	// errVerify, errNoWatchList and errGone end a session that is to begin anew;
	// nobody is told.
	errVerify      = errors.New("the state is asked for again")
	errNoWatchList = errors.New("the server does not send the state with a watch")
	errGone        = errors.New("the server has forgotten what happened since")
	errStale       = errors.New("the watch is silent for too long")
)

// between is a random duration of [a, b).
func between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + rand.N(b-a)
}

// retry is how long to wait after so many failures in a row, and whether a
// question may shorten it.
func retry(err error, failures int) (wait time.Duration, firm bool) {
	least, most := retryLeast, retryMost
	if hopeless(err) {
		least, most, firm = deniedLeast, deniedMost, true
	}
	wait = least << min(failures-1, 10)
	wait = min(wait, most)
	wait = between(wait/2, wait*3/2)
	var r *refusal
	if errors.As(err, &r) && r.after > wait {
		return between(r.after, r.after*3/2), true
	}
	return wait, firm
}

// expired reports whether the server has no history for the watch any more.
func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}
