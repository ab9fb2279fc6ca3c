package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	pfnames "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// upgrade turns a request to pods/portforward into a connection of streams: over WebSocket (KEP-4006), or plain SPDY where the server, or
// a proxy in between, does not take WebSocket. It returns when ctx ends. A refusal is an API status whichever way was taken.
func upgrade(ctx context.Context, cfg *rest.Config, u *url.URL) (httpstream.Connection, error) {
	conn, first := overWebSocket(ctx, cfg, u)
	if first == nil {
		return conn, nil
	}
	if err := ended(ctx, first); err != nil {
		return nil, err
	}
	if !worthSPDY(first) {
		return nil, cause(first)
	}
	conn, second := overSPDY(ctx, cfg, u)
	switch {
	case second == nil:
		return conn, nil
	case ended(ctx, second) != nil:
		return nil, ended(ctx, second)
	case isAPIStatus(second) || !isAPIStatus(cause(first)):
		return nil, second
	}
	return nil, cause(first)
}

// ended is the context's error when that is what err comes from. A connection that was given the context's deadline may be a little
// ahead of the context itself.
func ended(ctx context.Context, err error) error {
	var timeout net.Error
	if ctx.Err() == nil && errors.As(err, &timeout) && timeout.Timeout() {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// worthSPDY tells whether the refusal of a WebSocket can be about the WebSocket. A 403 can: it is a GET, and roles written before
// Kubernetes 1.31 allow only the create that SPDY needs.
func worthSPDY(err error) bool {
	if st, ok := apiStatus(cause(err)); ok && (apierrors.IsUnauthorized(cause(err)) || apierrors.IsNotFound(cause(err)) && namesObject(st)) {
		return false
	}
	return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
}

// cause takes the API server's answer out of a refused upgrade.
func cause(err error) error {
	var up *httpstream.UpgradeFailureError
	if errors.As(err, &up) && up.Cause != nil {
		return up.Cause
	}
	return err
}

// overWebSocket tunnels SPDY through a WebSocket.
func overWebSocket(ctx context.Context, cfg *rest.Config, u *url.URL) (httpstream.Connection, error) {
	rt, holder, err := websocket.RoundTripperFor(cfg)
	if err != nil {
		return nil, err
	}
	tctx, release := abortable(ctx)
	defer release()
	req, err := http.NewRequestWithContext(tctx, http.MethodGet, u.String(), nil) // RFC 6455 section 4.1: the method is GET
	if err != nil {
		return nil, err
	}
	conn, err := websocket.Negotiate(rt, holder, req, pfnames.WebsocketsSPDYTunnelingPortForwardV1)
	if err != nil {
		return nil, err
	}
	return newStreams(portforward.NewTunnelingConnectionWithLogger(logr.Discard(), conn))
}

// streams is a connection of streams whose Close really closes: the library's own waits, for ever, for streams that the other side never
// accepted.
type streams struct {
	httpstream.Connection
	below net.Conn
}

// newStreams speaks SPDY over conn, which it closes in the end and on failure.
func newStreams(conn net.Conn) (httpstream.Connection, error) {
	once := &onceCloser{Conn: conn}
	c, err := spdy.NewClientConnectionWithPings(once, portforward.PingPeriod)
	if err != nil {
		return nil, err
	}
	return streams{c, once}, nil
}

// Close implements httpstream.Connection.
func (s streams) Close() error {
	_ = s.Connection.Close() // says good-bye
	return s.below.Close()
}

// onceCloser is closed by two: by the library, which takes a second close for a failure to wait for, and by us.
type onceCloser struct {
	net.Conn
	once sync.Once
	err  error
}

// Close implements net.Conn.
func (c *onceCloser) Close() error {
	c.once.Do(func() { c.err = c.Conn.Close() })
	return c.err
}

// abortable returns a context under which a WebSocket's connection is closed when ctx ends, until release is called. The dialer below
// client-go looks at a context's deadline only, so that without this a cancelled handshake would go on to its time-out.
func abortable(ctx context.Context) (traced context.Context, release func()) {
	var mu sync.Mutex
	var stops []func() bool
	traced = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		stop := context.AfterFunc(ctx, func() { _ = info.Conn.Close() })
		mu.Lock()
		defer mu.Unlock()
		stops = append(stops, stop)
	}})
	return traced, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, stop := range stops {
			stop()
		}
	}
}

