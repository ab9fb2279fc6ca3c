package live

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// failure is Session.Failure for requests that change something: there a 403 is as often the word of an admission plugin (a quota, Pod
// Security, a webhook) as of RBAC, and advice about roles would send the reader the wrong way. Of the server's text only what is known is
// taken over.
func failure(ctx context.Context, s *collect.Session, op collect.Op, err error) *collect.CallError {
	ce := s.Failure(ctx, op, err)
	if ce == nil || ce.Kind == collect.KindStopped {
		return ce
	}
	status, ok := Admission(op, err)
	if !ok {
		return ce
	}
	own := *ce
	own.Status = status
	return &own
}

func apiStatus(err error) (metav1.Status, bool) {
	var st apierrors.APIStatus
	if !errors.As(err, &st) {
		return metav1.Status{}, false
	}
	return st.Status(), true
}

func isAPIStatus(err error) bool {
	_, ok := apiStatus(err)
	return ok
}

// namesObject tells a missing object from a missing resource.
func namesObject(st metav1.Status) bool { return st.Details != nil && st.Details.Name != "" }

// Known parts of what admission plugins say. Names are those of API objects (RFC 1123 subdomains) and bounded.
var (
	podSecurity = regexp.MustCompile(`violates PodSecurity "((?:privileged|baseline|restricted):[a-z0-9.]{1,16})"`)
	webhook     = regexp.MustCompile(`admission webhook "([a-z0-9.-]{1,253})" denied`)
	noWebhook   = regexp.MustCompile(`failed calling webhook "([a-z0-9.-]{1,253})"`)
	policy      = regexp.MustCompile(`ValidatingAdmissionPolicy '([a-z0-9.-]{1,253})'`)
	limitRange  = regexp.MustCompile(`\b(minimum|maximum) (cpu|memory|ephemeral-storage) (usage|limit)|must be less than or equal to`)
)

const hintWebhooks = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations -o yaml shows whose it is"

// Admission words the API server's answer to a request that would change something, where it is not about roles: what the part of
// admission is called that refused, and where to look next. It is false for answers that collect words well, RBAC's among them.
func Admission(op collect.Op, err error) (diagnose.Status, bool) {
	st, ok := apiStatus(err)
	if !ok {
		return diagnose.Status{}, false
	}
	what, ns := wanted(op), op.Namespace
	denied := func(hint, format string, args ...any) (diagnose.Status, bool) {
		return diagnose.Status{State: diagnose.Denied, Reason: fmt.Sprintf(format, args...), Hint: hint}, true
	}
	if m := webhook.FindStringSubmatch(st.Message); m != nil {
		return denied("its owner can say what it wants: "+hintWebhooks, "admission webhook %s does not allow %s", m[1], what)
	}
	if m := noWebhook.FindStringSubmatch(st.Message); m != nil {
		return diagnose.Status{State: diagnose.Failed, Reason: fmt.Sprintf("admission webhook %s does not answer, and without its word the API server does not allow %s", m[1], what), Hint: hintWebhooks}, true
	}
	if m := policy.FindStringSubmatch(st.Message); m != nil {
		return denied("kubectl describe validatingadmissionpolicy "+m[1], "admission policy %s does not allow %s", m[1], what)
	}
	switch st.Code {
	case http.StatusForbidden:
	case http.StatusNotFound:
		if op.Sub == "ephemeralcontainers" && !namesObject(st) {
			return diagnose.Status{State: diagnose.Failed, Reason: "the API server does not serve ephemeral containers", Hint: "Kubernetes 1.25 or later does"}, true
		}
		return diagnose.Status{}, false
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return diagnose.Status{State: diagnose.Failed, Reason: fmt.Sprintf("the API server does not accept %s (%s)", what, word(string(st.Reason)))}, true
	default:
		return diagnose.Status{}, false
	}
	_, rest, found := strings.Cut(st.Message, " is forbidden: ")
	if !found || strings.HasPrefix(rest, "User ") { // the authorisers' form: User "x" cannot create resource "pods" ...
		return diagnose.Status{}, false
	}
	switch m := podSecurity.FindStringSubmatch(rest); {
	case m != nil:
		hint := "kubectl get namespace " + ns + " --show-labels shows the level that it enforces"
		if op.Sub == "ephemeralcontainers" {
			hint = "the pod itself does not keep to that level, so nothing may be added to it"
		}
		return denied(hint, "Pod Security %s of namespace %s does not allow %s", m[1], ns, what)
	case strings.Contains(rest, "exceeded quota"), strings.Contains(rest, "failed quota"):
		return denied("kubectl describe resourcequota -n "+ns, "a resource quota of namespace %s does not allow %s", ns, what)
	case strings.Contains(rest, "being terminated"):
		return denied("", "namespace %s is being deleted", ns)
	case limitRange.MatchString(rest):
		return denied("kubectl describe limitrange -n "+ns, "a limit range of namespace %s does not allow %s", ns, what)
	case strings.Contains(rest, "service account"):
		return denied("kubectl get serviceaccount -n "+ns, "namespace %s has no default service account", ns)
	}
	return denied("kubectl auth can-i does not tell: it is admission, not RBAC", "admission in namespace %s does not allow %s", ns, what)
}

