package auto

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/kube"
)

// slice makes the Service's EndpointSlice of pods with those numbers.
func slice(numbers ...int) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "square-abc", Labels: map[string]string{discoveryv1.LabelServiceName: "square"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("grpc"), Port: new(int32(6565))}},
	}
	for _, n := range numbers {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{addr(n, 0).Addr().String()}, TargetRef: &corev1.ObjectReference{Kind: "Pod", UID: types.UID("u" + addr(n, 0).String())},
		})
	}
	return es
}

// TestOnServers runs both real sources against an API server and a name server,
// through what happens to a client in a cluster.
func TestOnServers(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		const host = "square.default.svc.cluster.local."
		api := kubetest.NewLocal(t, slice(1, 2, 3))
		api.BookmarkEvery(time.Minute)
		var network dnstest.Memory
		zone := dnstest.NewZone(t, "cluster.local.")
		headless := func(numbers ...int) {
			var ips []netip.Addr
			for _, n := range numbers {
				ips = append(ips, addr(n, 0).Addr())
			}
			zone.Remove(host)
			zone.Headless(host, "grpc", 6565, ips...)
		}
		headless(1, 2, 3)
		network.Serve("10.96.0.10:53", zone, dnstest.NewZone(t, "."))
		src, err := New(
			WithKube(kube.WithConfig(api.Config()), kube.WithNamespace("default")),
			WithDNS(dns.WithDial(network.DialContext), dns.WithResolvConf(conf)),
		).Open(endpoint.Target{Host: "square", PortName: "grpc"})
		if err != nil {
			t.Fatal(err)
		}
		s := &stand{T: t, src: src, quiet: true}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- src.Run(ctx, s) }()
		s.want("switch >kube", "kube 1 2 3")
		s.after(time.Hour)
		if n := len(network.Queries()); n != 0 {
			t.Errorf("%d questions to DNS while the watch works", n)
		}
		s.want()

		api.Down(true)
		s.after(10 * time.Second)
		s.wantAmong("switch kube>dns: watch the EndpointSlices of Service default/square", "dns 1 2 3")
		headless(1, 2, 3, 4)
		s.after(time.Minute)
		s.wantAmong("dns 1 2 3 4")
		api.Set(slice(1, 2, 3, 4, 5))
		api.Down(false)
		s.after(time.Minute)
		s.wantAmong("switch dns>kube", "kube 1 2 3 4 5")
		network.Queries()
		s.after(time.Hour)
		if n := len(network.Queries()); n != 0 {
			t.Errorf("%d questions to DNS after the outage", n)
		}
		s.want()

		headless(1, 2, 3, 4, 5)
		api.Fail(kubetest.Fault{Resource: "endpointslices", Status: 403})
		api.CutWatches()
		s.after(3 * time.Second)
		s.wantAmong("switch kube>dns: watch the EndpointSlices of Service default/square: no right", "dns 1 2 3 4 5")
		api.Heal()
		s.after(10 * time.Minute)
		s.wantAmong("switch dns>kube", "kube 1 2 3 4 5")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
