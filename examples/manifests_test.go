package examples

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
)

// manifests are the objects of one folder that kubectl is given as a whole.
type manifests struct {
	deployments map[string]appsv1.Deployment
	services    map[string]corev1.Service
}

// folders lists what the READMEs tell the reader to apply.
var folders = []string{"square/plaintext", "echo/plaintext", "echo/tls", "load/plaintext", "load/port-trap", "voting/plaintext"}

func load(t *testing.T, folder string) manifests {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s holds no manifests (%v)", folder, err)
	}
	m := manifests{map[string]appsv1.Deployment{}, map[string]corev1.Service{}}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			m.add(t, file, document)
		}
	}
	return m
}

// add decodes strictly: a field that an API server would not know fails the test.
func (m manifests) add(t *testing.T, file string, document []byte) {
	t.Helper()
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	switch kind.GroupVersionKind().String() {
	case "apps/v1, Kind=Deployment":
		var d appsv1.Deployment
		if err := yaml.UnmarshalStrict(document, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		m.deployments[d.Name] = d
	case "/v1, Kind=Service":
		var s corev1.Service
		if err := yaml.UnmarshalStrict(document, &s); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		m.services[s.Name] = s
	default:
		t.Fatalf("%s: unexpected %s", file, kind.GroupVersionKind())
	}
}

// TestFacts pins the names and numbers by which the applications are known, and that the plugin's documents quote.
func TestFacts(t *testing.T) {
	want := map[string][]string{
		"square/plaintext": {
			"deployment aggregator-app x1 GRPC_CLIENT_SQUARE_ADDRESS=static://square-service:6565",
			"deployment square-app x3",
			"service aggregator-service 8080->8080",
			"service square-service 6565->6565",
		},
		"echo/plaintext": {
			"deployment be-deployment x5",
			"deployment fe-deployment x1 BACKEND_ADDRESS=be-srv:50051 BACKENDLB_ADDRESS=dns:///be-srv-lb:50051",
			"service be-srv 50051->grpc",
			"service be-srv-lb 50051->grpc headless",
			"service fe-srv 8081->http",
		},
		"echo/tls": {
			"deployment be-deployment x5 TLS_CERT_FILE=/tls/tls.crt TLS_KEY_FILE=/tls/tls.key",
			"deployment fe-deployment x1 BACKEND_ADDRESS=be-srv:50051 BACKENDLB_ADDRESS=dns:///be-srv-lb:50051 TLS_CA_FILE=/ca/ca.crt",
			"service be-srv 50051->grpc",
			"service be-srv-lb 50051->grpc headless",
			"service fe-srv 8081->http",
		},
		"load/plaintext": {
			"deployment grpc-client x1 SERVER_HOST=grpc-server-service:80",
			"deployment grpc-server x3",
			"service grpc-server-service 80->8001",
		},
		"load/port-trap": {
			"deployment grpc-client x1 SERVER_HOST=grpc-server-service-headless:80",
			"service grpc-server-service-headless 80->8001 headless",
		},
		"voting/plaintext": {
			"deployment vote-bot x1 WEB_URL=http://voting-web:8000 VOTES_PER_SECOND=50",
			"deployment voting x3",
			"deployment voting-web x1 VOTING_ADDRESS=voting-svc:8080",
			"service voting-metrics 8801->metrics headless",
			"service voting-svc 8080->grpc",
			"service voting-web 8000->http",
		},
	}
	got := map[string][]string{}
	for _, folder := range folders {
		m := load(t, folder)
		for _, d := range m.deployments {
			line := fmt.Sprintf("deployment %s x%d", d.Name, *d.Spec.Replicas)
			for _, e := range d.Spec.Template.Spec.Containers[0].Env {
				line += " " + e.Name + "=" + e.Value
			}
			got[folder] = append(got[folder], line)
		}
		for _, s := range m.services {
			line := fmt.Sprintf("service %s %d->%s", s.Name, s.Spec.Ports[0].Port, s.Spec.Ports[0].TargetPort.String())
			if s.Spec.ClusterIP == corev1.ClusterIPNone {
				line += " headless"
			}
			got[folder] = append(got[folder], line)
		}
		slices.Sort(got[folder])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests (-want +got):\n%s", diff)
	}
}

func TestTheSquareServiceDoesNotSayThatItIsGRPC(t *testing.T) {
	port := load(t, "square/plaintext").services["square-service"].Spec.Ports[0]
	if port.Name != "" || port.AppProtocol != nil {
		t.Errorf("port name %q, appProtocol %v: the example is there to be recognised without either", port.Name, port.AppProtocol)
	}
}

func TestEveryPodRunsAProgramOfTheImage(t *testing.T) {
	image, programs := imageFile(t)
	for _, folder := range folders {
		for name, d := range load(t, folder).deployments {
			pod := d.Spec.Template.Spec
			c := pod.Containers[0]
			if len(c.Command) != 1 || !slices.Contains(programs, strings.TrimPrefix(c.Command[0], "/")) {
				t.Errorf("%s: %s runs %v, which is not in the image %v", folder, name, c.Command, programs)
			}
			if c.Image != image || c.ImagePullPolicy != corev1.PullIfNotPresent {
				t.Errorf("%s: %s uses %s (%s), want %s without a registry", folder, name, c.Image, c.ImagePullPolicy, image)
			}
			if s := pod.SecurityContext; s != nil && (s.RunAsUser == nil || *s.RunAsUser != 65532) {
				t.Errorf("%s: %s does not run as the image's user", folder, name)
			}
			if grace, stop := pod.TerminationGracePeriodSeconds, serve.DefaultStop; grace != nil &&
				float64(*grace) < (stop.Drain+stop.Grace).Seconds() {
				t.Errorf("%s: %s is killed after %d s, before it has drained", folder, name, *grace)
			}
			if !labels.SelectorFromSet(d.Spec.Selector.MatchLabels).Matches(labels.Set(d.Spec.Template.Labels)) {
				t.Errorf("%s: %s does not select its own pods", folder, name)
			}
		}
	}
}

// imageFile reads the image's name and its programs from images.mk, and finds the same programs among the commands.
func imageFile(t *testing.T) (image string, programs []string) {
	t.Helper()
	text, err := os.ReadFile("images.mk")
	if err != nil {
		t.Fatal(err)
	}
	variable := func(name string) string {
		match := regexp.MustCompile(`(?m)^` + name + ` = (.*)$`).FindSubmatch(text)
		if match == nil {
			t.Fatalf("images.mk does not set %s", name)
		}
		return string(match[1])
	}
	programs = strings.Fields(variable("EXAMPLES_PROGRAMS"))
	slices.Sort(programs)
	var commands []string
	mains, err := filepath.Glob("*/cmd/*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range mains {
		commands = append(commands, filepath.Base(filepath.Dir(file)))
	}
	slices.Sort(commands)
	if diff := cmp.Diff(commands, programs); diff != "" {
		t.Errorf("commands and the image's programs (-commands +image):\n%s", diff)
	}
	return variable("EXAMPLES_IMAGE"), programs
}

func TestEveryServiceHasPods(t *testing.T) {
	for _, folder := range folders {
		// The port trap adds a Service to the servers that stand already.
		deployments := load(t, folder).deployments
		if folder == "load/port-trap" {
			deployments = load(t, "load/plaintext").deployments
		}
		for name, s := range load(t, folder).services {
			var owners []string
			for _, d := range deployments {
				if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
					owners = append(owners, d.Name)
				}
			}
			if len(owners) != 1 {
				t.Errorf("%s: the pods of %v stand behind %s, want those of one deployment", folder, owners, name)
			}
		}
	}
}

