// Package serve runs an example's gRPC or HTTP server until its context ends, and then stops it the way a pod should:
// health turns to NOT_SERVING, the server goes on answering while the cluster takes the pod out of its endpoints, calls
// in flight finish, and only what outlasts the grace is cut.
package serve

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Stop says how a server leaves. The sum must stay below the pod's terminationGracePeriodSeconds.
type Stop struct {
	// Drain is how long the server still takes new connections after it was asked to stop: kube-proxy and DNS learn of a
	// terminating pod only after the pod itself does, and a refused connection would reach the callers.
	Drain time.Duration
	// Grace is how long calls in flight may take after that.
	Grace time.Duration
}

// DefaultStop fits the 30 seconds that Kubernetes grants by default.
var DefaultStop = Stop{Drain: 2 * time.Second, Grace: 10 * time.Second}

// GRPC is a gRPC server with the standard health service; every registered service and "" report SERVING.
type GRPC struct {
	Listener net.Listener
	Register func(grpc.ServiceRegistrar)
	// TLS is the server's certificate; nil serves plaintext.
	TLS  *tls.Config
	Stop Stop
}

// Run serves until ctx ends and the server has stopped. It returns nil after such a stop and an error when the listener
// broke. It closes the listener.
func (s GRPC) Run(ctx context.Context) error {
	var options []grpc.ServerOption
	if s.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.TLS)))
	}
	server := grpc.NewServer(options...)
	s.Register(server)
	status := health.NewServer()
	for name := range server.GetServiceInfo() {
		status.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(server, status)

	served := make(chan error, 1)
	go func() { served <- server.Serve(s.Listener) }()
	err := untilStop(ctx, s.Stop.Drain, served, status.Shutdown)
	if err != nil {
		return fmt.Errorf("serve gRPC on %s: %w", s.Listener.Addr(), err)
	}
	stopWithin(s.Stop.Grace, server)
	<-served
	return nil
}

// stopWithin lets calls finish for at most grace and returns once the server has stopped.
func stopWithin(grace time.Duration, server *grpc.Server) {
	stopped := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(stopped)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
		server.Stop()
		<-stopped
	}
}

// HTTP is a plain HTTP/1.1 server.
type HTTP struct {
	Listener net.Listener
	Handler  http.Handler
	Stop     Stop
}

// Run serves until ctx ends and the server has stopped, as GRPC.Run does.
func (s HTTP) Run(ctx context.Context) error {
	server := &http.Server{Handler: s.Handler, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.Listener) }()
	if err := untilStop(ctx, s.Stop.Drain, served, func() {}); err != nil {
		return fmt.Errorf("serve HTTP on %s: %w", s.Listener.Addr(), err)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Stop.Grace)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-served
	if err != nil {
		return fmt.Errorf("stop serving HTTP on %s: %w", s.Listener.Addr(), err)
	}
	return nil
}

// untilStop waits for the end of ctx and then for drain, in which leaving is told to whoever asks. A server that ends by
// itself before that has failed; its error is returned.
func untilStop(ctx context.Context, drain time.Duration, served chan error, leaving func()) error {
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	leaving()
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case err := <-served:
		return err
	case <-timer.C:
		return nil
	}
}

// Listen opens a TCP port on all addresses of both families.
func Listen(ctx context.Context, port int) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return l, nil
}

// JSON answers a request with a status code and v as its JSON body.
func JSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The only way to fail is a caller that has gone away, and there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(v)
}
