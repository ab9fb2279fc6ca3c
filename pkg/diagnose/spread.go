package diagnose

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// SpreadState is the judgement of how something is spread over the ready pods.
type SpreadState string

// The states of a spread.
const (
	SpreadUnknown SpreadState = "unknown" // not measured
	SpreadIdle    SpreadState = "idle"    // measured, and too little traffic or too few calls to judge
	SpreadSingle  SpreadState = "single"  // one ready pod: nothing to spread over
	SpreadOnePod  SpreadState = "one-pod" // one pod gets everything
	SpreadUneven  SpreadState = "uneven"  // some pod has more than 1.5 or less than 0.5 times an even share
	SpreadRough   SpreadState = "rough"   // neither uneven nor even
	SpreadEven    SpreadState = "even"    // every pod has an even share, a quarter of it more or less
)

// Spread is how traffic is really spread over the pods of a Service.
type Spread struct {
	// Basis says what State judges: bytes (socket tables), cpu (pod metrics), or nothing.
	Basis           string      `json:"basis,omitempty"`
	State           SpreadState `json:"state"`
	IntervalSeconds float64     `json:"intervalSeconds,omitempty"`
	Statistic       *Statistic  `json:"statistic,omitempty"`
	Rows            []SpreadRow `json:"pods,omitempty"`
	// Flows is the client x pod matrix of connections.
	Flows []Flow `json:"flows,omitempty"`
	// Probes are the spreads of the probe's own calls, one for each way of dialling.
	Probes []ProbeSpread `json:"probes,omitempty"`
	// Unseen counts ready pods whose sockets were not read (--max-pods, a refusal).
	Unseen int `json:"unseenPods,omitempty"`
	// Note says why sockets that were read do not tell the spread; empty when they do.
	Note string `json:"note,omitempty"`
}

// Statistic is a number with its sample size and what it may claim.
type Statistic struct {
	// Name is jain (fairness index, 1 = even, 1/pods = one pod; Jain, Chiu and Hawe 1984) or chi-square
	// (goodness of fit against an even spread).
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	// P is the probability of so uneven a spread by chance when the truth is even; chi-square only.
	P *float64 `json:"p,omitempty"`
	// N is the sample size: calls, connections, bytes per second or CPU milli-cores.
	N        float64 `json:"n"`
	Unit     string  `json:"unit"`
	Pods     int     `json:"pods"`
	Active   int     `json:"activePods"`
	MaxShare float64 `json:"maxShare"` // of the busiest pod, 0 to 1
	MinShare float64 `json:"minShare"` // of the quietest pod
}

// SpreadRow is one pod's part. Nil pointers are values that were not measured.
type SpreadRow struct {
	Pod   Key      `json:"pod"`           // zero for an endpoint that is no pod
	IPs   []string `json:"ips,omitempty"` // the addresses of an endpoint that is no pod
	Node  string   `json:"node,omitempty"`
	Zone  string   `json:"zone,omitempty"`
	Ready bool     `json:"ready"`
	Conns *int     `json:"connections,omitempty"`
	Rate  *float64 `json:"bytesPerSecond,omitempty"` // both directions, HTTP/2 framing included
	CPU   *int64   `json:"cpuMilli,omitempty"`
}

// Flow is one cell of the client x pod matrix.
type Flow struct {
	Client   string   `json:"client"` // "namespace/pod", "node n1" (source hidden), or an address
	Workload string   `json:"workload,omitempty"`
	Hidden   bool     `json:"sourceHidden,omitempty"` // SNAT: the true client is not visible from the server
	Pod      Key      `json:"pod"`
	Conns    int      `json:"connections"`
	Rate     *float64 `json:"bytesPerSecond,omitempty"`
}

// ProbeSpread says where the probe's own calls landed.
type ProbeSpread struct {
	Via        string      `json:"via"`
	From       string      `json:"from"`   // "namespace/pod"; empty when no call was made
	Target     string      `json:"target"` // empty when the Service cannot be dialled in that way
	Channels   int         `json:"channels"`
	Conns      int         `json:"connections"` // a channel has one for each address that it knows
	Calls      int         `json:"calls"`
	Failed     int         `json:"failed,omitempty"`
	State      SpreadState `json:"state"`
	Statistic  *Statistic  `json:"statistic,omitempty"`
	Rows       []ProbeRow  `json:"pods,omitempty"`
	Unassigned int         `json:"unassignedCalls,omitempty"` // calls whose pod could not be told
	Error      string      `json:"error,omitempty"`
}

