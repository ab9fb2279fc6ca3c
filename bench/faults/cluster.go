package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/grpclb/kubectl-grpclb/bench/internal/lab"
)

// cluster is the lab with what this run has in it.
type cluster struct {
	options
	dir        string // for what is built; removed at the end
	lab        string // the lab's program
	title      string
	api        kubernetes.Interface
	ns         string
	nameserver string // the address that clients ask
	pods       *podWatch
	ends       []end // what is to be done at the end, last first
}

type end struct {
	what string
	do   func(context.Context) error
}

// atEnd has something done when the run ends, however it does.
func (c *cluster) atEnd(what string, do func(context.Context) error) {
	c.ends = append(c.ends, end{what, do})
}

// undoTime is how long mending one fault may take.
const undoTime = 2 * time.Minute

// undo mends something, also after an interrupt.
func (c *cluster) undo(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return do(ctx)
}

// close undoes what this run did to the cluster.
func (c *cluster) close(ctx context.Context) error {
	var errs []error
	for i := len(c.ends) - 1; i >= 0; i-- {
		if err := c.undo(ctx, c.ends[i].do); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.ends[i].what, err))
		}
	}
	return errors.Join(errs...)
}

// say prints progress, which is no part of the answer.
func (c *cluster) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "faults: "+format+"\n", args...)
}

// open finds the lab, or starts it, and connects to it. Nothing in it is changed.
func open(ctx context.Context, o options) (*cluster, error) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return nil, errors.New("cutting links and stopping processes of the lab takes Linux and root")
	}
	root, err := filepath.Abs(o.root)
	if err != nil {
		return nil, err
	}
	o.root = root
	c := &cluster{options: o}
	if c.dir, err = os.MkdirTemp("", "grpclb-faults-"); err != nil {
		return nil, err
	}
	c.atEnd("remove temporary files", func(context.Context) error { return os.RemoveAll(c.dir) })
	// Built once: "go run" would add a second to each fault, and not always the same one.
	c.lab = filepath.Join(c.dir, "lab")
	if err := c.command(ctx, "test/lab", "go", "build", "-o", c.lab, "."); err != nil {
		return c, err
	}
	return c, c.connect(ctx)
}

func (c *cluster) connect(ctx context.Context) error {
	s, err := c.status(ctx)
	if err == nil && s.State == "down" {
		if err = c.up(ctx); err == nil {
			s, err = c.status(ctx)
		}
	}
	if err != nil {
		return err
	}
	if s.State != "up" || len(s.Nodes) < 2 {
		return fmt.Errorf("the lab is %q with %d nodes, and it takes two: make lab-down ends it, then this command starts one that will do", s.State, len(s.Nodes))
	}
	c.title = s.Title()
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read the lab's kubeconfig: %w", err)
	}
	cfg.QPS, cfg.Burst, cfg.UserAgent = 100, 200, "grpclb-faults"
	c.api, err = kubernetes.NewForConfig(cfg)
	return err
}

func (c *cluster) status(ctx context.Context) (lab.Status, error) {
	out, err := c.labOutput(ctx, "status", "-o", "json")
	if err != nil {
		return lab.Status{}, err
	}
	return lab.Read(out)
}

// up starts the lab for this run, which ends it. Its progress is the user's to see: where it has to be built, that takes minutes.
func (c *cluster) up(ctx context.Context) error {
	c.say("the lab is down and is started; it goes at the end")
	c.atEnd("end the lab", func(ctx context.Context) error {
		_, err := c.labOutput(ctx, "down")
		return err
	})
	cmd := exec.CommandContext(ctx, c.lab, "up")
	cmd.Dir = filepath.Join(c.root, "test", "lab")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = undoTime
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}
	return nil
}

// prepare puts everything into a namespace of its own.
func (c *cluster) prepare(ctx context.Context) error {
	undo, err := firstInLine()
	if undo != nil {
		c.atEnd("give the lab its old share of the CPUs", func(context.Context) error { return undo() })
	}
	if err != nil {
		return fmt.Errorf("give the lab the CPUs first: %w", err)
	}
	c.say("building and loading the image")
	if err := c.loadImage(ctx); err != nil {
		return err
	}
	c.ns = "grpclb-faults-" + strings.ToLower(rand.Text()[:6])
	c.say("working in namespace %s", c.ns)
	if _, err := c.api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.ns}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	c.atEnd("remove namespace "+c.ns, c.leave)
	if c.pods, err = watchPods(ctx, c.api, c.ns); err != nil {
		return err
	}
	c.atEnd("end the watch", func(context.Context) error { c.pods.stop(); return nil })
	if err := c.deployDNS(ctx); err != nil {
		return fmt.Errorf("DNS: %w", err)
	}
	if err := c.deployBackends(ctx); err != nil {
		return fmt.Errorf("backends: %w", err)
	}
	return c.deployClients(ctx)
}

