package refresher_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/journal"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

const target = "refresh:///square-service.default:grpc"

func newRefresher(t *testing.T, opts ...refresher.Option) *refresher.Refresher {
	t.Helper()
	r, err := refresher.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// quiet keeps the tests' output to what fails.
var quiet = refresher.WithLogger(slog.New(slog.DiscardHandler))

// TestChannelFollowsTheSource: pods that come get calls, pods that go get none.
func TestChannelFollowsTheSource(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 3)
	source := static.New(endpoints(pods[:2]...)...)
	changes := make(chan refresher.Event, 100)
	r := newRefresher(t, quiet, refresher.WithSource(source), refresher.WithPolicy(config.RoundRobin),
		refresher.WithEvents(nil), refresher.WithEvents(func(e refresher.Event) {
			if _, ok := e.What.(endpoint.SetChanged); ok {
				changes <- e
			}
		}))
	conn := dial(t, target, r.DialOption())
	conn.Connect()
	if err := r.WaitEndpoints(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if got, want := answers(ctx, t, conn, 10), "square-1 square-2"; got != want {
		t.Errorf("calls went to %s, want %s", got, want)
	}
	source.Set(endpoints(pods...)...)
	if err := r.WaitTarget(ctx, target, 3); err != nil {
		t.Fatal(err)
	}
	source.Set(endpoints(pods[2])...)
	waitFor(ctx, t, changes, 1)
	r.Refresh()
	for {
		if got := answers(ctx, t, conn, 10); got == "square-3" {
			break
		}
	}
	stats := r.Stats()
	if stats.Disabled || len(stats.Targets) != 1 || stats.Targets[0].Target != target || len(stats.Targets[0].Endpoints) != 1 {
		t.Errorf("stats are %+v", stats)
	}
}

func waitFor(ctx context.Context, t *testing.T, changes <-chan refresher.Event, size int) {
	t.Helper()
	for {
		select {
		case e := <-changes:
			if e.Target != target {
				t.Fatalf("the event's target is %q", e.Target)
			}
			if e.What.(endpoint.SetChanged).Size == size {
				return
			}
		case <-ctx.Done():
			t.Fatalf("no change to %d endpoints", size)
		}
	}
}

// answers makes n calls and names who answered, sorted.
func answers(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, n int) string {
	t.Helper()
	seen := map[string]bool{}
	for range n {
		who, err := whoAnswers(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		seen[who] = true
	}
	var out []string
	for _, name := range []string{"square-1", "square-2", "square-3"} {
		if seen[name] {
			out = append(out, name)
		}
	}
	return strings.Join(out, " ")
}

// TestSchemeTakesOver: targets that exist keep their scheme, and the port that
// grpc-go's own resolver gives them.
func TestSchemeTakesOver(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 1)
	asked := make(chan endpoint.Target, 1)
	source := static.New(endpoints(pods...)...)
	opener := endpoint.OpenerFunc(func(target endpoint.Target) (endpoint.Source, error) {
		asked <- target
		return source.Open(target)
	})
	conn := dial(t, "dns:///square-service.default", refresher.DialOption(quiet, refresher.WithScheme("dns"), refresher.WithSource(opener)))
	if _, err := whoAnswers(ctx, conn); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got.Host != "square-service.default" || got.Port != 443 {
		t.Errorf("the source was asked for %+v", got)
	}
}

// TestDefaultSourceIsDNS: without a source, and with an address that DNS need
// not be asked for.
func TestDefaultSourceIsDNS(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 1)
	r := newRefresher(t, quiet, refresher.WithInterval(time.Minute), refresher.WithHeadlessTwin(false),
		refresher.WithServiceConfig(`{"loadBalancingConfig":[{"grpclb_refresher_peak_ewma":{"refresh":{"onTTL":true}}}]}`))
	conn := dial(t, "refresh:///"+pods[0].Addr().String(), r.DialOption())
	if _, err := whoAnswers(ctx, conn); err != nil {
		t.Fatal(err)
	}
	if got := r.Stats().Targets[0].Source; got != "dns" {
		t.Errorf("the source is %q", got)
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	cases := []struct {
		name string
		opts []refresher.Option
		want []string
	}{
		{"a scheme", []refresher.Option{refresher.WithScheme("Refresh")}, []string{`scheme "Refresh": it takes lower-case`}},
		{"a port", []refresher.Option{refresher.WithDefaultPort("0")}, []string{"default port: ", "port 0 is not from 1 to 65535"}},
		{"a policy", []refresher.Option{refresher.WithPolicy("round_robin")}, []string{`no policy is called "round_robin": there are grpclb_refresher_peak_ewma`}},
		{"an interval", []refresher.Option{refresher.WithInterval(time.Millisecond)}, []string{`refresh.interval: "0.001s" is out of range`}},
		{"connections", []refresher.Option{refresher.WithConnectionsPerEndpoint(0)}, []string{"connectionsPerEndpoint: 0 is out of range"}},
		{"a configuration", []refresher.Option{refresher.WithConfig(config.Config{})}, []string{`no policy is called ""`}},
		{"two", []refresher.Option{refresher.WithScheme(""), refresher.WithConnectionsPerEndpoint(99)}, []string{`scheme ""`, "connectionsPerEndpoint: 99"}},
		{"a field of the service config", []refresher.Option{refresher.WithServiceConfig(`{"loadBalancingConfig":[{"grpclb_refresher_peak_ewma":{"x":1}}]}`)},
			[]string{"service config: grpclb_refresher_peak_ewma.x: no such field"}},
		{"a method config", []refresher.Option{refresher.WithServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":1}}]}`)},
			[]string{"service config: ", "retry policy"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := refresher.New(tc.opts...)
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "refresher: ") {
					t.Errorf("error is %v\nwant one with: %s", err, want)
				}
			}
		})
	}
}

