package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cluster"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
)

const (
	// What `up` and `down` may take on a machine that has nothing else to do.
	upBudget   = 20 * time.Second
	downBudget = 5 * time.Second
	// commandTimeout bounds a command on a machine that has.
	commandTimeout = 5 * time.Minute
	// buildTimeout bounds the build, which compiles Kubernetes where nobody has before.
	buildTimeout = 30 * time.Minute
)

// TestCluster brings real clusters up and down, whole and cut short. It needs
// root, and a lab that nobody is using.
func TestCluster(t *testing.T) {
	if os.Geteuid() != 0 {
		skip(t, "the lab needs root")
	}
	d := newDriver(t)
	if s := d.status(t); s.State != cluster.StateDown {
		skip(t, "the lab is in use: take it down first")
	}
	if out, err := d.bounded(buildTimeout, "build").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if out, err := d.command("check").CombinedOutput(); err != nil {
		skip(t, "this machine cannot run the lab: "+string(out))
	}
	before := look(t)
	t.Cleanup(func() { d.run(t, "down") })

	d.within(t, upBudget, "up")
	t.Run("up again changes nothing", d.testUpAgain)
	t.Run("status", d.testStatus)
	t.Run("up with other options is refused", d.testOtherOptions)
	t.Run("an image of one's own", d.testImage)
	t.Run("a pod before its image", d.testImageLater)
	t.Run("names and routes end at the lab's edge", d.testNoWayOut)
	t.Run("metrics", d.testMetrics)
	t.Run("cut and mend", d.testCut)
	t.Run("freeze and thaw", d.testFreeze)
	t.Run("restart", d.testRestart)
	t.Run("a killed node comes back", d.testKilledNode)
	d.within(t, downBudget, "down")
	nothingLeft(t, d, before)
	d.within(t, downBudget, "down")

	t.Run("one node, iptables", d.testIPTables)
	nothingLeft(t, d, before)
	t.Run("killed while it comes up", func(t *testing.T) { d.testKilledUp(t, before) })
	t.Run("interrupted while it comes up", func(t *testing.T) { d.testInterruptedUp(t, before) })
	t.Run("nobody but root", d.testNobody)
}

// driver is the compiled driver.
type driver struct{ bin string }

func newDriver(t *testing.T) *driver {
	t.Helper()
	d := &driver{bin: filepath.Join(t.TempDir(), "lab")}
	build := exec.Command("go", "build", "-o", d.bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the driver: %v\n%s", err, out)
	}
	return d
}

func (d *driver) command(args ...string) *exec.Cmd { return d.bounded(commandTimeout, args...) }

func (d *driver) bounded(limit time.Duration, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Cancel = func() error {
		defer cancel()
		return cmd.Process.Kill()
	}
	return cmd
}

// run runs a command that must succeed and returns its stdout.
func (d *driver) run(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := d.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("lab %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String()
}

func (d *driver) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return d.run(t, append([]string{"kubectl"}, args...)...)
}

// within is run that must not take longer than the budget, unless the machine
// is busy with something else.
func (d *driver) within(t *testing.T, budget time.Duration, args ...string) {
	t.Helper()
	load := 0.0
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(b), &load)
	}
	start := time.Now()
	d.run(t, args...)
	took := time.Since(start).Round(10 * time.Millisecond)
	t.Logf("lab %s took %v (load %.1f)", strings.Join(args, " "), took, load)
	if took > budget && load < float64(runtime.NumCPU()) {
		t.Errorf("lab %s took %v, more than %v", strings.Join(args, " "), took, budget)
	}
}

func (d *driver) status(t *testing.T) *cluster.Status {
	t.Helper()
	s := new(cluster.Status)
	if err := json.Unmarshal([]byte(d.run(t, "status", "-o", "json")), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// eventually polls ok for up to a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		case <-tick.C:
		}
	}
}

func (d *driver) testUpAgain(t *testing.T) {
	was := d.status(t)
	d.run(t, "up")
	d.run(t, "up", "--nodes", "2", "--proxy-mode", "nftables")
	is := d.status(t)
	for name, p := range was.Processes {
		if is.Processes[name] != p {
			t.Errorf("%s was %+v and is %+v", name, p, is.Processes[name])
		}
	}
}

