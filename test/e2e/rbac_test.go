//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// printedRole is a Role or ClusterRole as `diagnose --rbac` prints it.
type printedRole struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []rbacv1.PolicyRule
}

// short is the role's depth: static, nodes, dns, observe, sockets or probe; or inject.
func (r printedRole) short() string {
	return strings.TrimPrefix(strings.TrimPrefix(r.Metadata.Name, "grpclb-"), "diagnose-")
}

// printedRoles reads what `diagnose --rbac` prints.
func (s *space) printedRoles() []printedRole {
	s.Helper()
	o := s.grpclb("diagnose", "--rbac")
	var out []printedRole
	for doc := range strings.SplitSeq(o.stdout, "---\n") {
		var r printedRole
		if err := yaml.Unmarshal([]byte(doc), &r); err != nil {
			s.Fatalf("%v in %s", err, doc)
		}
		if r.Kind != "" {
			out = append(out, r)
		}
	}
	if len(out) != 7 || o.code != 0 {
		s.Fatalf("%d roles, want 7: %s", len(out), o)
	}
	return out
}

// right is one verb on one resource, as one role grants it.
type right struct{ role, group, resource, verb string }

func (r right) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s", r.role, r.verb, strings.TrimSuffix(r.resource+"."+r.group, ".")))
}

func rightsOf(roles []printedRole) []right {
	var out []right
	for _, r := range roles {
		for _, rule := range r.Rules {
			for _, res := range rule.Resources {
				for _, verb := range rule.Verbs {
					out = append(out, right{r.short(), rule.APIGroups[0], res, verb})
				}
			}
		}
	}
	return out
}

// without takes one right out of the roles.
func without(roles []printedRole, gone right) []printedRole {
	var out []printedRole
	for _, r := range roles {
		var rules []rbacv1.PolicyRule
		for _, rule := range r.Rules {
			for _, res := range rule.Resources {
				verbs := slices.Clone(rule.Verbs)
				verbs = slices.DeleteFunc(verbs, func(v string) bool { return right{r.short(), rule.APIGroups[0], res, v} == gone })
				if len(verbs) > 0 {
					rules = append(rules, rbacv1.PolicyRule{APIGroups: rule.APIGroups, Resources: []string{res}, Verbs: verbs})
				}
			}
		}
		r.Rules = rules
		out = append(out, r)
	}
	return out
}

// subject makes a ServiceAccount with these roles and returns the name that
// requests impersonate.
func (s *space) subject(name string, roles []printedRole) string {
	s.Helper()
	ok := func(err error) {
		s.Helper()
		if err != nil && !apierrors.IsAlreadyExists(err) {
			s.Fatal(err)
		}
	}
	_, err := s.client.CoreV1().ServiceAccounts(s.ns).Create(s.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	ok(err)
	who := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: s.ns}}
	rbac := s.client.RbacV1()
	for _, r := range roles {
		meta := metav1.ObjectMeta{Name: s.ns + "-" + name + "-" + r.short(), Labels: map[string]string{ownerLabel: ownerValue}}
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: r.Kind, Name: meta.Name}
		if r.Kind == "ClusterRole" {
			_, err := rbac.ClusterRoles().Create(s.ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: r.Rules}, metav1.CreateOptions{})
			ok(err)
			_, err = rbac.ClusterRoleBindings().Create(s.ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: who}, metav1.CreateOptions{})
			ok(err)
			s.Cleanup(func() {
				_ = rbac.ClusterRoleBindings().Delete(s.later(), meta.Name, metav1.DeleteOptions{})
				_ = rbac.ClusterRoles().Delete(s.later(), meta.Name, metav1.DeleteOptions{})
			})
			continue
		}
		ns := r.Metadata.Namespace
		_, err := rbac.Roles(ns).Create(s.ctx, &rbacv1.Role{ObjectMeta: meta, Rules: r.Rules}, metav1.CreateOptions{})
		ok(err)
		_, err = rbac.RoleBindings(ns).Create(s.ctx, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: who}, metav1.CreateOptions{})
		ok(err)
		if ns != s.ns {
			s.Cleanup(func() {
				_ = rbac.RoleBindings(ns).Delete(s.later(), meta.Name, metav1.DeleteOptions{})
				_ = rbac.Roles(ns).Delete(s.later(), meta.Name, metav1.DeleteOptions{})
			})
		}
	}
	user := "system:serviceaccount:" + s.ns + ":" + name
	s.awaitRights(user, roles)
	return user
}

