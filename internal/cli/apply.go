package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// fieldManager is who the API server notes as the writer of what is applied.
const fieldManager = diagnose.ManagedBy

// applyChange changes a live object in the manner of all that this plugin changes: it says where, shows what a dry run of the API server
// makes of it, asks, and then does it for the object that was read and no other.
func (a *app) applyChange(ctx context.Context, s *collect.Session, c change, yes bool) error {
	patch, some, err := c.patch()
	if err != nil {
		return err
	}
	if !some && len(c.twins) == 0 {
		a.say(c.name() + " is as it should be: nothing is changed")
		return nil
	}
	if !yes && !a.canAsk() {
		return usage("--yes answers for you", "--apply asks before it changes anything, and standard input is no terminal")
	}
	differs, err := a.dryRun(ctx, s, c, patch)
	if err != nil {
		return err
	}
	if !differs {
		a.say(c.name() + " is as it should be: nothing is changed")
		return nil
	}
	if !yes {
		if ok, err := a.agreed(ctx, "change "+c.name()+" in "+c.ref.Namespace+"?"); err != nil || !ok {
			return errors.Join(err, couldNot(errors.New("nothing was changed"), ""))
		}
	}
	for _, t := range c.twins {
		if _, err := createService(ctx, s, t, false); err != nil {
			return err
		}
		a.say(t.Ref + " created")
	}
	if !some {
		return nil
	}
	if _, err := patchObject(ctx, s, c, patch, false); err != nil {
		return err
	}
	a.say(c.name() + " changed")
	if c.ref.Kind != "CronJob" {
		a.note("its pods are being replaced: kubectl rollout status %s -n %s", c.name(), c.ref.Namespace)
	}
	return nil
}

// dryRun prints what the API server, admission included, would make of the change; false when that is what there is: the server fills in
// defaults that the patch leaves out.
func (a *app) dryRun(ctx context.Context, s *collect.Session, c change, patch []byte) (differs bool, err error) {
	a.say(fmt.Sprintf("context %s", quotedOr(s.Context(), "of the service account")))
	for _, t := range c.twins {
		after, err := createService(ctx, s, t, true)
		if err != nil {
			return false, err
		}
		if _, err := a.printDiff(t.Ref, nil, after); err != nil {
			return false, err
		}
	}
	if patch == nil {
		return true, nil
	}
	after, err := patchObject(ctx, s, c, patch, true)
	if err != nil {
		return false, err
	}
	differs, err = a.printDiff(c.name(), c.before, after)
	return differs || len(c.twins) > 0, err
}

func quotedOr(s, other string) string {
	if s == "" {
		return other
	}
	return unquoted(s)
}

// printDiff compares two states of an object, without what the server alone writes.
func (a *app) printDiff(ref string, before, after map[string]any) (differs bool, err error) {
	x, err := comparable(before)
	if err != nil {
		return false, err
	}
	y, err := comparable(after)
	if err != nil {
		return false, err
	}
	out := diff.Diff(ref+" now", x, ref+" then", y)
	_, err = a.Out.Write(out)
	return len(out) > 0, err
}

func comparable(obj map[string]any) ([]byte, error) {
	if obj == nil {
		return nil, nil
	}
	raw, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	delete(m, "status")
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, k := range []string{"managedFields", "generation", "resourceVersion", "uid", "creationTimestamp"} {
			delete(meta, k)
		}
	}
	return quote.YAML(m)
}

