//go:build e2e

package e2e

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
)

// fault is a failure mode, brought about on the cluster, and what has to be
// said of it.
type fault struct {
	check string
	name  string // of the test; the check's when empty
	// objects are applied first. Their Deployments are waited for, but for those named in broken.
	objects []any
	broken  []string
	// then does what manifests cannot; it may add to args.
	then func(*space, *fault)
	// args go to diagnose svc/backend; static is what most checks need.
	args []string
	want finding
	// within is how long the fault may take to show; at once when 0.
	within time.Duration
}

var (
	static  = []string{"--depth", "static"}
	observe []string
)

// faults are all of them. Each check has one at least, or an entry in notHere.
func faults() []fault {
	var all []fault
	for _, list := range [][]fault{endpointFaults(), dnsFaults(), clientFaults(), serverFaults()} {
		all = append(all, list...)
	}
	return all
}

// notHere lists checks whose fault cannot be brought about on a cluster in a
// test, each with the reason. A stale entry fails.
var notHere = map[string]string{
	"client-sidecar": "no fault but good news, and a client is injected first: TestInject",
	"sidecar-broken": "a client is injected first, and loses its twin: TestInject",
}

func TestFaults(t *testing.T) {
	for _, f := range faults() {
		name := f.name
		if name == "" {
			name = f.check
		}
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			s.inject(&f)
			s.expect(f)
		})
	}
}

// inject brings the fault about.
func (s *space) inject(f *fault) {
	s.Helper()
	s.apply(f.objects...)
	skip := map[string]bool{}
	for _, name := range f.broken {
		skip[name] = true
	}
	for _, o := range f.objects {
		if d, ok := o.(*appsv1.Deployment); ok && !skip[d.Name] {
			s.rollout(d.Name)
		}
	}
	if f.then != nil {
		f.then(s, f)
	}
}

// expect diagnoses until the finding is what it should be.
func (s *space) expect(f fault) {
	s.Helper()
	look := func() (string, outcome) {
		r, o := s.diagnose("backend", f.args...)
		got := findings(r, f.check)
		if len(got) != 1 {
			return "not one finding of " + f.check, o
		}
		if diff := f.want.differs(got[0]); diff != "" {
			return diff, o
		}
		if want := int(map[bool]int{true: 1}[f.want.severity >= diagnose.High]); o.code != want && len(r.Findings) == 1 {
			return "the exit code does not fit the finding", o
		}
		return "", o
	}
	if f.within == 0 && len(f.args) == 0 {
		f.within = 30 * time.Second // a look at what runs asks pods, which on a busy machine may answer too late for one look
	}
	if f.within == 0 {
		if diff, o := look(); diff != "" {
			s.Errorf("%s\n%s", diff, o)
		}
		return
	}
	s.eventually(f.check, f.within, func() (bool, string) {
		diff, o := look()
		return diff == "", diff + "\n" + o.String()
	})
}

func TestEachCheckHasAFault(t *testing.T) {
	have := map[string]bool{}
	for _, f := range faults() {
		have[f.check] = true
		if _, ok := checks.ByID(f.check); !ok {
			t.Errorf("a fault for %s, which is no check", f.check)
		}
		if f.want.subject == "" || len(f.want.says) == 0 {
			t.Errorf("the fault for %s does not say what has to be found", f.check)
		}
	}
	for _, c := range checks.All() {
		reason, excused := notHere[c.ID]
		switch {
		case have[c.ID] && excused:
			t.Errorf("%s has a fault, and an excuse for having none: %s", c.ID, reason)
		case !have[c.ID] && !excused:
			t.Errorf("%s has no fault that is brought about on a cluster, and notHere gives no reason", c.ID)
		}
		delete(notHere, c.ID)
	}
	for id := range notHere {
		t.Errorf("notHere excuses %s, which is no check", id)
	}
}