// awaitRights waits until the API server's authorizer has seen all bindings.
func (s *space) awaitRights(user string, roles []printedRole) {
	s.Helper()
	for _, r := range roles {
		if len(r.Rules) == 0 {
			continue
		}
		rule := r.Rules[0]
		resource, sub, _ := strings.Cut(rule.Resources[0], "/")
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: r.Metadata.Namespace, Group: rule.APIGroups[0], Resource: resource, Subresource: sub, Verb: rule.Verbs[0],
			},
		}}
		s.eventually("role "+r.short(), time.Minute, func() (bool, string) {
			got, err := s.client.AuthorizationV1().SubjectAccessReviews().Create(s.ctx, review, metav1.CreateOptions{})
			if err != nil {
				return false, err.Error()
			}
			return got.Status.Allowed, got.Status.Reason
		})
	}
}

// unseen lists what a run could not see: groups of facts, and parts of groups.
func (s *space) unseen(user string, args ...string) ([]string, outcome) {
	s.Helper()
	file := filepath.Join(s.TempDir(), "run.yaml")
	o := s.grpclb(append([]string{"diagnose", "svc/backend", "--as", user, "--save", file}, args...)...)
	snap, err := snapfile.LoadFile(file)
	if err != nil {
		return []string{"everything"}, o
	}
	var out []string
	for _, name := range diagnose.FactNames {
		if st := snap.Status(name).State; st == diagnose.Denied || st == diagnose.Failed {
			out = append(out, fmt.Sprintf("%s %s", name, st))
		}
	}
	for _, g := range snap.Gaps {
		if entry := fmt.Sprintf("part of %s %s: %s", g.Fact, g.State, g.Subject); !slices.Contains(out, entry) {
			out = append(out, entry)
		}
	}
	return out, o
}

// rbacSpace is a Service with a client whose target stands in a ConfigMap.
func rbacSpace(t *testing.T) *space {
	t.Helper()
	s := newSpace(t)
	c := client("caller", "")
	c.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "GRPC_CLIENT_SQUARE_ADDRESS", ValueFrom: &corev1.EnvVarSource{
		ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "targets"}, Key: "square"},
	}}}
	s.apply(server("backend"), service("backend"), &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: "targets"},
		Data: map[string]string{"square": "static://backend:6565"},
	}, c)
	s.rollout("backend", "caller")
	s.eventually("CPU samples, without which their right cannot be told from their lack", 2*time.Minute, func() (bool, string) {
		cmd := s.bed.Command(s.ctx, s.bed.Kubectl("top", "pods", "--no-headers", "-n", s.ns)...)
		out, err := cmd.CombinedOutput()
		return err == nil, string(out)
	})
	return s
}

