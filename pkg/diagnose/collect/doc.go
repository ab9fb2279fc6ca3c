// Package collect looks at a cluster and fills a [diagnose.Snapshot]. All the I/O of a diagnosis is here and in package
// live below it.
//
//	s, err := collect.NewSession(restConfig, collect.SessionOptions{Context: "prod"})
//	defer s.Close()
//	snap, err := collect.Run(ctx, s, collect.Options{Namespace: "default", Names: []string{"square-service"}})
//
// Run returns a snapshot whenever it learned anything, also beside an error: what was seen before a time-out, a Ctrl-C or
// the end of the Service is kept.
//
// # Cost
//
// A run makes the same number of requests for 3 pods and for 300: one list per kind of object (a page holds 500), one get for
// the server's version, and one get per ConfigMap that a workload refers to, at most [MaxConfigMaps]. Requests run side by
// side, at most [MaxConcurrent] at a time; the client-side rate limiter is off because it would queue what the API server's
// own fairness (KEP-1040) is there to judge.
//
// Lists carry no resourceVersion, that is they are consistent reads. A diagnosis is often the next command after an apply, and
// an answer from before the apply would be worse than none; resourceVersion=0 would also make the server ignore the page
// size. Since Kubernetes 1.31 such reads come from the server's watch cache and cost etcd nothing but a progress request
// (KEP-2340).
//
// # What is kept
//
// Objects are decoded a page at a time and projected at once to the fields that the types of package diagnose name. Values of
// variables, arguments and ConfigMaps stay in memory until they were searched for targets (package target) and are dropped
// then; only tokens that name a Service, a pod or a Service that is missing reach the snapshot. Reasons of facts
// that could not be had come from a fixed vocabulary, never from an answer's text.
//
// # What it refuses to do
//
// It writes nothing to the cluster, reads no Secret, reads no ConfigMap that no workload refers to, judges nothing, and prints
// nothing.
package collect
