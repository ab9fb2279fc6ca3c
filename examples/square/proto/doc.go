// Package squarepb is the wire contract of the square example, generated from square.proto by the command in examples/buf.yaml. It
// holds no logic.
package squarepb
