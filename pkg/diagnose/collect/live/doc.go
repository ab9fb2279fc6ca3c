// Package live asks running pods: what each DNS pod answers, what server ports speak, whom server pods are connected to, and where
// calls land. Its functions are stages of a collection ([collect.Stage]) and fill one group of facts each.
//
//	stages := live.Stages(collect.DepthObserve, live.Options{})
//	snap, err := collect.Run(ctx, session, options, stages...)
//
// Depth observe uses port-forward streams without a local listener: it runs nothing in the cluster and changes nothing. Depth sockets
// adds an ephemeral container to server pods, depth probe also runs a short-lived pod; Options.Announce hears of both before they
// happen, and of what stays behind.
//
// # What it refuses to do
//
// It asks no port that is not judged to speak gRPC (or assumed to, on request), sends no call but health checks and one method
// that exists nowhere, and leaves no pod behind: the probe's pod is deleted also when the run is interrupted.
package live