func (d *driver) testStatus(t *testing.T) {
	s := d.status(t)
	if s.State != cluster.StateUp || s.Trouble != nil || len(s.Nodes) != 2 {
		t.Fatalf("%+v", s)
	}
	for i, n := range s.Nodes {
		if !n.Alive || !n.Ready || n.Zone != string("ab"[i]) {
			t.Errorf("%+v", n)
		}
	}
	// The kubectl of the build, the kubeconfig and its context are for use
	// without the driver too.
	kubectl := exec.Command(filepath.Join(s.Bin, "kubectl"), "--context", s.Context, "get", "nodes", "-L", "topology.kubernetes.io/zone", "--no-headers")
	kubectl.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig)
	out, err := kubectl.CombinedOutput()
	if err != nil || strings.Count(string(out), " Ready ") != 2 {
		t.Errorf("kubectl: %v\n%s", err, out)
	}
	audit, err := os.ReadFile(s.AuditLog)
	if err != nil || !bytes.Contains(audit, []byte(`"username":"grpclb-lab-admin"`)) {
		t.Errorf("the audit log knows nothing of that: %v", err)
	}
}

func (d *driver) testOtherOptions(t *testing.T) {
	out, err := d.command("up", "--nodes", "1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "2 nodes instead of 1") {
		t.Errorf("%v: %s", err, out)
	}
}

// testImage runs the driver itself in a pod, from an image made of it.
func (d *driver) testImage(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "self.tar")
	d.run(t, "image", "--name", "lab.test/self:dev", "--entrypoint", "/lab", "--cmd", "help", "--user", "65532:65532",
		"-o", archive, d.bin+"=/lab")
	d.run(t, "load", archive)
	d.kubectl(t, "run", "self", "--image=lab.test/self:dev", "--restart=Never")
	d.kubectl(t, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/self", "--timeout=60s")
	if out := d.kubectl(t, "logs", "self"); !strings.Contains(out, "A real Kubernetes cluster") {
		t.Errorf("it printed %q", out)
	}
}

// testImageLater starts a pod whose image is not there yet: that is told at
// once, and the pod starts soon after the image is loaded.
func (d *driver) testImageLater(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "later.tar")
	d.run(t, "image", "--name", "lab.test/later:dev", "--entrypoint", "/lab", "--cmd", "help", "-o", archive, d.bin+"=/lab")
	d.kubectl(t, "run", "later", "--image=lab.test/later:dev", "--restart=Never")
	eventually(t, "the kubelet says that the image is missing", func() bool {
		reason := d.kubectl(t, "get", "pod", "later", "-o", "jsonpath={.status.containerStatuses[*].state.waiting.reason}")
		return reason == "ErrImagePull" || reason == "ImagePullBackOff"
	})
	d.run(t, "load", archive)
	d.kubectl(t, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/later", "--timeout=60s")
}

// box starts a pod with a shell and a web server on a node.
func (d *driver) box(t *testing.T, name, node string) {
	t.Helper()
	d.kubectl(t, "run", name, "--image=lab.grpclb.dev/busybox:dev", "--command",
		"--overrides", `{"spec": {"nodeName": "`+node+`", "terminationGracePeriodSeconds": 0}}`, "--", "httpd", "-f", "-p", "8080")
	d.kubectl(t, "wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
	t.Cleanup(func() {
		// The cluster may be down already, and the pod with it.
		_ = d.command("kubectl", "delete", "pod", name, "--now", "--wait=false", "--ignore-not-found").Run()
	})
}

// reaches says whether a TCP connection from a pod to an address opens. The
// server there must not wait for more than a line.
func (d *driver) reaches(pod, ip, port string) bool {
	return d.command("kubectl", "exec", pod, "--", "sh", "-c", "echo | timeout 10 nc -w 2 "+ip+" "+port).Run() == nil
}

func (d *driver) testNoWayOut(t *testing.T) {
	d.box(t, "inside", "n1")
	if out := d.kubectl(t, "exec", "inside", "--", "nslookup", "kubernetes.default.svc.cluster.local"); !strings.Contains(out, "10.96.0.1") {
		t.Errorf("cluster names do not resolve:\n%s", out)
	}
	out, err := d.command("kubectl", "exec", "inside", "--", "nslookup", "example.com").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "NXDOMAIN") {
		t.Errorf("a name outside of the cluster: %v\n%s", err, out)
	}
	if !d.reaches("inside", "10.96.0.1", "443") {
		t.Error("the API server's Service cannot be reached")
	}
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() && d.reaches("inside", ip.IP.String(), port) {
			t.Errorf("a pod reached the machine at %s", ip.IP)
		}
	}
}

