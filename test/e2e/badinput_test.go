//go:build e2e

package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// complaint is what a wrong or hopeless call has to end with.
type complaint struct {
	code int
	says []string // in what stands on standard error
}

func (s *space) wantComplaint(o outcome, want complaint) {
	s.Helper()
	if o.code != want.code {
		s.Errorf("exit code %d, want %d: %s", o.code, want.code, o)
		return
	}
	for _, part := range want.says {
		if !strings.Contains(o.stderr, part) {
			s.Errorf("it does not say %q: %s", part, o)
		}
	}
	if n := strings.Count(strings.TrimSpace(o.stderr), "\n"); n > 2 {
		s.Errorf("%d lines where a sentence and a hint would do: %s", n+1, o)
	}
}

func TestBadInput(t *testing.T) {
	s := newSpace(t)
	s.apply(service("square-service"), service("square-server"))
	tests := map[string]struct {
		args []string
		want complaint
	}{
		"unknown service":           {[]string{"diagnose", "svc/square-servcie"}, complaint{3, []string{`no service "square-servcie" in namespace "` + s.ns + `"`, "did you mean square-service"}}},
		"of another namespace":      {[]string{"diagnose", "svc/kube-dns"}, complaint{3, []string{`no service "kube-dns"`, "namespace kube-system has one: add -n kube-system"}}},
		"wrong kind":                {[]string{"diagnose", "deploy/square-service"}, complaint{2, []string{"deploy/square-service is not a Service"}}},
		"no name":                   {[]string{"spread"}, complaint{2, []string{"which Service?"}}},
		"unknown flag":              {[]string{"diagnose", "svc/square-service", "--dept", "static"}, complaint{2, []string{"--dept"}}},
		"unknown command":           {[]string{"diagnoze"}, complaint{2, []string{`unknown command "diagnoze"`, "diagnose"}}},
		"unknown output":            {[]string{"diagnose", "svc/square-service", "-o", "xml"}, complaint{2, []string{"xml"}}},
		"unknown check":             {[]string{"diagnose", "svc/square-service", "--skip", "clusterip-pined"}, complaint{2, []string{`no check "clusterip-pined"`, "clusterip-pinned"}}},
		"no file":                   {[]string{"diagnose", "--from", "no/such/file.yaml"}, complaint{3, []string{"no/such/file.yaml"}}},
		"a context that is not":     {[]string{"diagnose", "svc/square-service", "--context", "no-such-context"}, complaint{3, []string{"no-such-context"}}},
		"unknown Service for probe": {[]string{"probe", "svc/nothing"}, complaint{3, []string{`no service "nothing"`}}},
		"a client of no kind":       {[]string{"probe", "svc/square-service", "--from", "secret/nobody"}, complaint{2, []string{"secret/nobody"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sub := *s
			sub.TB = t
			sub.wantComplaint(sub.grpclb(tt.args...), tt.want)
		})
	}
	if len(s.probePods()) > 0 {
		t.Error("a wrong call made a pod")
	}
}

// TestOutOfTime: a limit that is too short for anything, and one that is too
// short for all of it.
func TestOutOfTime(t *testing.T) {
	s := withCaller(t)
	s.wantComplaint(s.grpclb("diagnose", "svc/backend", "--timeout", "1ms"), complaint{3, []string{"time was up after"}})
	o := s.grpclb("diagnose", "svc/backend", "--probe", "--interval", "1m", "--timeout", "12s")
	if !strings.Contains(o.stdout, "backend ("+s.ns+")") || !strings.Contains(o.stdout, "clusterip-pinned") {
		t.Errorf("what was seen until then is not reported: %s", o)
	}
	if o.code != 1 || !strings.Contains(o.stderr, "time was up after ") {
		t.Errorf("exit code %d, want 1, findings win: %s", o.code, o)
	}
	s.wantNoProbePod()
}

// started runs the plugin beside the test, until its short-lived pod exists.
func (s *space) started(args ...string) (cmd *exec.Cmd, wait func() outcome) {
	s.Helper()
	cmd = s.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the exit code is read below
	}()
	s.Cleanup(func() {
		_ = cmd.Process.Kill() // of a test that failed before
		<-ended
	})
	s.eventually("the probe's pod", startTime, func() (bool, string) { return len(s.probePods()) == 1, "none" })
	return cmd, func() outcome {
		s.Helper()
		select {
		case <-ended:
		case <-s.ctx.Done():
			s.Fatalf("the plugin does not end: %s", stderr.String())
		}
		return outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), args: args}
	}
}

