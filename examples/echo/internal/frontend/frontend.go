// Package frontend is the echo example's client. It holds two gRPC channels to the same pods, one through the ClusterIP
// Service and one through the headless Service, and shows over HTTP which pods answer ten calls on either.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	echopb "github.com/grpclb/kubectl-grpclb/examples/echo/proto"
	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tlsfiles"
)

// The environment variables that the frontend reads.
const (
	// EnvBackend is the target of /backend, called with pick_first: be-srv:50051 by default.
	EnvBackend = "BACKEND_ADDRESS"
	// EnvBackendLB is the target of /backendlb, called with round_robin: dns:///be-srv-lb:50051 by default.
	EnvBackendLB = "BACKENDLB_ADDRESS"
	// EnvCA names a PEM file with the authorities that sign the backend's certificate; unset means plaintext.
	EnvCA = "TLS_CA_FILE"
	// EnvPort is the HTTP port, 8081 by default.
	EnvPort = "HTTP_PORT"
)

// Calls is how many calls one request makes.
const Calls = 10

// callTimeout bounds one call, including the wait for a connection.
const callTimeout = 5 * time.Second

// Answer is what /backend and /backendlb return: the frontend's host, and the host behind each call in order.
type Answer struct {
	Frontend string   `json:"frontend"`
	Backends []string `json:"backends"`
}

type settings struct {
	backend, backendLB string
	options            channel.Options
	port               int
	stop               serve.Stop
}

func readSettings(env app.Env) (settings, error) {
	s := settings{
		backend:   env.String(EnvBackend, "be-srv:50051"),
		backendLB: env.String(EnvBackendLB, "dns:///be-srv-lb:50051"),
		stop:      serve.DefaultStop,
	}
	if ca := env.Getenv(EnvCA); ca != "" {
		config, err := tlsfiles.Client(ca)
		if err != nil {
			return s, fmt.Errorf("read %s: %w", EnvCA, err)
		}
		s.options.TLS = config
	}
	var err error
	s.port, err = env.Port(EnvPort, 8081)
	return s, err
}

// Run is the program: it serves HTTP until ctx ends.
func Run(ctx context.Context, env app.Env) error {
	s, err := readSettings(env)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("learn the own host name: %w", err)
	}
	listener, err := serve.Listen(ctx, s.port)
	if err != nil {
		return err
	}
	env.Logger().Info("echo frontend is ready", "address", listener.Addr().String(), "backend", s.backend,
		"backendlb", s.backendLB, "tls", s.options.TLS != nil)
	return run(ctx, s, host, listener)
}

func run(ctx context.Context, s settings, host string, listener net.Listener) error {
	routes := map[string]struct {
		target string
		policy channel.Policy
	}{
		"GET /backend":   {s.backend, channel.PickFirst},
		"GET /backendlb": {s.backendLB, channel.RoundRobin},
	}
	mux := http.NewServeMux()
	for pattern, route := range routes {
		options := s.options
		options.Policy = route.policy
		conn, err := channel.Open(route.target, options)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		defer conn.Close()
		// No connection before the first request: deployed together with its backends, a frontend that asked DNS now would
		// find the few that are ready by then, and stock gRPC asks no second time while those serve.
		mux.Handle(pattern, Handler(host, conn))
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		serve.JSON(w, http.StatusOK, map[string]string{"status": "UP"})
	})
	return serve.HTTP{Listener: listener, Handler: mux, Stop: s.stop}.Run(ctx)
}

// Handler makes Calls calls over conn for each request, one after the other. The first failure ends the request with a
// 502, or a 504 if no backend answered in time, and {"error": …}.
func Handler(host string, conn grpc.ClientConnInterface) http.Handler {
	client := echopb.NewEchoServerClient(conn)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := Answer{Frontend: host, Backends: make([]string, 0, Calls)}
		for range Calls {
			backend, err := hello(r.Context(), client, host)
			if err != nil {
				code := http.StatusBadGateway
				if status.Code(err) == codes.DeadlineExceeded {
					code = http.StatusGatewayTimeout
				}
				serve.JSON(w, code, map[string]string{"error": err.Error()})
				return
			}
			answer.Backends = append(answer.Backends, backend)
		}
		serve.JSON(w, http.StatusOK, answer)
	})
}

func hello(ctx context.Context, client echopb.EchoServerClient, host string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := client.SayHello(ctx, &echopb.EchoRequest{Name: host}, grpc.WaitForReady(true))
	if err != nil {
		return "", fmt.Errorf("say hello: %w", err)
	}
	return reply.GetHost(), nil
}
