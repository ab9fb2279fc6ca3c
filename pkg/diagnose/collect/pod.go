package collect

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// rawPod is a pod before the other lists are in: which of its labels may be kept depends on the Services, its owner on the
// workloads.
type rawPod struct {
	diagnose.Pod
	labels map[string]string
	tmpl   *template // of pods whose owner is not a kind that is listed, or that have none
}

func projectPod(p *corev1.Pod) rawPod {
	out := diagnose.Pod{
		Key: keyOf(&p.ObjectMeta), UID: string(p.UID), Owner: controller(p.OwnerReferences), Node: p.Spec.NodeName,
		HostNetwork: p.Spec.HostNetwork, DNSPolicy: string(p.Spec.DNSPolicy), Phase: string(p.Status.Phase),
		Created: p.CreationTimestamp.UTC(), Terminating: p.DeletionTimestamp != nil, Mesh: meshOfPod(p),
	}
	if out.Owner.Kind == "" {
		out.Owner = diagnose.Owner{Kind: "Pod", Name: p.Name}
	}
	for _, ip := range p.Status.PodIPs {
		out.IPs = append(out.IPs, ip.IP)
	}
	if len(out.IPs) == 0 && p.Status.PodIP != "" {
		out.IPs = []string{p.Status.PodIP}
	}
	if p.Status.StartTime != nil {
		out.Started = p.Status.StartTime.UTC()
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Ready = c.Status == corev1.ConditionTrue
			out.ReadySince = c.LastTransitionTime.UTC()
		}
	}
	if !out.Ready && out.Phase != "Succeeded" {
		out.Trouble = trouble(p)
	}
	for i := range p.Spec.InitContainers {
		c := projectContainer(&p.Spec.InitContainers[i], p.Status.InitContainerStatuses)
		c.Init = true
		c.Sidecar = isSidecar(&p.Spec.InitContainers[i])
		out.Containers = append(out.Containers, c)
	}
	for i := range p.Spec.Containers {
		out.Containers = append(out.Containers, projectContainer(&p.Spec.Containers[i], p.Status.ContainerStatuses))
	}
	raw := rawPod{Pod: out, labels: p.Labels}
	if !listedKinds[out.Owner.Kind] && (out.Owner.Kind != "ReplicaSet" || !isDeploymentPod(p)) || out.Owner.Kind == "Pod" {
		t := newTemplate(&p.ObjectMeta, &p.Spec)
		raw.tmpl = &t
	}
	return raw
}

var listedKinds = map[string]bool{"Deployment": true, "StatefulSet": true, "DaemonSet": true, "CronJob": true, "Job": true}

func isDeploymentPod(p *corev1.Pod) bool {
	_, ok := deploymentOf(controller(p.OwnerReferences).Name, p.Labels)
	return ok
}

// deploymentOf takes the Deployment's name out of its ReplicaSet's, which is NAME-HASH with the hash also in a label of the pods.
func deploymentOf(replicaSet string, labels map[string]string) (string, bool) {
	h := labels["pod-template-hash"]
	if h == "" {
		return "", false
	}
	return strings.CutSuffix(replicaSet, "-"+h)
}

func controller(refs []metav1.OwnerReference) diagnose.Owner {
	for _, r := range refs {
		if r.Controller != nil && *r.Controller {
			return diagnose.Owner{Kind: r.Kind, Name: r.Name}
		}
	}
	return diagnose.Owner{}
}

func projectContainer(c *corev1.Container, statuses []corev1.ContainerStatus) diagnose.Container {
	out := diagnose.Container{
		Name: c.Name, Image: c.Image, Readiness: projectProbe(c.ReadinessProbe), Liveness: projectProbe(c.LivenessProbe),
		Startup: projectProbe(c.StartupProbe), CPUMilli: c.Resources.Requests.Cpu().MilliValue(), Hints: hints(c),
	}
	for _, p := range c.Ports {
		out.Ports = append(out.Ports, diagnose.ContainerPort{Name: p.Name, Port: p.ContainerPort, Protocol: string(p.Protocol)})
	}
	for _, s := range statuses {
		if s.Name == c.Name {
			out.Ready, out.Restarts = s.Ready, s.RestartCount
		}
	}
	return out
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// reasonWord is what the API's conventions ask of reasons: one word in CamelCase. Anything else may be a text from somewhere.
var reasonWord = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{1,63}$`)

// trouble is the most telling reason why a pod is not ready: what a container waits for, how it ended, why the pod as a whole is where
// it is.
func trouble(p *corev1.Pod) string {
	var first, ended string
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, s := range list {
			if w := s.State.Waiting; w != nil && first == "" && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
				first = w.Reason
			}
			if t := s.State.Terminated; t != nil && ended == "" && t.ExitCode != 0 {
				ended = t.Reason
			}
		}
	}
	candidates := []string{first, ended, p.Status.Reason}
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady} {
		for _, c := range p.Status.Conditions {
			if c.Type == t && c.Status != corev1.ConditionTrue {
				candidates = append(candidates, c.Reason)
			}
		}
	}
	for _, c := range candidates {
		if reasonWord.MatchString(c) {
			return c
		}
	}
	return ""
}
