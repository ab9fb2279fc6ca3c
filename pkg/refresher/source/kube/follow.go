package kube

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// follower is a source while it runs; one goroutine owns it.
type follower struct {
	*source
	api  *api
	sink endpoint.Sink

	slices  map[string]slice
	arrived uint64
	version string // of the last event; "" when the state has to be asked for
	synced  time.Time
	list    bool // the server has no watch-list

	failures int  // in a row
	short    int  // watches in a row that ended at once
	told     bool // of a failure, and no Set since
	silence  time.Duration

	svc   service
	offer []port // the ports that svc was read for

	due     time.Time     // when the slices are told, zero when they are
	gap     time.Duration // after which the next Set may be told
	look    time.Time     // when the Service is read because there are no slices
	recheck time.Time     // when a question with Verify is answered that came too soon
	verify  bool          // the next state answers a question
	changed time.Time     // the latest trigger of what is not told yet

	last    endpoint.Set
	sent    time.Time // when, zero before the first
	trouble string    // the last trouble with the Service itself that was told
	warned  map[string]bool
}

func (f *follower) id() string { return f.namespace + "/" + f.name }

// run follows the Service until ctx ends.
func (f *follower) run(ctx context.Context) {
	f.silence = f.staleAfter
	for ctx.Err() == nil {
		began := time.Now()
		up, err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		wait, firm := f.judge(up, time.Since(began), err)
		f.pause(ctx, wait, firm)
	}
}

// judge decides what a session's end means: whom to tell, what to ask for next,
// and how long to wait. up means that the watch ran.
func (f *follower) judge(up bool, lasted time.Duration, err error) (wait time.Duration, firm bool) {
	if up && lasted > firstTry {
		f.failures, f.short = 0, 0
	}
	if up {
		f.short++
	}
	if apierrors.IsUnauthorized(err) {
		f.renew()
	}
	switch {
	case errors.Is(err, errVerify), errors.Is(err, errNoWatchList), errors.Is(err, errStale):
		f.version = ""
		return 0, true
	case errors.Is(err, errGone) && f.version != "" && f.short < shortMost:
		f.version = ""
		return between(0, firstTry), true
	case up && err == nil && f.short == 1:
		return between(0, firstTry/4), false
	case up && f.short < shortMost:
		return between(firstTry/10, firstTry), false
	case !up && f.failures == 0 && f.version != "" && apierrors.IsUnauthorized(err):
		// The token has expired, and there is a newer one by now.
		f.failures++
		return between(firstTry/10, firstTry), false
	case err == nil:
		err = errors.New("the API server ends each watch at once")
	}
	f.failures++
	f.fail(err)
	return retry(err, f.failures)
}

// renew makes the client anew, which reads the token's file at once; client-go's
// own would keep a token for up to a minute after it was refused.
func (f *follower) renew() {
	if fresh, err := newAPI(f.config); err == nil {
		f.api.close()
		f.api = fresh
	}
}

// fail tells a failure. What comes next is a state from the server: resuming
// would tell the old state as if it were today's.
func (f *follower) fail(err error) {
	f.version, f.told, f.due = "", true, time.Time{}
	if apierrors.IsForbidden(err) {
		err = &DeniedError{Namespace: f.namespace, Err: err}
	}
	f.sink.Fail(fmt.Errorf("watch the EndpointSlices of Service %s: %w", f.id(), err))
}

// pause waits; a question may shorten what is not firm, but not below what keeps
// many clients apart.
func (f *follower) pause(ctx context.Context, wait time.Duration, firm bool) {
	now := time.Now()
	end := now.Add(wait)
	soonest := now.Add(between(firstTry/2, firstTry*3/2))
	for {
		at := end
		if !f.due.IsZero() && f.due.Before(end) {
			at = f.due
		}
		timer := time.NewTimer(time.Until(at))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-f.asked:
			if _, verify := f.pending.take(); verify {
				f.version, f.verify = "", true
			}
			if !firm && soonest.Before(end) {
				end = soonest
			}
		}
		timer.Stop()
		now := time.Now()
		if !f.due.IsZero() && !f.due.After(now) && ctx.Err() == nil {
			f.tell(ctx, false)
		}
		if ctx.Err() != nil || !now.Before(end) {
			return
		}
	}
}

