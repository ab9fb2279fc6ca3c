//go:build race

package grpcresolver

// The race detector makes sync.Pool forget things at random.
const raceEnabled = true
