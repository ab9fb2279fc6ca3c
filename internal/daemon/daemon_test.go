package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/journal"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakes are proxies that do nothing, and remember what was asked of them.
type fakes struct {
	mu    sync.Mutex
	said  []string
	made  []*fake
	fail  map[string]error // by target: what Run returns, once
	stuck string           // the target whose Drain waits for its context
	// unready is the target whose Stats say so; hold keeps Drain of c.d:1.
	unready string
	hold    chan struct{}
}

type fake struct {
	of      *fakes
	options sidecar.Options
	clients int
}

func (f *fakes) say(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

func (f *fakes) make(o sidecar.Options) (proxy, error) {
	p := &fake{of: f, options: o}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made = append(f.made, p)
	return p, nil
}

func (f *fake) Run(ctx context.Context) error {
	f.of.mu.Lock()
	err := f.of.fail[f.options.Target]
	delete(f.of.fail, f.options.Target)
	f.of.mu.Unlock()
	if err != nil {
		f.of.say("failed %s", f.options.Target)
		return err
	}
	f.of.say("run %s %s", f.options.Target, strings.Join(f.options.Listen, ","))
	<-ctx.Done()
	f.of.say("end %s", f.options.Target)
	return nil
}

func (f *fake) Drain(ctx context.Context) error {
	f.of.say("drain %s", f.options.Target)
	f.of.mu.Lock()
	hold := f.of.hold
	f.of.mu.Unlock()
	if hold != nil && f.options.Target == "c.d:1" {
		<-hold
	}
	if f.options.Target == f.of.stuck {
		<-ctx.Done()
		return errors.New("1 call was left")
	}
	return nil
}

func (f *fake) Configure(o sidecar.Options) error {
	f.of.say("configure %s %s", o.Target, o.Policy.Policy)
	if o.Name != f.options.Name {
		return errors.New("another name")
	}
	return nil
}

func (f *fake) Stats() sidecar.Stats {
	f.of.mu.Lock()
	defer f.of.mu.Unlock()
	return sidecar.Stats{Name: f.options.Name, Target: f.options.Target, Ready: f.options.Target != f.of.unready, Clients: f.clients}
}

// bench is a running daemon with fakes.
type bench struct {
	t     *testing.T
	fakes *fakes
	sig   chan os.Signal
	look  chan time.Time
	env   map[string]string
	log   *journal.Buffer
	file  string
	code  chan int
	admin string
}

// freePort is an address that nobody listens on just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

const head = "apiVersion: grpclb.dev/v1alpha1\nkind: SidecarConfig\n"

// config is a file for some targets, each "PORT TARGET [more YAML]".
func config(targets ...string) string {
	var b strings.Builder
	b.WriteString(head + "targets:\n")
	for _, t := range targets {
		words := strings.SplitN(t, " ", 3)
		fmt.Fprintf(&b, "- listen: [\"127.0.0.10:%s\"]\n  target: %s\n", words[0], words[1])
		if len(words) > 2 {
			fmt.Fprintf(&b, "  %s\n", words[2])
		}
	}
	return b.String()
}

// start runs a daemon with a file of that content, or with flags alone.
func start(t *testing.T, content string, args ...string) *bench {
	t.Helper()
	b := &bench{
		t: t, fakes: &fakes{fail: map[string]error{}}, sig: make(chan os.Signal), look: make(chan time.Time),
		env: map[string]string{"GOGC": "100", "GOMEMLIMIT": "1GiB"}, log: &journal.Buffer{}, code: make(chan int, 1), admin: freePort(t),
	}
	if content != "" {
		b.file = filepath.Join(t.TempDir(), "sidecar.yaml")
		b.write(content)
		args = append(args, "--config", b.file)
	}
	b.run(append(args, "--admin", b.admin, "--debug", "off")...)
	return b
}

func (b *bench) run(args ...string) {
	b.t.Helper()
	o, err := parseFlags(args, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	go func() {
		b.code <- run(context.Background(), o, environment{
			signals: b.sig, getenv: func(k string) string { return b.env[k] }, make: b.fakes.make, look: b.look, stderr: b.log,
		})
	}()
}

func (b *bench) write(content string) {
	b.t.Helper()
	if err := os.WriteFile(b.file, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// get asks the admin port until it answers.
func (b *bench) get(path string) (int, string) {
	b.t.Helper()
	var last error
	for range 200 {
		resp, err := http.Get("http://" + b.admin + path)
		if err != nil {
			last = err
			<-time.After(10 * time.Millisecond)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		if err != nil {
			b.t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	b.t.Fatalf("%s: %v\n%s", path, last, b.log)
	return 0, ""
}

// until waits for something that is about to be so.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	b.fakes.mu.Lock()
	defer b.fakes.mu.Unlock()
	b.t.Fatalf("never: %s\nsaid %q\nlog:\n%s", what, b.fakes.said, b.log)
}

func (b *bench) saw(what string) {
	b.t.Helper()
	b.until(what, func() bool {
		b.fakes.mu.Lock()
		defer b.fakes.mu.Unlock()
		return slices.Contains(b.fakes.said, what)
	})
}

func (b *bench) logged(text string) {
	b.t.Helper()
	b.until("log "+text, func() bool { return strings.Contains(b.log.String(), text) })
}

func (b *bench) stop(want int) {
	b.t.Helper()
	b.sig <- syscall.SIGTERM
	b.ended(want)
}

func (b *bench) ended(want int) {
	b.t.Helper()
	select {
	case code := <-b.code:
		if code != want {
			b.t.Errorf("code %d, want %d\n%s", code, want, b.log)
		}
	case <-time.After(30 * time.Second):
		b.t.Fatalf("still running\n%s", b.log)
	}
}

func TestServesAndDrains(t *testing.T) {
	b := start(t, "", "--listen", "127.0.0.10:1", "--target", "a.b:1", "--listen", "127.0.0.11:1", "--target", "c.d:1")
	b.saw("run a.b:1 127.0.0.10:1")
	b.saw("run c.d:1 127.0.0.11:1")
	if code, body := b.get("/readyz"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	b.sig <- syscall.SIGHUP
	b.logged("there is no file to read")
	b.stop(ExitOK)
	b.saw("drain a.b:1")
	b.saw("end c.d:1")
	for _, want := range []string{"msg=starting", "targets=2", "msg=serving", "msg=stopping", "signal=terminated", "msg=stopped", "all_calls_ended=true"} {
		b.logged(want)
	}
}

func TestNotReadyWhileItDrains(t *testing.T) {
	b := start(t, "", "--listen", "127.0.0.10:1", "--target", "a.b:1")
	b.fakes.stuck = "a.b:1"
	b.saw("run a.b:1 127.0.0.10:1")
	b.sig <- os.Interrupt
	b.saw("drain a.b:1")
	if code, body := b.get("/readyz"); code != 503 || !strings.Contains(body, "ends") {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := b.get("/healthz"); code != 200 {
		t.Errorf("healthz %d", code)
	}
	b.sig <- syscall.SIGHUP // means nothing now
	b.stop(143)
	b.logged("second signal")
}

func TestSecondInterrupt(t *testing.T) {
	b := start(t, "", "--listen", "127.0.0.10:1", "--target", "a.b:1", "--drain-delay", "10m")
	b.saw("run a.b:1 127.0.0.10:1")
	b.sig <- syscall.SIGTERM
	b.logged("msg=stopping")
	b.sig <- os.Interrupt
	b.ended(130)
}

func TestDrainTimeout(t *testing.T) {
	b := start(t, "", "--listen", "127.0.0.10:1", "--target", "a.b:1", "--listen", "127.0.0.11:1", "--target", "c.d:1", "--drain-timeout", "1s")
	b.fakes.stuck = "a.b:1"
	b.saw("run a.b:1 127.0.0.10:1")
	b.saw("run c.d:1 127.0.0.11:1")
	b.stop(ExitOK)
	b.logged("1 call was left")
	b.logged("all_calls_ended=false")
	if n := strings.Count(b.log.String(), "calls were cut"); n != 1 {
		t.Errorf("%d targets say that calls were cut", n)
	}
}

func TestDrainDelayEndsWithTheLastClient(t *testing.T) {
	b := start(t, "", "--listen", "127.0.0.10:1", "--target", "a.b:1", "--drain-delay", "10m")
	b.saw("run a.b:1 127.0.0.10:1")
	b.fakes.mu.Lock()
	client := b.fakes.made[0]
	client.clients = 1
	b.fakes.mu.Unlock()
	b.sig <- syscall.SIGTERM
	b.logged("clients=1")
	b.fakes.mu.Lock()
	if slices.Contains(b.fakes.said, "drain a.b:1") {
		t.Error("it drains while a client is there")
	}
	client.clients = 0
	b.fakes.mu.Unlock()
	b.ended(ExitOK)
	b.saw("drain a.b:1")
}

func TestCannotServe(t *testing.T) {
	b := start(t, "", "--listen", "127.0.0.10:1", "--target", "a.b:1")
	b.stop(ExitOK)

	b = &bench{t: t, fakes: &fakes{fail: map[string]error{"a.b:1": errors.New("address already in use")}}, sig: make(chan os.Signal),
		env: map[string]string{"GOGC": "1"}, log: &journal.Buffer{}, code: make(chan int, 1), admin: freePort(t)}
	b.run("--listen", "127.0.0.10:1", "--target", "a.b:1", "--admin", b.admin, "--debug", "off")
	b.ended(ExitFailed)
	b.logged("address already in use")
}

func TestAdminPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for flag, args := range map[string][]string{
		"admin": {"--admin", l.Addr().String(), "--debug", "off"},
		"debug": {"--debug", l.Addr().String(), "--admin", freePort(t)},
	} {
		b := &bench{t: t, fakes: &fakes{}, sig: make(chan os.Signal), log: &journal.Buffer{}, code: make(chan int, 1),
			env: map[string]string{"GOGC": "1"}}
		b.run(append(args, "--listen", "127.0.0.10:1", "--target", "a.b:1")...)
		b.ended(ExitFailed)
		b.logged("--" + flag + " says which address")
	}
}

func TestHostNetwork(t *testing.T) {
	for _, tc := range []struct {
		pod, host string
		args      []string
		want      int
	}{
		{"10.0.0.5", "10.0.0.5", nil, ExitPlace},
		{"10.0.0.5", "10.0.0.5", []string{"--allow-host-network"}, ExitOK},
		{"10.244.0.5", "10.0.0.5", nil, ExitOK},
		{"", "", nil, ExitOK},
	} {
		b := &bench{t: t, fakes: &fakes{}, sig: make(chan os.Signal, 1), log: &journal.Buffer{}, code: make(chan int, 1), admin: freePort(t),
			env: map[string]string{"GOGC": "1", PodIPEnv: tc.pod, HostIPEnv: tc.host}}
		b.run(append(tc.args, "--listen", "127.0.0.10:1", "--target", "a.b:1", "--admin", b.admin, "--debug", "off")...)
		if tc.want == ExitOK {
			b.saw("run a.b:1 127.0.0.10:1")
			b.sig <- syscall.SIGTERM
		}
		b.ended(tc.want)
		if tc.want == ExitPlace {
			b.logged("hostNetwork")
		}
	}
}

// TestCrowd: who opens many connections to the health port keeps nobody else out.
func TestCrowd(t *testing.T) {
	b := start(t, "", "--listen", "127.0.0.10:1", "--target", "a.b:1")
	b.saw("run a.b:1 127.0.0.10:1")
	b.get("/healthz")
	var conns []net.Conn
	for range 2 * mostAdmin {
		c, err := net.Dial("tcp", b.admin)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAtLeast(c, make([]byte, 4096), 12); err != nil {
			t.Fatal(err)
		}
	}
	if code, _ := b.get("/healthz"); code != 200 {
		t.Errorf("%d", code)
	}
	closed := 0
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		var timeout net.Error
		if _, err := io.Copy(io.Discard, c); !errors.As(err, &timeout) {
			closed++
		}
		_ = c.Close()
	}
	if closed < mostAdmin {
		t.Errorf("%d of %d connections were closed", closed, len(conns))
	}
	b.stop(ExitOK)
}

// TestCrowdOfOne: the address with most connections loses one, an idle one first.
func TestCrowdOfOne(t *testing.T) {
	c := &crowd{in: map[net.Conn]guest{}}
	node := from("10.0.0.1")
	if c.note(node, http.StateNew) != nil {
		t.Error("closed")
	}
	var pod []net.Conn
	for range mostAdmin - 1 {
		p := from("10.244.0.9")
		pod = append(pod, p)
		c.note(p, http.StateNew)
		c.note(p, http.StateActive)
	}
	c.note(pod[7], http.StateIdle)
	c.note(pod[5], http.StateIdle)
	for _, want := range []net.Conn{pod[7], pod[5], pod[0]} {
		if got := c.note(from("10.244.0.9"), http.StateNew); got != want {
			t.Errorf("%v is closed, want %v", got, want)
		}
	}
	c.note(node, http.StateClosed)
	if len(c.in) != mostAdmin-1 {
		t.Errorf("%d are counted", len(c.in))
	}
}

type remote struct {
	net.Conn
	addr net.Addr
}

func (r *remote) RemoteAddr() net.Addr { return r.addr }

func from(ip string) net.Conn { return &remote{addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}} }
