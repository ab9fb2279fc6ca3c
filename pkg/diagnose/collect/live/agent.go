package live

import (
	"bytes"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const (
	agentPath = "/grpclb-refresher"
	agentUser = int64(65532)
	// startWait is how long the agent's container may take to start; pulling an image is in it.
	startWait = 45 * time.Second
	// pollEvery is how often a starting container is looked at.
	pollEvery = 250 * time.Millisecond
	// logGrace is what a report may take beyond its own measuring time.
	logGrace = 15 * time.Second
)

// agentError says why the agent did not run in a pod. It is a clause for a fact's reason.
type agentError struct {
	status diagnose.Status
	err    error
}

func (e *agentError) Error() string { return e.status.Reason }
func (e *agentError) Unwrap() error { return e.err }

func agentFailed(reason, hint string) error {
	return &agentError{status: diagnose.Status{State: diagnose.Failed, Reason: reason, Hint: hint}}
}

func agentStatus(err error) diagnose.Status {
	var ae *agentError
	if errors.As(err, &ae) {
		return ae.status
	}
	return statusOf(err)
}

// security is what the agent's container may do: nothing. The numeric user is needed where a pod demands runAsNonRoot, because the
// kubelet cannot tell it from a name.
func security() *corev1.SecurityContext {
	no, yes, user := false, true, agentUser
	return &corev1.SecurityContext{
		RunAsNonRoot: &yes, RunAsUser: &user, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func podPath(k diagnose.Key, sub ...string) []string {
	return append([]string{"api", "v1", "namespaces", k.Namespace, "pods", k.Name}, sub...)
}

// attach adds an ephemeral container that runs the agent and returns its name. Kubernetes keeps the container's entry in the pod's spec
// for good (KEP-277).
func attach(ctx context.Context, s *collect.Session, pod diagnose.Key, image string, args []string) (string, error) {
	name := "grpclb-" + strings.ToLower(rand.Text()[:8])
	c := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{agentPath}, Args: args,
		SecurityContext: security(), TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"ephemeralContainers": []corev1.EphemeralContainer{c}}})
	if err != nil {
		return "", err
	}
	op := collect.Op{Verb: "patch", Resource: collect.Pods, Sub: "ephemeralcontainers", Namespace: pod.Namespace, Object: pod.Name}
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	err = s.REST().Patch(types.StrategicMergePatchType).AbsPath(podPath(pod, "ephemeralcontainers")...).Body(patch).Do(cctx).Error()
	if err != nil {
		return "", s.Failure(ctx, op, err)
	}
	return name, nil
}

// readReport waits until the container runs or has run, and hands its log to read, which returns when it has a whole report.
func readReport(ctx context.Context, s *collect.Session, pod diagnose.Key, container string, d time.Duration, read func(io.Reader) error) error {
	if err := waitStarted(ctx, s, pod, container); err != nil {
		return err
	}
	op := collect.Op{Verb: "get", Resource: collect.Pods, Sub: "log", Namespace: pod.Namespace, Object: pod.Name}
	lctx, cancel := context.WithTimeout(ctx, d+logGrace)
	defer cancel()
	body, err := s.REST().Get().AbsPath(podPath(pod, "log")...).Param("container", container).Param("follow", "true").Stream(lctx)
	if err != nil {
		return s.Failure(ctx, op, err)
	}
	stop := context.AfterFunc(lctx, func() { _ = body.Close() })
	defer stop()
	defer body.Close()
	err = read(body)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return s.Failure(ctx, op, ctx.Err())
	case lctx.Err() != nil:
		return agentFailed(fmt.Sprintf("the agent in pod %s gave no report within %s", pod, d+logGrace), "")
	case errors.Is(err, agentapi.ErrVersion):
		return agentFailed("the agent's image is of another release: "+err.Error(), "--image names one that fits this plugin")
	}
	return agentFailed(fmt.Sprintf("the agent in pod %s gave no whole report: %v", pod, err),
		fmt.Sprintf("kubectl logs -n %s %s -c %s", pod.Namespace, pod.Name, container))
}

// waitStarted polls the pod until the container runs or ended. Reasons that do not mend themselves end the wait at once.
func waitStarted(ctx context.Context, s *collect.Session, pod diagnose.Key, container string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startWait, errStart)
	defer cancel()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	last := ""
	for {
		p, err := getPod(ctx, s, pod)
		switch {
		case err != nil && context.Cause(ctx) == errStart:
			return notStarted(pod, last)
		case err != nil:
			return err
		}
		started, waiting, err := containerState(p, container)
		if started || err != nil {
			return err
		}
		last = waiting
		select {
		case <-t.C:
		case <-ctx.Done():
			if context.Cause(ctx) == errStart {
				return notStarted(pod, last)
			}
			return s.Failure(ctx, collect.Op{Verb: "get", Resource: collect.Pods, Namespace: pod.Namespace, Object: pod.Name}, ctx.Err())
		}
	}
}