func overSPDY(ctx context.Context, cfg *rest.Config, u *url.URL) (httpstream.Connection, error) {
	up, rt, err := newUpgrader(cfg)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, portforward.PortForwardProtocolV1Name)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return up.NewConnection(resp)
}

// upgrader is client-go's SPDY round tripper on top of net/http's own transport. That one ends with the request's context, also
// between request and answer, takes every kind of proxy, and leaves the answer of a refusal whole, so that a 403 is known for one. An
// upgrader serves one request.
type upgrader struct {
	base *http.Transport
	conn io.ReadWriteCloser // set by RoundTrip when the server switched protocols
}

// newUpgrader returns an upgrader, and the round tripper to send its request with: credentials and the session's counting included.
func newUpgrader(cfg *rest.Config) (*upgrader, http.RoundTripper, error) {
	tlsConfig, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, nil, err
	}
	proxy := cfg.Proxy
	if proxy == nil {
		proxy = utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment)
	}
	// No HTTP/2, which has no upgrades; and a connection that was refused is of no further use.
	u := &upgrader{base: &http.Transport{Proxy: proxy, DialContext: cfg.Dial, TLSClientConfig: tlsConfig, DisableKeepAlives: true}}
	rt, err := rest.HTTPWrappersForConfig(cfg, u)
	return u, rt, err
}

// RoundTrip implements http.RoundTripper.
func (u *upgrader) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	req.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	resp, err := u.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if rwc, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		u.conn, resp.Body = rwc, http.NoBody // client-go closes the answer's body when it has the connection
	}
	return resp, nil
}

// maxRefusal bounds what is read of a refusal.
const maxRefusal = 64 << 10

// NewConnection implements httpstream.UpgradeRoundTripper; a refusal is an API status.
func (u *upgrader) NewConnection(resp *http.Response) (httpstream.Connection, error) {
	if u.conn != nil && strings.EqualFold(resp.Header.Get(httpstream.HeaderUpgrade), spdy.HeaderSpdy31) {
		return newStreams(bodyConn{u.conn})
	}
	if u.conn != nil {
		_ = u.conn.Close()
		return nil, fmt.Errorf("the server switched to another protocol than %s", spdy.HeaderSpdy31)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil {
		return nil, fmt.Errorf("read the refusal of an upgrade: %w", err)
	}
	var st metav1.Status
	if json.Unmarshal(b, &st) == nil && st.Kind == "Status" {
		if st.Code == 0 {
			st.Code = int32(resp.StatusCode)
		}
		return nil, &apierrors.StatusError{ErrStatus: st}
	}
	return nil, apierrors.NewGenericServerResponse(resp.StatusCode, "create", schema.GroupResource{Resource: "pods"}, "", "", 0, true)
}

// bodyConn is the body of a switched answer as a net.Conn. SPDY sets no deadlines on it and asks for no addresses.
type bodyConn struct{ io.ReadWriteCloser }

// LocalAddr implements net.Conn; there is no such address.
func (bodyConn) LocalAddr() net.Addr { return streamAddr{} }

// RemoteAddr implements net.Conn; there is no such address.
func (bodyConn) RemoteAddr() net.Addr { return streamAddr{} }

// SetDeadline implements net.Conn and does nothing.
func (bodyConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn and does nothing.
func (bodyConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn and does nothing.
func (bodyConn) SetWriteDeadline(time.Time) error { return nil }