// TestInterrupt: Ctrl-C reports what was seen, leaves no pod, and exits with 130.
func TestInterrupt(t *testing.T) {
	s := withCaller(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, wait := s.started("diagnose", "svc/backend", "--probe", "--interval", "1m", "--timeout", "3m")
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		o := wait()
		if o.code != 130 || !strings.Contains(o.stderr, "interrupted") {
			t.Errorf("after %v: %s", signal, o)
		}
		if !strings.Contains(o.stdout, "backend ("+s.ns+")") || !strings.Contains(o.stdout, "deploy/caller dials static://backend:6565") {
			t.Errorf("after %v, what was seen is not reported: %s", signal, o)
		}
		s.wantNoProbePod()
	}
	cmd, wait := s.started("probe", "svc/backend", "--interval", "1m", "--timeout", "3m")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if o := wait(); o.code != 130 {
		t.Errorf("probe: %s", o)
	}
	s.wantNoProbePod()
}

// TestDeletedMidRun: the Service goes away while its pods are probed.
func TestDeletedMidRun(t *testing.T) {
	s := withCaller(t)
	_, wait := s.started("diagnose", "svc/backend", "--probe", "--interval", "3s")
	s.kubectl("delete", "service", "backend")
	o := wait()
	if o.code != 1 && o.code != 3 || !strings.Contains(o.stderr, "service "+s.ns+"/backend was deleted while it was looked at") {
		t.Errorf("%s", o)
	}
	if !strings.Contains(o.stdout, "backend ("+s.ns+")") {
		t.Errorf("what was seen is not reported: %s", o)
	}
	s.wantNoProbePod()
}

// kubeconfig writes a file with one context and returns its path.
func (s *space) kubeconfig(server, token string) string {
	s.Helper()
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["c"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: s.config.CAData, CertificateAuthority: s.config.CAFile, InsecureSkipTLSVerify: s.config.Insecure}
	cfg.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token}
	cfg.Contexts["gone-wrong"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u", Namespace: s.ns}
	cfg.CurrentContext = "gone-wrong"
	file := filepath.Join(s.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, file); err != nil {
		s.Fatal(err)
	}
	return file
}

// with runs the plugin with another kubeconfig.
func (s *space) with(kubeconfig string, args ...string) outcome {
	s.Helper()
	cmd := s.bed.Command(s.ctx, append([]string{s.plugin}, args...)...)
	cmd.Env = append(cmd.Env, "KUBECONFIG="+kubeconfig) // the last one counts
	return s.finish(cmd, args)
}

func TestBadConnections(t *testing.T) {
	s := newSpace(t)
	diagnose := []string{"diagnose", "svc/backend"}

	s.wantComplaint(s.with(filepath.Join(t.TempDir(), "none"), diagnose...), complaint{3, []string{"KUBECONFIG", "no such file"}})
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.wantComplaint(s.with(empty, diagnose...), complaint{3, []string{"no kubeconfig found", "kubectl config get-contexts"}})
	garbled := filepath.Join(t.TempDir(), "garbled")
	if err := os.WriteFile(garbled, []byte("{{{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.wantComplaint(s.with(garbled, diagnose...), complaint{3, []string{"kubeconfig"}})

	s.wantComplaint(s.with(s.kubeconfig(s.config.Host, "no.such.token"), diagnose...),
		complaint{3, []string{`the credentials of context "gone-wrong" do not work`, "log in again"}})
	s.wantComplaint(s.with(s.kubeconfig(s.config.Host, s.revokedToken()), diagnose...),
		complaint{3, []string{`the credentials of context "gone-wrong" do not work`}})
	s.wantComplaint(s.with(s.kubeconfig("https://127.0.0.1:1", "x"), diagnose...),
		complaint{3, []string{"cannot reach the API server 127.0.0.1:1", "connection refused"}})
	s.wantComplaint(s.with(s.kubeconfig("https://no-such-host.invalid:6443", "x"), diagnose...),
		complaint{3, []string{"cannot reach the API server", "host name cannot be resolved"}})

	began := time.Now()
	s.wantComplaint(s.with(s.kubeconfig("https://"+silentServer(t), "x"), append(diagnose, "--timeout", "2s")...), complaint{3, nil})
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a server that never answers is given up after %s, --timeout is 2s", took)
	}
}

// silentServer accepts connections and never says a word.
func silentServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the kernel accepts on its own; nobody reads
	return l.Addr().String()
}

// revokedToken is a token that was good a moment ago: its ServiceAccount is gone.
func (s *space) revokedToken() string {
	s.Helper()
	sas := s.client.CoreV1().ServiceAccounts(s.ns)
	if _, err := sas.Create(s.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "leaver"}}, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	tr, err := sas.CreateToken(s.ctx, "leaver", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	if err := sas.Delete(s.ctx, "leaver", metav1.DeleteOptions{}); err != nil {
		s.Fatal(err)
	}
	s.eventually("the token to be refused", time.Minute, func() (bool, string) {
		review, err := s.client.AuthenticationV1().TokenReviews().Create(s.ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: tr.Status.Token},
		}, metav1.CreateOptions{})
		if err != nil {
			return false, err.Error()
		}
		return !review.Status.Authenticated, "it is still accepted"
	})
	return tr.Status.Token
}
