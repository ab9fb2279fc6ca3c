package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// forward is one upgraded connection to one pod: every dial over it makes the node's runtime connect to a port on the pod's
// loopback. There is no local listener.
type forward struct {
	conn httpstream.Connection
	next atomic.Int64

	mu      sync.Mutex
	trouble error // why the node's runtime could not connect, when that says nothing about the port
}

// openForward upgrades a request to pods/portforward. The error is a *collect.CallError.
func openForward(ctx context.Context, s *collect.Session, pod diagnose.Key) (*forward, error) {
	op := collect.Op{Verb: "create", Resource: collect.Pods, Sub: "portforward", Namespace: pod.Namespace, Object: pod.Name}
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	conn, err := upgrade(cctx, s.RESTConfig(), s.REST().Post().AbsPath(podPath(pod, "portforward")...).URL())
	if err != nil {
		return nil, failure(ctx, s, op, err)
	}
	return &forward{conn: conn}, nil
}

// Close ends every stream of the connection.
func (f *forward) Close() error { return f.conn.Close() }

// broken says why answers over this connection say nothing about the pod: the node could not connect at all, or the connection to the
// API server is gone. It is nil otherwise.
func (f *forward) broken() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trouble != nil {
		return f.trouble
	}
	select {
	case <-f.conn.CloseChan():
		return errors.New("the port-forward ended in the middle")
	default:
		return nil
	}
}

// dial connects to a port on the pod's loopback. The runtime connects when it has both streams, and its answer comes as an end of the
// data, so a refusal shows in Read, as an error that is syscall.ECONNREFUSED. When ctx ends first, dial returns at once; a stream that
// the node still opens is closed again.
func (f *forward) dial(ctx context.Context, port int) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type result struct {
		conn *stream
		err  error
	}
	done := make(chan result)
	go func() { // CreateStream waits for the node's reply and takes no context; it ends by itself after 30 s at the latest
		c, err := f.open(port)
		select {
		case done <- result{c, err}:
		case <-ctx.Done():
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("open a port-forward stream: %w", r.err)
		}
		return r.conn, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// open makes the pair of streams that stands for one connection.
func (f *forward) open(port int) (*stream, error) {
	h := http.Header{}
	h.Set(corev1.StreamType, corev1.StreamTypeError)
	h.Set(corev1.PortHeader, strconv.Itoa(port))
	h.Set(corev1.PortForwardRequestIDHeader, strconv.FormatInt(f.next.Add(1), 10))
	errs, err := f.conn.CreateStream(h)
	if err != nil {
		return nil, err
	}
	if err := errs.Close(); err != nil { // nothing is ever written to it
		_ = errs.Reset()
		return nil, err
	}
	h.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := f.conn.CreateStream(h)
	if err != nil {
		_ = errs.Reset()
		return nil, err
	}
	c := &stream{forward: f, data: data, errs: errs, port: port, said: make(chan struct{})}
	go c.listen()
	return c, nil
}

// stream is a pair of port-forward streams as a net.Conn. Deadlines do nothing (the transport has none); Close unblocks Read and
// Write.
type stream struct {
	forward    *forward
	data, errs httpstream.Stream
	port       int
	closing    sync.Once
	said       chan struct{} // closed when the error stream has ended
	reason     error         // set before said is closed
}

// maxReason bounds what is kept of a runtime's complaint.
const maxReason = 4 << 10

// listen reads the error stream: the runtime writes to it when it could not connect. It reads to the end, because what is left in one
// stream holds up others of the connection.
func (c *stream) listen() {
	defer close(c.said)
	b, _ := io.ReadAll(io.LimitReader(c.errs, maxReason)) // an error only means that there is no more
	if len(b) > 0 {
		reason := forwardError{port: c.port, refused: strings.Contains(strings.ToLower(string(b)), "connection refused")}
		c.reason = reason
		if !reason.refused {
			c.forward.mu.Lock()
			c.forward.trouble = reason
			c.forward.mu.Unlock()
		}
	}
	_, _ = io.Copy(io.Discard, c.errs)
}

// forwardError is what the node's runtime said about a connection that it could not make. Its text may hold paths of the node, so just
// the one thing that is understood of it is kept: containerd and socat (CRI-O) both name a refusal, in different case.
type forwardError struct {
	port    int
	refused bool
}

// Error names the port and what happened.
func (e forwardError) Error() string {
	if e.refused {
		return fmt.Sprintf("port %d of the pod: connection refused", e.port)
	}
	return fmt.Sprintf("port %d of the pod: the node could not connect", e.port)
}

// Is makes a refusal known to errors.Is as the system's own.
func (e forwardError) Is(target error) bool { return e.refused && target == syscall.ECONNREFUSED }

// waitReason is how long the end of the data waits for the reason, which travels on another stream.
const waitReason = 300 * time.Millisecond

// Read implements net.Conn.
func (c *stream) Read(b []byte) (int, error) {
	n, err := c.data.Read(b)
	if err != nil && n == 0 {
		t := time.NewTimer(waitReason)
		defer t.Stop()
		select {
		case <-c.said:
			if c.reason != nil {
				return 0, c.reason
			}
		case <-t.C:
		}
	}
	return n, err
}

// Write implements net.Conn.
func (c *stream) Write(b []byte) (int, error) {
	n, err := c.data.Write(b)
	if err != nil {
		select {
		case <-c.said:
			if c.reason != nil {
				return n, c.reason
			}
		default:
		}
	}
	return n, err
}

// Close implements net.Conn. It returns when nothing of the stream runs any more.
func (c *stream) Close() error {
	c.closing.Do(func() {
		_ = c.data.Reset()
		_ = c.errs.Reset()
		c.forward.conn.RemoveStreams(c.data, c.errs)
	})
	<-c.said
	return nil
}

// LocalAddr implements net.Conn; there is no such address.
func (c *stream) LocalAddr() net.Addr { return streamAddr{} }

// RemoteAddr implements net.Conn.
func (c *stream) RemoteAddr() net.Addr { return streamAddr{c.port} }

// SetDeadline implements net.Conn and does nothing.
func (c *stream) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn and does nothing.
func (c *stream) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn and does nothing.
func (c *stream) SetWriteDeadline(time.Time) error { return nil }

type streamAddr struct{ port int }

// Network implements net.Addr.
func (streamAddr) Network() string { return "port-forward" }

// String implements net.Addr.
func (a streamAddr) String() string { return "pod:" + strconv.Itoa(a.port) }