// TestRolesSuffice: with the Roles that --rbac prints, everything works at
// every depth, and nothing else is asked for.
func TestRolesSuffice(t *testing.T) {
	s := rbacSpace(t)
	roles := s.printedRoles()
	used := map[right]bool{}
	for _, tt := range []struct {
		name  string
		roles []string
		args  []string
	}{
		{"static", []string{"static", "nodes"}, static},
		{"observe", []string{"static", "nodes", "dns", "observe"}, observe},
		{"sockets", []string{"static", "nodes", "dns", "observe", "sockets"}, []string{"--sockets", "--interval", "1s"}},
		{"probe", []string{"static", "nodes", "dns", "observe", "sockets", "probe"}, []string{"--probe", "--interval", "1s"}},
	} {
		granted := slices.DeleteFunc(slices.Clone(roles), func(r printedRole) bool { return !slices.Contains(tt.roles, r.short()) })
		user := s.subject(tt.name, granted)
		since := int64(0)
		if s.bed.Audit != "" {
			since = s.auditPosition()
		}
		missing, o := s.unseen(user, tt.args...)
		if len(missing) > 0 || o.code != 1 || !strings.Contains(o.stdout, "deploy/caller dials static://backend:6565") {
			t.Errorf("depth %s lacks %q: %s", tt.name, missing, o)
		}
		if s.bed.Audit != "" {
			maps.Copy(used, s.wantOnly(granted, s.audited(since, func(r request) bool { return r.As.Username == user })))
		}
	}
	s.wantNoProbePod()
	if s.bed.Audit == "" {
		return
	}
	for _, r := range rightsOf(roles) {
		if r.role == "inject" { // TestInjectRoleSuffices
			continue
		}
		why, excused := unusedHere[r.String()]
		if used[r] == excused {
			t.Errorf("%s: used %t, and the table says %q: a role grants what is needed and nothing else", r, used[r], why)
		}
	}
}

// unusedHere are rights that these runs have no occasion for, each with its own.
var unusedHere = map[string]string{
	"static: get deployments.apps":  "fix writes workloads out whole; see TestFixNeedsItsGets",
	"static: get statefulsets.apps": "fix",
	"static: get daemonsets.apps":   "fix",
	"static: get cronjobs.batch":    "fix",
	"static: get jobs.batch":        "probe --from job/NAME",
	// The requests are upgrades to WebSocket, whose verb is get; the API server looks for create as well before it lets one
	// through, which its audit log does not show. TestEachRightMatters does.
	"dns: create pods/portforward":     "asked for behind get",
	"observe: create pods/portforward": "asked for behind get",
}

// wantOnly fails for requests that the roles do not grant. What everybody
// authenticated may do is not in them. It returns the rights that were used.
func (s *space) wantOnly(granted []printedRole, made []request) map[right]bool {
	s.Helper()
	if len(made) == 0 {
		s.Error("the audit log has no request of this user")
	}
	used := map[right]bool{}
	for _, r := range made {
		if r.Object.Resource == "" || r.Object.Resource == "selfsubjectaccessreviews" {
			continue
		}
		resource := r.Object.Resource
		if r.Object.Subresource != "" {
			resource += "/" + r.Object.Subresource
		}
		ok := false
		for _, g := range granted {
			if g.Kind == "Role" && g.Metadata.Namespace != r.Object.Namespace {
				continue
			}
			for _, have := range rightsOf([]printedRole{g}) {
				if have.group == r.Object.APIGroup && have.resource == resource && have.verb == r.Verb {
					ok, used[have] = true, true
				}
			}
		}
		if !ok || r.Status.Code == 403 {
			s.Errorf("asked for %s in %q, which no role grants (answer %d)", r.what(), r.Object.Namespace, r.Status.Code)
		}
	}
	s.Logf("used %d of %d granted rights", len(used), len(rightsOf(granted)))
	return used
}

// TestEachRightMatters: without one right, exactly the facts that need it are
// missing, named as such, and everything else is there.
func TestEachRightMatters(t *testing.T) {
	s := rbacSpace(t)
	wanted := []string{"static", "nodes", "dns", "observe"}
	roles := slices.DeleteFunc(s.printedRoles(), func(r printedRole) bool { return !slices.Contains(wanted, r.short()) })
	for i, gone := range rightsOf(roles) {
		t.Run(gone.String(), func(t *testing.T) {
			t.Parallel()
			sub := *s
			sub.TB = t
			user := sub.subject(fmt.Sprintf("lacks-%d", i), without(roles, gone))
			got, o := sub.unseen(user)
			want, listed := lacking[gone.String()]
			if !listed {
				t.Fatalf("the table has no entry for it; exit code %d, unseen: %q", o.code, got)
			}
			for i := range want.unseen {
				want.unseen[i] = strings.ReplaceAll(want.unseen[i], "NS", s.ns)
			}
			if diff := cmp.Diff(want.unseen, got); diff != "" || o.code != want.code {
				t.Errorf("exit code %d, want %d; unseen (-want +got):\n%s\n%s", o.code, want.code, diff, o)
			}
		})
	}
}

