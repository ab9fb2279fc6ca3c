// Package checks holds the failure modes that a diagnosis looks for, one file each, and nothing that they share with
// other packages: a check is a [diagnose.Check] value whose Run turns one [diagnose.View] into findings.
//
//	report := diagnose.Run(snap, diagnose.Options{Checks: checks.All()})
//
// # Rules that every check follows
//
// The mesh comes first: inside Linkerd or Istio the advice turns round, so the path of each client is judged before
// anything is said about balancing. What client code does is never guessed; what is not known is called unknown. No
// skew is claimed below the limits of [diagnose.Spread]. Each finding says whether it was observed, configured or
// inferred, and its evidence names the objects and the values.
//
// # Adding a check
//
// Write one Go file with one function that returns the check, its page under pages/, its cases under testdata/ID/
// (at least one that fires, one that stays quiet and one that lacks a fact), and its line in [All]. The tests of this
// package say what is missing; go generate writes docs/checks.md.
//
// # What it refuses to do
//
// No check does I/O, reads a clock, or depends on another check's side effects. Checks that only make sense for gRPC
// say so by GRPCOnly; the others concern any Service: does it have endpoints at all, and does DNS tell the truth.
package checks
