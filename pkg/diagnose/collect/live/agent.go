package live

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const (
	agentPath = "/grpclb-refresher"
	agentUser = int64(65532)
	// A starting container is looked at often in the beginning, because most start within a second or two, and then less and less.
	pollFirst = 100 * time.Millisecond
	pollMost  = time.Second
	// logGrace is what a report may take beyond its own measuring time.
	logGrace = 15 * time.Second
	// logTries is how often a log is asked for that the node does not have yet.
	logTries = 4
)

// agentError says why the agent did not run in a pod. Its reason is a clause for a fact.
type agentError struct{ status diagnose.Status }

// Error returns the reason.
func (e *agentError) Error() string { return e.status.Reason }

func agentFailed(hint, format string, args ...any) error {
	return &agentError{diagnose.Status{State: diagnose.Failed, Reason: fmt.Sprintf(format, args...), Hint: hint}}
}

// security is what the agent's container may do: nothing. It meets the Pod Security level "restricted". The numeric user is needed
// where a pod demands runAsNonRoot, because the kubelet cannot tell it from a name.
func security() *corev1.SecurityContext {
	no, yes, user := false, true, agentUser
	return &corev1.SecurityContext{
		RunAsNonRoot: &yes, RunAsUser: &user, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// randomSuffix makes names of agents unique: 40 bits, in letters that names may have.
func randomSuffix() string { return strings.ToLower(rand.Text()[:8]) }

// attach adds an ephemeral container that runs the agent and returns its name. Kubernetes keeps the container's entry in the pod's spec
// for good (KEP-277).
func attach(ctx context.Context, s *collect.Session, pod diagnose.Key, image string, args []string) (string, error) {
	name := agentPrefix + randomSuffix()
	c := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{agentPath}, Args: args,
		SecurityContext: security(), TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"ephemeralContainers": []corev1.EphemeralContainer{c}}})
	if err != nil {
		return "", err
	}
	op := collect.Op{Verb: "patch", Resource: collect.Pods, Sub: "ephemeralcontainers", Namespace: pod.Namespace, Object: pod.Name}
	cctx, cancel := context.WithTimeout(quiet(ctx), s.CallTimeout())
	defer cancel()
	err = s.REST().Patch(types.StrategicMergePatchType).AbsPath(podPath(pod, "ephemeralcontainers")...).Body(patch).Do(cctx).Error()
	if err != nil {
		return "", failure(ctx, s, op, err)
	}
	return name, nil
}

// agentRun is a container that runs the agent, how long it may take to start, and how long its measuring takes.
type agentRun struct {
	pod            diagnose.Key
	container      string
	start, measure time.Duration
}

// readReport waits until the container runs or has run, and hands its log to read, which returns when it has a whole report.
func readReport(ctx context.Context, s *collect.Session, run agentRun, read func(io.Reader) error) error {
	if err := waitStarted(ctx, s, run); err != nil {
		return err
	}
	op := collect.Op{Verb: "get", Resource: collect.Pods, Sub: "log", Namespace: run.pod.Namespace, Object: run.pod.Name}
	lctx, cancel := context.WithTimeout(quiet(ctx), run.measure+logGrace)
	defer cancel()
	body, err := openLog(lctx, s, run)
	if err != nil && lctx.Err() == nil {
		return failure(ctx, s, op, err)
	}
	if err == nil {
		defer body.Close()
		stop := context.AfterFunc(lctx, func() { _ = body.Close() })
		defer stop()
		err = read(body)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return s.Failure(ctx, op, ctx.Err())
	case lctx.Err() != nil:
		return agentFailed(logsHint(run), "the agent in pod %s gave no report within %s", run.pod, run.measure+logGrace)
	case errors.Is(err, agentapi.ErrVersion):
		return agentFailed("--image names one that fits this plugin", "the agent's image is of another release: %s", clip(err.Error()))
	}
	return agentFailed(logsHint(run), "the agent in pod %s gave no whole report: %s", run.pod, clip(err.Error()))
}

func logsHint(run agentRun) string {
	return fmt.Sprintf("kubectl logs -n %s %s -c %s", run.pod.Namespace, run.pod.Name, run.container)
}

