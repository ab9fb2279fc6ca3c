// Package refresher keeps a gRPC client's connections equal to the pods that
// exist now, with one dial option.
//
//	conn, err := grpc.NewClient("refresh:///square-service.default:grpc",
//		grpc.WithTransportCredentials(creds), refresher.DialOption())
//
// The channel is a stock *grpc.ClientConn: interceptors, OpenTelemetry, channelz,
// deadlines, retries and health checking work as before. What changes is where
// its endpoints come from and how a call chooses one of them: a pod that was added
// gets calls after seconds instead of never, a DNS server that forgets a Service
// for a moment closes nothing, and a pod that fails or hangs is left alone.
//
// It refuses to retry, to time out or to change calls: that is the service
// config's and the application's business. It links no Kubernetes client; the
// source that watches EndpointSlices is imported by name:
//
//	r, err := refresher.New(refresher.WithSource(auto.New()))
//
// # Targets
//
// refresh:///NAME:PORT, where NAME is what the pod's resolv.conf can find (short,
// name.namespace or full; a trailing dot means full) and PORT is a number or the
// name of the Service's port. refresh://SERVER/NAME:PORT asks that DNS server.
// An IP address is a target too, IPv6 in brackets. The Service should be headless;
// where it is not, and NAME-headless exists, that one is used.
//
// # Tuning
//
// What an operator may tune is in the gRPC service config, see package config,
// and given by [WithServiceConfig]; what a programmer decides is an [Option].
// docs/refresher.md lists all of it with the reasons for the defaults.
//
// # Watching it
//
// [WithEvents] hands over what happens, [WithLogger] writes it down,
// [Refresher.Stats] is the state at a moment, and package prometheus, below this
// one, makes metrics of it.
//
// # Switching it off
//
// With GRPCLB_REFRESHER_DISABLE=1 in the environment ([DisableVariable]) the
// same program uses stock DNS resolution and round_robin.
package refresher