// wanted words what an operation would have made.
func wanted(op collect.Op) string {
	switch op.Sub {
	case "ephemeralcontainers":
		return "an ephemeral container in pod " + op.Object
	case "portforward":
		return "port-forward to pod " + op.Object
	case "exec":
		return "exec in pod " + op.Object
	case "":
		if op.Verb == "create" && op.Resource == collect.Pods {
			return "the probe's pod"
		}
	}
	return "to " + op.String()
}

// statusOf is what a fact says about an error of this package's functions.
func statusOf(err error) diagnose.Status {
	var ce *collect.CallError
	var ae *agentError
	switch {
	case errors.As(err, &ae):
		return ae.status
	case errors.As(err, &ce):
		return ce.Status
	}
	return diagnose.Status{State: diagnose.Failed, Reason: clip(err.Error())}
}

// misses are the pods of one group of facts that could not be seen. They are gaps when others could, and the group's own status when
// none was seen.
type misses struct {
	fact     diagnose.FactName
	pods     []diagnose.Key
	statuses []diagnose.Status
}

// add notes a pod; a status that says nothing is passed over.
func (m *misses) add(pod diagnose.Key, st diagnose.Status) {
	if st.State != "" {
		m.pods, m.statuses = append(m.pods, pod), append(m.statuses, st)
	}
}

func (m *misses) note(s *collect.Session) {
	for i, st := range m.statuses {
		s.Gap(diagnose.Gap{Fact: m.fact, Subject: "pod " + m.pods[i].String(), Status: st})
	}
}

// status words that nothing was seen. denied, when it is not empty, is said instead of one pod's refusal by RBAC.
func (m *misses) status(denied string) diagnose.Status {
	st := worst(m.statuses)
	if denied != "" && st.State == diagnose.Denied && strings.HasPrefix(st.Reason, "may not ") { // collect's words for RBAC
		st.Reason = denied
	}
	return st
}

// worst is the status of a group of which nothing could be seen: denied when everything was refused, else the first that failed
// otherwise.
func worst(fails []diagnose.Status) diagnose.Status {
	if len(fails) == 0 {
		return diagnose.Status{State: diagnose.Failed, Reason: "nothing was asked"}
	}
	for _, f := range fails {
		if f.State != diagnose.Denied {
			return f
		}
	}
	return fails[0]
}

// maxClip bounds text of another party in a reason, in bytes.
const maxClip = 240

// clip makes text of another party fit to stand in a reason: one line, printable, bounded.
func clip(s string) string {
	out := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Cf, r) { // Cf: bidirectional overrides and the like
			return ' '
		}
		return r
	}, s[:min(len(s), 4*maxClip)])
	out = strings.Join(strings.Fields(out), " ")
	if len(out) <= maxClip {
		return out
	}
	cut := maxClip
	for cut > 0 && !utf8.RuneStart(out[cut]) {
		cut--
	}
	return out[:cut] + "…"
}

var oneWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,63}$`)

// word passes a reason of the API's conventions, one word in CamelCase, and nothing else.
func word(s string) string {
	if oneWord.MatchString(s) {
		return s
	}
	return "no reason given"
}
