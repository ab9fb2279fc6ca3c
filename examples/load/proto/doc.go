// Package loadpb is the wire contract of the load example, generated from load.proto by the command in examples/buf.yaml. It
// holds no logic.
package loadpb
