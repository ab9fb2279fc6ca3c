package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The clients ask a Service in front of CoreDNS pods of our own: the cluster's image and Corefile, in several versions at once. What answers
// is switched by the Service's selector, as quickly as kube-proxy writes its rules, and the cluster's own DNS is left alone.

const dnsName = "dns"

// corefile is a version of the cluster's Corefile.
type corefile struct {
	name     string
	replicas int32
	text     func(cluster, zone string) (string, error)
}

// The versions.
const (
	dnsNormal   = "normal"
	dnsNXDOMAIN = "nxdomain"
	dnsSERVFAIL = "servfail"
	dnsCached   = "cached"
)

func corefiles() []corefile {
	return []corefile{
		{dnsNormal, 2, func(cluster, _ string) (string, error) { return cluster, nil }},
		{dnsNXDOMAIN, 1, answering("NXDOMAIN")},
		{dnsSERVFAIL, 1, answering("SERVFAIL")},
		{dnsCached, 1, cached},
	}
}

// answering gives our names a server block of their own, which is more specific than the kubernetes plugin's.
func answering(rcode string) func(cluster, zone string) (string, error) {
	return func(cluster, zone string) (string, error) {
		soa := ""
		if rcode == "NXDOMAIN" { // RFC 2308: a negative answer has the zone's SOA
			soa = fmt.Sprintf("\n        authority \"%s. 5 IN SOA ns.dns.%s. hostmaster.%s. 1 7200 1800 86400 5\"", zone, zone, zone)
		}
		return fmt.Sprintf("%s:53 {\n    errors\n    template ANY ANY {\n        rcode %s%s\n    }\n}\n%s", zone, rcode, soa, cluster), nil
	}
}

// cached lets the cache answer for the cluster's names as well, as CoreDNS's stock configuration and many clusters have it.
func cached(cluster, _ string) (string, error) {
	var out []string
	dropped := 0
	for line := range strings.Lines(cluster) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "disable" {
			dropped++
			continue
		}
		out = append(out, line)
	}
	if dropped == 0 {
		return "", errors.New("the cluster's Corefile has its cache on already: there is nothing to compare")
	}
	return strings.Join(out, ""), nil
}

// deployDNS starts all versions and returns the Service's address.
func (c *cluster) deployDNS(ctx context.Context) error {
	system := c.api.CoreV1().ConfigMaps("kube-system")
	theirs, err := system.Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the cluster's Corefile: %w", err)
	}
	like, err := c.api.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the cluster's CoreDNS: %w", err)
	}
	if _, err := c.api.CoreV1().ServiceAccounts(c.ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta(dnsName)}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := c.bindDNS(ctx); err != nil {
		return err
	}
	files := &corev1.ConfigMap{ObjectMeta: meta(dnsName), Data: map[string]string{}}
	for _, f := range corefiles() {
		text, err := f.text(theirs.Data["Corefile"], c.ns+".svc.cluster.local")
		if err != nil {
			return err
		}
		files.Data[f.name] = text
	}
	if _, err := c.api.CoreV1().ConfigMaps(c.ns).Create(ctx, files, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, f := range corefiles() {
		if _, err := c.api.AppsV1().Deployments(c.ns).Create(ctx, coreDNS(f, like.Spec.Template.Spec.Containers[0]), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	s := &corev1.Service{ObjectMeta: meta(dnsName), Spec: corev1.ServiceSpec{Selector: labels(dnsName + "-" + dnsNormal)}}
	for _, p := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: strings.ToLower(string(p)), Protocol: p, Port: 53, TargetPort: intstr.FromInt32(53)})
	}
	if s, err = c.api.CoreV1().Services(c.ns).Create(ctx, s, metav1.CreateOptions{}); err != nil {
		return err
	}
	c.nameserver = s.Spec.ClusterIP
	for _, f := range corefiles() {
		if err := c.rollout(ctx, dnsName+"-"+f.name, time.Minute); err != nil {
			return err
		}
	}
	return nil
}

// bindDNS lets our CoreDNS read what the cluster's reads: all namespaces, by its nature.
func (c *cluster) bindDNS(ctx context.Context) error {
	b := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: c.ns + "-dns"}, Subjects: []rbacv1.Subject{account(dnsName, c.ns)},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:coredns"},
	}
	_, err := c.api.RbacV1().ClusterRoleBindings().Create(ctx, b, metav1.CreateOptions{})
	c.atEnd("remove the cluster role binding", func(ctx context.Context) error {
		return c.api.RbacV1().ClusterRoleBindings().Delete(ctx, b.Name, metav1.DeleteOptions{})
	})
	return err
}

// coreDNS is a Deployment of one version, made like the cluster's.
func coreDNS(f corefile, like corev1.Container) *appsv1.Deployment {
	name := dnsName + "-" + f.name
	like.VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/etc/coredns", ReadOnly: true}}
	return deployment(name, f.replicas, corev1.PodSpec{
		ServiceAccountName: dnsName, DNSPolicy: corev1.DNSDefault,
		Containers: []corev1.Container{like},
		Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: dnsName}, Items: []corev1.KeyToPath{{Key: f.name, Path: "Corefile"}},
		}}}},
	})
}

// answerBy switches the version that answers.
func (c *cluster) answerBy(ctx context.Context, version string) error {
	patch := fmt.Sprintf(`{"spec":{"selector":{"app":%q}}}`, dnsName+"-"+version)
	_, err := c.api.CoreV1().Services(c.ns).Patch(ctx, dnsName, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// withDNS lets a version answer for a while.
func (c *cluster) withDNS(ctx context.Context, version string, during func() error) error {
	if err := c.answerBy(ctx, version); err != nil {
		return err
	}
	return errors.Join(during(), c.undo(ctx, func(ctx context.Context) error { return c.answerBy(ctx, dnsNormal) }))
}

// dnsGone removes the CoreDNS pods at once, and starts others after a while.
func (c *cluster) dnsGone(ctx context.Context, during func() error) error {
	const name = dnsName + "-" + dnsNormal
	if err := c.scale(ctx, name, 0); err != nil {
		return err
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	err := c.api.CoreV1().Pods(c.ns).DeleteCollection(ctx, now, metav1.ListOptions{LabelSelector: "app=" + name})
	if err == nil {
		err = during()
	}
	back := c.undo(ctx, func(ctx context.Context) error {
		if err := c.scale(ctx, name, 2); err != nil {
			return err
		}
		return c.rollout(ctx, name, time.Minute)
	})
	return errors.Join(err, back)
}
