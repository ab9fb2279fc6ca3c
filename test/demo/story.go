package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

const (
	namespace = "grpclb-demo"
	// owner marks the namespace as this program's, so that one left behind by a kill is replaced and a foreign one is not.
	owner = "app.kubernetes.io/managed-by=grpclb-demo"
	// load is how many calls a second the aggregator makes besides, so that there is traffic to measure.
	load = "GRPC_CLIENT_SQUARE_LOAD=100"

	exampleDir  = "examples/square/plaintext"
	pinnedFile  = "bin/demo/pinned.snapshot.yaml"
	fixedFile   = "bin/demo/fixed.snapshot.yaml"
	service     = "svc/square-service"
	rolloutTime = "--timeout=120s"
)

// demo is one run of the story.
type demo struct {
	*stage
	options
	root string
	bed  *testbed.Bed
}

func (d *demo) run(ctx context.Context) error {
	if err := d.cluster(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Build the example, the in-pod agent and the plugin", d.build},
		{"Deploy examples/square: three pods behind a ClusterIP, and one client", d.deploy},
		{"See which pods answer nine calls", d.showPinned},
		{"Ask why", d.diagnosePinned},
		{"Replay the diagnosis from a file, with no cluster", d.replay},
		{"Apply the fix that the plugin writes", d.fix},
		{"See which pods answer now", d.showSpread},
		{"Ask again", d.diagnoseFixed},
	} {
		if err := d.step(part.title, func() error { return part.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// cluster finds the named cluster, or starts the lab unless it runs.
func (d *demo) cluster(ctx context.Context) (err error) {
	if d.context != "" {
		d.bed, err = testbed.Named(d.root, d.context)
		return err
	}
	bed, status, err := testbed.Lab(ctx, d.root)
	if err != nil {
		return err
	}
	d.bed = bed
	if status.Up() {
		return d.step("Use the cluster that is running already", func() error {
			d.say("it stays as it is: make lab-down stops it")
			return d.environment(ctx)
		})
	}
	d.undo = append(d.undo, undo{
		title: "take the cluster down",
		kept:  []string{"The cluster: make lab-down stops it."},
		do: func(ctx context.Context) error {
			_, err := d.stage.run(ctx, d.bed, testbed.LabCommand("down"))
			return err
		},
	})
	return d.step("Start a Kubernetes cluster (the first time, this builds one)", func() error {
		if _, err := d.stage.run(ctx, d.bed, testbed.LabCommand("up")); err != nil {
			return err
		}
		return d.environment(ctx)
	})
}

// environment types what a user's shell needs to go on; the programs started
// here get the same.
func (d *demo) environment(ctx context.Context) error {
	_, status, err := testbed.Lab(ctx, d.root)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "  $ export KUBECONFIG=%s PATH=$PWD/bin:%s:$PATH\n", status.Kubeconfig, status.Bin)
	return nil
}

// build makes the images, gets them onto the nodes, and puts the plugin where
// kubectl looks for plugins: on the PATH.
func (d *demo) build(ctx context.Context) error {
	d.bed.Path = append([]string{filepath.Join(d.root, "bin")}, d.bed.Path...)
	var images []testbed.Image
	if d.examples == "" {
		images = append(images, testbed.Examples)
	}
	if d.agent == "" {
		images = append(images, testbed.Agent)
	}
	argv := append(testbed.BuildCommand(images...), "build")
	d.typed(argv)
	if _, err := d.quiet(ctx, d.bed, argv); err != nil {
		return err
	}
	var archives []string
	for _, i := range images {
		archives = append(archives, i.Archive)
	}
	loads := d.bed.LoadCommands(archives...)
	for _, argv := range loads {
		if _, err := d.stage.run(ctx, d.bed, argv); err != nil {
			return err
		}
	}
	if len(loads) == 0 && len(images) > 0 {
		d.mustPull(images)
	}
	_, err := d.stage.run(ctx, d.bed, []string{"kubectl", "grpclb", "version"})
	return err
}

// mustPull says what nobody here can do for the user.
func (d *demo) mustPull(images []testbed.Image) {
	d.say("context %s is none of kind, k3d or minikube with its tool at hand: its nodes must be able to pull", d.context)
	for _, i := range images {
		d.say("  %s   (built just now: %s)", i.Name, i.Archive)
	}
	d.say("or push copies to a registry of yours and name them: EXAMPLES_IMAGE=... AGENT_IMAGE=...")
}

func (d *demo) kubectl(args ...string) []string {
	return d.bed.Kubectl(append(args, "-n", namespace)...)
}

func (d *demo) plugin(args ...string) []string {
	return d.kubectl(append([]string{"grpclb"}, args...)...)
}

func (d *demo) deploy(ctx context.Context) error {
	if err := d.makeNamespace(ctx); err != nil {
		return err
	}
	if err := d.applyExample(ctx); err != nil {
		return err
	}
	commands := [][]string{
		d.kubectl("set", "env", "deploy/aggregator-app", load),
		d.kubectl("rollout", "status", "deploy/square-app", rolloutTime),
		d.kubectl("rollout", "status", "deploy/aggregator-app", rolloutTime),
	}
	for _, argv := range commands {
		if _, err := d.stage.run(ctx, d.bed, argv); err != nil {
			return d.withPods(ctx, err)
		}
	}
	return nil
}

// makeNamespace makes the one place that the demo touches, after removing what
// a killed run left.
func (d *demo) makeNamespace(ctx context.Context) error {
	get := d.bed.Kubectl("get", "namespace", namespace, "--ignore-not-found", "-o", "jsonpath={.metadata.labels.app\\.kubernetes\\.io/managed-by}{.metadata.name}")
	was, err := d.quiet(ctx, d.bed, get)
	if err != nil {
		return err
	}
	_, mark, _ := strings.Cut(owner, "=")
	switch string(was) {
	case "":
	case mark + namespace:
		d.say("an earlier demo left its namespace behind")
		if _, err := d.stage.run(ctx, d.bed, d.bed.Kubectl("delete", "namespace", namespace, "--wait")); err != nil {
			return err
		}
	default:
		return fmt.Errorf("namespace %s exists and is not the demo's: remove or rename it first", namespace)
	}
	d.undo = append(d.undo, undo{
		title: "delete the example",
		kept: []string{
			fmt.Sprintf("The example, in namespace %s. Things to try:", namespace),
			"  " + shell(d.kubectl("get", "pods", "-o", "wide")),
			"  " + shell(d.plugin("spread", service)),
			"  " + shell(d.plugin("dns", "svc/square-service-headless")),
			"  " + shell(d.kubectl("scale", "deploy/square-app", "--replicas=5")) + "   # who calls the new pods?",
			"To remove it: " + shell(d.bed.Kubectl("delete", "namespace", namespace)),
		},
		do: func(ctx context.Context) error {
			_, err := d.stage.run(ctx, d.bed, d.bed.Kubectl("delete", "namespace", namespace, "--ignore-not-found", fmt.Sprintf("--wait=%t", !d.stopsCluster())))
			return err
		},
	})
	if _, err := d.stage.run(ctx, d.bed, d.bed.Kubectl("create", "namespace", namespace)); err != nil {
		return err
	}
	_, err = d.quiet(ctx, d.bed, d.bed.Kubectl("label", "namespace", namespace, owner))
	return err
}

// stopsCluster reports whether the clean-up ends the cluster anyway, so that
// nobody has to wait for one namespace of it.
func (d *demo) stopsCluster() bool {
	return slices.ContainsFunc(d.undo, func(u undo) bool { return u.title == "take the cluster down" })
}

// applyExample applies the manifests as they are, or with the image that was
// named instead.
func (d *demo) applyExample(ctx context.Context) error {
	if d.examples == "" {
		_, err := d.stage.run(ctx, d.bed, d.kubectl("apply", "-f", exampleDir))
		return err
	}
	files, err := filepath.Glob(filepath.Join(d.root, filepath.FromSlash(exampleDir), "*.yaml"))
	if err != nil {
		return err
	}
	var docs []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		docs = append(docs, strings.ReplaceAll(string(b), testbed.Examples.Name, d.examples))
	}
	argv := d.kubectl("apply", "-f", "-")
	d.say("(%s with %s as the image)", exampleDir, d.examples)
	d.typed(argv)
	return d.feed(ctx, d.bed, argv, strings.NewReader(strings.Join(docs, "\n---\n")))
}

// withPods shows the pods beside an error that they may explain.
func (d *demo) withPods(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	_, shown := d.stage.run(ctx, d.bed, d.kubectl("get", "pods", "-o", "wide"))
	_, told := d.stage.run(ctx, d.bed, d.kubectl("get", "events", "--sort-by=.lastTimestamp"))
	return errors.Join(err, shown, told)
}

func (d *demo) showPinned(ctx context.Context) error {
	t, err := d.answers(ctx, true)
	if err != nil {
		return err
	}
	d.show(t)
	if len(t.pods) != 1 {
		return fmt.Errorf("%d pods answered over one connection to a ClusterIP, want 1", len(t.pods))
	}
	d.say("one pod does all the work, two do nothing")
	return nil
}

// probing is how the demo diagnoses: with the agent, and the snapshot kept.
func (d *demo) probing(file string) []string {
	args := []string{"diagnose", service, "--probe", "--save", file}
	if d.agent != "" {
		args = append(args, "--image", d.agent)
	}
	return d.plugin(args...)
}

func (d *demo) diagnosePinned(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(d.root, "bin", "demo"), 0o755); err != nil {
		return err
	}
	if d.update {
		if err := d.awaitMetrics(ctx); err != nil {
			return err
		}
	}
	code, err := d.stage.run(ctx, d.bed, d.probing(pinnedFile), 1)
	if err != nil {
		return d.withPods(ctx, err)
	}
	r, err := d.judged(ctx, pinnedFile)
	if err != nil {
		return err
	}
	if code != 1 || r.Verdict.State != diagnose.VerdictPinned {
		return fmt.Errorf("the diagnosis is %q (%s) with exit code %d, want %q and 1", r.Verdict.State, r.Verdict.Headline, code, diagnose.VerdictPinned)
	}
	return nil
}

// replay reads the snapshot of the repository, and holds it against the one
// that was just taken.
func (d *demo) replay(ctx context.Context) error {
	if d.update {
		if err := d.writePinned(); err != nil {
			return err
		}
	}
	if _, err := d.stage.run(ctx, d.bed, []string{"kubectl", "grpclb", "diagnose", "--from", savedFile, "-o", "name"}, 1); err != nil {
		return err
	}
	if !d.bed.Lab() {
		return nil // another cluster has other nodes, zones and DNS pods to tell of
	}
	return d.comparePinned()
}

func (d *demo) fix(ctx context.Context) error {
	if err := d.pipe(ctx, d.bed, d.plugin("fix", service, "--strategy", "headless"), d.bed.Kubectl("apply", "-f", "-")); err != nil {
		return err
	}
	if _, err := d.stage.run(ctx, d.bed, d.kubectl("rollout", "status", "deploy/aggregator-app", rolloutTime)); err != nil {
		return d.withPods(ctx, err)
	}
	return nil
}

func (d *demo) showSpread(ctx context.Context) error {
	const wait = time.Minute // the new Service has to reach DNS, and the client all pods
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for first := true; ; first = false {
		t, err := d.answers(ctx, first)
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("three pods did not answer within %s", wait)
		}
		if err != nil {
			return err
		}
		if len(t.pods) == 3 {
			d.show(t)
			return nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return fmt.Errorf("only %d of three pods answered within %s", len(t.pods), wait)
		}
	}
}

