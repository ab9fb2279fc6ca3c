package kubetest

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// templateHash is the pod-template-hash of every Deployment here.
const templateHash = "5d9c8f7b6"

// PodBuilder makes a Pod; see Pod.
type PodBuilder struct{ *corev1.Pod }

// Pod makes a running, ready pod without an owner: label app=NAME, one container "app" with the port grpc 50051, on node n1.
func Pod(namespace, name string) PodBuilder {
	ip := address(10, namespace, name)
	p := &corev1.Pod{ObjectMeta: objectMeta(namespace, name), Spec: podSpec(), Status: corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: new(metav1.NewTime(Epoch)),
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(Epoch)},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "app", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
	}}
	p.Labels = map[string]string{"app": name}
	p.Spec.NodeName = "n1"
	return PodBuilder{p}
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, Containers: []corev1.Container{{
		Name: "app", Image: "example.test/app:1", Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 50051, Protocol: corev1.ProtocolTCP}},
	}}}
}

// Unwrap returns the object itself.
func (b PodBuilder) Unwrap() []runtime.Object { return []runtime.Object{b.Pod} }

// Label sets a label.
func (b PodBuilder) Label(key, value string) PodBuilder {
	b.Labels = with(b.Labels, key, value)
	return b
}

// On puts the pod on a node.
func (b PodBuilder) On(node string) PodBuilder {
	b.Spec.NodeName = node
	return b
}

// Env adds a variable to the first container.
func (b PodBuilder) Env(name, value string) PodBuilder {
	setEnv(&b.Spec, name, value)
	return b
}

// Owner sets the controller that made the pod.
func (b PodBuilder) Owner(apiVersion, kind, name string) PodBuilder {
	b.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, Controller: new(true)}}
	return b
}

// NotReady makes the pod's container wait for the reason.
func (b PodBuilder) NotReady(reason string) PodBuilder {
	b.Status.Conditions[1].Status = corev1.ConditionFalse
	b.Status.Conditions[1].Reason = "ContainersNotReady"
	b.Status.ContainerStatuses[0].Ready = false
	b.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	return b
}

func (b PodBuilder) ready() bool { return b.Status.Conditions[1].Status == corev1.ConditionTrue }

func (b PodBuilder) namedPort(name string) int32 {
	for _, c := range b.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort
			}
		}
	}
	return 0
}

func setEnv(spec *corev1.PodSpec, name, value string) {
	c := &spec.Containers[0]
	c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
}

// DeploymentBuilder makes a Deployment and its pods; see Deployment.
type DeploymentBuilder struct {
	*appsv1.Deployment
	nodes []string
}

// Deployment makes a Deployment of one replica with the template of Pod. Given to a Server it stands for itself and its pods.
func Deployment(namespace, name string) DeploymentBuilder {
	d := &appsv1.Deployment{ObjectMeta: objectMeta(namespace, name)}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	d.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: podSpec()}
	return DeploymentBuilder{Deployment: d, nodes: []string{"n1", "n2"}}.Replicas(1)
}

// Replicas sets how many pods there are.
func (b DeploymentBuilder) Replicas(n int32) DeploymentBuilder {
	b.Spec.Replicas = &n
	return b
}

// Env adds a variable to the template's first container.
func (b DeploymentBuilder) Env(name, value string) DeploymentBuilder {
	setEnv(&b.Spec.Template.Spec, name, value)
	return b
}

// Args sets the arguments of the template's first container.
func (b DeploymentBuilder) Args(args ...string) DeploymentBuilder {
	b.Spec.Template.Spec.Containers[0].Args = args
	return b
}

// EnvFrom takes the variables of the template's first container from a ConfigMap.
func (b DeploymentBuilder) EnvFrom(configMap string) DeploymentBuilder {
	c := &b.Spec.Template.Spec.Containers[0]
	c.EnvFrom = append(c.EnvFrom, corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: configMap}}})
	return b
}

// EnvKey takes one variable from a key of a ConfigMap.
func (b DeploymentBuilder) EnvKey(name, configMap, key string) DeploymentBuilder {
	c := &b.Spec.Template.Spec.Containers[0]
	c.Env = append(c.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: configMap}, Key: key,
	}}})
	return b
}

// Mount mounts a ConfigMap into the template's first container.
func (b DeploymentBuilder) Mount(configMap string) DeploymentBuilder {
	spec := &b.Spec.Template.Spec
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: configMap, VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: configMap}},
	}})
	spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: configMap, MountPath: "/etc/" + configMap})
	return b
}

// Annotate sets an annotation of the template.
func (b DeploymentBuilder) Annotate(key, value string) DeploymentBuilder {
	b.Spec.Template.Annotations = with(b.Spec.Template.Annotations, key, value)
	return b
}

// Sidecar adds a container to the template, as an injector does.
func (b DeploymentBuilder) Sidecar(name string) DeploymentBuilder {
	b.Spec.Template.Spec.Containers = append(b.Spec.Template.Spec.Containers, corev1.Container{Name: name, Image: "example.test/" + name})
	return b
}

// Pods makes the Deployment's pods, spread over the nodes n1 and n2.
func (b DeploymentBuilder) Pods() []PodBuilder {
	var out []PodBuilder
	for i := range int(*b.Spec.Replicas) {
		p := Pod(b.Namespace, fmt.Sprintf("%s-%s-%05d", b.Name, templateHash, i))
		p.Labels = map[string]string{"pod-template-hash": templateHash}
		for k, v := range b.Spec.Template.Labels {
			p.Labels[k] = v
		}
		for k, v := range b.Spec.Template.Annotations {
			p.Annotations = with(p.Annotations, k, v)
		}
		p.Spec = *b.Spec.Template.Spec.DeepCopy()
		out = append(out, p.On(b.nodes[i%len(b.nodes)]).Owner("apps/v1", "ReplicaSet", b.Name+"-"+templateHash))
	}
	return out
}

// Unwrap returns the Deployment and its pods.
func (b DeploymentBuilder) Unwrap() []runtime.Object {
	out := []runtime.Object{b.Deployment}
	for _, p := range b.Pods() {
		out = append(out, p.Pod)
	}
	return out
}
