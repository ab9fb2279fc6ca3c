package grpcresolver

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func TestMergeServiceConfig(t *testing.T) {
	tests := map[string]struct {
		in     string
		policy string // that gRPC uses
		has    []string
		err    string
	}{
		"nothing":              {in: "", policy: config.PeakEWMA},
		"an empty object":      {in: "{}", policy: config.PeakEWMA},
		"spaces":               {in: " \n ", policy: config.PeakEWMA},
		"the rest stays":       {in: `{"methodConfig":[{"name":[{}],"timeout":"3s"}],"healthCheckConfig":{"serviceName":""}}`, policy: config.PeakEWMA, has: []string{`"timeout":"3s"`, "healthCheckConfig"}},
		"its own policy wins":  {in: `{"loadBalancingConfig":[{"round_robin":{}}]}`, policy: "round_robin"},
		"the first linked in":  {in: `{"loadBalancingConfig":[{"unknown":{}},{"grpclb_refresher_round_robin":{"slowStart":"0s"}}]}`, policy: "unknown"},
		"the old form":         {in: `{"loadBalancingPolicy":"grpclb_refresher_least_request"}`, policy: config.LeastRequest},
		"the old form, stock":  {in: `{"loadBalancingPolicy":"round_robin"}`, policy: "round_robin"},
		"keys in any case":     {in: `{"LoadBalancingConfig":[{"round_robin":{}}]}`, policy: ""},
		"null is nothing":      {in: `{"loadBalancingConfig":null}`, policy: config.PeakEWMA},
		"not JSON":             {in: `{`, err: "service config"},
		"no object":            {in: `[]`, err: "service config"},
		"null":                 {in: `null`, err: "not an object"},
		"no policy of ours":    {in: `{"loadBalancingConfig":[{"unknown":{}}]}`, err: "unknown"},
		"two in one":           {in: `{"loadBalancingConfig":[{"a":{},"b":{}}]}`, err: "loadBalancingConfig[0]"},
		"not a list":           {in: `{"loadBalancingConfig":{}}`, err: "loadBalancingConfig"},
		"not a name":           {in: `{"loadBalancingPolicy":1}`, err: "loadBalancingPolicy"},
		"a mistyped field":     {in: `{"loadBalancingConfig":[{"grpclb_refresher_peak_ewma":{"slowstart":"1s"}}]}`, err: "slowstart"},
		"a value out of range": {in: `{"loadBalancingConfig":[{"grpclb_refresher_peak_ewma":{"ejection":{"maxEjectionPercent":150}}}]}`, err: "ejection.maxEjectionPercent"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := mergeServiceConfig(tt.in, config.Default(config.PeakEWMA))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one that says %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var sc struct {
				LoadBalancingConfig []map[string]json.RawMessage `json:"loadBalancingConfig"`
			}
			if err := json.Unmarshal([]byte(got.json), &sc); err != nil {
				t.Fatal(err)
			}
			if _, ok := sc.LoadBalancingConfig[0][tt.policy]; !ok && tt.policy != "" {
				t.Errorf("%s: the policy is not %s", got.json, tt.policy)
			}
			for _, part := range tt.has {
				if !strings.Contains(got.json, part) {
					t.Errorf("%s: lacks %s", got.json, part)
				}
			}
		})
	}
}

func TestNewErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		o    Options
		says string
	}{
		"no source":            {Options{}, "Opener"},
		"scheme in upper case": {Options{Opener: nothing(), Scheme: "Refresh"}, "Refresh"},
		"no scheme at all":     {Options{Opener: nothing(), Scheme: "a b"}, "a b"},
		"a bad config":         {Options{Opener: nothing(), ServiceConfig: "{"}, "service config"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
		})
	}
}

