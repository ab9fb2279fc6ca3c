// Package dns is the source of endpoints that every client can use: it asks the
// cluster's DNS servers, at its own pace.
//
//	opener := dns.New(dns.WithInterval(2 * time.Second))
//	target, err := endpoint.ParseTarget("", "square-service.default:grpc", "")
//	source, err := opener.Open(target)
//	err = source.Run(ctx, sink)
//
// It refuses to cache, to read /etc/hosts (a pod's host aliases may point back at
// a proxy that is fed by this very source), and to decide: an answer is handed on
// as it came, and package reconcile judges it.
//
// # What is asked
//
// A target with a port number is asked for as A or AAAA, one with a port name as
// SRV (RFC 2782, _port._tcp.name). Questions go over UDP with EDNS(0) and 1232
// octets (the size that DNS Flag Day 2020 found to pass everywhere unfragmented),
// then over TCP when the answer was truncated; as long as answers are larger than
// that, they are asked for over TCP at once. DNS cannot say which A and which AAAA
// record are one pod, so that one family is used: the one that answered, first the
// preferred one. Only SRV targets that are names of pods pair both families.
//
// The servers are those of the target's authority, or of the pod's resolv.conf,
// which is read again when it changes; its search list, ndots, timeout, attempts,
// rotate and use-vc mean what resolv.conf(5) says, with one difference: a server
// that said SERVFAIL or REFUSED is not asked the same again in the same look. The
// name that answered is pinned: the search list is walked again only when that
// name has not existed for a while ([Config.RewalkAfter]).
//
// # When
//
// See [Pace]. An [endpoint.Asker]'s questions are answered at once, three in a row
// and then one a second; the TTL is reported and not obeyed: kubeadm's CoreDNS says
// 30 s of records that it does not cache itself.
//
// # What is told
//
// A look ends in one of the [Outcomes]. Records, NXDOMAIN and NODATA are answers
// and become an Update; an empty Set is not authoritative, since CoreDNS says
// NXDOMAIN for a headless Service none of whose pods is ready. All else is an
// [*Error] and becomes a Fail.
//
// # A Service with a ClusterIP
//
// One virtual IP balances connections, and a gRPC channel has one. CoreDNS gives
// such a Service away: the SRV target is the Service's own name, where that of a
// headless one is below it. The source then says [endpoint.ClusterIPTarget] and
// uses the Service's headless twin in its place when there is one
// ([Config.FollowHeadlessTwin]). A headless Service maps no ports: the twin's port
// is taken from its SRV records.
package dns
