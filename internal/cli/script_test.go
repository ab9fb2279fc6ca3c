package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/cli"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kubectl-grpclb": func() {
			os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// TestScripts runs the real command line against an API server over HTTP. Each script has a server of its own with the square example
// on it; `fault` makes it go wrong.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fault":  fault,
			"rc":     exitCode,
			"absent": absent,
			"plugin": plugin,
		},
	})
}

type serverKey struct{}

func setup(env *testscript.Env) error {
	port := intstr.FromInt32
	square := kubetest.Deployment("default", "square-app").Replicas(3)
	app := &square.Spec.Template.Spec.Containers[0]
	app.Ports[0].ContainerPort = 6565
	app.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 6565}}}
	client := kubetest.Deployment("default", "aggregator-app").Env("GRPC_CLIENT_SQUARE_ADDRESS", "static://square-service:6565")
	svc := kubetest.Service("default", "square-service").Selects("app", "square-app").Port("grpc", 6565, port(6565))
	shop := kubetest.Deployment("default", "web").Replicas(2)
	shop.Spec.Template.Spec.Containers[0].Ports[0].Name = "http"
	web := kubetest.Service("default", "web").Port("http", 80, port(50051))
	srv := kubetest.NewServer(env.T().(testing.TB), svc, svc.Slice(square.Pods()...), square, client,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		kubetest.Node("n1"), kubetest.Node("n2").Zone("b"),
		web, web.Slice(shop.Pods()...), shop,
		kubetest.Service("default", "square-services").Port("http", 80, port(8080)))
	env.Values[serverKey{}] = srv
	env.Setenv("KUBECONFIG", filepath.Join(env.WorkDir, "kubeconfig"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("LC_ALL", "C.UTF-8")
	return os.WriteFile(filepath.Join(env.WorkDir, "kubeconfig"), []byte(kubeconfig(srv.Config().Host)), 0o600)
}

func kubeconfig(host string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: test, context: {cluster: c, user: u}}]
`, host)
}

// fault KEY=VALUE...: makes matching requests go wrong; see kubetest.Fault.
func fault(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("fault cannot be negated")
	}
	var f kubetest.Fault
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "verb":
			f.Verb = v
		case "group":
			f.Group = v
		case "resource":
			f.Resource = v
		case "status":
			n, err := strconv.Atoi(v)
			ts.Check(err)
			f.Status = n
		case "skip":
			n, err := strconv.Atoi(v)
			ts.Check(err)
			f.Skip = n
		case "hang":
			f.Hang = true
		case "half":
			f.Half = true
		case "drip":
			d, err := time.ParseDuration(v)
			ts.Check(err)
			f.Drip = d
		default:
			ts.Fatalf("fault: unknown key %s", k)
		}
	}
	ts.Value(serverKey{}).(*kubetest.Server).Fail(f)
}

// plugin FILE: puts a copy of the plugin there.
func plugin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: plugin FILE")
	}
	built, err := exec.LookPath("kubectl-grpclb") // testscript's own, in front of this process's PATH
	ts.Check(err)
	if real, err := filepath.EvalSymlinks(built); err == nil {
		built = real
	}
	b, err := os.ReadFile(built)
	ts.Check(err)
	// A child that another script starts just now would hold the file open, and a program that is open for writing cannot be started.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o755))
}

// rc CODE COMMAND...: runs a command and demands its exit code.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rc CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var ee interface{ ExitCode() int }
	switch {
	case errors.As(err, &ee):
		got = ee.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s\nstdout: %s\nstderr: %s", got, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// absent TEXT...: neither stdout nor stderr of the last command holds the text.
func absent(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range []string{"stdout", "stderr"} {
		for _, a := range args {
			if strings.Contains(ts.ReadFile(name), a) {
				ts.Fatalf("%s holds %q:\n%s", name, a, ts.ReadFile(name))
			}
		}
	}
}
