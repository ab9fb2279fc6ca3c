package diagnose_test

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// measured is a snapshot whose pods p1..pn carry the given rates, each over one connection of its own.
func measured(rates ...float64) *diagnose.Snapshot {
	s := healthy(len(rates))
	var ts []diagnose.SocketTable
	for i, r := range rates {
		ts = append(ts, table(fmt.Sprintf("p%d", i+1), conn(fmt.Sprintf("10.0.5.%d:4000", i+1), r)))
	}
	s.Sockets = diagnose.Know(ts)
	return s
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9*max(1, math.Abs(b)) }

func TestSpreadOfBytes(t *testing.T) {
	tests := map[string]struct {
		rates  []float64
		state  diagnose.SpreadState
		jain   float64 // Jain, Chiu and Hawe 1984: (sum x)^2 / (n * sum x^2)
		active int
	}{
		"even":                           {[]float64{2000, 2000, 2000}, diagnose.SpreadEven, 1, 3},
		"one pod":                        {[]float64{0, 6000, 0}, diagnose.SpreadOnePod, 1.0 / 3, 1},
		"one pod, others ping":           {[]float64{20, 9000, 30}, diagnose.SpreadOnePod, 9050 * 9050 / (3 * (400 + 81000000 + 900.0)), 1},
		"two of three":                   {[]float64{4000, 4000, 0}, diagnose.SpreadUneven, 2.0 / 3, 2},
		"a quarter off counts as even":   {[]float64{2000, 2480, 1520}, diagnose.SpreadEven, 36000000 / (3 * (4000000 + 2480*2480 + 1520*1520.0)), 3},
		"neither even nor uneven":        {[]float64{2000, 2900, 1100}, diagnose.SpreadRough, 36000000 / (3 * (4000000 + 2900*2900 + 1100*1100.0)), 3},
		"more than half over":            {[]float64{1000, 4000, 2500}, diagnose.SpreadUneven, 7500 * 7500 / (3 * (1000000 + 16000000 + 6250000.0)), 3},
		"two pods, three quarters":       {[]float64{7600, 2400}, diagnose.SpreadUneven, 1e8 / (2 * (7600*7600 + 2400*2400.0)), 2},
		"ten busy, one idle":             {[]float64{900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 0}, diagnose.SpreadUneven, 10.0 / 11, 10},
		"at the limit of little traffic": {[]float64{4096, 0}, diagnose.SpreadOnePod, 0.5, 1}, // 8 KiB in 2 s
		"too little traffic":             {[]float64{4095, 0}, diagnose.SpreadIdle, 0.5, 1},
		"no traffic":                     {[]float64{0, 0}, diagnose.SpreadIdle, 0, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			sp := view(measured(tc.rates...)).Spread()
			st := sp.Statistic
			if sp.State != tc.state || sp.Basis != "bytes" || st == nil || !near(st.Value, tc.jain) || st.Active != tc.active || sp.IntervalSeconds != 2 {
				t.Errorf("%+v, statistic %+v", sp, st)
			}
		})
	}
	if sp := view(measured(5000)).Spread(); sp.State != diagnose.SpreadSingle {
		t.Errorf("one pod: %s", sp.State)
	}
}

// TestSpreadClaimsNothingFromAPart: a pod whose rate is not known is not a pod without traffic.
func TestSpreadClaimsNothingFromAPart(t *testing.T) {
	notRead := measured(3000, 0, 3000)
	notRead.Sockets.Value = notRead.Sockets.Value[:2]
	failed := measured(3000, 0, 3000)
	failed.Sockets.Value[2].Error = "may not exec"
	noRates := measured(3000, 0, 3000)
	noRates.Sockets.Value[2].Source = "proc"
	for name, s := range map[string]*diagnose.Snapshot{"not read": notRead, "failed": failed, "without rates": noRates} {
		sp := view(s).Spread()
		if sp.State != diagnose.SpreadUnknown || sp.Statistic != nil || sp.Basis != "" {
			t.Errorf("%s: %s by %q, %+v", name, sp.State, sp.Basis, sp.Statistic)
		}
		if unseen := 1; name != "without rates" && sp.Unseen != unseen {
			t.Errorf("%s: %d unseen", name, sp.Unseen)
		}
	}
}

