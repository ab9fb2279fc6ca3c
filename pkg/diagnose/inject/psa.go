package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

const enforceLabel = "pod-security.kubernetes.io/enforce"

// restricted says what the namespace's level of Pod Security means: the sidecar fits the strictest, and the rest of the pod may not.
func (l *look) restricted() {
	switch l.f.Labels[enforceLabel] {
	case "restricted":
	case "baseline":
		l.say(Note, "pod-security", "", "the namespace enforces Pod Security baseline, which the sidecar meets")
		return
	default:
		return
	}
	var why []string
	spec := &l.w.Template.Spec
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if v := violation(spec, c); v != "" {
			why = append(why, "container "+c.Name+" "+v)
		}
	}
	for _, v := range spec.Volumes {
		if v.HostPath != nil {
			why = append(why, "volume "+v.Name+" is a hostPath")
		}
	}
	if spec.HostPID || spec.HostIPC {
		why = append(why, "it shares the host's processes")
	}
	if why == nil {
		l.say(Note, "pod-security", "", "the namespace enforces Pod Security restricted, which the sidecar and the pod meet")
		return
	}
	l.say(Warning, "pod-security", "mend the pod first: the change makes new pods",
		"the namespace enforces Pod Security restricted: the sidecar meets it, but %s would be refused without it, too: %s", l.w.Ref(), why[0])
}

// violation is what a container lacks of the restricted profile (kubernetes.io/docs/concepts/security/pod-security-standards).
func violation(spec *corev1.PodSpec, c corev1.Container) string {
	sc := c.SecurityContext
	if sc == nil {
		sc = &corev1.SecurityContext{}
	}
	pod := spec.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	nonRoot, seccomp := pod.RunAsNonRoot, pod.SeccompProfile
	if sc.RunAsNonRoot != nil {
		nonRoot = sc.RunAsNonRoot
	}
	if sc.SeccompProfile != nil {
		seccomp = sc.SeccompProfile
	}
	switch {
	case sc.Privileged != nil && *sc.Privileged:
		return "is privileged"
	case sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation:
		return "does not set allowPrivilegeEscalation: false"
	case nonRoot == nil || !*nonRoot:
		return "does not set runAsNonRoot: true"
	case seccomp == nil || seccomp.Type == corev1.SeccompProfileTypeUnconfined:
		return "sets no seccompProfile"
	case sc.Capabilities == nil || !slices.Contains(sc.Capabilities.Drop, "ALL"):
		return "does not drop ALL capabilities"
	case slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.HostPort != 0 }):
		return "uses a host port"
	}
	return ""
}
