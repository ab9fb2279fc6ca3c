package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/bench/internal/child"
	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
)

// growth asks how a static diagnosis grows with the pods: it should not in requests, and little in time and memory.
func growth(ctx context.Context, b *bench, s *result.Section) error {
	s.Note("--depth static over TLS and HTTP/2 on loopback; the server runs on the same cores.")
	var asked []calls
	for _, pods := range []int{3, 300, 1000} {
		got, err := b.onFake(ctx, pods)
		if err != nil {
			return err
		}
		var limit time.Duration
		var memory int64
		if pods == 1000 {
			limit, memory = endpointsTarget, memoryTarget
		} else {
			asked = append(asked, got.calls...)
		}
		what := fmt.Sprintf("%d pods", pods)
		s.Add(got.rows(what, limit)...)
		s.Add(result.Bytes(what+", peak memory", got.rss, memory))
	}
	s.Add(constant("requests, 3 and 300 pods", asked))
	return nil
}

// constant makes a row that is met when every run asked the same of the API server.
func constant(what string, asked []calls) result.Row {
	slices.SortFunc(asked, func(a, b calls) int { return a.lists + a.gets - b.lists - b.gets })
	row := result.Row{What: what, Target: "the same", Value: "none seen"}
	if len(asked) == 0 {
		return row
	}
	least, most := asked[0], asked[len(asked)-1]
	row.Value, row.Spread = least.requests(), fmt.Sprintf("n=%d", len(asked))
	row.Met = least.lists == most.lists && least.gets == most.gets && least.writes == most.writes
	if !row.Met {
		row.Value += " to " + most.requests()
	}
	return row
}

func (b *bench) onFake(ctx context.Context, pods int) (samples, error) {
	var got samples
	err := withTB(func(t testing.TB) error {
		srv := kubetest.NewTLSServer(t, fakeCluster(pods)...)
		config := filepath.Join(b.dir, fmt.Sprintf("fake-%d.kubeconfig", pods))
		cfg := srv.Config()
		if err := writeKubeconfig(config, cfg.Host, cfg.CAData); err != nil {
			return err
		}
		argv := []string{b.plugin, "diagnose", "svc/square-service", "-n", "bench", "--depth", "static", "-v=1"}
		plan := child.Plan{Runs: max(b.runs, 20), Warm: 2, Commands: []child.Command{{Argv: argv, OK: judged}}}
		all, err := b.measure(ctx, plan, []string{"KUBECONFIG=" + config})
		if err == nil {
			got = all[0]
		}
		return err
	})
	return got, err
}

// judged are the exit codes of a diagnosis that saw all it asked for: nothing found, findings.
var judged = []int{0, 1}

// fakeCluster is the square example with as many server pods, on two nodes, in slices of 100 endpoints as the controller makes them.
func fakeCluster(pods int) []apiruntime.Object {
	server := kubetest.Deployment("bench", "square-app").Replicas(int32(pods))
	service := kubetest.Service("bench", "square-service").Port("grpc", 6565, intstr.FromInt32(6565)).Selects("app", "square-app")
	client := kubetest.Deployment("bench", "aggregator-app").Env("GRPC_CLIENT_SQUARE_ADDRESS", "static://square-service:6565")
	objs := []apiruntime.Object{server, service, client, kubetest.Node("n1"), kubetest.Node("n2").Zone("b")}
	i := 0
	for chunk := range slices.Chunk(server.Pods(), endpointsPerSlice) {
		s := service.Slice(chunk...)
		s.Name = fmt.Sprintf("square-service-%d", i)
		s.Labels[discoveryv1.LabelServiceName] = "square-service"
		objs = append(objs, s)
		i++
	}
	return objs
}

// writeKubeconfig writes it in JSON, which is YAML.
func writeKubeconfig(path, server string, ca []byte) error {
	type named map[string]any
	b, err := json.Marshal(named{
		"apiVersion": "v1", "kind": "Config", "current-context": "fake",
		"clusters": []named{{"name": "fake", "cluster": named{"server": server, "certificate-authority-data": ca}}},
		"contexts": []named{{"name": "fake", "context": named{"cluster": "fake", "user": "fake", "namespace": "bench"}}},
		"users":    []named{{"name": "fake", "user": named{}}},
	})
	if err != nil {
		return fmt.Errorf("write a kubeconfig: %w", err)
	}
	return os.WriteFile(path, b, 0o600)
}

// tb lets a fake that is made for tests run outside of one: it keeps what the fake complains of and what it wants cleaned up.
type tb struct {
	testing.TB // never set: a method that is missing below is a bug and ends the program
	cleanups   []func()
	errs       []error
}

func (t *tb) Helper()                   {}
func (t *tb) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *tb) Errorf(f string, a ...any) { t.errs = append(t.errs, fmt.Errorf(f, a...)) }
func (t *tb) Fatalf(f string, a ...any) { t.Errorf(f, a...); runtime.Goexit() }

// withTB runs do as a test runs: Fatalf ends it, and clean-ups come last, in reverse.
func withTB(do func(testing.TB) error) error {
	t := &tb{}
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- do(t)
	}()
	err := <-done // nil when Fatalf has ended it, which errs tells
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
	return errors.Join(append(t.errs, err)...)
}
