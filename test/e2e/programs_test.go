//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

// Programs of ours run in pods where a test has to see what only a pod can see:
// endpointwatch and dnsask, in the folders of these names.

func programImage(program string) string { return "grpclb.dev/e2e-" + program + ":dev" }

// loadProgram makes the image of a program and gets it onto the nodes.
func (s *space) loadProgram(program string) {
	s.Helper()
	dir := s.TempDir()
	binary, archive := filepath.Join(dir, program), filepath.Join(dir, program+".tar")
	loads := s.bed.LoadCommands(archive)
	if len(loads) == 0 {
		s.Skip("this needs an image of its own on the nodes, and nothing here can load one")
	}
	build := s.bed.Command(s.ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./test/e2e/"+program)
	build.Env = append(build.Env, "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		s.Fatalf("build %s: %v\n%s", program, err, out)
	}
	image := testbed.LabCommand("image", "--name", programImage(program), "--user", "65532:65532", "--entrypoint", "/"+program,
		"-o", archive, binary+"=/"+program)
	for _, argv := range append([][]string{image}, loads...) {
		if err := s.do(s.ctx, argv); err != nil {
			s.Fatal(err)
		}
	}
}

// programPod is a pod that runs a program once.
func programPod(name, program string, args []string) *corev1.Pod {
	soon := int64(1)
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &soon,
			Containers: []corev1.Container{{Name: program, Image: programImage(program), ImagePullPolicy: corev1.PullIfNotPresent, Args: args}},
		},
	}
}

// until applies a pod and waits until it is in one of the phases.
func (s *space) until(pod *corev1.Pod, phases ...corev1.PodPhase) {
	s.Helper()
	s.apply(pod)
	s.eventually(fmt.Sprintf("pod %s to be %v", pod.Name, phases), startTime, func() (bool, string) {
		p, err := s.client.CoreV1().Pods(s.ns).Get(s.ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return slices.Contains(phases, p.Status.Phase), string(p.Status.Phase)
	})
}

// printed takes what a program has printed so far: a JSON value on each line.
func printed[T any](text string) ([]T, error) {
	var out []T
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l T
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		out = append(out, l)
	}
	return out, lines.Err()
}
