// Package podtest gives a kubetest.Server what kubelets and container runtimes do for pods: port-forward over WebSocket and SPDY, exec,
// ephemeral containers that start or do not, logs, and short-lived pods.
//
//	srv := kubetest.NewServer(t, objects...)
//	nodes := podtest.New(t, srv)
//	nodes.Listen("kube-system/coredns-1", 53, dnsServer.Addr())
//	nodes.Play(func(a podtest.Agent) podtest.Play { return podtest.Play{Log: podtest.Text("...")} })
//
// Streams end at listeners on the loopback that the test runs: what speaks there is real. A port that nobody listens on is refused in the
// runtime's own words, on the error stream.
//
// It runs no program and knows no images. Whether a request is allowed is the business of kubetest's Faults.
package podtest