func (d *demo) diagnoseFixed(ctx context.Context) error {
	code, err := d.stage.run(ctx, d.bed, d.probing(fixedFile), 1, 3)
	if err != nil {
		return d.withPods(ctx, err)
	}
	r, err := d.judged(ctx, fixedFile)
	if err != nil {
		return err
	}
	if code != 0 || r.Verdict.State != diagnose.VerdictOK || r.Spread.State != diagnose.SpreadEven {
		return fmt.Errorf("the diagnosis is %q (%s), traffic is %s, exit code %d: want %q, %s, 0",
			r.Verdict.State, r.Verdict.Headline, r.Spread.State, code, diagnose.VerdictOK, diagnose.SpreadEven)
	}
	return nil
}

// judged lets the plugin judge a snapshot that it saved, in a form that a
// program can read.
func (d *demo) judged(ctx context.Context, file string) (diagnose.ServiceReport, error) {
	out, err := d.quiet(ctx, d.bed, []string{"kubectl", "grpclb", "diagnose", "--from", file, "-o", "json"}, 1, 3)
	if err != nil {
		return diagnose.ServiceReport{}, err
	}
	var r diagnose.Report
	if err := json.Unmarshal(out, &r); err != nil {
		return diagnose.ServiceReport{}, fmt.Errorf("read the report of %s: %w", file, err)
	}
	if len(r.Services) != 1 {
		return diagnose.ServiceReport{}, fmt.Errorf("the report of %s is about %d services, want 1", file, len(r.Services))
	}
	return r.Services[0], nil
}

// awaitMetrics waits for the first CPU samples of the new pods, which a
// snapshot for the repository should have.
func (d *demo) awaitMetrics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		out, err := d.quiet(ctx, d.bed, d.kubectl("top", "pods", "--no-headers", "-l", "app=square-app"), 1)
		if err == nil && strings.Count(string(out), "\n") == 3 {
			return nil
		}
		if err := errors.Join(err, pause(ctx, time.Second)); err != nil {
			return fmt.Errorf("wait for the pods' CPU samples: %w", err)
		}
	}
}

// pause waits between two looks at something.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
