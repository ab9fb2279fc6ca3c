package cli_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
)

// TestApplyRefused: who may not, and who may but meets admission, read what is in the way and what to do; neither is sent after the other.
func TestApplyRefused(t *testing.T) {
	t.Parallel()
	const rbac = "prints the Role grpclb-inject"
	for name, c := range map[string]struct {
		verb    string
		code    int
		reason  string
		message string
		says    []string
		not     string
	}{
		"rights": {"patch", 403, "Forbidden", `deployments.apps \"client\" is forbidden: User \"jane\" cannot patch resource \"deployments\" in API group \"apps\" in the namespace \"default\"`,
			[]string{"error: may not patch deployment client in default\n", "hint:  kubectl grpclb diagnose --rbac -n default " + rbac, "without --apply it writes"}, "admission"},
		"rights to create": {"create", 403, "Forbidden", `services is forbidden: User \"jane\" cannot create resource \"services\" in API group \"\" in the namespace \"default\"`,
			[]string{"error: may not create services in default\n", rbac}, "admission"},
		"webhook": {"patch", 403, "Forbidden", `admission webhook \"images.example.com\" denied the request: images are to be signed\nby us`,
			[]string{"error: admission webhook images.example.com does not allow to patch deployment client in default: images are to be signed by us\n",
				"hint:  this is admission, not RBAC; its owner can say what it wants: kubectl get validatingwebhookconfigurations"}, rbac},
		"policy": {"patch", 422, "Invalid", `deployments.apps \"client\" is forbidden: ValidatingAdmissionPolicy 'limits.example' with binding 'b' denied request: no CPU limit`,
			[]string{"error: admission policy limits.example does not allow to patch deployment client in default: no CPU limit\n",
				"hint:  this is admission, not RBAC; kubectl describe validatingadmissionpolicy limits.example\n"}, rbac},
		"pod security": {"patch", 403, "Forbidden", `deployments.apps \"client\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true`,
			[]string{"error: Pod Security restricted:latest of namespace default does not allow to patch deployment client in default: violates PodSecurity", "runAsNonRoot != true\n",
				"hint:  this is admission, not RBAC; kubectl get namespace default --show-labels"}, rbac},
		"quota": {"create", 403, "Forbidden", `services \"square-service-headless\" is forbidden: exceeded quota: few, requested: services=1, used: services=5, limited: services=5`,
			[]string{"error: a resource quota of namespace default does not allow to create services in default: exceeded quota: few, requested: services=1",
				"hint:  this is admission, not RBAC; kubectl describe resourcequota -n default\n"}, rbac},
		"other": {"patch", 403, "Forbidden", `deployments.apps \"client\" is forbidden: not on a Friday`,
			[]string{"error: admission in namespace default does not allow to patch deployment client in default: not on a Friday\n", "it is admission, not RBAC"}, rbac},
		"webhook down": {"patch", 500, "InternalError", `Internal error occurred: failed calling webhook \"images.example.com\": failed to call webhook: Post \"https://images.shop.svc:443/\": context deadline exceeded`,
			[]string{"error: admission webhook images.example.com does not answer", "failed to call webhook", "hint:  kubectl get validatingwebhookconfigurations"}, "RBAC"},
		"no dry run": {"patch", 400, "BadRequest", `admission webhook \"images.example.com\" does not support dry run`,
			[]string{"error: what --apply would change cannot be shown first: admission webhook", "hint:  without --apply it writes"}, "something other than an API server"},
		"conflict": {"patch", 409, "Conflict", `Operation cannot be fulfilled on deployments.apps \"client\": the object has been modified; please apply your changes to the latest version and try again`,
			[]string{"error: somebody changed it since it was read: Operation cannot", "hint:  run again"}, "something other than an API server"},
		"invalid": {"patch", 422, "Invalid", `Deployment.apps \"client\" is invalid: spec.template.spec.hostAliases[0].ip: Invalid value`,
			[]string{"error: the API server does not accept to patch deployment client in default (Invalid): Deployment.apps \"client\" is invalid"}, "something other than an API server"},
		"long": {"patch", 403, "Forbidden", `admission webhook \"a.example\" denied the request: ` + strings.Repeat("no ", 1000), []string{"no n…\n"}, rbac},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSocketWorld(t, nil)
			w.srv.Fail(kubetest.Fault{Verb: c.verb, Status: c.code, ContentType: "application/json",
				Body: fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":"%s","message":"%s"}`, c.code, c.reason, c.message)})
			code, stdout, stderr := w.inject(t, "", "deploy/client", "--apply", "--yes")
			if code != 3 || strings.Contains(stderr, "deploy/client changed") || c.not != "" && strings.Contains(stderr, c.not) {
				t.Errorf("code %d\n%s\n%s", code, stdout, stderr)
			}
			for _, s := range c.says {
				if !strings.Contains(stderr, s) {
					t.Errorf("%q is not in:\n%s", s, stderr)
				}
			}
		})
	}
}
