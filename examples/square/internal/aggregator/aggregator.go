// Package aggregator is the square example's client: it calls the SquareService over a single gRPC channel, one call
// after the other, and shows over HTTP which host answered each. Whether the calls spread is decided by the channel's
// target and policy alone; the package never opens a second channel.
package aggregator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tally"
	squarepb "github.com/grpclb/kubectl-grpclb/examples/square/proto"
)

// MaxNumber bounds the n of GET /grpc/{n}: its square is the largest that fits the contract's int32.
const MaxNumber = 46340

// callTimeout bounds one call, including the wait for a connection.
const callTimeout = 5 * time.Second

// Result is one answer as GET /grpc/{n} lists it.
type Result struct {
	Input    int32  `json:"input"`
	Result   int32  `json:"result"`
	Hostname string `json:"hostname"`
}

// Aggregator asks for squares over the connection it was given.
type Aggregator struct {
	client  squarepb.SquareServiceClient
	timeout time.Duration
}

// New makes an aggregator over conn, which stays the caller's to close.
func New(conn grpc.ClientConnInterface) *Aggregator {
	return &Aggregator{client: squarepb.NewSquareServiceClient(conn), timeout: callTimeout}
}

// Squares asks for the squares of 1 to n, in order and one at a time. It is never nil; the first failure ends it. The
// error wraps the gRPC status of the call that failed.
func (a *Aggregator) Squares(ctx context.Context, n int) ([]Result, error) {
	results := make([]Result, 0, n)
	for i := range n {
		r, err := a.square(ctx, int32(i+1))
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (a *Aggregator) square(ctx context.Context, number int32) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	// Waiting for a connection instead of failing at once keeps a client useful that started before its servers.
	out, err := a.client.FindSquareUnary(ctx, &squarepb.Input{Number: number}, grpc.WaitForReady(true))
	if err != nil {
		return Result{}, fmt.Errorf("find the square of %d: %w", number, err)
	}
	return Result{Input: out.GetNumber(), Result: out.GetResult(), Hostname: out.GetHost()}, nil
}

// Handler serves GET /grpc/{n}, GET /load (the background load's tally; load may be nil) and GET /healthz, which says
// that the program runs and deliberately nothing about the servers behind it.
func (a *Aggregator) Handler(load *Load) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /grpc/{n}", a.serveSquares)
	mux.HandleFunc("GET /load", func(w http.ResponseWriter, _ *http.Request) {
		serve.JSON(w, http.StatusOK, load.report())
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		serve.JSON(w, http.StatusOK, map[string]string{"status": "UP"})
	})
	return mux
}

func (a *Aggregator) serveSquares(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n > MaxNumber {
		message := fmt.Sprintf("%q is not a whole number from 0 to %d", r.PathValue("n"), MaxNumber)
		serve.JSON(w, http.StatusBadRequest, failure{message})
		return
	}
	results, err := a.Squares(r.Context(), n)
	if err != nil {
		serve.JSON(w, httpStatus(err), failure{err.Error()})
		return
	}
	serve.JSON(w, http.StatusOK, results)
}

type failure struct {
	Error string `json:"error"`
}

// httpStatus tells a gateway's three ways to fail apart: no server, no answer in time, an answer that is an error.
func httpStatus(err error) int {
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusBadGateway
	}
}

// report is what GET /load answers; the zero value stands for a load that was never asked for.
type report struct {
	// CallsPerSecond is the rate asked for.
	CallsPerSecond int         `json:"callsPerSecond"`
	Failed         int64       `json:"failed"`
	Hosts          []tally.Row `json:"hosts"`
}
