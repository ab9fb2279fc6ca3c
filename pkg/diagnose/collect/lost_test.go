package collect_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// TestServerLostMidRun: an API server that answered everything and then no more leaves the facts, and a gap that says so. A refusal of the
// last question does not mean that.
func TestServerLostMidRun(t *testing.T) {
	get := kubetest.Fault{Verb: "get", Resource: "services"}
	for name, c := range map[string]struct {
		fault func(kubetest.Fault) kubetest.Fault
		call  time.Duration
		want  string
	}{
		"hangs":   {func(f kubetest.Fault) kubetest.Fault { f.Hang = true; return f }, 3 * time.Second, "the API server went away during the run: no answer within 3s to: get service"},
		"breaks":  {func(f kubetest.Fault) kubetest.Fault { f.Half = true; return f }, 0, "the API server went away during the run: the connection broke"},
		"refuses": {func(f kubetest.Fault) kubetest.Fault { f.Status = 403; return f }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := kubetest.NewServer(t, square(3)...)
			stage := func(context.Context, *collect.Session, *diagnose.Snapshot) error {
				srv.Fail(c.fault(get))
				return nil
			}
			s := session(t, srv, collect.SessionOptions{CallTimeout: c.call})
			snap, err := collect.Run(context.Background(), s, options("square-service"), stage)
			if err != nil || !snap.Services.Known() || !snap.Slices.Known() {
				t.Fatalf("%v, services %+v", err, snap.Services.Status)
			}
			if c.want == "" {
				if len(snap.Gaps) > 0 {
					t.Errorf("gaps %+v", snap.Gaps)
				}
				return
			}
			if len(snap.Gaps) != 1 || snap.Gaps[0].Fact != diagnose.FactServices || snap.Gaps[0].State != diagnose.Failed ||
				snap.Gaps[0].Subject != "service default/square-service" || !strings.HasPrefix(snap.Gaps[0].Reason, c.want) {
				t.Errorf("gaps %+v, want %q", snap.Gaps, c.want)
			}
		})
	}
}

// TestTimeThatCleaningUpTakes is not the run's: the sentence names the limit.
func TestTimeThatCleaningUpTakes(t *testing.T) {
	srv := kubetest.NewServer(t, square(3)...)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	tidy := func(ctx context.Context, _ *collect.Session, _ *diagnose.Snapshot) error {
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
		defer cancel()
		<-late.Done()
		return ctx.Err()
	}
	_, err := collect.Run(ctx, session(t, srv, collect.SessionOptions{}), options("square-service"), tidy)
	var stopped *collect.StoppedError
	if !errors.As(err, &stopped) || !stopped.Timeout || stopped.After > 2*time.Second { // a busy machine begins the run some time after the clock
		t.Errorf("%v", err)
	}
}
