package fix

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Strategies lists the strategies of this build, recommended first.
func Strategies() []diagnose.Strategy {
	return []diagnose.Strategy{diagnose.StrategyHeadless, diagnose.StrategySidecar, diagnose.StrategyMesh, diagnose.StrategyMaxAge}
}

// Build makes the plan of a strategy for the Service of v. The error is a *Refusal when the strategy does not fit.
func Build(v *diagnose.View, strategy diagnose.Strategy, o Options) (Plan, error) {
	b := &builder{v: v, o: o, plan: Plan{Strategy: strategy, Service: v.Service.Key}}
	var steps func() error
	switch strategy {
	case diagnose.StrategyHeadless:
		steps = b.headless
	case diagnose.StrategySidecar:
		steps = b.sidecar
	case diagnose.StrategyMesh:
		steps = b.mesh
	case diagnose.StrategyMaxAge:
		steps = b.maxAge
	default:
		return Plan{}, b.refuse(CodeUnknownStrategy, "one of: "+strings.Join(words(Strategies()), ", "), "this build does not have it")
	}
	if err := b.fits(); err != nil {
		return Plan{}, err
	}
	if caveat := v.Service.DeletionCaveat(); caveat != "" {
		b.caveat("%s", caveat)
	}
	if err := steps(); err != nil {
		return Plan{}, err
	}
	b.finish()
	return b.plan, nil
}

func words(xs []diagnose.Strategy) []string {
	out := make([]string, len(xs))
	for i, x := range xs {
		out[i] = string(x)
	}
	return out
}

// builder collects a plan; its methods each add one aspect.
type builder struct {
	v    *diagnose.View
	o    Options
	plan Plan

	objects map[string]*liveObject // by kind/namespace/name, each read once
	order   []string               // keys of objects in the order of first use
}

func (b *builder) refuse(code, hint, format string, args ...any) error {
	return &Refusal{Code: code, Strategy: b.plan.Strategy, Reason: fmt.Sprintf(format, args...), Hint: hint}
}

func (b *builder) note(format string, args ...any) {
	add(&b.plan.Notes, fmt.Sprintf(format, args...))
}

func (b *builder) caveat(format string, args ...any) {
	add(&b.plan.Caveats, fmt.Sprintf(format, args...))
}

func add(to *[]string, s string) {
	if !slices.Contains(*to, s) {
		*to = append(*to, s)
	}
}

// fits refuses what no strategy can mend.
func (b *builder) fits() error {
	s := b.v.Service
	if s.Type == "ExternalName" {
		return b.refuse(CodeExternalName, "run it against the Service that has the pods",
			"svc/%s only renames %s: there are no pods of this cluster behind it", s.Name, s.ExternalName)
	}
	if !slices.ContainsFunc(s.Ports, tcp) {
		return b.refuse(CodeNoTCPPort, "gRPC needs a TCP port", "svc/%s has no TCP port", s.Name)
	}
	switch g := b.v.GRPC(); g.Level {
	case diagnose.GRPCNo:
		return b.refuse(CodeNotGRPC, "--assume-grpc overrides the judgement", "svc/%s does not speak gRPC: %s", s.Name, first(g.Because))
	case diagnose.GRPCUnknown:
		b.note("Whether svc/%s speaks gRPC is not known: %s.", s.Name, first(g.Because))
	}
	if b.o.MaxAge < 0 || b.o.Grace < 0 {
		return b.refuse(CodeBadOption, "", "a connection age or grace below zero")
	}
	return nil
}

func first(xs []string) string {
	if len(xs) == 0 {
		return "no port says so"
	}
	return xs[0]
}

func tcp(p diagnose.ServicePort) bool { return p.Protocol == "" || p.Protocol == "TCP" }

// domain is the cluster's DNS domain; kubeadm's default when it was not found out.
func (b *builder) domain() string { return cmp.Or(b.v.Cluster.Domain, "cluster.local") }

func (b *builder) fqdn(service string) string {
	return fmt.Sprintf("%s.%s.svc.%s", service, b.v.Service.Namespace, b.domain())
}

// The defaults of max-age: long beside a call and a connection's set-up, short beside a deployment's life.
const (
	defaultMaxAge = 5 * time.Minute
	defaultGrace  = 30 * time.Second
)