// session opens a watch, with the state before it when that is needed, and
// follows it until it ends. up tells whether it stood.
func (f *follower) session(ctx context.Context) (up bool, err error) {
	began := time.Now()
	query := f.query()
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("timeoutSeconds", strconv.Itoa(int(between(watchLeast*time.Second, watchMost*time.Second).Seconds())))
	var next map[string]slice // the state that is coming
	listed := false           // it is here
	switch {
	case f.version == "" && f.list:
		if next, err = f.relist(ctx); err != nil {
			return false, err
		}
		listed = true
	case f.version == "":
		next = map[string]slice{}
		query.Set("sendInitialEvents", "true")
		query.Set("resourceVersionMatch", string(metav1.ResourceVersionMatchNotOlderThan))
	}
	if f.version != "" {
		query.Set("resourceVersion", f.version)
	}
	st, err := f.api.watch(ctx, syncLimit, f.namespace, query)
	if err != nil && listed {
		f.version = "" // the list was not told
	}
	switch {
	case err == nil:
	case next != nil && !listed && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)):
		f.list = true
		return false, errNoWatchList
	case expired(err):
		return false, errGone
	default:
		return false, err
	}
	defer st.stop()
	if next != nil && !listed {
		if err := f.initial(ctx, st, next); err != nil {
			return false, err
		}
	}
	if next != nil {
		f.install(ctx, next, began)
	}
	err = f.follow(ctx, st)
	if expired(err) {
		err = errGone
	}
	return true, err
}

func (f *follower) query() url.Values {
	return url.Values{"labelSelector": {discoveryv1.LabelServiceName + "=" + f.name}}
}

// relist asks for the state by a list, for servers without watch-list. The first
// one may come from the server's cache; a later one must not be older than what
// is known, and is asked for without a version: what the cluster agrees on.
func (f *follower) relist(ctx context.Context) (map[string]slice, error) {
	query := f.query()
	if f.synced.IsZero() {
		query.Set("resourceVersion", "0")
	}
	limited, cancel := context.WithTimeoutCause(ctx, syncLimit, errSilent)
	defer cancel()
	list, err := f.api.list(limited, f.namespace, query)
	if err != nil {
		return nil, err
	}
	next := make(map[string]slice, len(list.Items))
	for i := range list.Items {
		f.put(next, &list.Items[i])
	}
	f.version = list.ResourceVersion
	return next, nil
}

// initial reads the state with which a watch begins.
func (f *follower) initial(ctx context.Context, st *stream, next map[string]slice) error {
	timer := time.NewTimer(syncLimit)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			// A server before 1.27 knows nothing of sendInitialEvents: it sends the
			// state and no end of it. A list tells it from one that is in trouble.
			f.list = !f.list
			return errSilent
		case e, ok := <-st.events:
			switch {
			case !ok && st.end != nil:
				return st.end
			case !ok:
				return errors.New("the API server ended the watch before the state was complete")
			case e.kind == apiwatch.Bookmark && e.initialEnd:
				f.version = e.version
				return nil
			case e.kind == apiwatch.Bookmark:
				f.list = true
				return errNoWatchList
			}
			f.apply(next, e)
			timer.Reset(syncLimit)
		}
	}
}

// follow applies events until the watch ends, stands silent, or a question wants
// the state anew.
func (f *follower) follow(ctx context.Context, st *stream) error {
	silent := time.NewTimer(f.silence)
	defer silent.Stop()
	chore := time.NewTimer(time.Hour)
	defer chore.Stop()
	for {
		f.setChore(chore)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-silent.C:
			f.silence = min(2*f.silence, max(staleMost, f.staleAfter))
			return errStale
		case <-chore.C:
			if f.chores(ctx) {
				return errVerify
			}
		case <-f.asked:
			f.answer(ctx)
		case e, ok := <-st.events:
			if !ok {
				return st.end
			}
			silent.Reset(f.heard(e))
		}
	}
}

