package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/internal/child"
	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
)

const (
	endpointsPerSlice = 100 // what the EndpointSlice controller fills unless told otherwise
	maxPods           = 20  // the plugin's default for --max-pods
)

// diagnoseCommand is the plugin at a depth, in the cluster's namespace.
func (b *bench) diagnoseCommand(service, depth string) child.Command {
	argv := append([]string{b.plugin, "diagnose", "svc/" + service, "--depth", depth, "-v=1"}, b.cluster.flags()...)
	return child.Command{Argv: argv, OK: judged}
}

func (b *bench) kubectlGet() child.Command {
	argv := append([]string{b.kubectl, "get", "services,endpointslices,pods", "-o", "json"}, b.cluster.flags()...)
	return child.Command{Argv: argv}
}

// onCluster measures commands there.
func (b *bench) onCluster(ctx context.Context, runs int, commands ...child.Command) ([]samples, error) {
	return b.measure(ctx, child.Plan{Runs: runs, Warm: 2, Commands: commands}, b.cluster.env)
}

const kubectlGetName = "kubectl get services,endpointslices,pods -o json"

// diagnoseSquare is the main job: three plaintext pods and the client that pins one of them.
func diagnoseSquare(ctx context.Context, b *bench, s *result.Section) error {
	if err := b.deploySquare(ctx); err != nil {
		return err
	}
	b.say("static depth, and kubectl beside it")
	static, err := b.onCluster(ctx, max(b.runs, 20), b.diagnoseCommand("square-service", "static"), b.kubectlGet())
	if err != nil {
		return err
	}
	s.Add(static[0].rows("--depth static", staticTarget)...)
	s.Add(peers(static[1].rows(kubectlGetName, 0))...)
	b.say("default depth")
	observe, err := b.onCluster(ctx, max(b.runs/3, 10), b.diagnoseCommand("square-service", "observe"))
	if err != nil {
		return err
	}
	s.Add(observe[0].rows("--depth observe (default)", observeTarget)...)
	s.Add(result.Bytes("--depth observe, peak memory", observe[0].rss, 0))
	return nil
}

func (b *bench) deploySquare(ctx context.Context) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	c := b.cluster
	for _, name := range []string{"square-app.yaml", "aggregator-app.yaml"} {
		manifest, err := os.ReadFile(b.path("examples", "square", "plaintext", name))
		if err != nil {
			return err
		}
		if err := c.apply(ctx, bytes.ReplaceAll(manifest, []byte("grpclb.dev/examples:dev"), []byte(c.image))); err != nil {
			return err
		}
	}
	if err := c.ready(ctx, "aggregator-app", "aggregator-service", 1, 2*time.Minute); err != nil {
		return err
	}
	return c.ready(ctx, "square-app", "square-service", 3, 2*time.Minute)
}

// thousandEndpoints makes slices by hand: endpoints without pods cost a cluster nothing.
func thousandEndpoints(ctx context.Context, b *bench, s *result.Section) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	manifest, err := json.Marshal(wideService("wide-service", 1000))
	if err != nil {
		return err
	}
	if _, err := b.cluster.run(ctx, manifest, "create", "-f", "-"); err != nil {
		return err
	}
	s.Note("10 EndpointSlices of 100 endpoints, written by hand, without pods behind them.")
	got, err := b.onCluster(ctx, max(b.runs, 20), b.diagnoseCommand("wide-service", "static"), b.kubectlGet())
	if err != nil {
		return err
	}
	s.Add(got[0].rows("--depth static", endpointsTarget)...)
	s.Add(result.Bytes("--depth static, peak memory", got[0].rss, memoryTarget))
	s.Add(peers(append(got[1].rows(kubectlGetName, 0), result.Bytes(kubectlGetName+", peak memory", got[1].rss, 0)))...)
	return nil
}

// manyPods scales a Deployment from 3 pods and compares what is asked of the API server.
func manyPods(ctx context.Context, b *bench, s *result.Section) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	c := b.cluster
	manifest, err := json.Marshal(manyService("many-service", "many-app", c.image))
	if err != nil {
		return err
	}
	if err := c.apply(ctx, manifest); err != nil {
		return err
	}
	// Removing hundreds of pods takes the nodes a while: it begins here, not with the namespace.
	defer func() {
		if !b.keep {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			_, _ = c.run(ctx, nil, "delete", "deploy/many-app", "--wait=false") // the namespace takes it along in any case
		}
	}()
	s.Note("square-server pods without a readiness probe behind a port named grpc; requests as -v=1 counts them.")
	var static, observe []calls
	for _, pods := range []int{3, b.pods} {
		got, err := b.withPods(ctx, pods)
		if err != nil {
			return err
		}
		static, observe = append(static, got[0].calls...), append(observe, got[1].calls...)
		what := fmt.Sprintf("%d pods, ", pods)
		s.Add(got[0].rows(what+"--depth static", 0)...)
		s.Add(got[1].rows(what+"--depth observe", 0)...)
		s.Add(result.Bytes(what+"--depth observe, peak memory", got[1].rss, 0))
		s.Add(peers(got[2].rows(what+kubectlGetName, 0))...)
	}
	s.Note("When it was done: %s.", busy())
	s.Add(constant(fmt.Sprintf("requests at --depth static, 3 and %d pods", b.pods), static))
	s.Add(constant(fmt.Sprintf("requests at --depth observe, 3 and %d pods", b.pods), observe), streams(observe))
	return nil
}

// withPods scales the Deployment of manyPods, waits, and measures both depths and kubectl.
func (b *bench) withPods(ctx context.Context, pods int) ([]samples, error) {
	b.say("scaling to %d pods", pods)
	before := time.Now()
	if _, err := b.cluster.run(ctx, nil, "scale", "deploy/many-app", fmt.Sprintf("--replicas=%d", pods)); err != nil {
		return nil, err
	}
	if err := b.cluster.ready(ctx, "many-app", "many-service", pods, 15*time.Minute); err != nil {
		return nil, err
	}
	b.say("%d pods ready after %s", pods, time.Since(before).Round(time.Second))
	return b.onCluster(ctx, 10, b.diagnoseCommand("many-service", "static"), b.diagnoseCommand("many-service", "observe"), b.kubectlGet())
}

// streams is the largest number of streams that a run opened.
func streams(asked []calls) result.Row {
	most := 0
	for _, c := range asked {
		most = max(most, c.streams)
	}
	return result.Row{
		What: "streams at --depth observe", Value: fmt.Sprint(most), Spread: fmt.Sprintf("largest of n=%d", len(asked)),
		Target: fmt.Sprintf("<= %d (--max-pods)", maxPods), Met: most > 0 && most <= maxPods,
	}
}