func (c *cluster) leave(ctx context.Context) error {
	if c.keep {
		c.say("namespace %s stays", c.ns)
		return nil
	}
	c.say("removing namespace %s", c.ns)
	// Pods take their preStop time when only asked to end.
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	err := c.api.AppsV1().Deployments(c.ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
	err = errors.Join(err, c.api.CoreV1().Pods(c.ns).DeleteCollection(ctx, now, metav1.ListOptions{}))
	if err := errors.Join(err, c.api.CoreV1().Namespaces().Delete(ctx, c.ns, metav1.DeleteOptions{})); err != nil {
		return err
	}
	return c.until(ctx, undoTime, "it to be gone", func(ctx context.Context) (bool, error) {
		_, err := c.api.CoreV1().Namespaces().Get(ctx, c.ns, metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
}

func (c *cluster) loadImage(ctx context.Context) error {
	bin, tar := filepath.Join(c.dir, "faults"), filepath.Join(c.dir, "faults.tar")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./faults/pod")
	build.Dir = filepath.Join(c.root, "bench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the pods' program: %w\n%s", err, out)
	}
	if err := c.labRun(ctx, "image", "--name", image, "--user", "65532:65532", "--entrypoint", "/faults", "-o", tar, bin+"=/faults"); err != nil {
		return err
	}
	if !c.sidecar {
		return c.labRun(ctx, "load", tar)
	}
	if err := c.command(ctx, ".", "make", "agent-image"); err != nil {
		return err
	}
	return c.labRun(ctx, "load", tar, filepath.Join(c.root, "bin", "images", "grpclb-refresher.tar"))
}

func (c *cluster) deployBackends(ctx context.Context) error {
	for _, s := range []*corev1.Service{headless(backendName, labels(backendName)), headless(manyName, nil), virtual(backendName)} {
		if _, err := c.api.CoreV1().Services(c.ns).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	_, err := c.api.AppsV1().Deployments(c.ns).Create(ctx, backends(), metav1.CreateOptions{})
	return err
}

func (c *cluster) deployClients(ctx context.Context) error {
	if _, err := c.api.CoreV1().ServiceAccounts(c.ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta(clientName)}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := c.api.RbacV1().Roles(c.ns).Create(ctx, clientRole(), metav1.CreateOptions{}); err != nil {
		return err
	}
	b := &rbacv1.RoleBinding{
		ObjectMeta: meta(clientName), Subjects: []rbacv1.Subject{account(clientName, c.ns)},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: clientName},
	}
	if _, err := c.api.RbacV1().RoleBindings(c.ns).Create(ctx, b, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, v := range c.variants() {
		if _, err := c.api.CoreV1().Pods(c.ns).Create(ctx, client(v, c.ns, c.nameserver), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return c.until(ctx, time.Minute, "the clients to be ready", func(context.Context) (bool, error) {
		return len(c.pods.ready(clientName)) == len(c.variants()), nil
	})
}

// scale sets a Deployment's size and does not wait.
func (c *cluster) scale(ctx context.Context, deployment string, replicas int) error {
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	_, err := c.api.AppsV1().Deployments(c.ns).Patch(ctx, deployment, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// rollout waits until a Deployment has all its pods ready, and no others.
func (c *cluster) rollout(ctx context.Context, deployment string, limit time.Duration) error {
	return c.until(ctx, limit, "deploy/"+deployment+" to be ready", func(ctx context.Context) (bool, error) {
		d, err := c.api.AppsV1().Deployments(c.ns).Get(ctx, deployment, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		s, want := d.Status, *d.Spec.Replicas
		return s.ObservedGeneration >= d.Generation && s.ReadyReplicas == want && s.UpdatedReplicas == want && s.Replicas == want, nil
	})
}

// until asks again and again, and returns the last error when there is no more time.
func (c *cluster) until(ctx context.Context, limit time.Duration, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait %s for %s: %w", limit, what, ctx.Err()), err)
		}
	}
}

// labRun runs one of the lab's commands.
func (c *cluster) labRun(ctx context.Context, args ...string) error {
	return c.command(ctx, "test/lab", append([]string{c.lab}, args...)...)
}

func (c *cluster) labOutput(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.lab, args...)
	cmd.Dir = filepath.Join(c.root, "test", "lab")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// command runs a program whose output matters only when it fails.
func (c *cluster) command(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = filepath.Join(c.root, filepath.FromSlash(dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return nil
}
