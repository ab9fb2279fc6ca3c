package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the daemon's own ports. Whoever reaches the pod may ask there, and must
// not be able to make it hold much.
const (
	mostAdmin    = 64
	headerBytes  = 16 << 10
	headerWithin = 5 * time.Second
	askWithin    = 10 * time.Second
	answerWithin = 30 * time.Second
	idleFor      = 10 * time.Second // the kubelet opens a connection for each probe
	// closeWithin is how long an answer that is being written may take at the end.
	closeWithin = time.Second
)

// listenHTTP opens a port of the daemon itself.
func listenHTTP(ctx context.Context, addr netip.AddrPort, flag string) (net.Listener, error) {
	text := addr.String()
	if addr.Addr() == netip.IPv6Unspecified() {
		// Go opens this for both families, and for IPv4 alone where there is no IPv6.
		text = fmt.Sprintf(":%d", addr.Port())
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", text)
	if err != nil {
		return nil, fmt.Errorf("%w; --%s says which address it is, or off", err, flag)
	}
	return l, nil
}

// httpServer answers on a listener until stop is called.
type httpServer struct {
	server *http.Server
	done   chan struct{}
}

func serveHTTP(l net.Listener, h http.Handler, log *slog.Logger) *httpServer {
	s := &httpServer{
		server: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: headerWithin,
			ReadTimeout:       askWithin,
			WriteTimeout:      answerWithin,
			IdleTimeout:       idleFor,
			MaxHeaderBytes:    headerBytes,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
			ConnState:         (&crowd{in: map[net.Conn]guest{}}).changed,
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("a port of the daemon's own is gone", "addr", l.Addr().String(), "error", err)
		}
	}()
	return s
}

func (s *httpServer) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close()
	}
	<-s.done
}

// crowd bounds the connections of a server without ever refusing one: a listener
// that waits would let whoever fills it keep the kubelet's probe out, and have the
// kubelet restart the sidecar. Beyond mostAdmin one is closed, of the address that
// has most of them, the one that is idle for longest or else the oldest.
type crowd struct {
	mu sync.Mutex
	in map[net.Conn]guest
	n  uint64
}

// guest is one connection: where it is from, and a number that is higher the later
// it began, or became idle.
type guest struct {
	from  string
	idle  bool
	since uint64
}

// changed is http.Server's ConnState.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	if victim := c.note(conn, state); victim != nil {
		_ = victim.Close()
	}
}

func (c *crowd) note(conn net.Conn, state http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	switch state {
	case http.StateNew:
		from, _, err := net.SplitHostPort(conn.RemoteAddr().String())
		if err != nil {
			from = ""
		}
		c.in[conn] = guest{from: from, since: c.n}
		if len(c.in) > mostAdmin {
			return c.mostDispensableLocked(conn)
		}
	case http.StateIdle, http.StateActive:
		if g, ok := c.in[conn]; ok {
			c.in[conn] = guest{g.from, state == http.StateIdle, c.n}
		}
	default:
		delete(c.in, conn)
	}
	return nil
}

func (c *crowd) mostDispensableLocked(latest net.Conn) (victim net.Conn) {
	from, most := map[string]int{}, 0
	for _, g := range c.in {
		from[g.from]++
		most = max(most, from[g.from])
	}
	var worst guest
	for conn, g := range c.in {
		if from[g.from] < most || conn == latest {
			continue
		}
		if victim == nil || g.idle && !worst.idle || g.idle == worst.idle && g.since < worst.since {
			victim, worst = conn, g
		}
	}
	delete(c.in, victim)
	return victim
}