// TestEachRightToPlaceMatters is the same for the depths that place something in the cluster: without one right what rests on it is
// missing, and what was seen without it stays.
func TestEachRightToPlaceMatters(t *testing.T) {
	s := rbacSpace(t)
	roles := s.printedRoles()
	for i, gone := range rightsOf(roles) {
		want, listed := lackingToPlace[gone.String()]
		if !listed && gone.role != "sockets" && gone.role != "probe" {
			continue
		}
		t.Run(gone.String(), func(t *testing.T) {
			sub := *s
			sub.TB = t
			user := sub.subject(fmt.Sprintf("places-%d", i), without(roles, gone))
			got, o := sub.unseen(user, "--probe", "--interval", "1s")
			if !listed {
				t.Fatalf("the table has no entry for it; exit code %d, unseen: %q\n%s", o.code, got, o)
			}
			if diff := cmp.Diff(want, got); diff != "" || o.code != 1 {
				t.Errorf("exit code %d, want 1, since the client was seen; unseen (-want +got):\n%s\n%s", o.code, diff, o)
			}
			for _, p := range sub.probePods() { // without the right to delete it is named, and stays
				if gone.verb != "delete" || !strings.Contains(o.stderr, p.Name) {
					t.Errorf("pod %s was left, and standard error does not name it: %s", p.Name, o)
				}
				if err := s.client.CoreV1().Pods(s.ns).Delete(s.ctx, p.Name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// lackingToPlace is what goes unseen without a right that placing the agent needs.
var lackingToPlace = map[string][]string{
	"static: get pods":                        {"sockets denied", "probes denied"}, // whether a container runs, and how it ended
	"sockets: patch pods/ephemeralcontainers": {"sockets denied"},
	"sockets: get pods/log":                   {"sockets denied", "probes denied"},
	"probe: create pods":                      {"probes denied"},
	"probe: delete pods":                      nil, // all is seen, and the pod that stays is named
}

// TestFixNeedsItsGets: the rights to get workloads one by one are fix's, which
// writes them out whole; without one it says which object it could not read.
func TestFixNeedsItsGets(t *testing.T) {
	s := newSpace(t)
	s.apply(server("backend"), service("backend"), client("caller", "static://backend:6565"))
	s.rollout("backend", "caller")
	roles := slices.DeleteFunc(s.printedRoles(), func(r printedRole) bool { return r.short() != "static" })
	args := []string{"fix", "svc/backend", "--strategy", "headless", "--depth", "static", "--as"}
	all := s.grpclb(append(args, s.subject("fixes", roles))...)
	if all.code != 0 || !strings.Contains(all.stdout, "kind: Deployment") {
		t.Fatalf("with all rights: %s", all)
	}
	user := s.subject("fixes-not", without(roles, right{"static", "apps", "deployments", "get"}))
	o := s.grpclb(append(args, user)...)
	if strings.Contains(o.stdout, "kind: Deployment") || !strings.Contains(o.stdout+o.stderr, "may not get deployment caller") {
		t.Errorf("without the right to get Deployments: %s", o)
	}
}

// TestInjectRoleSuffices: the Role for --apply is enough to inject, beside those that reading takes, and by itself to uninject; without one
// of its rights the refusal names the right and the Role.
func TestInjectRoleSuffices(t *testing.T) {
	s := newSpace(t)
	s.apply(server("backend"), service("backend"), client("caller", "static://backend:6565"))
	s.rollout("backend", "caller")
	roles := s.printedRoles()
	only := func(names ...string) []printedRole {
		return slices.DeleteFunc(slices.Clone(roles), func(r printedRole) bool { return !slices.Contains(names, r.short()) })
	}
	inject := []string{"inject", "deploy/caller", "--service", "backend", "--cluster-domain", "cluster.local", "--apply", "--yes", "--as"}
	for _, c := range []struct {
		name string
		gone right
		says string
	}{
		{"no-patch", right{"inject", "apps", "deployments", "patch"}, "may not patch deployment caller in " + s.ns},
		{"no-create", right{"inject", "", "services", "create"}, "may not create services in " + s.ns},
	} {
		o := s.grpclb(append(inject, s.subject(c.name, without(only("static", "nodes", "inject"), c.gone)))...)
		if o.code != 3 || !strings.Contains(o.stderr, c.says) || !strings.Contains(o.stderr, "prints the Role grpclb-inject") {
			t.Errorf("without the right to %s: %s", c.gone, o)
		}
	}
	all := only("static", "nodes", "inject")
	user := s.subject("injects", all)
	since := int64(0)
	if s.bed.Audit != "" {
		since = s.auditPosition()
	}
	if o := s.grpclb(append(inject, user)...); o.code != 0 || !strings.Contains(o.stderr, "deploy/caller changed") {
		t.Fatalf("with all rights: %s", o)
	}
	if s.bed.Audit != "" {
		used := s.wantOnly(all, s.audited(since, func(r request) bool { return r.As.Username == user }))
		for _, r := range []right{
			{"inject", "apps", "deployments", "patch"}, {"inject", "", "services", "create"}, {"inject", "", "namespaces", "get"},
		} {
			if !used[r] {
				t.Errorf("%s was not used", r)
			}
		}
	}
	if o := s.grpclb("uninject", "deploy/caller", "--apply", "--yes", "--as", s.subject("uninjects", only("inject"))); o.code != 0 || !strings.Contains(o.stderr, "deploy/caller changed") {
		t.Errorf("with the Role for --apply alone: %s", o)
	}
}

// lack is what goes missing with a right, and the exit code then: 1 while the
// critical finding about the client can still be made, 3 when what it rests on
// is out of sight.
type lack struct {
	unseen []string // "NS" stands for the namespace
	code   int
}

func part(fact, subject string) []string { return []string{"part of " + fact + " denied: " + subject} }

var lacking = map[string]lack{
	"static: get services":                         {nil, 1}, // the list has it
	"static: list services":                        {part("services", "other services of NS"), 1},
	"static: get pods":                             {nil, 1}, // for --sockets and --probe
	"static: list pods":                            {[]string{"pods denied"}, 1},
	"static: list endpointslices.discovery.k8s.io": {[]string{"endpointslices denied"}, 3},
	"static: get deployments.apps":                 {nil, 1}, // the gets are for fix, which writes workloads out whole
	"static: list deployments.apps":                {part("workloads", "deployments"), 3},
	"static: get statefulsets.apps":                {nil, 1},
	"static: list statefulsets.apps":               {part("workloads", "statefulsets"), 1},
	"static: get daemonsets.apps":                  {nil, 1},
	"static: list daemonsets.apps":                 {part("workloads", "daemonsets"), 1},
	"static: get jobs.batch":                       {nil, 1},
	"static: list jobs.batch":                      {part("workloads", "jobs"), 1},
	"static: get cronjobs.batch":                   {nil, 1},
	"static: list cronjobs.batch":                  {part("workloads", "cronjobs"), 1},
	"static: get configmaps":                       {part("configmaps", "configmap NS/targets"), 3}, // the client stands in it: not all was seen
	"static: list pods.metrics.k8s.io":             {[]string{"metrics denied"}, 1},
	"nodes: list nodes":                            {[]string{"nodes denied"}, 1},
	"dns: list pods":                               {[]string{"dns denied"}, 1},
	"dns: create pods/portforward":                 {[]string{"dns denied"}, 1},
	"dns: get pods/portforward":                    {nil, 1}, // SPDY does without
	"observe: create pods/portforward":             {[]string{"ports denied"}, 1},
	"observe: get pods/portforward":                {nil, 1},
}
