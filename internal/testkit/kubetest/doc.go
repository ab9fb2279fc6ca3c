// Package kubetest is a Kubernetes API server for tests that speaks real HTTP: discovery (aggregated too), typed objects as JSON and
// protobuf, lists with paging, label and field selectors, watches with history, bookmarks and initial events (KEP-3157), creates, patches
// and deletes. What goes wrong in real clusters can be made to go wrong here, per verb and resource: refusals, missing groups, expired
// continue tokens, busy and failing servers, hanging and dripping answers, answers cut in half, answers that are something else, watches
// that break, end, fall silent or find their history forgotten.
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
// NewLocal makes one without a socket, for tests in a bubble of testing/synctest.
//
// It has no controllers: pods and slices exist when a test puts them there. It validates nothing, and authorises everybody; a test that needs a rule makes it a Fault or a Handler.
package kubetest
