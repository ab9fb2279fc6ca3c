// Package web is the front end of the voting example: a page with the ballot, and an API that passes each vote to the voting service over
// the one gRPC channel that the program has. It counts what it was told, by choice and by the pod that said so.
package web

import (
	"context"
	"errors"
	"html/template"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tally"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/ballot"
	votingpb "github.com/grpclb/kubectl-grpclb/examples/voting/proto"
)

// The environment variables that the front end reads.
const (
	// EnvVoting is the voting service's target in grpc-go's own syntax, called with grpc-go's default policy: voting-svc:8080 by default.
	EnvVoting = "VOTING_ADDRESS"
	// EnvPort is the HTTP port, 8000 by default: not the port that it calls, which a sidecar may have to take.
	EnvPort = "HTTP_PORT"
)

// callTimeout bounds one vote, including the wait for a connection.
const callTimeout = 2 * time.Second

// Web is the front end.
type Web struct {
	client  votingpb.VotingServiceClient
	choices tally.Counts
	pods    tally.Counts
	failed  atomic.Int64
}

// New makes a front end over conn, which stays the caller's to close.
func New(conn grpc.ClientConnInterface) *Web {
	return &Web{client: votingpb.NewVotingServiceClient(conn)}
}

// Results is what GET /api/results answers.
type Results struct {
	// Choices and Pods are the votes that were counted, most first.
	Choices []Choice    `json:"choices"`
	Pods    []tally.Row `json:"pods"`
	// Failed are the votes that were not counted.
	Failed int64 `json:"failed"`
}

// Choice is one line of the results.
type Choice struct {
	Choice string `json:"choice"`
	Votes  int64  `json:"votes"`
}

// Handler serves the page at /, POST /api/vote?choice=NAME, GET /api/results, and GET /healthz, which says nothing about the service.
func (w *Web) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", w.page)
	mux.HandleFunc("POST /api/vote", w.vote)
	mux.HandleFunc("GET /api/results", func(out http.ResponseWriter, _ *http.Request) { serve.JSON(out, http.StatusOK, w.results()) })
	mux.HandleFunc("GET /healthz", func(out http.ResponseWriter, _ *http.Request) {
		serve.JSON(out, http.StatusOK, map[string]string{"status": "UP"})
	})
	return mux
}

func (w *Web) vote(out http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	receipt, err := w.client.Vote(ctx, &votingpb.Ballot{Choice: r.FormValue("choice")}, grpc.WaitForReady(true))
	if err != nil {
		w.failed.Add(1)
		serve.JSON(out, httpStatus(err), map[string]string{"error": err.Error()})
		return
	}
	w.choices.Add(receipt.GetChoice(), 1)
	w.pods.Add(receipt.GetHost(), 1)
	serve.JSON(out, http.StatusOK, map[string]string{"choice": receipt.GetChoice(), "hostname": receipt.GetHost()})
}

func httpStatus(err error) int {
	switch status.Code(err) {
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusBadGateway
	}
}

func (w *Web) results() Results {
	out := Results{Choices: []Choice{}, Pods: w.pods.Rows(), Failed: w.failed.Load()}
	for _, r := range w.choices.Rows() {
		out.Choices = append(out.Choices, Choice{r.Host, r.Calls})
	}
	return out
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Snack of the day</title>
<h1>Snack of the day</h1>
<form method="post" action="/api/vote">{{range .Ballot}}
<button name="choice" value="{{.}}">{{.}}</button>{{end}}
</form>
<h2>So far</h2>
<ol>{{range .Results.Choices}}
<li>{{.Choice}}: {{.Votes}}{{end}}
</ol>
<p>{{.Results.Failed}} votes failed.
`))

func (w *Web) page(out http.ResponseWriter, _ *http.Request) {
	out.Header().Set("Content-Type", "text/html; charset=utf-8")
	// The only way to fail is a reader that has gone away, and there is nobody left to tell.
	_ = page.Execute(out, struct {
		Ballot  []string
		Results Results
	}{ballot.Choices(), w.results()})
}

// Run is the program: it serves HTTP until ctx ends.
func Run(ctx context.Context, env app.Env) error {
	port, err := env.Port(EnvPort, 8000)
	if err != nil {
		return err
	}
	listener, err := serve.Listen(ctx, port)
	if err != nil {
		return err
	}
	return run(ctx, env, listener, serve.DefaultStop)
}

func run(ctx context.Context, env app.Env, listener net.Listener, stop serve.Stop) error {
	target := env.String(EnvVoting, "voting-svc:8080")
	conn, err := channel.Open(target, channel.Options{})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer conn.Close()
	conn.Connect()
	env.Logger().Info("voting front end is ready", "address", listener.Addr().String(), "target", target)
	return serve.HTTP{Listener: listener, Handler: New(conn).Handler(), Stop: stop}.Run(ctx)
}
