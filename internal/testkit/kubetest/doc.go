// Package kubetest is a Kubernetes API server for tests that speaks real HTTP: discovery (aggregated too), typed objects as JSON and
// protobuf, lists with paging, label and field selectors, creates, patches and deletes. What goes wrong in real clusters can be made to
// go wrong here, per verb and resource: refusals, missing groups, expired continue tokens, busy and failing servers, hanging and dripping
// answers, answers cut in half, answers that are something else.
//
//	srv := kubetest.NewServer(t,
//		kubetest.Service("default", "square-service").Port("grpc", 6565, 6565),
//		kubetest.Deployment("default", "square").Replicas(3),
//	)
//	srv.Fail(kubetest.Fault{Verb: "list", Resource: "nodes", Status: 403})
//	cfg := srv.Config()
//
// Builders make objects that are valid and healthy, so that a test states only what differs.
//
// It has no controllers: pods and slices exist when a test puts them there. It keeps no history and serves no watches, validates
// nothing, and authorises everybody; a test that needs a rule makes it a Fault or a Handler.
package kubetest
