// Package micro holds Go benchmarks of the parts that a diagnosis spends its time in, each beside a peer where there is one: the same
// job done by the library that one would otherwise take. "impl=ours" and "impl=peer" in their names are the columns of benchstat:
//
//	go -C bench run . micro
//
// The peers are: for a snapshot's file, encoding/json of the same value (not the same job, a floor: no YAML, no checks of the input);
// for a DNS exchange, github.com/miekg/dns alone on a connection that stays open; for the kernel's socket table,
// github.com/vishvananda/netlink.
//
// There is no code here that anything could import.
package micro
