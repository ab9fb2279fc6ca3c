package collect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// attempt is what the transport tells the caller about one request beyond what client-go's errors keep.
type attempt struct {
	retryAfter time.Duration
	connected  atomic.Bool
}

type attemptKey struct{}

func withAttempt(ctx context.Context, a *attempt) context.Context {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { a.connected.Store(true) }})
	return context.WithValue(ctx, attemptKey{}, a)
}

// counter counts requests into the session's cost, whoever makes them.
type counter struct {
	session *Session
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper. For the session's own calls it also reads the answer to its end: an answer that breaks off is
// an error of the request then, which client-go returns as it is; reading it later, client-go would write about it to stderr, which belongs
// to the caller.
func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.session.count(r)
	resp, err := c.next.RoundTrip(r)
	a, ok := r.Context().Value(attemptKey{}).(*attempt)
	if err != nil || !ok {
		return resp, err
	}
	a.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // all of it was read, or nothing more can be
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// WrappedRoundTripper lets client-go find the transport below.
func (c *counter) WrappedRoundTripper() http.RoundTripper { return c.next }

// retryAfter reads the two forms of the header (RFC 9110, section 10.2.3); 0 when there is none.
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

func (s *Session) count(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch classify(r.Method, r.URL.Path) {
	case countStream:
		s.cost.Streams++
	case countWrite:
		s.cost.Writes++
	case countList:
		s.cost.Lists++
	case countGet:
		s.cost.Gets++
	}
}

type countClass int

const (
	countGet countClass = iota
	countList
	countWrite
	countStream
)

// classify tells what a request costs. Access reviews are creates that store nothing and count as gets.
func classify(method, path string) countClass {
	seg := resourcePath(strings.Split(strings.Trim(path, "/"), "/"))
	if len(seg) > 2 && slices.Contains([]string{"portforward", "exec", "attach"}, seg[2]) {
		return countStream
	}
	if method != http.MethodGet && method != http.MethodHead {
		if len(seg) > 0 && strings.HasSuffix(seg[0], "reviews") {
			return countGet
		}
		return countWrite
	}
	if len(seg) == 1 {
		return countList
	}
	return countGet
}

// resourcePath cuts /api/v1[/namespaces/NS]/RESOURCE[/NAME[/SUB]] and its /apis form down to RESOURCE[/NAME[/SUB]]; nil for
// anything else. A server behind a prefix (rest.Config.Host with a path) is handled by looking for the api root.
func resourcePath(seg []string) []string {
	i := slices.IndexFunc(seg, func(s string) bool { return s == "api" || s == "apis" })
	if i < 0 {
		return nil
	}
	skip := 2
	if seg[i] == "apis" {
		skip = 3
	}
	if len(seg) < i+skip {
		return nil
	}
	seg = seg[i+skip:]
	if len(seg) > 2 && seg[0] == "namespaces" {
		return seg[2:]
	}
	return seg
}
