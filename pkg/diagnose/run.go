package diagnose

import (
	"cmp"
	"fmt"
	"slices"
)

// Options chooses what Run does with a snapshot.
type Options struct {
	Checks []Check           // in order; see Validate
	Skip   map[string]string // check ID -> reason, as given on the command line
	FailOn Severity          // threshold of Report.Status; the zero value means High
}

// Run judges every target of the snapshot. It never fails: a check that panics becomes one finding, a target that is
// not in the snapshot becomes a report that says so.
func Run(snap *Snapshot, opt Options) Report {
	opt.FailOn = cmp.Or(opt.FailOn, High)
	r := Report{
		APIVersion: APIVersion, Kind: ReportKind, Tool: snap.Tool, TakenAt: snap.TakenAt, Cluster: snap.Cluster,
		Depth: snap.Depth, Status: StatusOK, FailOn: opt.FailOn, Gaps: gaps(snap), Cost: snap.Cost,
		Services: []ServiceReport{},
	}
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok {
			r.Services = append(r.Services, missing(k, snap.Services.Status))
			continue
		}
		r.Services = append(r.Services, runService(v, opt))
	}
	r.Status = status(r.Services, opt.FailOn)
	if r.Status == StatusOK && opt.halfSeen(r.Gaps) {
		r.Status = StatusPartial
	}
	return r
}

// gaps lists what was asked for and not seen: whole groups of facts, then parts of known ones.
func gaps(snap *Snapshot) []Gap {
	var out []Gap
	for _, n := range FactNames {
		if st := snap.Status(n); st.State == Denied || st.State == Failed {
			out = append(out, Gap{Fact: n, Subject: string(n), Status: st})
		}
	}
	return append(out, snap.Gaps...)
}

// halfSeen reports whether something that was refused or failed belongs to a group of facts that a check at or above the threshold
// needs: such a check ran, but on less than there is.
func (o Options) halfSeen(gaps []Gap) bool {
	return slices.ContainsFunc(gaps, func(g Gap) bool {
		if g.Fact == FactConfigMaps {
			g.Fact = FactWorkloads // it may hold a client's target
		}
		return (g.State == Denied || g.State == Failed) && slices.ContainsFunc(o.Checks, func(c Check) bool {
			_, skipped := o.Skip[c.ID]
			return !skipped && c.Severity >= o.FailOn && slices.Contains(c.Needs, g.Fact)
		})
	})
}

func missing(k Key, s Status) ServiceReport {
	why := cmp.Or(s.Reason, "the snapshot does not hold this Service")
	return ServiceReport{
		Key: k, Verdict: Verdict{VerdictUnknown, why}, GRPC: GRPCVerdict{Level: GRPCUnknown},
		Spread: Spread{State: SpreadUnknown}, Findings: []Finding{},
		Skipped: []Skip{{Check: "all", Kind: SkipNoFact, Severity: Critical, Reason: why, Hint: s.Hint}},
	}
}

// verdictSeverity is what a headline that was seen on the wire weighs, so that it never contradicts the status.
var verdictSeverity = map[VerdictState]Severity{VerdictBroken: Critical, VerdictPinned: Critical, VerdictUneven: High}

func status(services []ServiceReport, failOn Severity) ReportStatus {
	out := StatusOK
	for _, s := range services {
		for _, f := range s.Findings {
			if f.Severity >= failOn {
				return StatusFindings
			}
		}
		if bad, ok := verdictSeverity[s.Verdict.State]; ok && bad >= failOn {
			return StatusFindings // seen on the wire, even if no check knows the cause
		}
		for _, k := range s.Skipped {
			if k.Kind == SkipNoFact && k.Severity >= failOn {
				out = StatusPartial
			}
		}
	}
	return out
}

