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

	"github.com/grpclb/kubectl-grpclb/bench/internal/lab"
)

// cluster is where the measures with real pods run. It is entered by the first of them.
type cluster struct {
	why       string // it cannot be used; empty when it can
	title     string // for the heading
	env       []string
	kubectl   string
	context   string // empty: the kubeconfig's own
	lab       bool
	namespace string // empty before it was entered
	image     string
}

// findCluster looks for the lab, or takes the context that was named. Nothing is changed.
func (b *bench) findCluster(ctx context.Context) error {
	b.cluster = &cluster{context: b.context, kubectl: b.kubectl, image: b.image}
	c := b.cluster
	if b.context != "" {
		c.title = "context " + b.context
		if c.kubectl == "" {
			c.why = "there is no kubectl to set the cluster up with"
		}
		return nil
	}
	if runtime.GOOS != "linux" {
		c.why = "the lab needs Linux; -context names another cluster"
		return nil
	}
	status := exec.CommandContext(ctx, "go", "run", ".", "status", "-o", "json")
	status.Dir = b.path("test", "lab")
	out, err := status.Output()
	if err != nil {
		return fmt.Errorf("ask for the lab's status: %w", err)
	}
	s, err := lab.Read(out)
	if err != nil {
		return err
	}
	if s.State != "up" {
		c.why = "the lab is not up (make lab-up starts it, -context names another cluster)"
		return nil
	}
	c.lab, c.env, c.kubectl = true, []string{"KUBECONFIG=" + s.Kubeconfig}, filepath.Join(s.Bin, "kubectl")
	c.title, b.kubectl = s.Title(), c.kubectl
	return nil
}

// enter makes the namespace, and for the lab the image, before the first measure.
func (b *bench) enter(ctx context.Context) error {
	c := b.cluster
	if c.namespace != "" {
		return nil
	}
	if c.lab {
		if err := b.loadImage(ctx); err != nil {
			return err
		}
	}
	namespace := "grpclb-bench-" + strings.ToLower(rand.Text()[:6])
	if _, err := c.run(ctx, nil, "create", "namespace", namespace); err != nil {
		return err
	}
	c.namespace = namespace
	b.say("working in namespace %s", namespace)
	return nil
}

// loadImage builds the two programs of the square example into an image of its own name, so that nobody else's is replaced.
func (b *bench) loadImage(ctx context.Context) error {
	b.say("building and loading the image of the square example")
	c := b.cluster
	c.image = "grpclb.dev/bench:dev"
	tar := filepath.Join(b.dir, "bench.tar")
	argv := []string{"go", "run", ".", "image", "--name", c.image, "--user", "65532:65532", "--entrypoint", "/square-server", "-o", tar}
	for _, p := range []string{"square-server", "square-aggregator"} {
		bin := filepath.Join(b.dir, p)
		if err := stripped(ctx, b.root, bin, "./examples/square/cmd/"+p, "linux", runtime.GOARCH); err != nil {
			return err
		}
		argv = append(argv, bin+"=/"+p)
	}
	lab := b.path("test", "lab")
	if err := command(ctx, lab, nil, argv...); err != nil {
		return err
	}
	return command(ctx, lab, nil, "go", "run", ".", "load", tar)
}

// leaveCluster removes the namespace, also after an interrupt.
func (b *bench) leaveCluster(ctx context.Context) error {
	if b.cluster == nil || b.cluster.namespace == "" {
		return nil
	}
	c := b.cluster
	if b.keep {
		b.say("namespace %s stays", c.namespace)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	b.say("removing namespace %s", c.namespace)
	if _, err := c.run(ctx, nil, "delete", "namespace", c.namespace, "--wait"); err != nil {
		return fmt.Errorf("namespace %s is left behind: %w", c.namespace, err)
	}
	return nil
}

// run calls kubectl in the namespace and returns what it prints.
func (c *cluster) run(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.kubectl, append(c.flags(), args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}

// flags say which cluster and namespace; they suit kubectl and the plugin.
func (c *cluster) flags() []string {
	var out []string
	if c.context != "" {
		out = append(out, "--context", c.context)
	}
	if c.namespace != "" {
		out = append(out, "-n", c.namespace)
	}
	return out
}

// apply creates objects, given as JSON or YAML.
func (c *cluster) apply(ctx context.Context, manifest []byte) error {
	_, err := c.run(ctx, manifest, "apply", "-f", "-")
	return err
}

// ready waits for a Deployment to have all its pods ready and in the Service's slices.
func (c *cluster) ready(ctx context.Context, deployment, service string, pods int, limit time.Duration) error {
	if _, err := c.run(ctx, nil, "rollout", "status", "deploy/"+deployment, "--timeout", limit.String()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("svc/%s: no %d ready endpoints within %s", service, pods, limit))
	defer cancel()
	for tick := time.NewTicker(500 * time.Millisecond); ; {
		const query = `jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses[0]}{"\n"}{end}`
		out, err := c.run(ctx, nil, "get", "endpointslices", "-l", "kubernetes.io/service-name="+service, "-o", query)
		if err == nil && len(strings.Fields(out)) == pods {
			tick.Stop()
			return nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
