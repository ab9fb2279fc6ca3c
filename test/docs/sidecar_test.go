package docs_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/internal/daemon"
	"github.com/grpclb/kubectl-grpclb/internal/daemon/admin"
	"github.com/grpclb/kubectl-grpclb/internal/daemon/settings"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
	"github.com/grpclb/kubectl-grpclb/test/docs"
)

//go:generate go test . -run TestSidecarParts -update

const sidecarPage = "docs/sidecar.md"

// TestSidecarParts: the tables of flags, fields, metrics and exit codes are what the
// code says.
func TestSidecarParts(t *testing.T) {
	file := filepath.Join(root, filepath.FromSlash(sidecarPage))
	for name, text := range map[string]string{
		"flags": daemonFlags(), "fields": daemonFields(), "metrics": daemonMetrics(), "codes": daemonCodes(), "mistakes": daemonMistakes(t),
	} {
		golden.Part(t, file, name, text)
	}
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func daemonFlags() string {
	var b strings.Builder
	b.WriteString("| flag | what | default | why | variable |\n|-|-|-|-|-|\n")
	for _, f := range daemon.Flags() {
		name := strings.TrimSpace("--" + f.Name + " " + f.Value)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, cell(f.What), code(strings.Trim(f.Default, `"`)), cell(f.Why), code(f.Env))
	}
	return b.String()
}

func daemonFields() string {
	var b strings.Builder
	b.WriteString("| field | what | default | takes | why that default |\n|-|-|-|-|-|\n")
	for _, f := range settings.Fields() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Path, cell(f.What), cmp.Or(code(f.Default), "none, it is needed"), cell(f.Takes), cell(f.Why))
	}
	return b.String()
}

func daemonMetrics() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | says |\n|-|-|-|-|\n")
	for _, m := range admin.Metrics() {
		var labels []string
		for _, l := range m.Labels {
			labels = append(labels, "`"+l+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(labels, ", "), cell(m.Help))
	}
	return b.String()
}

func daemonCodes() string {
	var b strings.Builder
	b.WriteString("| code | meaning |\n| ---: | - |\n")
	for _, c := range daemon.Codes() {
		fmt.Fprintf(&b, "| %d | %s |\n", c.Code, c.Mean)
	}
	return b.String()
}

// TestSidecarFiles: every file for the sidecar in a document is one that it takes.
func TestSidecarFiles(t *testing.T) {
	n := 0
	for _, b := range blocks(load(t), docs.Data) {
		if !strings.Contains(b.Text, "kind: "+settings.Kind) || strings.Contains(b.Text, "kind: ConfigMap") {
			continue
		}
		n++
		if _, _, err := settings.Parse(b.String(), []byte(b.Text), settings.Options{}); err != nil {
			t.Errorf("%s: the sidecar refuses it:\n%v", b, err)
		}
	}
	if n == 0 {
		t.Error("no document shows a file for the sidecar: the search for them is broken")
	}
}

// daemonFlag reports whether the sidecar or its check has a flag.
func daemonFlag(name string) bool {
	for _, f := range daemon.Flags() {
		if name == "--"+f.Name {
			return true
		}
	}
	return false
}

// daemonMistakes is what becomes of a file with two of them.
func daemonMistakes(t *testing.T) string {
	t.Helper()
	const file = "apiVersion: grpclb.dev/v1alpha1\nkind: SidecarConfig\ntargets:\n" +
		"- listen: [\"127.0.0.10:6565\"]\n  target: square-service-headless.default:6565\n  policy:\n    slowStart: 10\n  polcy: {}\n"
	_, _, err := settings.Parse("sidecar.yaml", []byte(file), settings.Options{})
	if err == nil {
		t.Fatal("it is taken")
	}
	return fmt.Sprintf("```text\n%v\n```\n", err)
}

// TestSidecarByHand runs the command that the page begins with: DNS is a server of
// the test, and the name leads to two pods.
func TestSidecarByHand(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("all of 127.0.0.0/8 is there on Linux alone")
	}
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(sidecarPage)))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "<!-- followed: by TestSidecarByHand")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	line, _, ok := strings.Cut(rest, "\n```")
	args := strings.Fields(line)
	if !ok || len(args) < 4 || args[0] != "grpclb-refresher" || args[1] != "sidecar" {
		t.Fatalf("the page begins with %q", line)
	}
	i, j := slices.Index(args, "--target")+1, slices.Index(args, "--listen")+1
	target, err := sidecar.ParseTarget(args[i])
	if err != nil {
		t.Fatal(err)
	}
	addrs := []netip.Addr{netip.MustParseAddr("127.0.1.1"), netip.MustParseAddr("127.0.1.2")}
	port := twoPods(t, addrs)
	zone := dnstest.NewZone(t, "cluster.local.")
	zone.Headless(target.Host+".svc.cluster.local.", "grpc", port, addrs...)
	args[i] = fmt.Sprintf("dns://%s/%s.svc.cluster.local.:%d", dnstest.Serve(t, zone).Addr(), target.Host, port)
	args[j] = freeAddress(t, "127.0.0.10")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var log bytes.Buffer
	go func() {
		ended <- daemon.Sidecar(ctx, append(args[2:], "--admin", "off", "--debug", "off"), daemon.Streams{Out: &log, Err: &log})
	}()
	t.Cleanup(func() {
		stop()
		if got := <-ended; got != daemon.ExitOK || t.Failed() {
			t.Errorf("exit code %d\n%s", got, &log)
		}
	})
	conn, err := grpc.NewClient("passthrough:///"+args[j], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client, reached := testpb.NewTestServiceClient(conn), map[string]bool{}
	for n := 0; len(reached) < 2 && n < 10000; n++ {
		r, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		reached[r.GetHostname()] = true
	}
	if len(reached) != 2 {
		t.Errorf("only %v", reached)
	}
}

// hostPod is a pod that says its name.
type hostPod struct {
	testpb.UnimplementedTestServiceServer
	name string
}

func (n hostPod) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{Hostname: n.name}, nil
}

// twoPods serves at the addresses, all on one port.
func twoPods(t *testing.T, addrs []netip.Addr) (port uint16) {
	t.Helper()
	for _, a := range addrs {
		l, err := net.Listen("tcp", netip.AddrPortFrom(a, port).String())
		if err != nil {
			t.Fatal(err)
		}
		port = netip.MustParseAddrPort(l.Addr().String()).Port()
		s, done := grpc.NewServer(), make(chan struct{})
		testpb.RegisterTestServiceServer(s, hostPod{name: a.String()})
		go func() {
			defer close(done)
			_ = s.Serve(l)
		}()
		t.Cleanup(func() { s.Stop(); <-done })
	}
	return port
}

func freeAddress(t *testing.T, ip string) string {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