func runService(v *View, opt Options) ServiceReport {
	r := ServiceReport{Key: v.Service.Key, GRPC: v.GRPC(), Summary: v.summary(), Clients: v.clientRefs(), Spread: v.Spread(), Findings: []Finding{}}
	fired := map[string]bool{}
	for _, c := range opt.Checks {
		if s, skip := v.skip(c, r.GRPC, opt.Skip); skip {
			r.Skipped = append(r.Skipped, s)
			continue
		}
		found := safely(c, v)
		if len(found) == 0 {
			r.Passed = append(r.Passed, c.ID)
			continue
		}
		if i := slices.IndexFunc(c.DependsOn, func(d string) bool { return fired[d] }); i >= 0 {
			r.Skipped = append(r.Skipped, Skip{Check: c.ID, Kind: SkipMuted, Severity: c.Severity, Reason: "follows from " + c.DependsOn[i]})
			continue
		}
		fired[c.ID] = true
		for _, f := range found {
			f.Check = c.ID
			f.Severity = cmp.Or(f.Severity, c.Severity)
			r.Findings = append(r.Findings, f)
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	r.Verdict = verdict(v, r, opt.FailOn)
	if caveat := v.Service.DeletionCaveat(); caveat != "" {
		r.Verdict.Headline = "is being deleted; " + r.Verdict.Headline
		for _, f := range r.Findings {
			for i := range f.Fixes {
				f.Fixes[i].Caveats = append(f.Fixes[i].Caveats, caveat)
			}
		}
	}
	return r
}

// skip decides whether a check may run, in the order in which a reader wants to hear the reason.
func (v *View) skip(c Check, g GRPCVerdict, asked map[string]string) (Skip, bool) {
	s := Skip{Check: c.ID, Severity: c.Severity}
	if why, ok := asked[c.ID]; ok {
		s.Kind, s.Reason = SkipSuppressed, cmp.Or(why, "skipped on request")
		return s, true
	}
	if why, ok := v.Service.Ignore[c.ID]; ok {
		s.Kind, s.Reason = SkipSuppressed, cmp.Or(why, "ignored by the Service's annotation")
		return s, true
	}
	if c.GRPCOnly && !g.Yes() {
		s.Kind, s.Reason = SkipNotGRPC, "not judged to speak gRPC"
		if g.Level == GRPCUnknown {
			s.Reason, s.Hint = "cannot tell whether it speaks gRPC", "--assume-grpc forces the check"
		}
		return s, true
	}
	for _, n := range c.Needs {
		switch st := v.Status(n); st.State {
		case Known:
		case NotAsked:
			s.Kind, s.Reason, s.Hint = SkipNotAsked, cmp.Or(st.Reason, string(n)+" not asked for"), st.Hint
			return s, true
		default:
			s.Kind, s.Reason, s.Hint = SkipNoFact, st.Reason, st.Hint
			return s, true
		}
	}
	return s, false
}

// safely runs one check; a panic is a bug of the check and must not cost the user the other findings.
func safely(c Check, v *View) (found []Finding) {
	defer func() {
		if p := recover(); p != nil {
			found = []Finding{{
				Check: c.ID, Severity: Info, Confidence: Observed, Subject: "check/" + c.ID,
				Summary:  "this check failed with a bug of its own; the other checks are not affected",
				Evidence: []string{fmt.Sprint(p)},
			}}
		}
	}()
	return c.Run(v)
}

func (v *View) summary() Summary {
	s := Summary{Type: v.Service.Type, Terminating: v.Service.Terminating}
	switch {
	case v.Service.Headless():
		s.Type = "headless"
	case len(v.Service.ClusterIPs) > 0:
		s.ClusterIP = v.Service.ClusterIPs[0]
	}
	for _, j := range v.GRPC().Ports {
		s.Ports = append(s.Ports, SummaryPort{
			Name: j.Port.Name, Port: j.Port.Port, Targets: v.PodPorts(j.Port), GRPC: j.Level == GRPCYes || j.Level == GRPCLikely,
		})
	}
	if v.Service.Type == "ExternalName" {
		s.ExternalName = v.Service.ExternalName
		return s
	}
	if !v.Slices.Known() {
		return s
	}
	ready := 0
	nodes, zones := map[string]bool{}, map[string]bool{}
	for _, e := range v.endpoints {
		if !v.readyItself(e) {
			s.NotReady++
			if e.Ready {
				s.Published++
			}
			continue
		}
		ready++
		if e.Node != "" {
			nodes[e.Node] = true
		}
		if z := cmp.Or(e.Zone, v.Zone(e.Node)); z != "" {
			zones[z] = true
		}
	}
	s.Ready, s.Nodes, s.Zones = &ready, len(nodes), len(zones)
	if n, kind := v.ServerMeshed(); n > 0 {
		s.Mesh = kind
	}
	return s
}

func (v *View) clientRefs() []ClientRef {
	var out []ClientRef
	for _, c := range append(v.Clients(), v.SiblingClients()...) {
		ref := ClientRef{Namespace: c.Workload.Namespace, Workload: c.Workload.Ref(), Mesh: c.Workload.Mesh.Kind}
		for _, t := range c.Targets {
			if !slices.Contains(ref.Targets, t.Token) {
				ref.Targets = append(ref.Targets, t.Token)
			}
		}
		out = append(out, ref)
	}
	return out
}
