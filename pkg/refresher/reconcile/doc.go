// Package reconcile keeps the members of a target: it decides which answer of a
// source is believed, and when an endpoint that an answer lacks really goes.
//
// [Step] is the whole of it as a pure function of a [State], the time and an
// [Input]. It knows no network, no clock and no goroutine, so every sequence of
// answers can be played in a test. [Loop] drives it with a real source.
//
//	loop := reconcile.New(reconcile.Options{
//		Source:  source,
//		Publish: func(s reconcile.State) { use(s.Members()) },
//	})
//	err := loop.Run(ctx)
//
// It refuses to know what a connection is: who owns the connections says
// [Loop.Ended] and [Loop.Connected].
//
// # The guard
//
// One wrong answer must not take a healthy pool away, and a right one must not
// wait for long. The rules, with their reasons in
// docs/design/2026-11-22-membership.md:
//
//   - An error changes nothing, and stops the clocks below until the next answer.
//   - An authoritative Set is the truth. So is the first Set: there is nothing to
//     protect yet.
//   - An empty answer makes all members Held. It is believed after
//     [Config.EmptyGrace] without another one.
//   - An answer that lacks more than [Config.MaxShrink] of the members, and at
//     least [Config.MinShrink], makes those Held. A second answer that lacks the
//     same ones [Config.ConfirmAfter] later confirms it; one that has them again
//     restores them under the same ID; after [Config.HoldFor] it is believed.
//   - Never held: an endpoint that the Set marks terminating, one whose server
//     said GOAWAY, one whose address another pod has now.
//   - When the Set has endpoints but none may get calls, members that it still
//     lists stay as a last resort.
//
// # Held members
//
// A held member has calls only while no believed one is READY, and is never
// dialled: its address may be another pod's by now. The owner of the connections
// says Ended for every held member that has no READY connection (left), and it
// goes.
package reconcile
