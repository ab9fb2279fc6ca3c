//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

// stand is the cluster under test and what was built for it. TestMain sets it
// before the first test; nil means that there is no cluster, and why says why.
var (
	stand *cluster
	why   string
)

// cluster is where the tests run.
type cluster struct {
	bed    *testbed.Bed
	plugin string // path of the plugin's binary
	client kubernetes.Interface
	config *rest.Config
	began  time.Time
}

// atOnce is how many tests run at a time: they mostly wait for pods.
const atOnce = "6"

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, m)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, m *testing.M) int {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && !given("test.parallel") {
		if err := f.Value.Set(atOnce); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
	}
	down, err := prepare(ctx)
	var unfit *testbed.UnfitError
	switch {
	case errors.As(err, &unfit) && os.Getenv("CI") != "true":
		why = unfit.Reason
		fmt.Fprintln(os.Stderr, "e2e: skipped:", why)
	case err != nil:
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer down()
	return m.Run()
}

func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// prepare finds or starts the cluster, gets the images onto it and builds the
// plugin. The function that it returns undoes what has to be undone, and is
// never nil.
func prepare(ctx context.Context) (func(), error) {
	nothing := func() {}
	root, err := testbed.FindRoot()
	if err != nil {
		return nothing, err
	}
	bed, down, err := open(ctx, root)
	if err != nil {
		return down, err
	}
	dir, err := os.MkdirTemp("", "grpclb-e2e-")
	if err != nil {
		return down, err
	}
	undo := func() {
		_ = os.RemoveAll(dir) // a leftover in the folder for temporary files harms nobody
		down()
	}
	c := &cluster{bed: bed, plugin: filepath.Join(dir, "kubectl-grpclb"), began: time.Now()}
	if err := c.build(ctx); err != nil {
		return undo, err
	}
	if err := c.connect(); err != nil {
		return undo, err
	}
	stand = c
	return undo, sweep(ctx, c.client)
}

// builtPlugin names a binary to test instead of building one; the images'
// archives are taken as they are then. It saves the time of all builds while
// one works on a test.
const builtPlugin = "GRPCLB_E2E_PLUGIN"

// build makes the plugin and the images, and gets these onto the nodes.
func (c *cluster) build(ctx context.Context) error {
	commands := [][]string{{"go", "build", "-o", c.plugin, "./cmd/kubectl-grpclb"}, testbed.BuildCommand(testbed.Examples, testbed.Agent)}
	if built := os.Getenv(builtPlugin); built != "" {
		c.plugin, commands = built, nil
	}
	commands = append(commands, c.bed.LoadCommands(testbed.Examples.Archive, testbed.Agent.Archive)...)
	c.bed.Path = append([]string{filepath.Dir(c.plugin)}, c.bed.Path...)
	for _, argv := range commands {
		if err := c.do(ctx, argv); err != nil {
			return err
		}
	}
	return nil
}

// connect makes the client that tests look at the cluster with.
func (c *cluster) connect() (err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if c.bed.Kubeconfig != "" {
		rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: c.bed.Kubeconfig}
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.bed.Context})
	if c.config, err = loader.ClientConfig(); err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	c.config.QPS, c.config.Burst, c.config.UserAgent = 100, 200, userAgent
	c.client, err = kubernetes.NewForConfig(c.config)
	return err
}

// userAgent tells the tests' own requests from the plugin's in the audit log.
const userAgent = "grpclb-e2e"

// open returns the cluster that CONTEXT names, or the lab, which it starts when
// it is not up; then the function takes it down again.
func open(ctx context.Context, root string) (*testbed.Bed, func(), error) {
	nothing := func() {}
	if name := os.Getenv("CONTEXT"); name != "" {
		bed, err := testbed.Named(root, name)
		return bed, nothing, err
	}
	bed, status, err := testbed.Lab(ctx, root)
	if err != nil || status.Up() {
		return bed, nothing, err
	}
	c := &cluster{bed: bed}
	down := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		if err := c.do(ctx, testbed.LabCommand("down")); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
		}
	}
	if os.Getenv("KEEP") == "1" {
		down = nothing
	}
	return bed, down, c.do(ctx, testbed.LabCommand("up"))
}

// do runs a command of the preparation; its output matters when it fails.
func (c *cluster) do(ctx context.Context, argv []string) error {
	var out bytes.Buffer
	cmd := c.bed.Command(ctx, argv...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out.String())
	}
	return nil
}
