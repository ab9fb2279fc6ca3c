// Package kube is the [endpoint.Source] that watches the EndpointSlices of one
// Service: it sees a pod become ready, begin to terminate and go, a moment after
// the cluster does, with its node, zone and hints. It refuses to list or watch
// anything else: no informer, no cache of the cluster, no controller.
//
//	conn, err := grpc.NewClient("refresh:///square-service.default:grpc", creds,
//		refresher.DialOption(refresher.WithSource(kube.New())))
//
// Package auto is this one where the pod may watch and DNS elsewhere. This
// package links the transport of Kubernetes' client library, 10 MB of a stripped
// program, which is why the facade does not import it. (The typed clients and
// informers, which it does without, would be 46 MB.)
//
// # Rights
//
// The pod's ServiceAccount needs a Role in the namespace of the Service. The rule
// for services is optional: see Ports.
//
//	apiVersion: rbac.authorization.k8s.io/v1
//	kind: Role
//	metadata: {name: grpclb-refresher, namespace: default}
//	rules:
//	- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
//	- {apiGroups: [""], resources: [services], verbs: [get]}
//	---
//	apiVersion: rbac.authorization.k8s.io/v1
//	kind: RoleBinding
//	metadata: {name: grpclb-refresher, namespace: default}
//	roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: grpclb-refresher}
//	subjects:
//	- {kind: ServiceAccount, name: default, namespace: default}
//
// Without it the source fails with a [DeniedError] and asks again after seconds,
// then minutes.
//
// # Names
//
// NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc and NAME.NAMESPACE.svc.DOMAIN mean the
// same, whatever the cluster's domain is. A short name is in the pod's own
// namespace. Headless and ClusterIP Services are alike: the pods behind either
// are seen, so that a target needs no headless twin. An ExternalName Service has
// no endpoints: the source fails with an [ExternalNameError].
//
// # Ports
//
// A port's name is the Service's, which every EndpointSlice carries beside the
// number that the pods listen on. Prefer names.
//
// A number means what it would mean to who writes it without this package: for a
// ClusterIP Service the Service's port, for a headless one the port that the pods
// listen on, since DNS gives the pods' addresses and the client dials the number
// that it was given. EndpointSlices hold the pods' numbers alone, so the Service
// is read when these do not settle it: when they have several ports, or one that
// is another number. What is not found in the one meaning is looked for in the
// other. Where the Service may not be read, a number that the pods listen on
// means that; one port alone is taken, with a [endpoint.Warning]; else the source
// fails with a [PortError].
//
// # What is an endpoint
//
// All slices of the Service are merged: slices of one IP family, and of both. The
// addresses of a dual-stack pod become one endpoint by the pod's UID, IPv4 first
// unless [PreferIPv6]. While the controller moves an endpoint between slices, the
// slice that was written last counts. Conditions that are absent mean ready,
// serving, not terminating. Nothing is filtered: unready and terminating
// endpoints are in the Set with their conditions, so that the guard knows who has
// left on purpose; publishNotReadyAddresses shows as ready, which is how the
// controller writes it. Hand-made slices without targetRef are served; addresses
// beyond an endpoint's first have no meaning in the API and are left out, as by
// kube-proxy. Slices of addressType FQDN are left out with a warning.
//
// # Zero
//
// A Set without endpoints is authoritative while there is a slice that says so:
// the controller keeps an empty one for a Service that selects no pod. No slice
// at all is a Service that is gone, is being replaced, or was never there: that
// Set is not authoritative, and its Reason tells these apart as far as the Service
// may be read.
//
// # The watch
//
// One request: a watch that begins with the state (KEP-3157), where the server
// has it, else one list and one watch. It is resumed where it ended, without
// asking for the state again, unless the server no longer has the history (410).
// A watch that is silent for 90 s though the server sends bookmarks each minute is
// not believed, and the state is asked for anew; HTTP/2 pings find a dead
// connection sooner. Everything that thousands of clients would do in the same
// moment is spread at random: the end of a watch (15 to 30 minutes), the first
// try after a break (up to a second), the tries after it (doubled up to 30 s). A
// Retry-After of the server is obeyed. Only what came as a whole is told: after a
// failure the next Set is from a state that the server gave anew, never a stale
// one.
package kube
