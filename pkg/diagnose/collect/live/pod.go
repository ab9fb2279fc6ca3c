package live

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

func podPath(k diagnose.Key, sub ...string) []string {
	return append([]string{"api", "v1", "namespaces", k.Namespace, "pods", k.Name}, sub...)
}

// quiet keeps client-go from writing to stderr, which belongs to the caller.
func quiet(ctx context.Context) context.Context { return logr.NewContext(ctx, logr.Discard()) }

func getPod(ctx context.Context, s *collect.Session, pod diagnose.Key) (*corev1.Pod, error) {
	cctx, cancel := context.WithTimeout(quiet(ctx), s.CallTimeout())
	defer cancel()
	p := &corev1.Pod{}
	if err := s.REST().Get().AbsPath(podPath(pod)...).MaxRetries(0).Do(cctx).Into(p); err != nil {
		return nil, s.Failure(ctx, collect.Op{Verb: "get", Resource: collect.Pods, Namespace: pod.Namespace, Object: pod.Name}, err)
	}
	return p, nil
}

// hostable says why the agent cannot run in a pod; nil when it can.
func hostable(p *corev1.Pod) error {
	name := p.Namespace + "/" + p.Name
	windows := p.Spec.OS != nil && p.Spec.OS.Name == corev1.Windows || p.Spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows)
	switch {
	case windows:
		return agentFailed("", "pod %s runs Windows, which the agent does not know", name)
	case p.DeletionTimestamp != nil:
		return agentFailed("", "pod %s is being deleted", name)
	case p.Status.Phase != corev1.PodRunning:
		return agentFailed("", "pod %s is not running (%s)", name, word(string(p.Status.Phase)))
	}
	return nil
}

// probePod is the short-lived pod that makes calls. It opts out of meshes: what it sees is what a client without a proxy sees. Its
// name is made here and not by the API server, so that it can be deleted also when the answer to its creation is lost.
func probePod(namespace, image string, args []string, life time.Duration) *corev1.Pod {
	no, zero, seconds := false, int64(0), int64(life/time.Second)
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: probePrefix + randomSuffix(), Namespace: namespace,
			Labels: map[string]string{
				diagnose.ManagedByLabel: diagnose.ManagedBy, "sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none",
			},
			Annotations: map[string]string{"linkerd.io/inject": "disabled", "sidecar.istio.io/inject": "false"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &zero, ActiveDeadlineSeconds: &seconds,
			AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
			NodeSelector: map[string]string{corev1.LabelOSStable: string(corev1.Linux)},
			Containers: []corev1.Container{{
				Name: "probe", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{agentPath}, Args: args,
				SecurityContext: security(), Resources: probeResources(),
			}},
		},
	}
}

// probeResources are small, and complete: a namespace with a quota refuses pods that leave a limit out.
func probeResources() corev1.ResourceRequirements {
	q := resource.MustParse
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: q("10m"), corev1.ResourceMemory: q("16Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: q("500m"), corev1.ResourceMemory: q("64Mi")},
	}
}

// createPod creates the pod. made is true when it may exist: also beside an error, when no answer came that says otherwise.
func createPod(ctx context.Context, s *collect.Session, p *corev1.Pod) (made bool, err error) {
	body, err := json.Marshal(p)
	if err != nil {
		return false, err
	}
	cctx, cancel := context.WithTimeout(quiet(ctx), s.CallTimeout())
	defer cancel()
	err = s.REST().Post().AbsPath("api", "v1", "namespaces", p.Namespace, "pods").Body(bytes.NewReader(body)).
		SetHeader("Content-Type", "application/json").MaxRetries(0).Do(cctx).Error()
	if err != nil {
		st, said := apiStatus(err)
		return !said || st.Code >= 500, failure(ctx, s, collect.Op{Verb: "create", Resource: collect.Pods, Namespace: p.Namespace}, err)
	}
	return true, nil
}

const (
	// deleteWait bounds the deletion of the probe's pod, which also runs after an interrupt.
	deleteWait = 10 * time.Second
	// A pod whose creation had no answer may be on its way into the store: it is looked for lostTries times, deleteEvery apart.
	lostTries   = 3
	deleteEvery = 500 * time.Millisecond
)

// deletePod removes the probe's pod even when ctx has ended. A pod that is gone already is fine; with lost, it is waited for a little.
// What may pass is tried again until deleteWait is over.
func deletePod(ctx context.Context, s *collect.Session, pod diagnose.Key, lost bool) error {
	ctx, cancel := context.WithTimeout(quiet(context.WithoutCancel(ctx)), deleteWait)
	defer cancel()
	op := collect.Op{Verb: "delete", Resource: collect.Pods, Namespace: pod.Namespace, Object: pod.Name}
	for n := 1; ; n++ {
		err := s.REST().Delete().AbsPath(podPath(pod)...).Param("gracePeriodSeconds", "0").MaxRetries(0).Do(ctx).Error()
		if err == nil {
			return nil
		}
		ce := failure(context.WithoutCancel(ctx), s, op, err)
		if ctx.Err() != nil {
			return agentFailed("", "no answer within %s", deleteWait)
		}
		gone := ce.Kind == collect.KindNotFound
		again := passing(ce) || gone && lost && n < lostTries
		if again && pause(ctx, deleteEvery) {
			continue
		}
		if gone {
			return nil
		}
		return ce
	}
}
