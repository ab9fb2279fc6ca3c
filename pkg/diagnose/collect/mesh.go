package collect

import (
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// The kinds and modes of diagnose.Mesh.
const (
	meshLinkerd = "linkerd"
	meshIstio   = "istio"

	modeSidecar = "sidecar"
	modeNative  = "native-sidecar"
	modeAmbient = "ambient"
)

// meshProxies are the containers through which a mesh takes a pod's traffic.
var meshProxies = []string{"linkerd-proxy", "istio-proxy"}

var proxyMesh = map[string]string{"linkerd-proxy": meshLinkerd, "istio-proxy": meshIstio}

// meshOfPod looks at a running pod: its containers are the proof. Ambient Istio has none; its CNI agent marks each pod whose traffic it
// takes.
func meshOfPod(p *corev1.Pod) diagnose.Mesh {
	m := meshOfContainers(&p.Spec)
	if !m.In() && p.Annotations["ambient.istio.io/redirection"] == "enabled" {
		m = diagnose.Mesh{Kind: meshIstio, Mode: modeAmbient}
	}
	return withPorts(m, p.Annotations)
}

func meshOfContainers(spec *corev1.PodSpec) diagnose.Mesh {
	for i := range spec.Containers {
		// istio-proxy is also the only container of a gateway, which is no sidecar of anything.
		if kind := proxyMesh[spec.Containers[i].Name]; kind != "" && len(spec.Containers) > 1 {
			return diagnose.Mesh{Kind: kind, Mode: modeSidecar}
		}
	}
	for i := range spec.InitContainers {
		if kind := proxyMesh[spec.InitContainers[i].Name]; kind != "" && isSidecar(&spec.InitContainers[i]) {
			return diagnose.Mesh{Kind: kind, Mode: modeNative}
		}
	}
	return diagnose.Mesh{}
}

// meshOfTemplate is what a workload without pods asks for. What its namespace adds is not known here.
func meshOfTemplate(meta *metav1.ObjectMeta, spec *corev1.PodSpec) diagnose.Mesh {
	m := meshOfContainers(spec)
	switch {
	case m.In():
	case slices.Contains([]string{"enabled", "ingress"}, meta.Annotations["linkerd.io/inject"]):
		m = diagnose.Mesh{Kind: meshLinkerd, Mode: modeSidecar}
	case meta.Labels["sidecar.istio.io/inject"] == "true", meta.Annotations["sidecar.istio.io/inject"] == "true":
		m = diagnose.Mesh{Kind: meshIstio, Mode: modeSidecar}
	case meta.Labels["istio.io/dataplane-mode"] == "ambient":
		m = diagnose.Mesh{Kind: meshIstio, Mode: modeAmbient}
	}
	return withPorts(m, meta.Annotations)
}

func withPorts(m diagnose.Mesh, a map[string]string) diagnose.Mesh {
	switch m.Kind {
	case meshLinkerd:
		m.SkipOutbound = portList(a["config.linkerd.io/skip-outbound-ports"])
		m.Opaque = portList(a["config.linkerd.io/opaque-ports"])
	case meshIstio:
		m.SkipOutbound = portList(a["traffic.sidecar.istio.io/excludeOutboundPorts"])
	}
	return m
}

var portRange = regexp.MustCompile(`^[0-9]{1,5}(-[0-9]{1,5})?$`)

func portList(v string) []string {
	var out []string
	for p := range strings.SplitSeq(v, ",") {
		if p = strings.TrimSpace(p); portRange.MatchString(p) {
			out = append(out, p)
		}
	}
	return out
}
