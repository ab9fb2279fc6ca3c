package collect

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
)

const (
	pageSize = 500
	maxTries = 3
	// maxWait is the longest pause before another try; a server that asks for more is reported instead.
	maxWait = 5 * time.Second
)

var (
	errCallTimeout  = errors.New("the time of one call is up")
	errNoConnection = errors.New("no connection in the time of one call")
)

// query is a list or a get with its parameters.
type query struct {
	Op
	labels string // label selector
	fields string // field selector
	tries  int    // zero: maxTries
}

// call sends one request and decodes the answer into obj, trying again when the server is busy or the connection broke. The error is
// always a *CallError.
func (s *Session) call(ctx context.Context, q query, params map[string]string, obj runtime.Object) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return s.failure(ctx, q.Op, ctx.Err(), &attempt{})
	}
	tries := q.tries
	if tries == 0 {
		tries = maxTries
	}
	for n := 1; ; n++ {
		a, err := s.try(ctx, q.Op, params, obj)
		if err == nil {
			return nil
		}
		ce := s.failure(ctx, q.Op, err, a)
		wait, again := pause(ce.Kind, a.retryAfter, n)
		if !again || n >= tries {
			return ce
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return s.failure(ctx, q.Op, ctx.Err(), &attempt{})
		}
	}
}

// try makes one request.
func (s *Session) try(ctx context.Context, op Op, params map[string]string, obj runtime.Object) (*attempt, error) {
	a := &attempt{}
	cctx, cancel := context.WithTimeoutCause(ctx, s.callTimeout, errCallTimeout)
	defer cancel()
	req := s.rest.Get().AbsPath(op.path()...).MaxRetries(0)
	for k, v := range params {
		req = req.Param(k, v)
	}
	err := req.Do(withAttempt(cctx, a)).Into(obj)
	return a, timedOut(ctx, cctx, a, err)
}

// timedOut marks an error that is due to the time of one call; without a connection by then, none is to be had.
func timedOut(run, call context.Context, a *attempt, err error) error {
	switch {
	case err == nil || run.Err() != nil || !errors.Is(context.Cause(call), errCallTimeout):
		return err
	case !a.connected.Load():
		return errors.Join(errNoConnection, err)
	}
	return errors.Join(errCallTimeout, err)
}

// pause says whether a failed call is worth another try, and after how long: the server's Retry-After, else a doubling wait with
// jitter so that many runs do not come back together.
func pause(k Kind, after time.Duration, n int) (time.Duration, bool) {
	switch k {
	case KindBusy, KindServer, KindBroken:
	default:
		return 0, false
	}
	if after > 0 {
		return after, after <= maxWait
	}
	base := 100 * time.Millisecond << n
	return base/2 + rand.N(base/2), true
}

// listPtr is a pointer to a typed list.
type listPtr[L any] interface {
	*L
	runtime.Object
	metav1.ListInterface
}

// list reads a collection page by page and keeps only what project makes of each page. A continue token that expired between two
// pages (410) starts the list again, once.
func list[P listPtr[L], L, T any](ctx context.Context, s *Session, q query, project func(P) []T) ([]T, error) {
	var out []T
	for restarted, token := false, ""; ; {
		params := map[string]string{"limit": strconv.Itoa(pageSize)}
		if token != "" {
			params["continue"] = token
		}
		if q.labels != "" {
			params["labelSelector"] = q.labels
		}
		page := P(new(L))
		if q.fields != "" {
			params["fieldSelector"] = q.fields
		}
		err := s.call(ctx, q, params, page)
		if kindOf(err) == KindExpired && !restarted {
			restarted, token, out = true, "", nil
			continue
		}
		if err != nil {
			return nil, err
		}
		// An answer that decodes to nothing at all ("{}", a proxy's page of JSON) must not pass for an empty cluster. Every
		// list of the API server itself has a version; aggregated servers may leave it out.
		if page.GetResourceVersion() == "" && q.Group != PodMetrics.Group {
			return nil, garbage(q.Op)
		}
		out = append(out, project(page)...)
		if token = page.GetContinue(); token == "" {
			return out, nil
		}
	}
}

// get reads one object.
func get[P interface {
	*O
	runtime.Object
	metav1.Object
}, O any](ctx context.Context, s *Session, op Op) (P, error) {
	obj := P(new(O))
	if err := s.call(ctx, query{Op: op}, nil, obj); err != nil {
		return nil, err
	}
	if obj.GetName() != op.Object {
		return nil, garbage(op)
	}
	return obj, nil
}

// serverVersion asks for the version of the API server: a document that is no API object.
func (s *Session) serverVersion(ctx context.Context) (string, error) {
	op := Op{Verb: "get", Resource: Resource{Name: "/version", Cluster: true}}
	a := &attempt{}
	cctx, cancel := context.WithTimeoutCause(ctx, s.callTimeout, errCallTimeout)
	defer cancel()
	b, err := s.rest.Get().AbsPath("/version").MaxRetries(0).Do(withAttempt(cctx, a)).Raw()
	if err != nil {
		return "", s.failure(ctx, op, timedOut(ctx, cctx, a, err), a)
	}
	var v version.Info
	if err := json.Unmarshal(b, &v); err != nil {
		return "", garbage(op)
	}
	return v.GitVersion, nil
}

func kindOf(err error) Kind {
	if ce, ok := errors.AsType[*CallError](err); ok {
		return ce.Kind
	}
	return ""
}
