//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func dnsFaults() []fault {
	return []fault{
		{
			check:   "dns-disagrees",
			objects: []any{server("backend", replicas(3)), service("backend", headless)}, then: staleDNS,
			want: finding{diagnose.High, diagnose.Observed, "svc/backend",
				[]string{"1 missing, 1 wrong", "asked 2 times for the A records of backend.", "192.0.2.66 (no pod's)", "ready for"}, "DNS pods"},
			within: time.Minute,
		},
		{
			check: "dns-truncated", args: observe,
			objects: append(manyEndpoints("backend", 300), service("backend", headless, noSelector)),
			then:    func(s *space, _ *fault) { s.endpoints("backend", 300) },
			want: finding{diagnose.Medium, diagnose.Inferred, "svc/backend",
				[]string{"300 addresses", "without EDNS0 (512 bytes)", "with EDNS0 1232", "with EDNS0 4096"}, "over TCP"},
			within: time.Minute, // until DNS has all slices
		},
	}
}

// staleDNS runs a DNS server of the cluster's own make that stopped following
// the API some time ago: it lacks the newest pod and still names one that is gone.
func staleDNS(s *space, f *fault) {
	s.Helper()
	pods := s.pods("backend")
	name := fmt.Sprintf("backend.%s.svc.cluster.local.", s.ns)
	var answers []string
	for _, p := range pods[1:] {
		answers = append(answers, fmt.Sprintf("answer \"%s 30 IN A %s\"", name, p.Status.PodIP))
	}
	answers = append(answers, fmt.Sprintf("answer \"%s 30 IN A 192.0.2.66\"", name))
	s.runDNS("stale-dns", fmt.Sprintf(`.:53 {
    ready
    template IN A %s {
        %s
    }
    template ANY ANY . {
        rcode NXDOMAIN
    }
}
`, name, strings.Join(answers, "\n        ")))
	f.args = []string{"--dns-namespace", s.ns, "--dns-selector", "app=stale-dns"}
}

// runDNS starts the cluster's own DNS program with another configuration.
func (s *space) runDNS(app, corefile string) {
	s.Helper()
	list, err := s.client.CoreV1().Pods(metav1.NamespaceSystem).List(s.ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
	if err != nil || len(list.Items) == 0 {
		s.Fatalf("find the cluster's DNS pods: %d, %v", len(list.Items), err)
	}
	d := deployment(app, "", 1)
	c := &d.Spec.Template.Spec.Containers[0]
	c.Image, c.Command, c.Args = list.Items[0].Spec.Containers[0].Image, nil, []string{"-conf", "/etc/coredns/Corefile"}
	c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
		HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt(8181)},
	}}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/etc/coredns"}}
	d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: app}},
	}}}
	s.apply(&corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: app},
		Data: map[string]string{"Corefile": corefile},
	}, d)
	s.rollout(app)
}
