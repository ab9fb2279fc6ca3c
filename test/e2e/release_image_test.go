//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestReleasedImage takes the image archive of a snapshot to the nodes, as one
// does where no registry can be reached, and runs it under the restricted
// policy, which judges the user, the capabilities and the file system.
func TestReleasedImage(t *testing.T) {
	dist := os.Getenv("GRPCLB_DIST")
	switch {
	case dist == "" && os.Getenv("CI") == "true":
		t.Fatal("GRPCLB_DIST does not name the folder of a snapshot: run the step release first")
	case dist == "":
		t.Skip("GRPCLB_DIST does not name the folder of a snapshot")
	}
	data, err := os.ReadFile(filepath.Join(dist, "metadata.json"))
	if err != nil {
		t.Fatal(err)
	}
	var meta struct{ Version string }
	if err := json.Unmarshal(data, &meta); err != nil {
		t.Fatal(err)
	}
	s := newSpace(t)
	commands := s.bed.LoadCommands(filepath.Join(dist, fmt.Sprintf("grpclb-refresher_%s_linux_%s.image.tar", meta.Version, runtime.GOARCH)))
	if len(commands) == 0 {
		t.Skip("nothing here can load an image into this cluster")
	}
	for _, argv := range commands {
		if err := s.do(s.ctx, argv); err != nil {
			t.Fatal(err)
		}
	}
	s.kubectl("label", "namespace", s.ns, "pod-security.kubernetes.io/enforce=restricted")
	yes, no := true, false
	s.apply(&corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "released"},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "released", Image: "ghcr.io/grpclb/grpclb-refresher:v" + meta.Version, ImagePullPolicy: corev1.PullNever,
				Args: []string{"version"},
				SecurityContext: &corev1.SecurityContext{
					RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
			}},
		},
	})
	s.eventually("the released image to run", startTime, func() (bool, string) {
		p, err := s.client.CoreV1().Pods(s.ns).Get(s.ctx, "released", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return p.Status.Phase == corev1.PodSucceeded, fmt.Sprintf("%s, %+v", p.Status.Phase, p.Status.ContainerStatuses)
	})
	if got := s.kubectl("logs", "released"); !strings.Contains(got, " v"+meta.Version+" linux/"+runtime.GOARCH) {
		t.Errorf("it says %q, want version %s", got, meta.Version)
	}
}
