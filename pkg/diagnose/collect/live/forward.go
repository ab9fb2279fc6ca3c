package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// forward is one upgraded connection to one pod: every dial over it makes the node's runtime connect to a port on the pod's
// loopback. There is no local listener.
type forward struct {
	conn httpstream.Connection
	next atomic.Int64
}

// openForward upgrades a request to pods/portforward: over WebSocket (KEP-4006), or SPDY where the server or a proxy in between does
// not take WebSocket, as kubectl does.
func openForward(ctx context.Context, s *collect.Session, pod diagnose.Key) (*forward, error) {
	op := collect.Op{Verb: "create", Resource: collect.Pods, Sub: "portforward", Namespace: pod.Namespace, Object: pod.Name}
	ctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	d, err := forwardDialer(s.RESTConfig(), s.REST().Post().AbsPath("api", "v1", "namespaces", pod.Namespace, "pods", pod.Name, "portforward").URL())
	if err != nil {
		return nil, s.Failure(ctx, op, err)
	}
	type result struct {
		conn httpstream.Connection
		err  error
	}
	ch := make(chan result, 1)
	go func() { // the dialers take no context: a late connection is closed by whoever sees that nobody waits
		c, _, err := d.Dial(portforward.PortForwardProtocolV1Name)
		ch <- result{c, err}
	}()
	select {
	case r := <-ch:
		if r.err != nil {
			return nil, s.Failure(ctx, op, upgradeError(r.err))
		}
		return &forward{conn: r.conn}, nil
	case <-ctx.Done():
		go func() {
			if r := <-ch; r.conn != nil {
				_ = r.conn.Close()
			}
		}()
		return nil, s.Failure(context.WithoutCancel(ctx), op, ctx.Err())
	}
}

func forwardDialer(cfg *rest.Config, u *url.URL) (httpstream.Dialer, error) {
	rt, upgrader, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		return nil, err
	}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: rt}, http.MethodPost, u)
	ws, err := portforward.NewSPDYOverWebsocketDialerForStreaming(u, cfg)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialerForStreaming(ws, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

// upgradeError takes the API server's answer out of a refused upgrade, so that a 403 is known for one.
func upgradeError(err error) error {
	var up *httpstream.UpgradeFailureError
	if errors.As(err, &up) && up.Cause != nil {
		return up.Cause
	}
	return err
}

// Close ends every stream of the connection.
func (f *forward) Close() error { return f.conn.Close() }

// dial connects to a port on the pod's loopback. The runtime connects only when the first byte arrives, so a refusal shows in
// Read, as an error that is syscall.ECONNREFUSED.
func (f *forward) dial(ctx context.Context, port int) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := http.Header{}
	h.Set(corev1.StreamType, corev1.StreamTypeError)
	h.Set(corev1.PortHeader, strconv.Itoa(port))
	h.Set(corev1.PortForwardRequestIDHeader, strconv.FormatInt(f.next.Add(1), 10))
	es, err := f.conn.CreateStream(h)
	if err != nil {
		return nil, fmt.Errorf("open a port-forward stream: %w", err)
	}
	if err := es.Close(); err != nil { // nothing is ever written to it
		return nil, fmt.Errorf("open a port-forward stream: %w", err)
	}
	h.Set(corev1.StreamType, corev1.StreamTypeData)
	ds, err := f.conn.CreateStream(h)
	if err != nil {
		_ = es.Reset()
		return nil, fmt.Errorf("open a port-forward stream: %w", err)
	}
	c := &stream{data: ds, errs: es, port: port, said: make(chan struct{})}
	go c.listen()
	return c, nil
}

// stream is a pair of port-forward streams as a net.Conn. Deadlines do nothing (the transport has none); Close unblocks Read and
// Write.
type stream struct {
	data, errs httpstream.Stream
	port       int
	closing    sync.Once
	said       chan struct{} // closed when the error stream has ended
	reason     error         // set before said is closed
}

// maxReason bounds what is read of a runtime's complaint.
const maxReason = 4 << 10

// listen reads the error stream: the runtime writes to it when it could not connect. It ends with the streams.
func (c *stream) listen() {
	defer close(c.said)
	b, _ := io.ReadAll(io.LimitReader(c.errs, maxReason)) // an error only means that there is no more
	if len(b) > 0 {
		c.reason = forwardError{port: c.port, text: strings.TrimSpace(string(b))}
	}
}

// forwardError is what the node's runtime said about a connection that it could not make.
type forwardError struct {
	port int
	text string
}

// Error names the port and, in its own words, the known reasons; the runtime's text may hold paths of the node.
func (e forwardError) Error() string {
	if e.refused() {
		return fmt.Sprintf("port %d of the pod: connection refused", e.port)
	}
	return fmt.Sprintf("port %d of the pod: the node could not connect", e.port)
}

func (e forwardError) refused() bool { return strings.Contains(e.text, "connection refused") }

// Is makes a refusal known to errors.Is as the system's own.
func (e forwardError) Is(target error) bool { return e.refused() && target == syscall.ECONNREFUSED }

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

// Close implements net.Conn.
func (c *stream) Close() error {
	c.closing.Do(func() {
		_ = c.data.Reset()
		_ = c.errs.Reset()
	})
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