// openLog asks for the log, again when the node says that the container, which has started, has none yet.
func openLog(ctx context.Context, s *collect.Session, run agentRun) (io.ReadCloser, error) {
	for n := 1; ; n++ {
		body, err := s.REST().Get().AbsPath(podPath(run.pod, "log")...).Param("container", run.container).Param("follow", "true").
			MaxRetries(0).Stream(ctx)
		if err == nil {
			return body, nil
		}
		st, ok := apiStatus(err)
		if n == logTries || !ok || st.Code != 400 && st.Code < 500 || !pause(ctx, pollMost/2) {
			return nil, err
		}
	}
}

// pause is false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errStart = errors.New("the agent did not start in time")

// waitStarted polls the pod until the container runs or ended. Reasons that do not mend themselves end the wait at once; a call that
// fails in passing does not.
func waitStarted(ctx context.Context, s *collect.Session, run agentRun) error {
	wctx, cancel := context.WithTimeoutCause(ctx, run.start, errStart)
	defer cancel()
	last := "no reason given"
	for every := pollFirst; ; every = min(every*3/2, pollMost) {
		p, err := getPod(wctx, s, run.pod)
		switch {
		case ctx.Err() != nil:
			return s.Failure(ctx, collect.Op{Verb: "get", Resource: collect.Pods, Namespace: run.pod.Namespace, Object: run.pod.Name}, ctx.Err())
		case err == nil:
			started, waiting, err := containerState(p, run.container)
			if started || err != nil {
				return err
			}
			last = waiting
		case !passing(err) && wctx.Err() == nil:
			return err
		}
		if !pause(wctx, every) && ctx.Err() == nil {
			return agentFailed("", "the agent in pod %s did not start within %s (%s)", run.pod, run.start, last)
		}
	}
}

// passing tells failures of a call that may not repeat themselves: an API server that is started anew refuses connections for a while.
func passing(err error) bool {
	var ce *collect.CallError
	return errors.As(err, &ce) && slices.Contains([]collect.Kind{
		collect.KindBusy, collect.KindServer, collect.KindTimeout, collect.KindBroken, collect.KindUnreachable,
	}, ce.Kind)
}

const (
	hintImage    = "--image names the agent's image, one that the nodes can pull"
	hintDescribe = "kubectl describe pod shows why"
)

// fatalWaiting are waiting reasons that a kubelet does not get out of by itself.
var fatalWaiting = map[string]string{
	"ErrImagePull": hintImage, "ImagePullBackOff": hintImage, "ErrImageNeverPull": hintImage, "ImageInspectError": hintImage,
	"RegistryUnavailable": hintImage, "SignatureValidationFailed": hintImage, "InvalidImageName": "--image is not a valid image name",
	"CreateContainerConfigError": hintDescribe, "CreateContainerError": hintDescribe, "RunContainerError": hintImage,
}

// fatalEnd are reasons of a container that ended before its program ran: the image has no such program, or one for other machines.
var fatalEnd = []string{"StartError", "ContainerCannotRun"}

// containerState says whether a container has started, what it waits for, or why it never will.
func containerState(p *corev1.Pod, name string) (started bool, waiting string, err error) {
	for _, c := range slices.Concat(p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses) {
		if c.Name != name {
			continue
		}
		switch st := c.State; {
		case st.Terminated != nil && slices.Contains(fatalEnd, st.Terminated.Reason):
			return false, "", agentFailed(hintImage, "the agent cannot start in pod %s/%s: %s (image %s)", p.Namespace, p.Name, st.Terminated.Reason, clip(c.Image))
		case st.Running != nil, st.Terminated != nil:
			return true, "", nil
		case st.Waiting != nil:
			reason := word(st.Waiting.Reason)
			if hint, ok := fatalWaiting[reason]; ok {
				return false, reason, agentFailed(hint, "the agent cannot start in pod %s/%s: %s (image %s)", p.Namespace, p.Name, reason, clip(c.Image))
			}
			return false, reason, nil
		}
	}
	if p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil {
		return false, "", agentFailed("", "pod %s/%s went away before the agent started", p.Namespace, p.Name)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return false, "not scheduled: " + word(c.Reason), nil
		}
	}
	return false, "no reason given", nil
}