func (d *driver) testMetrics(t *testing.T) {
	eventually(t, "kubectl top pods shows CoreDNS", func() bool {
		out, err := d.command("kubectl", "top", "pods", "-n", "kube-system").Output()
		return err == nil && strings.Contains(string(out), "coredns-")
	})
	if !d.status(t).Metrics {
		t.Error("status does not know of it")
	}
}

func (d *driver) testCut(t *testing.T) {
	d.box(t, "near", "n1")
	d.box(t, "far", "n2")
	ip := d.kubectl(t, "get", "pod", "far", "-o", "jsonpath={.status.podIP}")
	if !d.reaches("near", ip, "8080") {
		t.Fatal("pods of two nodes do not reach each other")
	}
	d.run(t, "fault", "cut", "n2")
	if d.reaches("near", ip, "8080") {
		t.Error("a node that is cut off is reached")
	}
	d.run(t, "fault", "mend", "n2")
	eventually(t, "a mended node is reached", func() bool { return d.reaches("near", ip, "8080") })
}

// testFreeze kills the freezing command's caller by closing the pipe, as the
// kernel does for one that dies.
func (d *driver) testFreeze(t *testing.T) {
	answers := func() bool { return d.command("kubectl", "get", "namespaces", "--request-timeout=2s").Run() == nil }
	for _, part := range []string{"controlplane", "kubelet/n2"} {
		cmd := d.command("freeze", part)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, len("frozen\n"))
		if _, err := io.ReadFull(out, line); err != nil {
			t.Errorf("freeze %s: %v", part, err)
		}
		if answers() != (part != "controlplane") {
			t.Errorf("with %s frozen the API server answers: %t", part, answers())
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("freeze %s: %v", part, err)
		}
		eventually(t, part+" thawed", answers)
	}
}