// TestSpreadCountsReadyPods: a pod on its way out still has connections, and is not part of the judgement.
func TestSpreadCountsReadyPods(t *testing.T) {
	s := measured(3000, 3000, 9000)
	e := &s.Slices.Value[0].Endpoints[2]
	e.Ready, e.Terminating = false, true
	if sp := view(s).Spread(); sp.State != diagnose.SpreadEven || len(sp.Rows) != 3 || sp.Statistic.Pods != 2 {
		t.Errorf("%+v, %+v", sp, sp.Statistic)
	}
	s = measured(3000, 9000)
	e = &s.Slices.Value[0].Endpoints[1]
	e.Ready, e.Terminating = false, true
	if sp := view(s).Spread(); sp.State != diagnose.SpreadSingle {
		t.Errorf("one ready pod beside one that leaves: %s", sp.State)
	}
	s.Slices.Value[0].Endpoints[0].Ready, s.Slices.Value[0].Endpoints[0].Serving = false, false
	if sp := view(s).Spread(); sp.State != diagnose.SpreadUnknown || len(sp.Rows) != 1 {
		t.Errorf("no ready pod: %s, %d rows", sp.State, len(sp.Rows))
	}
}

func TestSpreadLeavesOutWhatIsNoTraffic(t *testing.T) {
	s := measured(5000, 5000)
	own := conn("10.0.5.77:5000", 90000)
	listening := conn("0.0.0.0:0", 0)
	listening.State = "LISTEN"
	otherPort := conn("10.0.5.78:5000", 90000)
	otherPort.Local = netip.MustParseAddrPort("10.0.0.11:9090")
	s.Sockets.Value[0].Sockets = append(s.Sockets.Value[0].Sockets, own, listening, otherPort, conn("127.0.0.1:6000", 90000), conn("[::1]:6000", 90000))
	s.Probes = diagnose.Know([]diagnose.ProbeRun{{Via: "clusterip", Channels: []diagnose.ProbeChannel{{Local: netip.MustParseAddrPort("[::ffff:10.0.5.77]:5000")}}}})
	sp := view(s).Spread()
	if sp.State != diagnose.SpreadEven || *sp.Rows[0].Conns != 1 || *sp.Rows[0].Rate != 5000 {
		t.Errorf("%s, %d connections, %v bytes/s", sp.State, *sp.Rows[0].Conns, *sp.Rows[0].Rate)
	}
}

// TestSpreadLeavesOutTheKubelet: a question about health that happens to be open is no client; one that stays, or comes from elsewhere, is.
func TestSpreadLeavesOutTheKubelet(t *testing.T) {
	asks := conn("172.20.0.2:40000", 0)
	asks.RxRate, asks.TxRate = nil, nil
	otherNode, stays := asks, conn("172.20.0.2:40000", 100)
	otherNode.Remote = netip.MustParseAddrPort("172.20.0.1:40000")
	probe := func(kind, port string) *diagnose.Probe { return &diagnose.Probe{Kind: kind, Port: port} }
	for name, tc := range map[string]struct {
		socket diagnose.Socket
		probe  *diagnose.Probe
		source string
		conns  int
	}{
		"by number":       {asks, probe("grpc", "6565"), "inet_diag", 1},
		"by name":         {asks, probe("tcp", "grpc-port"), "inet_diag", 1},
		"no probe":        {asks, nil, "inet_diag", 2},
		"runs a program":  {asks, probe("exec", ""), "inet_diag", 2},
		"another port":    {asks, probe("http", "8080"), "inet_diag", 2},
		"another address": {otherNode, probe("grpc", "6565"), "inet_diag", 2},
		"it stays":        {stays, probe("grpc", "6565"), "inet_diag", 2},
		"not measured":    {asks, probe("grpc", "6565"), "procfs", 2},
	} {
		s := measured(5000, 5000)
		p := &s.Pods.Value[1]
		p.Containers[0].Readiness = tc.probe
		p.Containers[0].Ports = []diagnose.ContainerPort{{Name: "grpc-port", Port: 6565}}
		tb := &s.Sockets.Value[1]
		tb.Source = tc.source
		tb.Sockets = append(tb.Sockets, tc.socket)
		sp := view(s).Spread()
		if *sp.Rows[1].Conns != tc.conns || len(sp.Flows) != 1+tc.conns {
			t.Errorf("%s: %d connections, want %d; flows %+v", name, *sp.Rows[1].Conns, tc.conns, sp.Flows)
		}
	}
}