// ProbeRow is one pod's part of a probe.
type ProbeRow struct {
	Pod   Key `json:"pod"`
	Conns int `json:"connections"`
	Calls int `json:"calls"`
}

// Limits below which nothing is claimed, and what is called even.
const (
	minBytes     = 8 << 10 // over all pods and the whole interval: some thirty small calls
	minCalls     = 30
	minCPUMilli  = 50
	activeShare  = 0.05 // of an even share
	evenWithin   = 0.25 // of an even share, up or down
	unevenBeyond = 0.5
	chiSquareP   = 0.001
	cochran      = 5   // expected in each class before chi-square means anything (Cochran 1954)
	cpuOnePodMin = 0.8 // CPU has a floor that traffic has not, so one pod never shows as 100 %
)

// Spread measures how connections, bytes, CPU and the probe's calls are spread over the pods.
func (v *View) Spread() Spread {
	s := Spread{State: SpreadUnknown}
	for _, e := range v.endpoints {
		if e.Ready || e.Serving {
			row := SpreadRow{Pod: e.Pod, Node: e.Node, Zone: cmp.Or(e.Zone, v.Zone(e.Node)), Ready: v.readyItself(e)}
			if e.Pod == (Key{}) {
				row.IPs = e.IPs
			}
			s.Rows = append(s.Rows, row)
		}
	}
	v.addSockets(&s)
	v.addCPU(&s)
	for _, r := range v.Probes.Value {
		s.Probes = append(s.Probes, v.probeSpread(r))
	}
	if s.readyRows() == 1 {
		s.State = SpreadSingle
		return s
	}
	s.judge()
	return s
}

func (v *View) addSockets(s *Spread) {
	if !v.Sockets.Known() {
		return
	}
	ports := v.TargetPorts()
	own := v.probeEnds()
	flows := map[[2]string]*Flow{}
	proxied := map[string]int{}
	for i := range s.Rows {
		row := &s.Rows[i]
		if kind := v.sidecar(row.Pod); kind != "" {
			if row.Ready {
				proxied[kind]++
			}
			continue
		}
		t := v.table(row.Pod)
		if t == nil {
			if row.Ready {
				s.Unseen++
			}
			continue
		}
		conns, rate := 0, 0.0
		for _, so := range t.Sockets {
			remote := netip.AddrPortFrom(so.Remote.Addr().Unmap(), so.Remote.Port())
			if so.State != "ESTABLISHED" || !slices.Contains(ports, int32(so.Local.Port())) || remote.Addr().IsLoopback() || own[remote] {
				continue
			}
			if t.Source == "inet_diag" && v.kubeletAsks(row.Pod, so) {
				continue
			}
			conns++
			rate += deref(so.RxRate) + deref(so.TxRate)
			v.addFlow(flows, row.Pod, so)
		}
		row.Conns = &conns
		if t.Source == "inet_diag" {
			row.Rate = &rate
			s.IntervalSeconds = t.IntervalSeconds
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(proxied)) {
		if s.Note != "" {
			s.Note += "; "
		}
		s.Note += fmt.Sprintf("%d of %d ready pods are behind a proxy of their own (%s): clients' connections end there, and the server's sockets show only what the proxy makes of them",
			proxied[kind], s.readyRows(), kind)
	}
	for _, f := range flows {
		s.Flows = append(s.Flows, *f)
	}
	slices.SortFunc(s.Flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), a.Pod.Compare(b.Pod))
	})
}

// sidecar returns the mesh whose proxy sits in the pod itself, empty for none. Such a proxy takes the connections of clients on a port of its
// own (Linkerd's 4143, Istio's 15006) and hands the calls on from inside the pod, so that the server's sockets say nothing about who calls or
// how much. Istio's ambient proxy sits on the node and keeps the sockets as they were.
func (v *View) sidecar(k Key) string {
	p := v.pods[k]
	if p == nil || !p.Mesh.In() || p.Mesh.Mode == "ambient" {
		return ""
	}
	return p.Mesh.Kind
}