// canAsk reports whether there is somebody to ask.
func (a *app) canAsk() bool {
	f, ok := a.In.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// agreed asks a question; only y or yes agrees.
func (a *app) agreed(ctx context.Context, question string) (bool, error) {
	fmt.Fprint(a.Err, quote.Visible(question)+" [y/N] ")
	line, _ := bufio.NewReader(a.stdin).ReadString('\n') // what came before the end of the input is the answer
	word := strings.ToLower(strings.TrimSpace(line))
	return word == "y" || word == "yes", ctx.Err()
}

// patchObject sends a merge patch.
func patchObject(ctx context.Context, s *collect.Session, c change, patch []byte, dry bool) (map[string]any, error) {
	r := workloadKinds[c.ref.Kind]
	op := collect.Op{Verb: "patch", Resource: r, Namespace: c.ref.Namespace, Object: c.ref.Name}
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	req := s.REST().Patch(types.MergePatchType).AbsPath("apis", r.Group, r.Version, "namespaces", c.ref.Namespace, r.Name, c.ref.Name).
		Param("fieldManager", fieldManager).SetHeader("Accept", "application/json").Body(patch)
	if dry {
		req = req.Param("dryRun", "All")
	}
	raw, err := req.Do(cctx).Raw()
	return answered(ctx, s, op, raw, err)
}

// createService makes a headless Service.
func createService(ctx context.Context, s *collect.Session, t fix.Object, dry bool) (map[string]any, error) {
	body, err := json.Marshal(t.Content)
	if err != nil {
		return nil, err
	}
	op := collect.Op{Verb: "create", Resource: collect.Services, Namespace: t.Namespace}
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	req := s.REST().Post().AbsPath("api", "v1", "namespaces", t.Namespace, "services").
		Param("fieldManager", fieldManager).SetHeader("Accept", "application/json").SetHeader("Content-Type", "application/json").Body(body)
	if dry {
		req = req.Param("dryRun", "All")
	}
	raw, err := req.Do(cctx).Raw()
	return answered(ctx, s, op, raw, err)
}

// answered turns an answer into the object, or a refusal into an error.
func answered(ctx context.Context, s *collect.Session, op collect.Op, raw []byte, err error) (map[string]any, error) {
	if err != nil {
		return nil, notTaken(s.Failure(ctx, op, statusOf(raw, err)))
	}
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return out, nil
}

// notTaken words why the API server did not take a change: a lack of rights, or what admission thinks of it. Its own words stand beside
// it: what admission says of a change is what its author has to read.
func notTaken(f *collect.CallError) error {
	var api apierrors.APIStatus
	if !errors.As(f.Err, &api) || f.Kind == collect.KindStopped {
		return f
	}
	st := api.Status()
	told := func(reason, hint string) error {
		return couldNot(fmt.Errorf("%s: %s", reason, serverWords(st.Message)), hint)
	}
	if strings.HasSuffix(st.Message, "does not support dry run") {
		return told("what --apply would change cannot be shown first", "without --apply it writes what `kubectl apply` takes, which asks for no dry run")
	}
	if st.Reason == metav1.StatusReasonConflict {
		return told("somebody changed it since it was read", "run again, which reads it anew")
	}
	if why, ok := live.Admission(f.Op, f.Err); ok {
		hint := why.Hint
		if why.State == diagnose.Denied && hint != "" && !strings.Contains(hint, "not RBAC") {
			hint = "this is admission, not RBAC; " + hint
		}
		return told(why.Reason, hint)
	}
	switch f.Kind {
	case collect.KindDenied:
		return couldNot(f, fmt.Sprintf("%s diagnose --rbac -n %s prints the Role %s, which --apply needs; without --apply it writes what somebody who may can apply",
			Name, f.Op.Namespace, applyRole))
	case collect.KindServer, collect.KindGarbage:
		return told(f.Reason, f.Status.Hint)
	}
	return f
}

// serverWords is what the API server says of a refusal, in one line and of bounded length, without what stands beside it already.
func serverWords(message string) string {
	for _, before := range []string{"denied the request: ", "denied request: ", " is forbidden: "} {
		if _, rest, ok := strings.Cut(message, before); ok {
			message = rest
			break
		}
	}
	words := strings.Join(strings.Fields(message), " ")
	if r := []rune(words); len(r) > mostWords {
		words = string(r[:mostWords]) + "…"
	}
	return words
}

// mostWords is how much of what the API server says is repeated: policies list what they miss in each container.
const mostWords = 1000