// TestSpreadBehindASidecar: the server's sockets are the proxy's, by loopback or by the pod's own address, and no traffic of zero bytes.
func TestSpreadBehindASidecar(t *testing.T) {
	meshed := func(modes ...string) *diagnose.Snapshot {
		s := measured(9000, 0, 0)
		for i, mode := range modes {
			if mode != "" {
				s.Pods.Value[i].Mesh = diagnose.Mesh{Kind: "linkerd", Mode: mode}
			}
		}
		return s
	}
	for name, s := range map[string]*diagnose.Snapshot{
		"all": meshed("sidecar", "native-sidecar", "sidecar"), "one": meshed("", "sidecar", ""),
	} {
		sp := view(s).Spread()
		n := map[string]int{"all": 3, "one": 1}[name]
		want := fmt.Sprintf("%d of 3 ready pods are behind a proxy of their own (linkerd)", n)
		if sp.State != diagnose.SpreadUnknown || sp.Statistic != nil || sp.Basis != "" || !strings.HasPrefix(sp.Note, want) || sp.Unseen != 0 {
			t.Errorf("%s: %s by %q, note %q, %d unseen", name, sp.State, sp.Basis, sp.Note, sp.Unseen)
		}
		for i, r := range sp.Rows {
			if hidden := s.Pods.Value[i].Mesh.In(); (r.Conns == nil) != hidden || (r.Rate == nil) != hidden {
				t.Errorf("%s: %s: %v connections, rate %v", name, r.Pod, r.Conns, r.Rate)
			}
		}
		for _, f := range sp.Flows {
			if name == "all" || f.Pod == key("p2") {
				t.Errorf("%s: flow %+v", name, f)
			}
		}
		vd := diagnose.Run(s, diagnose.Options{}).Services[0].Verdict
		if vd.State != diagnose.VerdictOK || !strings.Contains(vd.Headline, "cannot be measured: "+want) {
			t.Errorf("%s: %+v", name, vd)
		}
	}
	leaving := meshed("", "", "sidecar")
	leaving.Slices.Value[0].Endpoints[2].Ready = false
	if sp := view(leaving).Spread(); sp.State != diagnose.SpreadOnePod || sp.Note != "" || len(sp.Rows) != 3 {
		t.Errorf("a pod on its way out: %s, note %q", sp.State, sp.Note)
	}
	if sp := view(meshed("ambient", "ambient", "ambient")).Spread(); sp.State != diagnose.SpreadOnePod || sp.Note != "" {
		t.Errorf("ambient: %s, note %q", sp.State, sp.Note)
	}
	mixed := meshed("sidecar", "sidecar", "sidecar")
	mixed.Pods.Value[0].Mesh.Kind = "istio"
	if sp := view(mixed).Spread(); !strings.HasPrefix(sp.Note, "1 of 3 ready pods are behind a proxy of their own (istio)") || !strings.Contains(sp.Note, "; 2 of 3 ready pods") {
		t.Errorf("two meshes: %q", sp.Note)
	}
	idle := meshed("sidecar", "sidecar", "sidecar")
	idle.Sockets = diagnose.Fact[[]diagnose.SocketTable]{}
	if sp := view(idle).Spread(); sp.Note != "" {
		t.Errorf("sockets not asked for: %q", sp.Note)
	}
}

func TestSpreadFlows(t *testing.T) {
	s := healthy(2)
	s.Pods.Value = append(s.Pods.Value, diagnose.Pod{
		Key: key("web-1"), Owner: diagnose.Owner{Kind: "Deployment", Name: "web"}, IPs: []string{"10.0.5.1"}, Phase: "Running",
	})
	s.Sockets = diagnose.Know([]diagnose.SocketTable{
		table("p2", conn("172.20.0.1:1", 10)),
		table("p1", conn("10.0.5.1:1", 100), conn("[::ffff:10.0.5.1]:2", 50), conn("203.0.113.9:9", 1)),
	})
	rate := func(f float64) *float64 { return &f }
	want := []diagnose.Flow{
		{Client: "203.0.113.9", Pod: key("p1"), Conns: 1, Rate: rate(1)},
		{Client: "default/web-1", Workload: "deploy/web", Pod: key("p1"), Conns: 2, Rate: rate(150)},
		{Client: "node n1", Hidden: true, Pod: key("p2"), Conns: 1, Rate: rate(10)},
	}
	if diff := cmp.Diff(want, view(s).Spread().Flows); diff != "" {
		t.Error(diff)
	}
}

