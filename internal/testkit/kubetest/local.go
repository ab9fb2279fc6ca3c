package kubetest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// NewLocal starts a server without a socket, for testing/synctest: nothing in it waits for the network, so that the bubble's clock runs.
// Its Config carries a transport that hands requests to the server; it must be made inside the bubble.
func NewLocal(t testing.TB, objs ...runtime.Object) *Server {
	t.Helper()
	s := unstarted(t, objs)
	t.Cleanup(func() { close(s.quit) })
	return s
}

// Down makes the server refuse connections and break those that there are (true), or come back (false). Only a server of NewLocal can.
func (s *Server) Down(on bool) {
	s.mu.Lock()
	s.down = on
	s.mu.Unlock()
	if on {
		s.CutWatches()
	}
}

func (s *Server) localConfig() *rest.Config {
	return &rest.Config{Host: "http://kubetest.invalid", Transport: local{s}}
}

// local is the transport to a server of NewLocal.
type local struct{ s *Server }

// RoundTrip implements http.RoundTripper.
func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	l.s.mu.Lock()
	down := l.s.down
	l.s.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ctx, cancel := context.WithCancel(r.Context())
	body, into := io.Pipe()
	w := &answer{header: http.Header{}, into: into, ready: make(chan struct{})}
	go func() {
		defer cancel()
		defer w.end()
		l.s.ServeHTTP(w, r.WithContext(ctx))
	}()
	select {
	case <-w.ready:
	case <-ctx.Done():
		err := context.Cause(r.Context())
		if err == nil { // the handler ended without a word
			err = io.EOF
		}
		return nil, &url.Error{Op: r.Method, URL: r.URL.String(), Err: err}
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, ContentLength: -1, Request: r, Body: closing{body, cancel},
	}, nil
}

// answer is an http.ResponseWriter that writes into a pipe.
type answer struct {
	header, sent http.Header
	status       int
	into         *io.PipeWriter
	ready        chan struct{} // closed when the header was written
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status, a.sent = status, a.header.Clone()
		close(a.ready)
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.into.Write(b)
}

// Flush implements http.Flusher; nothing is buffered.
func (a *answer) Flush() {}

// end ends the answer as the handler ended: orderly, or by http.ErrAbortHandler.
func (a *answer) end() {
	err := error(io.EOF)
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		err = errors.New("read: connection reset by peer")
	default:
		panic(p)
	}
	_ = a.into.CloseWithError(err) // never fails
}

// closing ends the request with its answer's body, as a connection that closes does.
type closing struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c closing) Close() error {
	c.cancel()
	return c.ReadCloser.Close()
}
