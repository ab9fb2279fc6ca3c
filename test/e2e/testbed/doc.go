// Package testbed gets a cluster ready for the demo and the end-to-end tests:
// it finds the lab or the cluster that was named, says how images get into it,
// and runs programs against it as a user's shell would.
//
// It knows nothing of what is shown or tested there, prints nothing, and starts
// nothing by itself: whoever asks decides what to run and when to undo it.
//
//	bed, status, err := testbed.Lab(ctx, root)
//	if err != nil { ... }                       // testbed.UnfitError: this machine cannot
//	err = bed.Command(ctx, "kubectl", "get", "nodes").Run()
package testbed