// TestEveryVariableIsRead finds each variable that a manifest sets in the sources of its application.
func TestEveryVariableIsRead(t *testing.T) {
	for _, folder := range folders {
		application := strings.Split(folder, "/")[0]
		sources := goSources(t, filepath.Join(application, "internal"))
		for _, d := range load(t, folder).deployments {
			for _, e := range d.Spec.Template.Spec.Containers[0].Env {
				if !strings.Contains(sources, fmt.Sprintf("%q", e.Name)) {
					t.Errorf("%s: %s sets %s, which no program of %s reads", folder, d.Name, e.Name, application)
				}
			}
		}
	}
}

func goSources(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestReadmesNameWhatIsThere follows every path below examples/ that a README, a manifest or a recipe mentions.
func TestReadmesNameWhatIsThere(t *testing.T) {
	// Not after another path, such as the image's name or what the build leaves in bin/examples.
	path := regexp.MustCompile("(?m)(?:^|[\\s`(]|\\./)(examples/[A-Za-z0-9_./-]*[A-Za-z0-9])")
	seen := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".md", ".yaml", ".mk"}, filepath.Ext(file)) {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if bytes.Contains(text, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a private key", file)
		}
		for _, mention := range path.FindAllStringSubmatch(string(text), -1) {
			seen++
			if _, err := os.Stat(strings.TrimPrefix(mention[1], "examples/")); err != nil {
				t.Errorf("%s mentions %s: %v", file, mention[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Errorf("only %d mentions were found: the pattern misses them", seen)
	}
}