// TestDialOptionTellsWhatIsWrong: there is no error to return, so each call has
// it.
func TestDialOptionTellsWhatIsWrong(t *testing.T) {
	for want, opt := range map[string]refresher.Option{
		"refresh.interval":   refresher.WithInterval(time.Millisecond),
		`scheme "Two Words"`: refresher.WithScheme("Two Words"),
	} {
		conn := dial(t, target, refresher.DialOption(nil, opt))
		err := conn.Invoke(within(t), "/a/b", nil, nil)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("the call's error is %v\nwant one with: %s", err, want)
		}
	}
}

// TestConfigInForce: defaults, changed by options, changed by the service config.
func TestConfigInForce(t *testing.T) {
	r := newRefresher(t, quiet,
		refresher.WithConfig(config.Default(config.LeastRequest)),
		refresher.WithInterval(40*time.Second),
		refresher.WithServiceConfig(`{"loadBalancingConfig":[{"grpclb_refresher_round_robin":{"slowStart":"0s"}}]}`))
	c := r.Config()
	if c.Policy != config.RoundRobin || c.SlowStart != 0 || c.Refresh.Interval != 40*time.Second || c.Refresh.MaxInterval != 40*time.Second {
		t.Errorf("in force is %+v", c)
	}
	if !strings.Contains(r.ServiceConfig(), `"slowStart":"0s"`) || !strings.Contains(r.ServiceConfig(), `"interval":"40s"`) {
		t.Errorf("channels get %s", r.ServiceConfig())
	}
}

// TestKillSwitch: with the variable set, the same program works without us.
func TestKillSwitch(t *testing.T) {
	for _, value := range []string{"1", "true", "TRUE", "yes"} {
		t.Run(value, func(t *testing.T) {
			t.Setenv(refresher.DisableVariable, value)
			ctx := within(t)
			pods := startPods(t, 1)
			source := endpoint.OpenerFunc(func(endpoint.Target) (endpoint.Source, error) {
				return nil, errors.New("the source was opened")
			})
			var log journal.Buffer
			r := newRefresher(t, refresher.WithSource(source), refresher.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
				refresher.WithServiceConfig(`{"methodConfig":[{"name":[{}],"waitForReady":true}]}`))
			conn := dial(t, "refresh:///"+pods[0].Addr().String(), r.DialOption())
			conn.Connect()
			if err := r.WaitEndpoints(ctx, 100); err != nil {
				t.Error(err)
			}
			r.Refresh()
			if _, err := whoAnswers(ctx, conn); err != nil {
				t.Error(err)
			}
			if s := r.Stats(); !s.Disabled || s.Targets != nil {
				t.Errorf("stats are %+v", s)
			}
			if sc := r.ServiceConfig(); sc != `{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{}],"waitForReady":true}]}` {
				t.Errorf("the service config is %s", sc)
			}
			if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), refresher.DisableVariable) {
				t.Errorf("the log says %q", log.String())
			}
		})
	}
	for _, value := range []string{"", "0", "false", "False"} {
		t.Setenv(refresher.DisableVariable, value)
		if newRefresher(t, quiet).Stats().Disabled {
			t.Errorf("%q switched the refresher off", value)
		}
	}
	t.Run("wrong options stay wrong", func(t *testing.T) {
		t.Setenv(refresher.DisableVariable, "1")
		_, err := refresher.New(refresher.WithServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":1}}]}`))
		if err == nil {
			t.Error("a service config that grpc-go refuses was taken")
		}
	})
}

// TestNilLogger: nil silences, as it does elsewhere.
func TestNilLogger(t *testing.T) {
	t.Setenv(refresher.DisableVariable, "1")
	newRefresher(t, refresher.WithLogger(nil))
}

// TestTuningUnderStockPolicy: the guard serves every policy, with what was tuned.
func TestTuningUnderStockPolicy(t *testing.T) {
	ctx := within(t)
	pods := startPods(t, 1)
	source := static.New()
	source.Tell(endpoint.Set{Endpoints: endpoints(pods...)})
	zero := make(chan struct{}, 1)
	c := config.Default(config.PeakEWMA)
	c.Refresh.EmptyGrace = 0
	r := newRefresher(t, quiet, refresher.WithSource(source), refresher.WithConfig(c),
		refresher.WithServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		refresher.WithEvents(func(e refresher.Event) {
			if d, ok := e.What.(endpoint.GuardDecision); ok && d.Verdict == endpoint.VerdictZero {
				zero <- struct{}{}
			}
		}))
	conn := dial(t, target, r.DialOption())
	if _, err := whoAnswers(ctx, conn); err != nil {
		t.Fatal(err)
	}
	source.Tell(endpoint.Set{Reason: "NXDOMAIN"})
	select {
	case <-zero:
	case <-ctx.Done():
		t.Error("an empty answer was not believed at once, though the grace is 0")
	}
}

// tuner is a source that obeys the configuration.
type tuner struct {
	*static.Source
	tuned chan config.Refresh
}

func (o tuner) Tune(r config.Refresh) endpoint.Opener {
	o.tuned <- r
	return o.Source
}

// TestTuner: a source that can is told how often to look.
func TestTuner(t *testing.T) {
	o := tuner{static.New(), make(chan config.Refresh, 1)}
	newRefresher(t, quiet, refresher.WithSource(o), refresher.WithInterval(7*time.Second))
	if r := <-o.tuned; r.Interval != 7*time.Second {
		t.Errorf("it was told %v", r.Interval)
	}
}
