// Package security runs the whole command line, as a process of its own,
// against an API server, DNS servers and gRPC servers that are made for it,
// with something in them that must not come through: secrets in every place
// where people put them (canary_test.go), and texts that would repaint a
// terminal, run in a shell or speak to a build log (hostile_test.go).
//
// Each package that handles such text has closer tests of its own. What is
// proved here is what a user can see: standard output, standard error and the
// files that are written.
package security
