// Package e2e tests what a user does: the real plugin, started by the real
// kubectl, on a real cluster with real gRPC clients and servers in it.
//
//	make e2e                                          # on the lab, started when it is not up
//	make e2e CONTEXT=name                             # on a cluster that exists
//	go test -tags e2e ./test/e2e -run TestSquare -v   # one story
//	GRPCLB_E2E_PLUGIN=/path/to/kubectl-grpclb go test …  # with a binary and images that are built already
//
// Each test makes a namespace of its own and removes it; nothing else in the
// cluster is changed. Faults that would hit everybody (a broken cluster DNS, a
// node that dies) are therefore put into the namespace as look-alikes, made
// of the same programs. A test that needs something of the lab, its audit log
// say, names it and is skipped on other clusters.
//
// Where no cluster can be had the whole package is skipped with one sentence;
// with CI=true that is a failure.
package e2e
