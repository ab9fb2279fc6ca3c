package grpcresolver

func proxyChild() bool { return false }