func (d *driver) testRestart(t *testing.T) {
	pid := func() int { return d.status(t).Processes["controlplane"].PID }
	before, uid := pid(), d.kubectl(t, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	d.run(t, "restart", "controlplane")
	if after := pid(); after == before {
		t.Errorf("the control plane is still process %d", after)
	}
	if again := d.kubectl(t, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"); again != uid {
		t.Errorf("kube-system was %s and is %s", uid, again)
	}
	d.run(t, "restart", "kubelet/n2")
	eventually(t, "the kubelet again", func() bool { return d.command("restart", "kubelet/n2").Run() == nil })
}

func (d *driver) testKilledNode(t *testing.T) {
	d.run(t, "fault", "kill", "n2")
	if s := d.status(t); s.State != cluster.StateDegraded || !slices.Contains(s.Trouble, "n2 has ended") {
		t.Errorf("%+v", s)
	}
	d.run(t, "up")
	if s := d.status(t); !s.Processes["n2"].Alive {
		t.Errorf("%+v", s)
	}
	d.box(t, "again", "n2")
}

// testIPTables is a cluster with the other options.
func (d *driver) testIPTables(t *testing.T) {
	d.run(t, "up", "--nodes", "1", "--proxy-mode", "iptables")
	defer d.run(t, "down")
	if s := d.status(t); s.State != cluster.StateUp || len(s.Nodes) != 1 || s.ProxyMode != "iptables" {
		t.Errorf("%+v", s)
	}
	d.box(t, "inside", "n1")
	if out := d.kubectl(t, "exec", "inside", "--", "nslookup", "kubernetes.default.svc.cluster.local"); !strings.Contains(out, "10.96.0.1") {
		t.Errorf("cluster names do not resolve:\n%s", out)
	}
	if !d.reaches("inside", "10.96.0.1", "443") {
		t.Error("the API server's Service cannot be reached")
	}
}

// testKilledUp kills `up` at several points and expects the next command to
// find its way from there.
func (d *driver) testKilledUp(t *testing.T, before machine) {
	for marker, next := range map[string]string{
		"preflight":            "down",
		"network namespaces":   "up",
		"start control plane":  "down",
		"API server: ready":    "up",
		"apply CoreDNS and me": "down",
	} {
		cmd, end := d.upUntil(t, marker)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		end()
		d.run(t, next)
		if s := d.status(t); next == "up" && s.State != cluster.StateUp {
			t.Errorf("killed at %q: %+v", marker, s)
		}
		d.run(t, "down")
		nothingLeft(t, d, before)
	}
}

// testInterruptedUp interrupts `up` as Ctrl-C does: it takes down what it had started.
func (d *driver) testInterruptedUp(t *testing.T, before machine) {
	cmd, end := d.upUntil(t, "start control plane")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := end(); code != 130 {
		t.Errorf("exit code %d, want that of an interrupted program", code)
	}
	nothingLeft(t, d, before)
}

// upUntil starts `up` and returns when its progress reaches a marker. The
// function waits for its end and returns its exit code.
func (d *driver) upUntil(t *testing.T, marker string) (*exec.Cmd, func() int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := d.command("up")
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var seen []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(seen, []byte(marker)) {
		n, err := r.Read(buf)
		seen = append(seen, buf[:n]...)
		if err != nil {
			t.Fatalf("up ended before %q:\n%s", marker, seen)
		}
	}
	return cmd, func() int {
		_ = cmd.Wait()
		r.Close()
		return cmd.ProcessState.ExitCode()
	}
}

// testNobody runs the driver as a user without rights.
func (d *driver) testNobody(t *testing.T) {
	dir := t.TempDir()
	// The driver and the state directory must not be what is out of reach.
	for path, mode := range map[string]os.FileMode{dir: 0o777, filepath.Dir(dir): 0o755, filepath.Dir(filepath.Dir(d.bin)): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := d.command("up")
	cmd.Env = append(os.Environ(), state.EnvDir+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || bytes.Count(out, []byte("\n")) != 1 || !bytes.Contains(out, []byte("root")) || !bytes.Contains(out, []byte("--context")) {
		t.Errorf("%v: %s", err, out)
	}
}

// machine is what a lab must leave as it found it.
type machine struct {
	mounts  string
	links   []string
	sysctls map[string]string
	dirs    map[string]bool
}

// look records the machine's state.
func look(t *testing.T) machine {
	t.Helper()
	m := machine{sysctls: map[string]string{}, dirs: map[string]bool{}}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	m.mounts = string(b)
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		m.links = append(m.links, l.Name)
	}
	for _, key := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max",
	} {
		if b, err := os.ReadFile(filepath.Join("/proc/sys", key)); err == nil {
			m.sysctls[key] = string(b)
		}
	}
	for _, dir := range []string{
		"/etc/cni", "/etc/kubernetes", "/opt/cni", "/opt/containerd", "/usr/libexec/kubernetes", "/run/containerd",
		"/var/lib/cni", "/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods",
	} {
		_, err := os.Stat(dir)
		m.dirs[dir] = err == nil
	}
	return m
}

// nothingLeft compares the machine with what it was, and looks for anything
// that has the lab's name on it.
func nothingLeft(t *testing.T, d *driver, before machine) {
	t.Helper()
	after := look(t)
	if after.mounts != before.mounts {
		t.Errorf("mounts were\n%sand are\n%s", before.mounts, after.mounts)
	}
	if !slices.Equal(after.links, before.links) {
		t.Errorf("network interfaces were %v and are %v", before.links, after.links)
	}
	for key, was := range before.sysctls {
		if is := after.sysctls[key]; is != was {
			t.Errorf("sysctl %s was %q and is %q", key, was, is)
		}
	}
	for dir, was := range before.dirs {
		if after.dirs[dir] && !was {
			t.Errorf("%s was made", dir)
		}
	}
	marked, err := proc.Marked()
	if err != nil {
		t.Fatal(err)
	}
	for dir, pids := range marked {
		t.Errorf("processes of the lab in %s: %v", dir, pids)
	}
	var left []string
	for _, pattern := range []string{"/run/netns/grpclb-*", "/sys/fs/cgroup/grpclb-lab", "/sys/fs/cgroup/*/grpclb-lab"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	if left != nil {
		t.Errorf("left behind: %v", left)
	}
	s := d.status(t)
	for _, path := range []string{filepath.Join(s.StateDir, "run"), s.Kubeconfig} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("left behind: %s", path)
		}
	}
	if s.State != cluster.StateDown {
		t.Errorf("the lab is %s", s.State)
	}
}
