// Package policy holds Go benchmarks of what the refresher adds to a call and to an update of the endpoints, beside the policies that one
// would otherwise take, all in one run:
//
//	go -C bench run . policy
//
// BenchmarkPick is a pick and the end of its call, with 3 to 10,000 endpoints: our policies bare and as gRPC balancers; grpc-go's
// round_robin, weighted_round_robin (with load reports, so that it really weighs) and least_request; go-zero's p2c_ewma; httplb's power of
// two. The gRPC ones are the balancers themselves, driven through a ClientConn whose connections are always READY. "two clock reads" is the
// floor of everything that measures latency. Run with -cpu 1,2: the time per call with two threads says whether they get in each other's
// way.
//
// BenchmarkUpdate changes one endpoint of many. BenchmarkCall is a whole unary call over loopback, for what all this is beside a real one.
// BenchmarkMemory makes a balancer and reports what it holds per endpoint.
//
// There is no code here that anything could import.
package policy