// kubeletAsks reports whether a connection is the kubelet's own question about the pod's health: it comes from the pod's node to a port with a
// probe of the kind that connects, and was not there for the whole measurement (so it has no rate), as the kubelet opens one for each question. A
// client that SNAT hides behind the same address stays.
func (v *View) kubeletAsks(k Key, so Socket) bool {
	p := v.pods[k]
	if p == nil || so.RxRate != nil || so.TxRate != nil {
		return false
	}
	if client, _, _ := v.Peer(so.Remote.Addr()); client != "node "+p.Node {
		return false
	}
	for _, c := range p.Containers {
		for _, pr := range []*Probe{c.Readiness, c.Liveness, c.Startup} {
			if pr == nil || pr.Kind == "exec" {
				continue
			}
			named := slices.ContainsFunc(c.Ports, func(cp ContainerPort) bool { return cp.Name == pr.Port && cp.Port == int32(so.Local.Port()) })
			if named || portIs(pr.Port, []int32{int32(so.Local.Port())}) {
				return true
			}
		}
	}
	return false
}

func (v *View) addFlow(flows map[[2]string]*Flow, pod Key, so Socket) {
	client, p, hidden := v.Peer(so.Remote.Addr())
	id := [2]string{client, pod.String()}
	f := flows[id]
	if f == nil {
		f = &Flow{Client: client, Pod: pod, Hidden: hidden}
		if p != nil && p.Owner.Kind != "" {
			f.Workload = ShortKind(p.Owner.Kind) + "/" + p.Owner.Name
		}
		flows[id] = f
	}
	f.Conns++
	if so.RxRate != nil || so.TxRate != nil {
		r := deref(f.Rate) + deref(so.RxRate) + deref(so.TxRate)
		f.Rate = &r
	}
}

func deref(f *float64) float64 {
	if f == nil {
		return 0
	}
	return *f
}

func (v *View) table(pod Key) *SocketTable {
	for i := range v.Sockets.Value {
		if t := &v.Sockets.Value[i]; t.Pod == pod && t.Error == "" {
			return t
		}
	}
	return nil
}

// probeEnds are the client ends of the probe's own connections, which are no traffic of the users.
func (v *View) probeEnds() map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for _, r := range v.Probes.Value {
		for _, c := range r.Channels {
			out[netip.AddrPortFrom(c.Local.Addr().Unmap(), c.Local.Port())] = true
		}
	}
	return out
}

func (v *View) addCPU(s *Spread) {
	if !v.Metrics.Known() {
		return
	}
	for i := range s.Rows {
		for _, m := range v.Metrics.Value {
			if m.Key == s.Rows[i].Pod {
				s.Rows[i].CPU = &m.CPUMilli
			}
		}
	}
}

// judge decides the state of a spread over two pods or more: by bytes when they were measured, else by CPU, which can
// only tell the grossest case.
func (s *Spread) judge() {
	var rates, cpus []float64
	for _, r := range s.Rows {
		if !r.Ready {
			continue
		}
		if r.Rate != nil {
			rates = append(rates, *r.Rate)
		}
		if r.CPU != nil {
			cpus = append(cpus, float64(*r.CPU))
		}
	}
	if len(rates) >= 2 && len(rates) == s.readyRows() { // a pod without a rate is not a pod without traffic
		s.Basis = "bytes"
		s.Statistic = jain(rates, "bytes/s")
		s.State = s.Statistic.balance()
		if s.Statistic.N*s.IntervalSeconds < minBytes {
			s.State = SpreadIdle
		}
		return
	}
	if len(cpus) >= 2 && len(cpus) == s.readyRows() {
		st := jain(cpus, "mCPU")
		if st.N >= minCPUMilli && st.MaxShare >= cpuOnePodMin {
			s.Basis, s.Statistic, s.State = "cpu", st, SpreadOnePod
		}
	}
}

func (s *Spread) readyRows() int {
	n := 0
	for _, r := range s.Rows {
		if r.Ready {
			n++
		}
	}
	return n
}

