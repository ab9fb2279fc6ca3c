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

// diagnoseSquare is the main job: three plaintext pods and the client that pins one of them.
func diagnoseSquare(ctx context.Context, b *bench) ([]result.Row, []string, error) {
	if err := b.enter(ctx); err != nil {
		return nil, nil, err
	}
	c := b.cluster
	for _, name := range []string{"square-app.yaml", "aggregator-app.yaml"} {
		manifest, err := os.ReadFile(b.path("examples", "square", "plaintext", name))
		if err != nil {
			return nil, nil, err
		}
		if err := c.apply(ctx, bytes.ReplaceAll(manifest, []byte("grpclb.dev/examples:dev"), []byte(c.image))); err != nil {
			return nil, nil, err
		}
	}
	if err := c.ready(ctx, "square-app", "square-service", 3, 2*time.Minute); err != nil {
		return nil, nil, err
	}
	if _, err := c.run(ctx, nil, "rollout", "status", "deploy/aggregator-app", "--timeout", "2m"); err != nil {
		return nil, nil, err
	}
	b.say("static depth, and kubectl beside it")
	static, err := b.onCluster(ctx, max(b.runs, 20), b.diagnoseCommand("square-service", "static"), b.kubectlGet())
	if err != nil {
		return nil, nil, err
	}
	b.say("default depth")
	observe, err := b.onCluster(ctx, max(b.runs/3, 10), b.diagnoseCommand("square-service", "observe"))
	if err != nil {
		return nil, nil, err
	}
	rows := static[0].rows("--depth static", staticTarget)
	rows = append(rows, observe[0].rows("--depth observe (default)", observeTarget)...)
	rows = append(rows, result.Bytes("--depth observe, peak memory", observe[0].rss, 0))
	rows = append(rows, peers(static[1].rows("kubectl get services,endpointslices,pods -o json", 0))...)
	return rows, nil, nil
}

// thousandEndpoints makes slices by hand: endpoints without pods cost a cluster nothing.
func thousandEndpoints(ctx context.Context, b *bench) ([]result.Row, []string, error) {
	if err := b.enter(ctx); err != nil {
		return nil, nil, err
	}
	manifest, err := json.Marshal(wideService("wide-service", 1000))
	if err != nil {
		return nil, nil, err
	}
	if _, err := b.cluster.run(ctx, manifest, "create", "-f", "-"); err != nil {
		return nil, nil, err
	}
	got, err := b.onCluster(ctx, max(b.runs, 20), b.diagnoseCommand("wide-service", "static"), b.kubectlGet())
	if err != nil {
		return nil, nil, err
	}
	rows := got[0].rows("--depth static", endpointsTarget)
	rows = append(rows, result.Bytes("--depth static, peak memory", got[0].rss, memoryTarget))
	const peer = "kubectl get services,endpointslices,pods -o json"
	rows = append(rows, peers(append(got[1].rows(peer, 0), result.Bytes(peer+", peak memory", got[1].rss, 0)))...)
	return rows, []string{"10 EndpointSlices of 100 endpoints, written by hand, without pods behind them."}, nil
}

// manyPods scales a Deployment from 3 pods and compares what is asked of the API server.
func manyPods(ctx context.Context, b *bench) (rows []result.Row, notes []string, err error) {
	if err := b.enter(ctx); err != nil {
		return nil, nil, err
	}
	c := b.cluster
	manifest, err := json.Marshal(manyService("many-service", "many-app", c.image))
	if err != nil {
		return nil, nil, err
	}
	if err := c.apply(ctx, manifest); err != nil {
		return nil, nil, err
	}
	// Removing hundreds of pods takes the nodes a while: it begins here, not with the namespace.
	defer func() {
		if !b.keep {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			_, _ = c.run(ctx, nil, "delete", "deploy/many-app", "--wait=false") // the namespace takes it along in any case
		}
	}()
	var static, observe []calls
	for _, pods := range []int{3, b.pods} {
		b.say("scaling to %d pods", pods)
		before := time.Now()
		if _, err := c.run(ctx, nil, "scale", "deploy/many-app", fmt.Sprintf("--replicas=%d", pods)); err != nil {
			return rows, notes, err
		}
		if err := c.ready(ctx, "many-app", "many-service", pods, 15*time.Minute); err != nil {
			return rows, notes, err
		}
		b.say("%d pods ready after %s", pods, time.Since(before).Round(time.Second))
		got, err := b.onCluster(ctx, 10, b.diagnoseCommand("many-service", "static"), b.diagnoseCommand("many-service", "observe"), b.kubectlGet())
		if err != nil {
			return rows, notes, err
		}
		static, observe = append(static, got[0].calls...), append(observe, got[1].calls...)
		what := fmt.Sprintf("%d pods, ", pods)
		rows = append(rows, got[0].rows(what+"--depth static", 0)...)
		rows = append(rows, got[1].rows(what+"--depth observe", 0)...)
		rows = append(rows, result.Bytes(what+"--depth observe, peak memory", got[1].rss, 0))
		rows = append(rows, peers(got[2].rows(what+"kubectl get services,endpointslices,pods -o json", 0))...)
	}
	rows = append(rows, constant(fmt.Sprintf("requests at --depth static, 3 and %d pods", b.pods), static))
	rows = append(rows, constant(fmt.Sprintf("requests at --depth observe, 3 and %d pods", b.pods), observe), streams(observe))
	notes = append(notes, "square-server pods without a readiness probe behind a port named grpc; requests as -v=1 counts them.")
	return rows, notes, nil
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
