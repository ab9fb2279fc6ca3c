package testbed

import (
	"os/exec"
	"strings"
)

// Image is one of the project's images: its name and the archive that make builds.
type Image struct {
	Name    string // as manifests and the plugin name it
	Archive string // path from the repository's folder
	Target  string // of make
}

// The project's images.
var (
	Examples = Image{"grpclb.dev/examples:dev", "bin/examples.tar", "examples-image"}
	Agent    = Image{"grpclb.dev/grpclb-refresher:dev", "bin/images/grpclb-refresher.tar", "agent-image"}
)

// BuildCommand returns the command line that builds images.
func BuildCommand(images ...Image) []string {
	argv := []string{"make"}
	for _, i := range images {
		argv = append(argv, i.Target)
	}
	return argv
}

// LoadCommands returns the command lines that put archives onto the cluster's
// nodes; none when nothing here can, and the images must be pulled then.
func (b *Bed) LoadCommands(archives ...string) [][]string {
	if b.Lab() {
		return [][]string{LabCommand(append([]string{"load"}, archives...)...)}
	}
	var out [][]string
	for _, a := range archives {
		if argv := loadInto(b.Context, a, installed); argv != nil {
			out = append(out, argv)
		}
	}
	return out
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// loadInto knows the clusters on one machine by the contexts that their tools
// write: kind-NAME, k3d-NAME, minikube or a profile of it.
func loadInto(context, archive string, installed func(string) bool) []string {
	if name, ok := strings.CutPrefix(context, "kind-"); ok && installed("kind") {
		return []string{"kind", "load", "image-archive", archive, "--name", name}
	}
	if name, ok := strings.CutPrefix(context, "k3d-"); ok && installed("k3d") {
		return []string{"k3d", "image", "import", archive, "--cluster", name}
	}
	if strings.HasPrefix(context, "minikube") && installed("minikube") {
		return []string{"minikube", "image", "load", archive, "--profile", context}
	}
	return nil
}
