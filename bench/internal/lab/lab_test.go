package lab

import "testing"

func TestTitle(t *testing.T) {
	s, err := Read([]byte(`{"state":"up","proxyMode":"nftables","nodes":[{"name":"n1"},{"name":"n2"}],
		"components":[{"name":"etcd","version":"v3"},{"name":"kubernetes","version":"v1.99.0"}]}`))
	const want = "the lab, 2 nodes on this machine, kube-proxy nftables, Kubernetes v1.99.0"
	if err != nil || s.State != "up" || s.Title() != want {
		t.Errorf("%+v is %q (%v), want %q", s, s.Title(), err, want)
	}
	if _, err := Read(nil); err == nil {
		t.Error("no output is taken for a status")
	}
}
