// Package server is the voting example's gRPC server. Each vote costs it some milliseconds of CPU, so that a graph of the pods' CPU shows
// where the votes went; a second port, of HTTP, serves the numbers of that graph. It keeps counts and no votes.
package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/ballot"
	votingpb "github.com/grpclb/kubectl-grpclb/examples/voting/proto"
)

// The environment variables that the server reads.
const (
	// EnvPort is the gRPC port.
	EnvPort = "GRPC_SERVER_PORT"
	// EnvMetricsPort is the HTTP port of GET /metrics.
	EnvMetricsPort = "METRICS_PORT"
	// EnvWork is how many rounds of SHA-256 a vote takes.
	EnvWork = "VOTE_WORK"
)

// Defaults of the variables. 20,000 rounds take one to four milliseconds of one core.
const (
	DefaultPort        = 8080
	DefaultMetricsPort = 8801
	DefaultWork        = 20_000
)

// maxWork keeps a typing error from stalling a machine.
const maxWork = 10_000_000

// Server implements the VotingService.
type Server struct {
	votingpb.UnimplementedVotingServiceServer

	// Host is what it answers as its own name.
	Host string
	// Work is the rounds of SHA-256 of each vote; 0 for none.
	Work int

	counted, failed atomic.Uint64
}

// Vote counts a vote and seals the receipt, which is the work. A vote for the broken choice costs as much and fails.
func (s *Server) Vote(_ context.Context, in *votingpb.Ballot) (*votingpb.Receipt, error) {
	choice := in.GetChoice()
	if !ballot.Known(choice) {
		return nil, status.Errorf(codes.InvalidArgument, "%q is not on the ballot", choice)
	}
	seal := sha256.Sum256([]byte(s.Host + " counted " + choice))
	for range s.Work {
		seal = sha256.Sum256(seal[:])
	}
	if choice == ballot.Broken {
		s.failed.Add(1)
		return nil, status.Errorf(codes.Internal, "the ballot box jammed on a %s", choice)
	}
	s.counted.Add(1)
	return &votingpb.Receipt{Choice: choice, Host: s.Host, Seal: seal[:]}, nil
}

// Metrics serves the counts and the process's CPU time in the text format of Prometheus.
func (s *Server) Metrics() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, `# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total %.6f
# TYPE voting_votes_total counter
voting_votes_total{pod=%q,result="counted"} %d
voting_votes_total{pod=%[2]q,result="failed"} %[4]d
`, cpuTime().Seconds(), s.Host, s.counted.Load(), s.failed.Load())
	})
	return mux
}

// Run is the program: it serves both ports until ctx ends.
func Run(ctx context.Context, env app.Env) error {
	port, err := env.Port(EnvPort, DefaultPort)
	if err != nil {
		return err
	}
	metricsPort, err := env.Port(EnvMetricsPort, DefaultMetricsPort)
	if err != nil {
		return err
	}
	work, err := env.Int(EnvWork, DefaultWork, 0, maxWork)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("learn the own host name: %w", err)
	}
	votes, err := serve.Listen(ctx, port)
	if err != nil {
		return err
	}
	metrics, err := serve.Listen(ctx, metricsPort)
	if err != nil {
		_ = votes.Close() // the error worth telling is the other one
		return err
	}
	s := &Server{Host: host, Work: work}
	env.Logger().Info("voting server is ready", "address", votes.Addr().String(), "metrics", metrics.Addr().String(), "host", host, "work", work)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return serve.GRPC{
			Listener: votes, Register: func(r grpc.ServiceRegistrar) { votingpb.RegisterVotingServiceServer(r, s) }, Stop: serve.DefaultStop,
		}.Run(ctx)
	})
	group.Go(func() error {
		return serve.HTTP{Listener: metrics, Handler: s.Metrics(), Stop: serve.DefaultStop}.Run(ctx)
	})
	return group.Wait()
}
