package repo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The sizes of a program that embeds the library, stripped, for Linux on amd64.
// They are ceilings to notice at: a dependency that comes in by accident weighs
// megabytes, a release of grpc-go some hundred kilobytes.
const (
	// mostAdded is what the refresher may add to a program that has grpc-go: the
	// DNS library and our own code. Measured 1.8 MB.
	mostAdded = 3 << 20
	// mostInAll bounds the program as a whole: with Kubernetes informers it would
	// weigh 58 MB.
	mostInAll = 20 << 20
)

// embedding is a client with grpc-go, and the same client with the refresher.
var embedding = map[string]string{
	"stock": `package main

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	conn, err := grpc.NewClient("dns:///a:1", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		_ = conn.Invoke(nil, "/a/b", nil, nil)
	}
}
`,
	"refreshed": `package main

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
)

func main() {
	conn, err := grpc.NewClient("refresh:///a:1", grpc.WithTransportCredentials(insecure.NewCredentials()), refresher.DialOption())
	if err == nil {
		_ = conn.Invoke(nil, "/a/b", nil, nil)
	}
}
`,
}

// TestEmbedding builds a program with and without the refresher: who imports the
// facade gets no Kubernetes client, no metrics library and no xDS, and pays a few
// megabytes.
func TestEmbedding(t *testing.T) {
	dir := t.TempDir()
	sizes := map[string]int64{}
	for name, source := range embedding {
		file := filepath.Join(dir, name+".go")
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		binary := filepath.Join(dir, name)
		goCommand(t, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, file)
		info, err := os.Stat(binary)
		if err != nil {
			t.Fatal(err)
		}
		sizes[name] = info.Size()
		if name != "refreshed" {
			continue
		}
		for pkg := range strings.FieldsSeq(goCommand(t, "list", "-deps", file)) {
			for _, never := range []string{"k8s.io/", "sigs.k8s.io/", "github.com/prometheus/", "github.com/envoyproxy/", "google.golang.org/grpc/xds"} {
				if strings.HasPrefix(pkg, never) {
					t.Errorf("a program that embeds pkg/refresher links %s: %s", pkg, weight)
				}
			}
		}
	}
	added := sizes["refreshed"] - sizes["stock"]
	t.Logf("a client with grpc-go alone: %.1f MB; with the refresher: %.1f MB (+%.1f MB)",
		mb(sizes["stock"]), mb(sizes["refreshed"]), mb(added))
	if added > mostAdded {
		t.Errorf("the refresher adds %.1f MB to a program, it may add %.1f: %s", mb(added), mb(mostAdded), weight)
	}
	if sizes["refreshed"] > mostInAll {
		t.Errorf("a program that embeds the refresher weighs %.1f MB, it may weigh %.1f: %s", mb(sizes["refreshed"]), mb(mostInAll), weight)
	}
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}
