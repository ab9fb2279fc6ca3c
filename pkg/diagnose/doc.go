// Package diagnose finds out why the calls to a Kubernetes Service land where they land.
//
// It is pure: a [Snapshot] of facts goes in, a [Report] comes out. It talks to nothing, reads no clock and changes
// nothing, so that a snapshot saved in production gives the same words on any other machine.
//
//	snap, err := snapfile.Load(r)            // or collect.Run(ctx, ...)
//	report := diagnose.Run(snap, diagnose.Options{Checks: checks.All()})
//
// # Facts
//
// Everything that a check may use is a [Fact] of the snapshot. A fact is tri-state: known, not obtained (denied or
// failed, with the reason), or never asked for. A check states the facts it needs; the engine skips it, and says why,
// when one is missing. "Could not look" therefore never turns into "healthy".
//
// # Checks
//
// A [Check] is one value: an ID that is never renumbered, a page of documentation, its needs, and a function from a
// [View] (one Service inside the snapshot) to findings. See CONTRIBUTING.md for how to add one.
//
// # What it refuses to do
//
// It does no I/O, knows no Kubernetes client and guesses nothing about client code that it did not see.
package diagnose
