// Package echopb is the wire contract of the echo example, generated from echo.proto by the command in examples/buf.yaml. It
// holds no logic.
package echopb
