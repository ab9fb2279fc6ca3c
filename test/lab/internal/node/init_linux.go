package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cgroup"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

const (
	// poll is the pause between two looks at something that is to appear.
	poll = 25 * time.Millisecond
	// restartAfter is the pause before a program that ended is started again.
	restartAfter = time.Second
)

// Namespaces are the namespaces, beside the network's, that Init is to be
// started in.
const Namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// machine is a running node, seen from its init.
type machine struct {
	spec   *Spec
	log    io.Writer
	reaper *reaper
	start  time.Time
}

// Init is a node's process 1. It must be started in fresh [Namespaces] and in
// the node's network namespace. It returns when ctx ends or with what kept the
// node from starting; the kernel then ends everything else on the node.
func Init(ctx context.Context, spec *Spec, log io.Writer) error {
	if os.Getpid() != 1 {
		return errors.New("a node's init must be process 1 of its own pid namespace")
	}
	m := &machine{spec: spec, log: log, reaper: newReaper(), start: time.Now()}
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	host, err := cgroup.Detect(info)
	info.Close()
	if err != nil {
		return err
	}
	if err := host.Join(spec.Cgroup, 0); err != nil {
		return err
	}
	if err := m.mounts(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(spec.Node.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := make(chan struct{})
	var running sync.WaitGroup
	defer running.Wait()
	defer close(stop)
	defer cancel()
	running.Go(func() { m.reaper.run(stop) })
	return m.boot(ctx, &running)
}

func (m *machine) logf(format string, args ...any) {
	fmt.Fprintf(m.log, "%8s %s\n", time.Since(m.start).Round(time.Millisecond), fmt.Sprintf(format, args...))
}

// boot starts the programs in the order they need each other, and waits.
func (m *machine) boot(ctx context.Context, running *sync.WaitGroup) error {
	running.Go(func() { m.keep(ctx, "containerd", "--config", m.spec.etc()+"/containerd.toml") })
	if err := m.importImages(ctx); err != nil {
		return err
	}
	if err := m.waitAPI(ctx); err != nil {
		return err
	}
	pki := m.spec.seen(m.spec.State.PKI())
	running.Go(func() { m.keep(ctx, "kube-proxy", "--config="+m.spec.etc()+"/kube-proxy.yaml", "--v=2") })
	running.Go(func() {
		m.keep(ctx, "kubelet", "--config="+m.spec.etc()+"/kubelet.yaml",
			"--kubeconfig="+pki+"/node-"+m.spec.Node.Name+".kubeconfig", "--hostname-override="+m.spec.Node.Name,
			"--node-ip="+m.spec.Node.IP, "--node-labels=topology.kubernetes.io/zone="+m.spec.Node.Zone,
			"--root-dir=/var/lib/kubelet", "--v=2")
	})
	<-ctx.Done()
	return nil
}

// command is a program of the lab's build, writing to a log of its own.
func (m *machine) command(name string, args ...string) (*exec.Cmd, io.Closer, error) {
	path := filepath.Join(m.spec.seen(m.spec.State.Logs()), m.spec.Node.Name+"-"+name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(filepath.Join(m.spec.bin(), name), args...)
	cmd.Env = append(os.Environ(), "PATH="+m.spec.bin()+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, log, nil
}

// run runs a program to its end.
func (m *machine) run(name string, args ...string) (syscall.WaitStatus, error) {
	cmd, log, err := m.command(name, args...)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	ended, err := m.reaper.start(cmd)
	if err != nil {
		return 0, err
	}
	return <-ended, nil
}

// keep runs a program again whenever it ends, as a machine's service manager
// would, until ctx ends.
func (m *machine) keep(ctx context.Context, name string, args ...string) {
	for {
		m.logf("start %s", name)
		status, err := m.run(name, args...)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.logf("%s: %v", name, err)
		} else {
			m.logf("%s ended: exit code %d, signal %d", name, status.ExitStatus(), status.Signal())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartAfter):
		}
	}
}

// importImages waits for containerd and puts the images into it.
func (m *machine) importImages(ctx context.Context) error {
	err := until(ctx, func() bool {
		c, err := net.Dial("unix", Socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("wait for containerd: %w", err)
	}
	m.logf("containerd listens")
	for _, image := range m.spec.Images {
		status, err := m.run("ctr", ImportArgs(Socket, m.spec.seen(image))...)
		if err == nil && status.ExitStatus() != 0 {
			err = fmt.Errorf("exit code %d", status.ExitStatus())
		}
		if err != nil {
			return fmt.Errorf("import %s: %w", filepath.Base(image), err)
		}
		m.logf("imported %s", filepath.Base(image))
	}
	return nil
}

// ImportArgs are ctr's arguments to import an image archive into the images
// of Kubernetes, through the given containerd socket.
func ImportArgs(socket, archive string) []string {
	return []string{"--address", socket, "--namespace", "k8s.io", "images", "import", archive}
}

// waitAPI waits until the API server is ready. A kubelet that comes up first
// would back off and lose seconds.
func (m *machine) waitAPI(ctx context.Context) error {
	pem, err := os.ReadFile(m.spec.seen(m.spec.State.PKI()) + "/ca.crt")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{
		Timeout:   time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true},
	}
	err = until(ctx, func() bool {
		resp, err := client.Get(topology.APIURL + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	m.logf("the API server is ready")
	return err
}

// until polls ok until it holds or ctx ends.
func until(ctx context.Context, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
	return nil
}
