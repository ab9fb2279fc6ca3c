package fix

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// backends are three real gRPC servers on loopback addresses of one port, and a DNS server that knows them by one name:
// what a headless Service looks like to a client.
type backends struct {
	port, dnsPort int

	mu    sync.Mutex
	calls map[string]int
}

const serviceName = "square-service-headless.default.svc.cluster.local"

var loopbacks = []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}

func startBackends(t *testing.T) *backends {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8 on its loopback interface")
	}
	b := &backends{calls: map[string]int{}}
	for _, ip := range loopbacks {
		lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(ip, strconv.Itoa(b.port)))
		if err != nil {
			t.Fatal(err)
		}
		b.port = lis.Addr().(*net.TCPAddr).Port
		srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			b.mu.Lock()
			b.calls[ip]++
			b.mu.Unlock()
			return next(ctx, req)
		}))
		grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
		served := make(chan error, 1)
		go func() { served <- srv.Serve(lis) }()
		t.Cleanup(func() { srv.Stop(); <-served })
	}
	b.serveDNS(t)
	return b
}

func (b *backends) serveDNS(t *testing.T) {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.dnsPort = conn.LocalAddr().(*net.UDPAddr).Port
	srv := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA && strings.EqualFold(q.Question[0].Name, serviceName+".") {
			for _, ip := range loopbacks {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.ParseIP(ip)})
			}
		}
		_ = w.WriteMsg(m)
	})}
	served := make(chan error, 1)
	go func() { served <- srv.ActivateAndServe() }()
	t.Cleanup(func() { _ = srv.Shutdown(); <-served })
}

// target asks the test's DNS server instead of the machine's.
func (b *backends) target() string {
	return fmt.Sprintf("dns://127.0.0.1:%d/%s:%d", b.dnsPort, serviceName, b.port)
}

// spread holds that the calls of a client landed on more than one backend.
func (b *backends) spread(t *testing.T, least int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	total := 0
	for _, n := range b.calls {
		total += n
	}
	t.Logf("calls: %v", b.calls)
	if len(b.calls) < 2 || total < least {
		t.Errorf("%d calls landed on %d of %d backends", total, len(b.calls), len(loopbacks))
	}
}

// run runs a command in dir with a deadline and returns what it said.
func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

const enoughCalls = 60

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGoCodeRuns compiles the Go code against the module's grpc and runs it: the client's calls spread, and the
// server's connections end.
func TestGoCodeRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("links a program")
	}
	b := startBackends(t)
	dir := t.TempDir()
	client := write(t, dir, "client.go", "package main\n\n"+render(t, "client", clientCode{Target: b.target()})["go"])
	server := write(t, dir, "server.go", "package main\n\n"+render(t, "server", serverCode{Age: time.Second, Grace: time.Second})["go"])
	main := write(t, dir, "main.go", goMain)
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	run(t, root, nil, "go", "run", main, client, server)
	b.spread(t, enoughCalls)
}

// TestGoCodeVets compiles the variants that no test server has a certificate for.
func TestGoCodeVets(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the compiler")
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []clientCode{{Target: "dns:///a:1", TLS: true}, {Target: "dns:///a:1", TLS: true, Authority: "b"}} {
		code := write(t, t.TempDir(), "client.go", "package main\n\n"+render(t, "client", c)["go"]+"\nfunc main() { _, _ = newChannel() }\n")
		run(t, root, nil, "go", "vet", code)
	}
}

const goMain = `package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	newServer().Stop()
	conn, err := newChannel()
	if err != nil {
		return err
	}
	defer conn.Close()
	for range 90 {
		if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
			return err
		}
	}
	return nil
}
`

// languages tests are opt-in: they install gRPC libraries from the public package registries into a cache folder.
func optIn(t *testing.T, tool string) (cache string) {
	t.Helper()
	if os.Getenv("GRPCLB_SNIPPETS") != "1" {
		t.Skip("GRPCLB_SNIPPETS=1 installs this language's gRPC library in the user's cache folder and runs the code")
	}
	if _, err := exec.LookPath(tool); err != nil {
		t.Skipf("no %s on this machine", tool)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	cache = filepath.Join(base, "grpclb-snippets", tool)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	return cache
}

func TestPythonCodeRuns(t *testing.T) {
	cache := optIn(t, "python3")
	python := filepath.Join(cache, "venv", "bin", "python")
	if exec.CommandContext(t.Context(), python, "-c", "import grpc").Run() != nil {
		run(t, cache, nil, "python3", "-m", "venv", "venv")
		run(t, cache, nil, python, "-m", "pip", "install", "--quiet", "grpcio")
	}
	b := startBackends(t)
	script := render(t, "client", clientCode{Target: b.target()})["python"] + `
check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes)
for _ in range(90):
    check(b"", timeout=30, wait_for_ready=True)
channel.close()
` + render(t, "server", serverCode{Age: time.Minute, Grace: time.Second})["python"] + `
assert server.add_insecure_port("127.0.0.1:0")
server.start()
server.stop(None).wait()
`
	run(t, cache, []string{"GRPC_DNS_RESOLVER=ares"}, python, write(t, t.TempDir(), "client.py", script))
	b.spread(t, enoughCalls)
}

func TestNodeCodeRuns(t *testing.T) {
	cache := optIn(t, "node")
	if _, err := os.Stat(filepath.Join(cache, "node_modules", "@grpc", "grpc-js")); err != nil {
		run(t, cache, nil, "npm", "install", "--silent", "--no-save", "--prefix", cache, "@grpc/grpc-js")
	}
	b := startBackends(t)
	script := render(t, "client", clientCode{Target: b.target()})["node"] + `
const client = new grpc.Client(target, credentials, options);
const same = (x) => x;
const check = () => new Promise((resolve, reject) => {
  const o = { deadline: Date.now() + 30000 };
  client.makeUnaryRequest('/grpc.health.v1.Health/Check', same, same, Buffer.alloc(0), new grpc.Metadata({ waitForReady: true }), o,
    (err, answer) => (err ? reject(err) : resolve(answer)));
});
(async () => {
  for (let i = 0; i < 90; i++) await check();
  client.close();
})().catch((err) => { console.error(err); process.exit(1); });
{
` + strings.ReplaceAll(render(t, "server", serverCode{Age: time.Minute, Grace: time.Second})["node"], "const grpc = require('@grpc/grpc-js');", "") + `
server.forceShutdown();
}
`
	// grpc-js takes the DNS server of a target only with the resolver that asks DNS by itself.
	env := []string{"GRPC_NODE_USE_ALTERNATIVE_RESOLVER=true", "NODE_PATH=" + filepath.Join(cache, "node_modules")}
	run(t, cache, env, "node", write(t, t.TempDir(), "client.js", script))
	b.spread(t, enoughCalls)
}