func (v *View) probeSpread(r ProbeRun) ProbeSpread {
	out := ProbeSpread{Via: r.Via, Target: r.Target, State: SpreadUnknown, Error: r.Error}
	if r.From != (Key{}) {
		out.From = r.From.String()
	}
	if len(r.Channels) == 0 {
		return out // nothing was dialled: pods without calls would say otherwise
	}
	rows := map[Key]*ProbeRow{}
	for _, e := range v.Ready() {
		rows[e.Pod] = &ProbeRow{Pod: e.Pod}
	}
	channels := map[int]bool{}
	for _, c := range r.Channels {
		channels[c.Channel] = true
		out.Calls += c.Calls
		out.Failed += c.Failed
		if c.Local.IsValid() {
			out.Conns++
		}
		pod, ok := v.channelPod(c)
		if !ok {
			out.Unassigned += c.Calls
			continue
		}
		if rows[pod] == nil {
			rows[pod] = &ProbeRow{Pod: pod}
		}
		rows[pod].Conns++
		rows[pod].Calls += c.Calls
	}
	out.Channels = len(channels)
	for _, row := range rows {
		out.Rows = append(out.Rows, *row)
	}
	slices.SortFunc(out.Rows, func(a, b ProbeRow) int { return a.Pod.Compare(b.Pod) })
	if out.Unassigned == 0 && out.Calls > 0 {
		out.judge()
	}
	return out
}

// judge decides where the probe's calls went. Through a cluster IP the unit of chance is the connection, whatever number of calls runs
// over it: several are tested by chi-square, and one can only show that a channel sticks. With a connection to each pod the calls
// themselves are dealt, and their shares say it all.
func (p *ProbeSpread) judge() {
	var calls, conns []float64
	for _, row := range p.Rows {
		calls, conns = append(calls, float64(row.Calls)), append(conns, float64(row.Conns))
	}
	p.Statistic = jain(calls, "calls")
	switch {
	case len(p.Rows) == 1:
		p.State = SpreadSingle
	case p.Calls < max(minCalls, cochran*len(p.Rows)):
		p.State = SpreadIdle
	case p.Via != "clusterip":
		p.State = p.Statistic.balance()
	case p.Conns == 1:
		p.State = SpreadOnePod
	default:
		p.Statistic = chiSquare(conns, "connections")
		switch {
		case p.Conns < cochran*len(p.Rows):
			p.State = SpreadIdle
		case p.Statistic.Active == 1:
			p.State = SpreadOnePod
		case *p.Statistic.P < chiSquareP:
			p.State = SpreadUneven
		default:
			p.State = SpreadEven
		}
	}
}

// balance words the shares of two pods or more.
func (st *Statistic) balance() SpreadState {
	busiest, quietest := st.MaxShare*float64(st.Pods), st.MinShare*float64(st.Pods)
	switch {
	case st.Active == 1:
		return SpreadOnePod
	case busiest > 1+unevenBeyond || quietest < 1-unevenBeyond:
		return SpreadUneven
	case busiest <= 1+evenWithin && quietest >= 1-evenWithin:
		return SpreadEven
	}
	return SpreadRough
}

// channelPod tells which pod a probe's connection ended on: by its remote address when that is a pod's, else (behind a
// cluster IP) by finding its client end in a server pod's socket table.
func (v *View) channelPod(c ProbeChannel) (Key, bool) {
	if p := v.podByIP[c.Remote.Addr().Unmap().String()]; p != nil {
		return p.Key, true
	}
	local := netip.AddrPortFrom(c.Local.Addr().Unmap(), c.Local.Port())
	for _, t := range v.Sockets.Value {
		for _, so := range t.Sockets {
			if netip.AddrPortFrom(so.Remote.Addr().Unmap(), so.Remote.Port()) == local {
				return t.Pod, true
			}
		}
	}
	return Key{}, false
}

func describe(xs []float64, unit string) *Statistic {
	st := &Statistic{Unit: unit, Pods: len(xs)}
	for _, x := range xs {
		st.N += x
	}
	if st.N == 0 {
		return st
	}
	st.MaxShare, st.MinShare = slices.Max(xs)/st.N, slices.Min(xs)/st.N
	for _, x := range xs {
		if x > activeShare*st.N/float64(len(xs)) {
			st.Active++
		}
	}
	return st
}

func jain(xs []float64, unit string) *Statistic {
	st := describe(xs, unit)
	st.Name = "jain"
	squares := 0.0
	for _, x := range xs {
		squares += x * x
	}
	if squares > 0 {
		st.Value = st.N * st.N / (float64(len(xs)) * squares)
	}
	return st
}

func chiSquare(xs []float64, unit string) *Statistic {
	st := describe(xs, unit)
	st.Name = "chi-square"
	p := 1.0
	if st.N > 0 && len(xs) > 1 {
		want := st.N / float64(len(xs))
		for _, x := range xs {
			st.Value += (x - want) * (x - want) / want
		}
		p = mathext.GammaIncRegComp(float64(len(xs)-1)/2, st.Value/2)
	}
	st.P = &p
	return st
}
