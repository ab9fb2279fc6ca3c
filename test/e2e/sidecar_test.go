//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/test/e2e/clients"
)

// What the sidecar's container has: its name, and the port of its health and metrics.
const (
	sidecarName   = "grpclb-refresher"
	sidecarHealth = 15650
)

// applyInjected applies objects as they come out of inject: those that call the Service have the sidecar then, and a headless Service is there
// beside it. Nothing in them knows of that.
func (s *space) applyInjected(service string, objects ...any) {
	s.Helper()
	var plain bytes.Buffer
	for _, o := range objects {
		b, err := yaml.Marshal(o)
		if err != nil {
			s.Fatal(err)
		}
		plain.WriteString("---\n" + string(b))
	}
	args := []string{"inject", "-f", "-", "--service", service}
	cmd := s.command(args...)
	cmd.Stdin = &plain
	o := s.finish(cmd, args)
	if n := strings.Count(o.stdout, "name: "+sidecarName+"\n"); o.code != 0 || n != len(objects) {
		s.Fatalf("%d of %d objects have the sidecar: %s", n, len(objects), o)
	}
	s.kubectlIn([]byte(o.stdout), "apply", "-f", "-")
}

// inPod applies a change of a pod to a Deployment's template.
func inPod(change func(*corev1.PodSpec)) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { change(&d.Spec.Template.Spec) }
}

// callsAtRate is how often the clients of other languages call.
const callsAtRate = 50

// foreign is a Deployment of a client in another language that calls target. It skips the test where that client cannot be had.
func (s *space) foreign(c clients.Client, target string, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	s.Helper()
	if missing := c.Missing(); len(missing) > 0 {
		s.unfit(fmt.Sprintf("the %s client needs %s", c.Name, strings.Join(missing, ", ")))
	}
	if !s.bed.Lab() {
		s.unfit("clients of other languages need the lab: its pods mount this machine's interpreters")
	}
	ready, err := c.Prepare(s.ctx, filepath.Join(s.bed.Root, "test", "e2e", "clients"))
	if err != nil {
		s.Fatal(err)
	}
	d := deployment(c.Name, ready.Command[0], 1)
	spec := &d.Spec.Template.Spec
	container := &spec.Containers[0]
	container.Command = append(ready.Command, target, strconv.Itoa(callsAtRate))
	user := int64(65532)
	spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &user}
	for i, dir := range ready.Mounts {
		name := "m" + strconv.Itoa(i)
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: dir, ReadOnly: true})
	}
	return with(d, change...)
}

// unfit skips a test, or fails it where nothing may be skipped.
func (s *space) unfit(reason string) {
	s.Helper()
	if os.Getenv("CI") == "true" {
		s.Fatal(reason)
	}
	s.Skip(reason)
}

// tally is a client's last line.
func (s *space) tally(name string) clients.Line {
	s.Helper()
	text := s.kubectl("logs", "deploy/"+name, "-c", name, "--tail=5") // some libraries write lines of their own between
	var last clients.Line
	for line := range strings.Lines(text) {
		var l clients.Line
		if err := json.Unmarshal([]byte(line), &l); err == nil {
			last = l
		}
	}
	return last
}

// load is what the square aggregator says of its background calls.
func (s *space) load(name string) clients.Line {
	s.Helper()
	pods := s.pods(name)
	if len(pods) != 1 {
		s.Fatalf("%d pods of %s", len(pods), name)
	}
	out := s.kubectl("get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:8080/proxy/load", s.ns, pods[0].Name))
	var r struct {
		Failed int
		Hosts  []struct {
			Hostname string
			Calls    int
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.Fatalf("the aggregator says %s: %v", out, err)
	}
	l := clients.Line{Calls: r.Failed, Failed: r.Failed, Hosts: map[string]int{}}
	for _, h := range r.Hosts {
		l.Hosts[h.Hostname] = h.Calls
		l.Calls += h.Calls
	}
	return l
}

// answered waits until a client has had answers of all these pods from now on; told is how it says so.
func (s *space) answered(name string, told func(string) clients.Line, pods []corev1.Pod) {
	s.Helper()
	before := told(name)
	s.eventually(fmt.Sprintf("%s to be answered by %d pods", name, len(pods)), time.Minute, func() (bool, string) {
		now := told(name)
		var silent []string
		for _, p := range pods {
			if now.Hosts[p.Name] <= before.Hosts[p.Name] {
				silent = append(silent, p.Name)
			}
		}
		return len(silent) == 0, fmt.Sprintf("not by %v: %+v", silent, now)
	})
}

// metrics is the page that a pod's sidecar serves.
func (s *space) metrics(pod string) string {
	s.Helper()
	return s.kubectl("get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy/metrics", s.ns, pod, sidecarHealth))
}

// metric adds up the samples whose names match, labels included when the pattern has any.
func (s *space) metric(pod, pattern string) float64 {
	s.Helper()
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^`+pattern+`(?:\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(s.metrics(pod), -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			s.Fatalf("metric %s: %v", m[0], err)
		}
		sum += n
	}
	return sum
}