func TestAuthority(t *testing.T) {
	for name, tt := range map[string]struct {
		target, service, port, want string
	}{
		"a number stays":              {target: "square.default:50051", want: "square.default:50051"},
		"a name goes":                 {target: "square.default:grpc", want: "square.default"},
		"the trailing dot goes":       {target: "square.default.svc.cluster.local.:50051", want: "square.default.svc.cluster.local:50051"},
		"dot and name":                {target: "square.default.svc.cluster.local.:grpc", want: "square.default.svc.cluster.local"},
		"the default port":            {target: "square.default", port: "50051", want: "square.default"},
		"IPv6":                        {target: "[2001:db8::1]:50051", want: "[2001:db8::1]:50051"},
		"IPv6 and the default port":   {target: "[2001:db8::1]", port: "50051", want: "[2001:db8::1]"},
		"a service name":              {target: "square-headless.default:grpc", service: "square.default.svc", want: "square.default.svc"},
		"nothing that can be a name":  {target: "a b", want: "invalid"},
		"IPv4 with the default port":  {target: "192.0.2.1", port: "50051", want: "192.0.2.1"},
		"the default port is a name":  {target: "square.default", port: "grpc", want: "square.default"},
		"the default port is written": {target: "square.default:50051", port: "50051", want: "square.default:50051"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuilder(t, nothing(), func(o *Options) { o.ServiceName, o.DefaultPort = tt.service, tt.port })
			got := b.OverrideAuthority(resolver.Target{URL: url.URL{Scheme: "refresh", Path: "/" + tt.target}})
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// What a server sees as the authority.
func TestAuthorityOnTheWire(t *testing.T) {
	seen := make(chan string, 1)
	bs := []*backend{newBackend(t, serving(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		seen <- authorityOf(ctx)
		return h(ctx, req)
	})))}
	b := newBuilder(t, static.New(endpoints(bs...)...), func(o *Options) { o.ServiceName = "square.default.svc" })
	c, _ := open(t, b, 1)
	mustCall(t, c)
	if got := <-seen; got != "square.default.svc" {
		t.Errorf("the server saw %q", got)
	}
}

// Errors of Build reach every call and say what to do.
func TestBuildErrors(t *testing.T) {
	fails := endpoint.OpenerFunc(func(endpoint.Target) (endpoint.Source, error) { return nil, errors.New("cannot mean that") })
	for name, tt := range map[string]struct {
		target string
		source endpoint.Opener
		config string
		opts   []grpc.DialOption
		says   string
	}{
		"service configs disabled": {target: square, source: nothing(), opts: []grpc.DialOption{grpc.WithDisableServiceConfig()}, says: "WithDisableServiceConfig"},
		"a malformed target":       {target: "refresh:///square.default", source: nothing(), says: "no port"},
		"the source refuses it":    {target: square, source: fails, says: "cannot mean that"},
		"a bad methodConfig":       {target: square, source: nothing(), config: `{"methodConfig":[{"name":[{"method":"x"}]}]}`, says: "service config"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuilder(t, tt.source, withConfig(tt.config))
			cc, err := grpc.NewClient(tt.target, append(tt.opts, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(b))...)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cc.Close() }()
			s := failing(t, testpb.NewTestServiceClient(cc))
			if s.Code() != codes.Unavailable || !strings.Contains(s.Message(), tt.says) {
				t.Errorf("%v: %q does not say %q", s.Code(), s.Message(), tt.says)
			}
		})
	}
}

// What the application puts into its service config is in force.
func TestServiceConfigIsInForce(t *testing.T) {
	bs := backends(t, 1)
	bs[0].answers(func(context.Context) error {
		if bs[0].calls.Load() < 3 {
			return unavailable
		}
		return nil
	})
	b := newBuilder(t, static.New(endpoints(bs...)...), withConfig(`{"methodConfig":[{"name":[{}],
		"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.001s","maxBackoff":"0.01s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`))
	if !strings.Contains(b.ServiceConfig(), "retryPolicy") {
		t.Errorf("the service config is %s", b.ServiceConfig())
	}
	c, cc := open(t, b, 1)
	mustCall(t, c)
	if n := bs[0].calls.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	if cc.GetMethodConfig("/a/b").RetryPolicy == nil {
		t.Error("the channel has no retry policy")
	}
}

func TestWait(t *testing.T) {
	bs := backends(t, 2)
	b := newBuilder(t, static.New(endpoints(bs...)...))
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	wantError := func(err error, says string) {
		t.Helper()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want a deadline that says %q", err, says)
		}
	}
	wantError(b.Wait(short(), "", 1), "no channel to any target was used yet")
	_, cc := dial(t, b)
	wantError(b.Wait(short(), square, 1), square)
	go cc.Connect()
	if err := b.Wait(t.Context(), "", 2); err != nil {
		t.Fatal(err)
	}
	wantError(b.Wait(short(), square, 3), "3 endpoints are wanted, 2 are connected of 2 known")
	wantError(b.Wait(short(), "refresh:///other:1", 1), "refresh:///other:1")
}