func TestSpreadOfCPU(t *testing.T) {
	tests := map[string]struct {
		cpu  []int64
		want diagnose.SpreadState
	}{
		"one pod":             {[]int64{970, 10, 20}, diagnose.SpreadOnePod},
		"below four fifths":   {[]int64{790, 110, 100}, diagnose.SpreadUnknown},
		"even says nothing":   {[]int64{300, 300, 300}, diagnose.SpreadUnknown},
		"too little":          {[]int64{48, 0, 1}, diagnose.SpreadUnknown},
		"one pod not sampled": {[]int64{970, 10}, diagnose.SpreadUnknown},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := healthy(3)
			var ms []diagnose.PodMetrics
			for i, c := range tc.cpu {
				ms = append(ms, diagnose.PodMetrics{Key: key(fmt.Sprintf("p%d", i+1)), CPUMilli: c})
			}
			s.Metrics = diagnose.Know(ms)
			sp := view(s).Spread()
			if sp.State != tc.want || (sp.Basis == "cpu") != (tc.want == diagnose.SpreadOnePod) {
				t.Errorf("%s by %q", sp.State, sp.Basis)
			}
			if *sp.Rows[0].CPU != tc.cpu[0] {
				t.Errorf("the first row says %d", *sp.Rows[0].CPU)
			}
		})
	}
	s := measured(3000, 3000)
	s.Metrics = diagnose.Know([]diagnose.PodMetrics{{Key: key("p1"), CPUMilli: 990}, {Key: key("p2"), CPUMilli: 10}})
	if sp := view(s).Spread(); sp.Basis != "bytes" || sp.State != diagnose.SpreadEven {
		t.Errorf("CPU wins over bytes: %s by %s", sp.State, sp.Basis)
	}
}

// probed is a snapshot with one probe run whose channels reached p1..pn directly with the given numbers of calls.
func probed(pods int, calls ...int) *diagnose.Snapshot {
	s := healthy(pods)
	r := diagnose.ProbeRun{From: key("probe"), Via: "headless", Target: "dns:///square:6565"}
	for i, c := range calls {
		r.Channels = append(r.Channels, diagnose.ProbeChannel{
			Local: netip.MustParseAddrPort(fmt.Sprintf("10.0.9.9:%d", 5000+i)), Remote: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:6565", 11+i)), Calls: c,
		})
	}
	s.Probes = diagnose.Know([]diagnose.ProbeRun{r})
	return s
}

// clusterIP is a snapshot with one probe run through the cluster IP whose channels, one connection with 100 calls each, ended on the pods
// in the given numbers.
func clusterIP(conns ...int) *diagnose.Snapshot {
	s := healthy(len(conns))
	r := diagnose.ProbeRun{From: key("probe"), Via: "clusterip", Target: "10.96.0.7:6565"}
	n := 0
	for pod, k := range conns {
		for range k {
			r.Channels = append(r.Channels, diagnose.ProbeChannel{
				Channel: n, Local: netip.MustParseAddrPort(fmt.Sprintf("10.0.9.9:%d", 5000+n)),
				Remote: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:6565", 11+pod)), Calls: 100,
			})
			n++
		}
	}
	s.Probes = diagnose.Know([]diagnose.ProbeRun{r})
	return s
}

