package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of the daemon's own ports. Whoever reaches the pod may ask there, and must
// not be able to make it hold much.
const (
	mostAdmin    = 64
	headerBytes  = 16 << 10
	headerWithin = 5 * time.Second
	askWithin    = 10 * time.Second
	answerWithin = 30 * time.Second
	idleFor      = 90 * time.Second
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
	return netutil.LimitListener(l, mostAdmin), nil
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
