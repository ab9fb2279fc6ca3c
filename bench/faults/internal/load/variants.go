package load

import (
	"fmt"
	"time"

	"github.com/sercand/kuberesolver/v6"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/auto"
)

// Variant is one way to spread calls over pods.
type Variant struct {
	// Name is for tables.
	Name string
	// Open makes the channel.
	Open func(Options) (*Target, error)
	// Ours is held to the budgets.
	Ours bool
	// Hidden is for one that calls a name behind which a proxy chooses the pod: kube-proxy, or the sidecar.
	Hidden bool
	// Pinned is for one that stays on one pod.
	Pinned bool
	// Sidecar gives its pod the daemon, which stands in for the name that it calls.
	Sidecar bool
	// Interval is the time between two DNS questions, 0 for what does not ask or not regularly.
	Interval time.Duration
}

// Target is an open channel.
type Target struct {
	Conn *grpc.ClientConn
	// Notes is what the variant tells about its run, nil for nothing.
	Notes func() []string
	// Close ends all that Open began.
	Close func() error
}

// Variants are what is compared for the library, in the order of the tables: what there is already, then ours.
func Variants() []Variant {
	return []Variant{
		{Name: "grpc-go dns", Open: stock},
		{Name: "kuberesolver", Open: kube},
		{Name: "refresher dns 5 s", Open: ours(), Ours: true, Interval: 5 * time.Second},
		{Name: "refresher auto", Open: ours(refresher.WithSource(auto.New())), Ours: true},
		{Name: "refresher dns 1 s", Open: ours(refresher.WithInterval(time.Second)), Ours: true, Interval: time.Second},
	}
}

// SidecarVariants are what is compared for the sidecar: one client that knows nothing, as it is and through the sidecar, and between them
// the one that was told of a headless Service.
func SidecarVariants() []Variant {
	return []Variant{
		{Name: "ClusterIP", Open: unchanged, Hidden: true, Pinned: true},
		{Name: "grpc-go dns", Open: stock},
		{Name: "sidecar", Open: unchanged, Hidden: true, Sidecar: true, Ours: true, Interval: 5 * time.Second},
	}
}

// Through is the Service with a ClusterIP in front of the pods of a headless one. A sidecar takes its name over.
func Through(service string) string { return service + "-vip" }

// unchanged is grpc-go without a word about balancing.
func unchanged(o Options) (*Target, error) {
	return dial(fmt.Sprintf("%s:%d", Through(o.Service), Port), grpc.WithDefaultServiceConfig("{"+methods(o)+"}"))
}

// Find returns the variant with a name.
func Find(name string) (Variant, error) {
	for _, v := range append(Variants(), SidecarVariants()...) {
		if v.Name == name {
			return v, nil
		}
	}
	return Variant{}, fmt.Errorf("there is no variant %q", name)
}

// methods is the part of the service config that is the same for all: nothing, or a retryPolicy as gRFC A6 has it.
func methods(o Options) string {
	if !o.Retry {
		return `"methodConfig": []`
	}
	return `"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.1s",
		"backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]`
}

func roundRobin(o Options) string {
	return `{"loadBalancingConfig": [{"round_robin": {}}], ` + methods(o) + `}`
}

// stock is grpc-go as its documentation has it.
func stock(o Options) (*Target, error) {
	return dial(fmt.Sprintf("dns:///%s.%s.svc.cluster.local:%d", o.Service, o.Namespace, Port), grpc.WithDefaultServiceConfig(roundRobin(o)))
}

// kube is kuberesolver as its README has it.
func kube(o Options) (*Target, error) {
	return dial(fmt.Sprintf("kubernetes:///%s.%s:%s", o.Service, o.Namespace, PortName),
		grpc.WithDefaultServiceConfig(roundRobin(o)), grpc.WithResolvers(kuberesolver.NewBuilder(nil, "kubernetes")))
}

func dial(target string, opts ...grpc.DialOption) (*Target, error) {
	conn, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, err
	}
	return &Target{Conn: conn, Notes: func() []string { return nil }, Close: conn.Close}, nil
}
