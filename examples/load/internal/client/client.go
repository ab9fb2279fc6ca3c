// Package client is the load example's client: many calls from a few goroutines over one gRPC channel, a progress
// display while they run, and at the end a tally of the pods that answered. It measures where calls go, not how fast a
// server could be: the number of calls a second is a by-product.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tally"
	loadpb "github.com/grpclb/kubectl-grpclb/examples/load/proto"
)

// maxFailures is how many failed calls without a success between them end the run: by then the servers are gone.
const maxFailures = 50

// errGaveUp ends a run whose calls do nothing but fail.
var errGaveUp = errors.New("gave up")

// Run is the program.
func Run(ctx context.Context, env app.Env) error {
	o, err := readFlags(env)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	return run(ctx, env, o, systemNames())
}

func run(ctx context.Context, env app.Env, o options, dns names) error {
	var dials dialErrors
	o.channel.OnDialError = dials.add
	conn, err := channel.Open(o.target.dial, o.channel)
	if err != nil {
		return err
	}
	defer conn.Close()

	fmt.Fprintf(env.Stderr, "calling %s with %s: %s calls from %d goroutines over one channel\n",
		o.target.dial, o.channel.Policy, tally.Thousands(o.count), o.concurrency)
	if o.hold {
		fmt.Fprintln(env.Stderr, "after the tally the channel stays open until a signal")
	}
	notYet := func() {
		fmt.Fprintf(env.Stderr, "not connected at the first try; trying for up to %v\n", o.connectTimeout)
	}
	if err := connect(ctx, conn, o.connectTimeout, notYet); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("connect to %s: %w", o.target.dial, app.ErrInterrupted)
		}
		explanation := explain(ctx, dns, failureOf(o, &dials, err))
		return fmt.Errorf("connect to %s: %w\n%s", o.target.dial, err, explanation)
	}

	r := newRunner(loadpb.NewLoadServiceClient(conn), o)
	began := time.Now()
	err = withProgress(ctx, env.Stderr, o.count, r.done.Load, r.run)
	if printErr := r.print(env.Stdout, time.Since(began)); printErr != nil {
		return errors.Join(err, printErr)
	}
	if errors.Is(err, errGaveUp) {
		return fmt.Errorf("%w\n%s", err, explain(ctx, dns, failureOf(o, &dials, err)))
	}
	if err != nil {
		return err
	}
	if o.hold {
		<-ctx.Done()
	}
	return nil
}

func failureOf(o options, dials *dialErrors, err error) failure {
	return failure{target: o.target, tls: o.channel.TLS != nil, dial: dials.last(), call: err}
}

// connect waits for the channel's first connection and calls notYet when an attempt has failed for the first time. Its
// error holds the reason for the last attempt's failure.
func connect(ctx context.Context, conn *grpc.ClientConn, limit time.Duration, notYet func()) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tellOnce := sync.OnceFunc(notYet)
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		switch state {
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure:
			tellOnce()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return reason(ctx, conn)
		}
	}
	return nil
}

// reason asks a channel that is not connected why: a call that does not wait for a connection fails with it. A channel
// that is still connecting has no reason yet, so that call is given a moment of its own.
func reason(expired context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(expired), 500*time.Millisecond)
	defer cancel()
	_, err := loadpb.NewLoadServiceClient(conn).Call(ctx, &loadpb.CallRequest{})
	if err == nil || status.Code(err) == codes.DeadlineExceeded {
		return fmt.Errorf("no connection in time: %w", context.DeadlineExceeded)
	}
	return err
}

// runner makes the calls. Its counters are read while it runs.
type runner struct {
	client loadpb.LoadServiceClient
	count  int64
	// workers is the number of goroutines, timeout the limit of one call.
	workers int
	timeout time.Duration

	next, done atomic.Int64
	// sinceSuccess counts failures in a row, over all goroutines.
	sinceSuccess atomic.Int64
	hosts        tally.Counts

	mu       sync.Mutex
	failures map[codes.Code]*failureCount
}