// TestChiSquare compares with values that are known in closed form: with 2 degrees of freedom P = exp(-x/2), with 1
// P = erfc(sqrt(x/2)), with 4 P = exp(-x/2)(1 + x/2). The unit of chance is the connection: calls on one do not part.
func TestChiSquare(t *testing.T) {
	tests := map[string]struct {
		conns []int
		chi   float64
		p     float64
		state diagnose.SpreadState
	}{
		"even, 1 degree of freedom":    {[]int{50, 50}, 0, 1, diagnose.SpreadEven},
		"1 degree of freedom":          {[]int{60, 40}, 4, math.Erfc(math.Sqrt2), diagnose.SpreadEven}, // 0.0455: not enough to claim anything
		"1 degree, beyond chance":      {[]int{70, 30}, 16, math.Erfc(math.Sqrt(8)), diagnose.SpreadUneven},
		"2 degrees of freedom":         {[]int{10, 20, 30}, 10, math.Exp(-5), diagnose.SpreadEven}, // 0.0067
		"2 degrees, beyond chance":     {[]int{10, 20, 60}, 46.0 + 2.0/3, math.Exp(-(46.0 + 2.0/3) / 2), diagnose.SpreadUneven},
		"4 degrees of freedom":         {[]int{10, 20, 20, 20, 30}, 10, math.Exp(-5) * 6, diagnose.SpreadEven},
		"a pod without any, by chance": {[]int{18, 17, 0}, 17.542857142857144, math.Exp(-17.542857142857144 / 2), diagnose.SpreadUneven},
		"too few connections to judge": {[]int{4, 1, 5}, 2.6, math.Exp(-1.3), diagnose.SpreadIdle},
		"all on one pod":               {[]int{0, 15, 0}, 30, math.Exp(-15), diagnose.SpreadOnePod},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			sp := view(clusterIP(tc.conns...)).Spread().Probes[0]
			st := sp.Statistic
			if sp.State != tc.state || st == nil || st.Name != "chi-square" || st.Unit != "connections" || !near(st.Value, tc.chi) || math.Abs(*st.P-tc.p) > 1e-12 {
				t.Errorf("%s, %+v, P = %v, want %v", sp.State, st, *st.P, tc.p)
			}
		})
	}
}

// TestProbeCounts: a channel to a headless Service has a connection to each pod.
func TestProbeCounts(t *testing.T) {
	sp := view(probed(3, 100, 100, 100)).Spread().Probes[0]
	if sp.Channels != 1 || sp.Conns != 3 || sp.Calls != 300 || sp.State != diagnose.SpreadEven {
		t.Errorf("%+v", sp)
	}
	sp = view(clusterIP(5, 5, 5)).Spread().Probes[0]
	if sp.Channels != 15 || sp.Conns != 15 || sp.Calls != 1500 || sp.State != diagnose.SpreadEven {
		t.Errorf("%+v", sp)
	}
}

func TestProbeSpread(t *testing.T) {
	tests := map[string]struct {
		snap *diagnose.Snapshot
		want diagnose.SpreadState
	}{
		"one channel":               {probed(3, 200), diagnose.SpreadOnePod},
		"one pod only":              {probed(1, 200), diagnose.SpreadSingle},
		"29 calls":                  {probed(2, 29, 0), diagnose.SpreadIdle},
		"30 calls":                  {probed(2, 30, 0), diagnose.SpreadOnePod},
		"fewer than five for a pod": {probed(10, 49), diagnose.SpreadIdle}, // Cochran's rule
		"five for each pod":         {probed(10, 50), diagnose.SpreadOnePod},
		"no calls":                  {probed(3, 0, 0, 0), diagnose.SpreadUnknown},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if sp := view(tc.snap).Spread().Probes[0]; sp.State != tc.want {
				t.Errorf("%s, want %s (%+v)", sp.State, tc.want, sp)
			}
		})
	}
}

// TestProbeThroughAClusterIP: the channel's remote end is the cluster IP; the pod is found by the channel's own end in
// a server's socket table, and without that nothing is claimed.
func TestProbeThroughAClusterIP(t *testing.T) {
	s := probed(3, 200)
	s.Probes.Value[0].Via = "clusterip"
	s.Probes.Value[0].Channels[0].Remote = netip.MustParseAddrPort("10.96.0.7:6565")
	sp := view(s).Spread().Probes[0]
	if sp.State != diagnose.SpreadUnknown || sp.Unassigned != 200 || sp.Statistic != nil {
		t.Errorf("without socket tables: %+v", sp)
	}
	s.Sockets = diagnose.Know([]diagnose.SocketTable{table("p1"), table("p2", conn("[::ffff:10.0.9.9]:5000", 100)), table("p3")})
	sp = view(s).Spread().Probes[0]
	want := []diagnose.ProbeRow{{Pod: key("p1")}, {Pod: key("p2"), Conns: 1, Calls: 200}, {Pod: key("p3")}}
	if diff := cmp.Diff(want, sp.Rows); diff != "" || sp.State != diagnose.SpreadOnePod {
		t.Errorf("%s\n%s", sp.State, diff)
	}
}