// heard takes an event and returns how long the silence after it may last.
func (f *follower) heard(e event) time.Duration {
	if e.kind == apiwatch.Bookmark {
		f.version, f.silence = e.version, f.staleAfter
		return f.silence
	}
	before := f.slices[e.slice.Name]
	f.version = e.slice.ResourceVersion
	f.apply(f.slices, e)
	after := f.slices[e.slice.Name]
	if after.changed.After(f.changed) {
		f.changed = after.changed
	}
	wait := time.Duration(0)
	switch {
	case e.kind == apiwatch.Deleted && len(before.entries) > 0:
		wait = settleGone
	case before.loses(after):
		wait = settle
	}
	f.schedule(wait)
	return f.silence
}

// schedule makes the slices told after the wait, or sooner when they were to be
// told sooner; news that can be told at once do not wait longer than settle for
// others.
func (f *follower) schedule(wait time.Duration) {
	now := time.Now()
	if !f.due.IsZero() && wait == 0 {
		wait = settle
	}
	at := now.Add(wait)
	if soonest := f.sent.Add(f.gap); at.Before(soonest) {
		at = soonest
	}
	if f.due.IsZero() || at.Before(f.due) {
		f.due = at
	}
}

func (f *follower) setChore(timer *time.Timer) {
	next := time.Time{}
	for _, t := range []time.Time{f.due, f.look, f.recheck} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		timer.Stop()
		return
	}
	timer.Reset(time.Until(next))
}

// chores does what its time has come for; again means that the state is to be
// asked for.
func (f *follower) chores(ctx context.Context) (again bool) {
	came := func(t *time.Time) bool {
		if t.IsZero() || t.After(time.Now()) {
			return false
		}
		*t = time.Time{}
		return true
	}
	if came(&f.recheck) {
		f.verify = true
		return true
	}
	if came(&f.look) {
		f.readService(ctx)
		f.due = time.Now()
	}
	if came(&f.due) {
		f.tell(ctx, false)
	}
	return false
}

// answer answers questions while the watch runs.
func (f *follower) answer(ctx context.Context) {
	waiting, verify := f.pending.take()
	switch {
	case verify:
		f.recheck = f.synced.Add(verifyEvery)
		if now := time.Now(); f.recheck.Before(now) {
			f.recheck = now
		}
	case waiting && f.due.IsZero():
		f.tell(ctx, true)
	}
}

// apply puts an event's slice into all.
func (f *follower) apply(all map[string]slice, e event) {
	if e.kind == apiwatch.Deleted {
		delete(all, e.slice.Name)
		return
	}
	f.put(all, e.slice)
}

func (f *follower) put(all map[string]slice, es *discoveryv1.EndpointSlice) {
	f.arrived++
	all[es.Name] = project(es, f.arrived)
}

// install makes a state that came whole the present one and tells it.
func (f *follower) install(ctx context.Context, next map[string]slice, began time.Time) {
	for name, s := range next {
		if s.version != 0 && s.version == f.slices[name].version {
			continue // it was told
		}
		if s.changed.After(f.changed) {
			f.changed = s.changed
		}
	}
	f.slices, f.synced = next, time.Now()
	f.verify = f.verify || !f.recheck.IsZero()
	f.due, f.look, f.recheck = time.Time{}, time.Time{}, time.Time{}
	f.svc, f.offer = service{}, nil
	if len(next) == 0 {
		f.readService(ctx)
	}
	outcome := f.tell(ctx, true)
	f.told = false
	f.sink.Note(endpoint.Refreshed{Source: SourceName, Took: f.synced.Sub(began), Outcome: outcome})
}
