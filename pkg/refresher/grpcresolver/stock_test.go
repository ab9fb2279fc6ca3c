package grpcresolver

import (
	// Policies of grpc-go that must work over our resolver.
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"
)