// A stock policy's connections are not known to us, its endpoints are.
func TestWaitStockPolicy(t *testing.T) {
	bs := backends(t, 2)
	b := newBuilder(t, static.New(endpoints(bs...)...), withPolicy("round_robin", `{}`))
	open(t, b, 2)
	if s := b.Stats()[0]; s.Endpoints[0].Connections != 0 {
		t.Errorf("%d connections of a stock policy are counted", s.Endpoints[0].Connections)
	}
}

func TestHas(t *testing.T) {
	bs := backends(t, 3)
	source := static.New(endpoints(bs[:2]...)...)
	b := newBuilder(t, source)
	open(t, b, 2)
	if !b.Has(square, bs[0].addr) || !b.Has(square, bs[1].addr) || b.Has(square, bs[2].addr) {
		t.Error("not the two that there are")
	}
	if b.Has("refresh:///other:1", bs[0].addr) {
		t.Error("a target that nobody uses has an endpoint")
	}
	source.Tell(endpoint.Set{Source: "dns", Reason: "NXDOMAIN"}) // not believed
	eventually(t, "they are held", func() bool { return b.Stats()[0].Endpoints[0].Held })
	if !b.Has(square, bs[0].addr) {
		t.Error("a held endpoint is not found")
	}
}

func TestWaitSaysWhy(t *testing.T) {
	b := newBuilder(t, failingSource{errors.New("SERVFAIL")})
	_, cc := dial(t, b)
	cc.Connect()
	eventually(t, "the source's error is told", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return strings.Contains(b.Wait(ctx, square, 1).Error(), "SERVFAIL")
	})
}

// Hubs that nobody used for long are forgotten when another one is made.
func TestForgottenHubs(t *testing.T) {
	b := newBuilder(t, nothing())
	target := endpoint.Target{Host: "a", Port: 1}
	old := b.hub("refresh:///a:1", target)
	if b.hub("refresh:///a:1", target) != old {
		t.Fatal("one target has two hubs")
	}
	old.unused = time.Now().Add(-2 * forgetAfter)
	b.hub("refresh:///b:1", target)
	if b.hub("refresh:///a:1", target) == old {
		t.Error("the hub was kept")
	}
}

// A hub that its channel does not use yet is not taken for one that nobody uses
// any more: two channels are built at once.
func TestNewHubsAreKept(t *testing.T) {
	b := newBuilder(t, nothing())
	first := b.hub("refresh:///a:1", endpoint.Target{Host: "a", Port: 1})
	b.hub("refresh:///b:1", endpoint.Target{Host: "b", Port: 1})
	if b.hub("refresh:///a:1", endpoint.Target{Host: "a", Port: 1}) != first {
		t.Error("a new hub was forgotten before it was used")
	}
	first.unused = time.Now().Add(-2 * forgetAfter)
	first = b.hub("refresh:///a:1", endpoint.Target{Host: "a", Port: 1}) // comes back after a long time
	b.hub("refresh:///c:1", endpoint.Target{Host: "c", Port: 1})
	if b.hub("refresh:///a:1", endpoint.Target{Host: "a", Port: 1}) != first {
		t.Error("a hub was forgotten while a channel came back to it")
	}
}

// Targets that no channel uses any more are not waited for, until one does again.
func TestWaitForTargetsInUse(t *testing.T) {
	bs := backends(t, 1)
	b := newBuilder(t, static.New(endpoints(bs...)...))
	_, first := open(t, b, 1)
	_ = first.Close()
	other, err := grpc.NewClient("refresh:///other.default:50051", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(b))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	other.Connect()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := b.Wait(ctx, "", 1); err != nil {
		t.Error(err)
	}
	_ = other.Close()
	again := make(chan error, 1)
	go func() { again <- b.Wait(ctx, "", 1) }()
	_, second := dial(t, b)
	second.Connect()
	if err := <-again; err != nil {
		t.Error(err)
	}
}
