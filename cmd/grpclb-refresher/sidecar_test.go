package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/internal/agent"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/grpcpod"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/journal"
)

func TestMain(m *testing.M) {
	testscript.Main(tidy{m}, map[string]func(){
		"grpclb-refresher": func() {
			os.Exit(agent.Main(context.Background(), os.Args[1:], agent.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// tidy takes away what binary built.
type tidy struct{ m *testing.M }

// Run is part of testscript.TestingM.
func (t tidy) Run() int {
	code := t.m.Run()
	if built.bin != "" {
		_ = os.RemoveAll(filepath.Dir(built.bin))
	}
	return code
}

// TestScripts runs the command line as a process.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"rc": exitCode},
	})
}

// exitCode is rc CODE COMMAND...: runs a command and demands its exit code.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rc CODE COMMAND...")
	}
	got := 0
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

var built struct {
	once sync.Once
	bin  string
}

// binary builds the program once for all tests.
func binary(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the program runs on Linux")
	}
	built.once.Do(func() { built.bin = build(t) })
	if built.bin == "" {
		t.Fatal("it was not built")
	}
	return built.bin
}

// process is a running sidecar in front of one pod.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *journal.Buffer
	ended  chan error
	listen string
	admin  string
	debug  string
	pod    *grpcpod.Pod
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// start runs the program as a pod does: with nothing but its arguments.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	pod, err := grpcpod.Start("square-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pod.Stop)
	p := &process{t: t, log: &journal.Buffer{}, ended: make(chan error, 1), listen: free(t), admin: free(t), debug: free(t), pod: pod}
	p.cmd = exec.Command(binary(t), append([]string{"--listen", p.listen, "--target", pod.Addr().String(), "--admin", p.admin, "--debug", p.debug}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.until("it is ready", func() bool { code, _ := p.get("http://" + p.admin + "/readyz"); return code == http.StatusOK })
	return p
}

func (p *process) until(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if ok() {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	p.t.Fatalf("never: %s\n%s", what, p.log)
}

func (p *process) get(url string) (int, string) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// exit waits for the process's end.
func (p *process) exit(want int) {
	p.t.Helper()
	select {
	case <-p.ended:
		if got := p.cmd.ProcessState.ExitCode(); got != want {
			p.t.Errorf("exit code %d, want %d\n%s", got, want, p.log)
		}
	case <-time.After(time.Minute):
		p.t.Fatalf("still running\n%s", p.log)
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) client() testpb.TestServiceClient {
	p.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	return testpb.NewTestServiceClient(conn)
}

// stream opens a call that lasts, and hears from the pod once.
func (p *process) stream(c testpb.TestServiceClient) testpb.TestService_FullDuplexCallClient {
	p.t.Helper()
	s, err := c.FullDuplexCall(p.t.Context())
	if err == nil {
		err = s.Send(&testpb.StreamingOutputCallRequest{})
	}
	if err == nil {
		_, err = s.Recv()
	}
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.log)
	}
	return s
}

var memory = regexp.MustCompile(`(?m)^(VmRSS|RssAnon|RssFile):\s+(\d+) kB`)

// TestSidecar: calls, health, metrics and the page of the real process, the memory
// that it takes, and an end in which no call is lost.
func TestSidecar(t *testing.T) {
	p := start(t)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range memory.FindAllStringSubmatch(string(status), -1) {
		t.Logf("idle %s: %s kB", m[1], m[2])
		// The rest are pages of the program's file, which all sidecars of a node share.
		if m[1] == "RssAnon" && len(m[2]) > 4 {
			t.Errorf("idle, the process has %s kB of memory of its own", m[2])
		}
	}
	c := p.client()
	for range 50 {
		r, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{})
		if err != nil || r.Hostname != "square-1" {
			t.Fatalf("%v %v\n%s", r, err, p.log)
		}
	}
	for url, want := range map[string]string{
		"http://" + p.admin + "/healthz":     "alive",
		"http://" + p.admin + "/metrics":     fmt.Sprintf("grpclb_refresher_calls_total{target=%q} 50\n", p.pod.Addr()),
		"http://" + p.debug + "/":            p.pod.Addr().String(),
		"http://" + p.debug + "/debug/pools": `"calls":50`,
	} {
		p.until(url+" has "+want, func() bool {
			_, body := p.get(url)
			return strings.Contains(strings.ReplaceAll(body, `": `, `":`), want)
		})
	}
	if code, _ := p.get("http://" + p.admin + "/debug/pools"); code != http.StatusNotFound {
		t.Errorf("the pod's IP shows the pools: %d", code)
	}

	s := p.stream(c)
	p.signal(syscall.SIGTERM)
	p.until("not ready", func() bool {
		code, _ := p.get("http://" + p.admin + "/readyz")
		return code == http.StatusServiceUnavailable
	})
	p.until("nobody listens", func() bool {
		conn, err := net.Dial("tcp", p.listen)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	// The call goes on for as long as the client wants.
	if err := errors.Join(s.Send(&testpb.StreamingOutputCallRequest{}), s.CloseSend()); err != nil {
		t.Errorf("%v\n%s", err, p.log)
	}
	if _, err := s.Recv(); err != nil {
		t.Errorf("%v\n%s", err, p.log)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("%v\n%s", err, p.log)
	}
	p.exit(0)
	if !strings.Contains(p.log.String(), "all_calls_ended=true") {
		t.Error(p.log)
	}
}

// TestSecondSignal: who cannot wait says so twice.
func TestSecondSignal(t *testing.T) {
	p := start(t, "--drain-timeout", "10m")
	s := p.stream(p.client())
	p.signal(syscall.SIGTERM)
	p.until("it stops", func() bool { return strings.Contains(p.log.String(), "msg=stopping") })
	p.signal(syscall.SIGINT)
	p.exit(130)
	if _, err := s.Recv(); err == nil {
		t.Error("the call goes on")
	}
}

// TestAddressTaken: the address, and what to do, are in one line.
func TestAddressTaken(t *testing.T) {
	p := start(t)
	again := exec.Command(binary(t), "--listen", p.listen, "--target", "127.0.0.1:1", "--admin", "off", "--debug", "off")
	out, err := again.CombinedOutput()
	if again.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), p.listen) || !strings.Contains(string(out), "in use") {
		t.Errorf("%v: %s", err, out)
	}
	p.signal(os.Interrupt)
	p.exit(0)
}

// TestReload: the process follows its file by itself.
func TestReload(t *testing.T) {
	pod, err := grpcpod.Start("square-2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pod.Stop)
	name := filepath.Join(t.TempDir(), "sidecar.yaml")
	write := func(listen, more string) {
		t.Helper()
		text := fmt.Sprintf("apiVersion: grpclb.dev/v1alpha1\nkind: SidecarConfig\ntargets:\n- listen: [%q]\n  target: %s\n%s", listen, pod.Addr(), more)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second := free(t), free(t)
	write(first, "")
	p := &process{t: t, log: &journal.Buffer{}, ended: make(chan error, 1), listen: first, admin: free(t)}
	p.cmd = exec.Command(binary(t), "sidecar", "--config", name, "--admin", p.admin, "--debug", "off")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.until("it is ready", func() bool { code, _ := p.get("http://" + p.admin + "/readyz"); return code == http.StatusOK })
	call := func() error {
		_, err := p.client().UnaryCall(t.Context(), &testpb.SimpleRequest{}, grpc.WaitForReady(true))
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	write(first, "  nope: 1\n")
	p.until("it refuses", func() bool {
		_, body := p.get("http://" + p.admin + "/readyz")
		return strings.Contains(body, "no such field")
	})
	if err := call(); err != nil {
		t.Fatal(err)
	}
	write(second, "")
	p.signal(syscall.SIGHUP)
	p.until("the new address", func() bool { return strings.Contains(p.log.String(), "generation=2") })
	p.listen = second
	if err := call(); err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}
	p.signal(syscall.SIGTERM)
	p.exit(0)
}
