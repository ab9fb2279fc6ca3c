// Package krew holds what a stranger gets from krew against krew's own rules:
// the manifest at the repository's root, the template that the release bot
// renders, and the archives that both name.
//
//	m, err := krew.Parse(text)                      // strict: krew itself ignores misspelt fields
//	faults := krew.Review(text)                     // what a reviewer of krew's index would say
//	text, err = krew.Render(template, "v1.2.3", sum) // as krew-release-bot does
//	tools, err := krew.Build(ctx, root, dir)        // the real krew, from tools/krew
//
// The package installs nothing by itself and trusts nothing of its own about
// installing: that is asked of krew and of its validator, which Build compiles
// and which the tests in test/release and test/e2e run. krew needs git as soon
// as it has an index.
package krew
