// Package supply holds the tests of what a release is made of: which code by
// others is linked into it and under which licence, whether any of it has a
// known vulnerability, and whether CONTRIBUTING.md can be followed to the
// letter. They build programs and run tools, and so have a build tag of their
// own:
//
//	go test -tags supply ./test/supply/...
package supply

//go:generate go -C licenses run . -root ../../..
