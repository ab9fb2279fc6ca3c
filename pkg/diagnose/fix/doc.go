// Package fix turns a strategy into what has to be applied, run and coded for one Service.
//
//	plan, err := fix.Build(view, diagnose.StrategyHeadless, fix.Options{Workload: read})
//	err = plan.WriteManifests(os.Stdout) // | kubectl apply -f -
//
// A [Plan] is data. Its manifests are complete enough for `kubectl apply -f -` and hold nothing else: commands, code
// and caveats stand beside them as comments.
//
// # What it refuses to do
//
// It talks to no cluster: workloads are read through [Options.Workload]. It never writes a part of an object where
// applying that part would remove the rest, never replaces an object that is not this project's own, and never
// guesses a port: a [Refusal] says why, and what would help.
package fix