var errStart = errors.New("the agent did not start in time")

func notStarted(pod diagnose.Key, last string) error {
	if last == "" {
		last = "no reason given"
	}
	return agentFailed(fmt.Sprintf("the agent in pod %s did not start within %s (%s)", pod, startWait, last), "")
}

func getPod(ctx context.Context, s *collect.Session, pod diagnose.Key) (*corev1.Pod, error) {
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	p := &corev1.Pod{}
	if err := s.REST().Get().AbsPath(podPath(pod)...).Do(cctx).Into(p); err != nil {
		return nil, s.Failure(ctx, collect.Op{Verb: "get", Resource: collect.Pods, Namespace: pod.Namespace, Object: pod.Name}, err)
	}
	return p, nil
}

// fatalWaiting are waiting reasons that a kubelet does not get out of by itself.
var fatalWaiting = map[string]string{
	"ErrImagePull": "--image names an image that the nodes can pull", "ImagePullBackOff": "--image names an image that the nodes can pull",
	"ErrImageNeverPull": "--image names an image that the nodes can pull", "InvalidImageName": "--image is not a valid image name",
	"CreateContainerConfigError": "kubectl describe pod shows what the kubelet misses", "CreateContainerError": "kubectl describe pod shows why",
	"RunContainerError": "kubectl describe pod shows why",
}

// containerState says whether a container has started, what it waits for, or why it never will.
func containerState(p *corev1.Pod, name string) (started bool, waiting string, err error) {
	all := slices.Concat(p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses)
	for _, c := range all {
		if c.Name != name {
			continue
		}
		switch {
		case c.State.Running != nil, c.State.Terminated != nil:
			return true, "", nil
		case c.State.Waiting != nil:
			reason := c.State.Waiting.Reason
			if hint, ok := fatalWaiting[reason]; ok {
				return false, reason, agentFailed(fmt.Sprintf("the agent cannot start in pod %s/%s: %s (image %s)", p.Namespace, p.Name, reason, c.Image), hint)
			}
			return false, reason, nil
		}
	}
	if p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil {
		return false, "", agentFailed(fmt.Sprintf("pod %s/%s went away before the agent started", p.Namespace, p.Name), "")
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return false, "not scheduled: " + c.Reason, nil
		}
	}
	return false, "", nil
}

// probePod is the short-lived pod that makes calls. It opts out of meshes: what it sees is what a client without a proxy sees.
func probePod(namespace, image string, args []string, life time.Duration) *corev1.Pod {
	no, zero, seconds := false, int64(0), int64(life/time.Second)
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "grpclb-probe-", Namespace: namespace,
			Labels:      map[string]string{diagnose.ManagedByLabel: diagnose.ManagedBy, "sidecar.istio.io/inject": "false"},
			Annotations: map[string]string{"linkerd.io/inject": "disabled", "sidecar.istio.io/inject": "false"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &zero, ActiveDeadlineSeconds: &seconds,
			AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
			Containers: []corev1.Container{{
				Name: "probe", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{agentPath}, Args: args,
				SecurityContext: security(), Resources: probeResources(),
			}},
		},
	}
}

func createPod(ctx context.Context, s *collect.Session, p *corev1.Pod) (diagnose.Key, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return diagnose.Key{}, err
	}
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	made := &corev1.Pod{}
	err = s.REST().Post().AbsPath("api", "v1", "namespaces", p.Namespace, "pods").Body(bytes.NewReader(body)).
		SetHeader("Content-Type", "application/json").Do(cctx).Into(made)
	if err != nil {
		return diagnose.Key{}, s.Failure(ctx, collect.Op{Verb: "create", Resource: collect.Pods, Namespace: p.Namespace}, err)
	}
	return diagnose.Key{Namespace: made.Namespace, Name: made.Name}, nil
}

// deleteWait bounds the deletion of the probe's pod, which also runs after an interrupt.
const deleteWait = 10 * time.Second

// deletePod removes the probe's pod even when ctx has ended; a pod that is gone already is fine.
func deletePod(ctx context.Context, s *collect.Session, pod diagnose.Key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWait)
	defer cancel()
	err := s.REST().Delete().AbsPath(podPath(pod)...).Param("gracePeriodSeconds", "0").Do(ctx).Error()
	if err == nil {
		return nil
	}
	ce := s.Failure(ctx, collect.Op{Verb: "delete", Resource: collect.Pods, Namespace: pod.Namespace, Object: pod.Name}, err)
	if ce.Kind == collect.KindNotFound {
		return nil
	}
	return ce
}
