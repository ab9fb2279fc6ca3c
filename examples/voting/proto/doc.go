// Package votingpb is the wire contract of the voting example, generated from voting.proto by the command in examples/buf.yaml. It
// holds no logic.
package votingpb