// failureCount keeps one example of what went wrong, and how often.
type failureCount struct {
	calls   int64
	example error
}

func newRunner(client loadpb.LoadServiceClient, o options) *runner {
	return &runner{
		client: client, count: o.count, workers: o.concurrency, timeout: o.callTimeout,
		failures: map[codes.Code]*failureCount{},
	}
}

// run makes the calls and returns when all goroutines have ended: nil after the last call even if some failed,
// app.ErrInterrupted if ctx ended first, errGaveUp if only failures were left.
func (r *runner) run(ctx context.Context) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var workers sync.WaitGroup
	for range r.workers {
		workers.Go(func() { r.work(ctx, giveUp) })
	}
	workers.Wait()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errGaveUp):
		return cause
	case r.done.Load() < r.count:
		return app.ErrInterrupted
	default:
		return r.anyFailed()
	}
}

// work takes call after call until none are left. It counts hosts by itself and adds them to the shared tally at the
// end, so that goroutines do not queue for a lock at each call.
func (r *runner) work(ctx context.Context, giveUp context.CancelCauseFunc) {
	hosts := map[string]int64{}
	defer func() {
		for host, calls := range hosts {
			r.hosts.Add(host, calls)
		}
	}()
	for ctx.Err() == nil {
		sequence := r.next.Add(1) - 1
		if sequence >= r.count {
			return
		}
		host, err := r.call(ctx, sequence)
		switch {
		case err == nil:
			hosts[host]++
			r.sinceSuccess.Store(0)
		case ctx.Err() != nil:
			// Cut short by the end of the run: neither a success nor a failure of the servers.
			return
		default:
			r.fail(err)
			if r.sinceSuccess.Add(1) >= maxFailures {
				giveUp(fmt.Errorf("%w after %d failed calls in a row: %w", errGaveUp, maxFailures, err))
			}
		}
		r.done.Add(1)
	}
}

func (r *runner) call(ctx context.Context, sequence int64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	// Without waiting, calls made while a connection is being replaced would fail by the thousand in no time.
	reply, err := r.client.Call(ctx, &loadpb.CallRequest{Sequence: sequence}, grpc.WaitForReady(true))
	if err != nil {
		return "", err
	}
	return reply.GetHost(), nil
}

func (r *runner) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	code := status.Code(err)
	if r.failures[code] == nil {
		r.failures[code] = &failureCount{example: err}
	}
	r.failures[code].calls++
}

// failed is the number of failed calls.
func (r *runner) failed() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	for _, f := range r.failures {
		n += f.calls
	}
	return n
}

func (r *runner) anyFailed() error {
	if n := r.failed(); n > 0 {
		return fmt.Errorf("%s of %s calls failed", tally.Thousands(n), tally.Thousands(r.count))
	}
	return nil
}

// print writes the tally: who answered, what failed, how long it took.
func (r *runner) print(w io.Writer, took time.Duration) error {
	rows := r.hosts.Rows()
	if err := tally.WriteTable(w, rows); err != nil {
		return err
	}
	done := r.done.Load()
	partial := ""
	if done < r.count {
		partial = " of " + tally.Thousands(r.count)
	}
	rate := int64(float64(done) / max(took.Seconds(), 0.001))
	_, err := fmt.Fprintf(w, "%s%s calls in %v (%s/s), %s failed, answered by %s\n", tally.Thousands(done), partial,
		took.Round(100*time.Millisecond), tally.Thousands(rate), tally.Thousands(r.failed()), pods(len(rows)))
	if err != nil {
		return fmt.Errorf("print the tally: %w", err)
	}
	return r.printFailures(w)
}

func (r *runner) printFailures(w io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		f := r.failures[code]
		if f == nil {
			continue
		}
		if _, err := fmt.Fprintf(w, "  %s x %v, such as: %v\n", tally.Thousands(f.calls), code, f.example); err != nil {
			return fmt.Errorf("print the failures: %w", err)
		}
	}
	return nil
}

func pods(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
