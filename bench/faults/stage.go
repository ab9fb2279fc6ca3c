package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/load"
	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/report"
)

// scenario is one fault.
type scenario struct {
	name, title string
	// replicas are the pods at the beginning; 0 stands for the one pod at many addresses.
	replicas int
	// dns is the version of CoreDNS that answers from the start, dnsNormal when empty.
	dns   string
	retry bool
	// sidecar is for faults that only it can have.
	sidecar bool
	// age is how old the channels are at least before the fault: the DNS resolver of grpc-go looks again when a connection ends, but not
	// within 30 s of its last look, and most channels are older than that.
	age time.Duration
	// before and after are around the load; nil for nothing.
	before, after func(context.Context, *stage) error
	// fault breaks something, mends it, and waits for what comes of it.
	fault func(context.Context, *stage) error
	// budgets are what is promised for ours.
	budgets []budget
}

// stage is a scenario as it is played.
type stage struct {
	*cluster
	scenario scenario
	// from is when everything was settled, hit when the fault came, to the end.
	from, hit, to time.Time
	// victims are the pods that it hits, by IP address.
	victims []string
	// pinned are the pods of clients that stay on one, by IP address.
	pinned []string
	// fresh is when the endpoints that came after the fault were ready, by IP address.
	fresh map[string]time.Time
	// shrunk is when the scenario began to take endpoints away again, which tells clients more than they had asked; zero when it does not.
	shrunk  time.Time
	reports map[string]report.Report
}

const (
	deadline   = time.Second
	baseline   = 4 * time.Second // of healthy calls before the fault
	settleTime = 30 * time.Second
	// namesTime is how long CoreDNS may take to hear of the last pod: a client that asks once, and before that, never calls it.
	namesTime    = 2 * time.Second
	lookOnceMore = 10 * time.Second // how long calls go on after a fault is over
)

func (o options) variants() []load.Variant {
	if o.sidecar {
		return load.SidecarVariants()
	}
	return load.Variants()
}

// variants leaves out who cannot take part: addresses in slices written by hand have no Service with a ClusterIP.
func (st *stage) variants() []load.Variant {
	all := st.options.variants()
	if st.scenario.replicas > 0 {
		return all
	}
	return slices.DeleteFunc(all, func(v load.Variant) bool { return v.Pinned })
}

// play sets up, calls, breaks and collects.
func (c *cluster) play(ctx context.Context, s scenario) (st *stage, err error) {
	st = &stage{cluster: c, scenario: s, reports: map[string]report.Report{}, fresh: map[string]time.Time{}}
	if s.after != nil {
		defer func() {
			err = errors.Join(err, c.undo(ctx, func(ctx context.Context) error { return s.after(ctx, st) }))
		}()
	}
	if err := st.setUp(ctx); err != nil {
		return st, fmt.Errorf("set up: %w", err)
	}
	if err := st.startClients(ctx); err != nil {
		return st, errors.Join(err, st.stopClients(ctx))
	}
	st.from = time.Now()
	if err = sleep(ctx, baseline); err == nil {
		st.hit = time.Now()
		err = s.fault(ctx, st)
	}
	st.to = time.Now()
	err = errors.Join(err, st.stopClients(ctx))
	if s.replicas > 0 {
		for _, p := range c.pods.since(backendName, st.hit) {
			st.fresh[p.ip] = p.readyAt
		}
	}
	if c.raw != "" {
		err = errors.Join(err, st.keepRaw())
	}
	return st, err
}

// setUp brings the pods to where the scenario begins.
func (st *stage) setUp(ctx context.Context) error {
	if err := st.answerBy(ctx, dnsOf(st.scenario)); err != nil {
		return err
	}
	if st.scenario.before != nil {
		return st.scenario.before(ctx, st)
	}
	if err := st.scale(ctx, backendName, st.scenario.replicas); err != nil {
		return err
	}
	if err := st.rollout(ctx, backendName, undoTime); err != nil {
		return err
	}
	err := st.until(ctx, undoTime, "the pods of the last scenario to end", func(ctx context.Context) (bool, error) {
		l, err := st.api.CoreV1().Pods(st.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=" + backendName})
		return err == nil && len(l.Items) == st.scenario.replicas && len(st.pods.ready(backendName)) == st.scenario.replicas, err
	})
	if err != nil {
		return err
	}
	return sleep(ctx, namesTime)
}

func dnsOf(s scenario) string {
	if s.dns == "" {
		return dnsNormal
	}
	return s.dns
}

// serving lists the addresses that clients should call before the fault.
func (st *stage) serving() []string {
	if st.scenario.replicas == 0 {
		return manyAddresses(0)
	}
	var out []string
	for _, p := range st.pods.ready(backendName) {
		out = append(out, p.ip)
	}
	return out
}

// startClients begins the load and waits until each client calls every pod and has a stream on each; of many, a stream on one.
func (st *stage) startClients(ctx context.Context) error {
	service, streams := backendName, st.scenario.replicas
	if st.scenario.replicas == 0 {
		service, streams = manyName, 1
	}
	o := load.Options{Service: service, Namespace: st.ns, Rate: st.rate, Deadline: deadline, Retry: st.scenario.retry}
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	for _, v := range st.variants() {
		if _, err := st.order(ctx, slug(v), "start", nil, body); err != nil {
			return err
		}
	}
	if err := sleep(ctx, st.scenario.age-baseline); err != nil {
		return err
	}
	for _, v := range st.variants() {
		var s load.State
		err := st.until(ctx, settleTime, v.Name+" to call every pod", func(ctx context.Context) (bool, error) {
			out, err := st.order(ctx, slug(v), "state", nil, nil)
			if err != nil {
				return false, err
			}
			s = load.State{}
			if err := json.Unmarshal(out, &s); err != nil {
				return false, err
			}
			want := st.serving()
			missing := slices.ContainsFunc(want, func(ip string) bool { return s.OnPeer[ip] == 0 })
			if v.Pinned {
				missing = len(s.OnPeer) == 0
				st.pinned = slices.Collect(maps.Keys(s.OnPeer))
			}
			return !missing && len(want) > 0, fmt.Errorf("it has called %v, want %v", slices.Sorted(maps.Keys(s.OnPeer)), want)
		})
		if err != nil {
			return err
		}
		open := streams
		if v.Pinned {
			open = 1
		}
		if _, err := st.order(ctx, slug(v), "streams", url.Values{"servers": {fmt.Sprint(open)}}, nil); err != nil {
			return fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	return nil
}

// stopClients collects the reports.
func (st *stage) stopClients(ctx context.Context) error {
	var errs []error
	for _, v := range st.variants() {
		err := st.undo(ctx, func(ctx context.Context) error {
			out, err := st.order(ctx, slug(v), "stop", nil, nil)
			if err != nil {
				return err
			}
			var r report.Report
			if err := json.Unmarshal(out, &r); err != nil {
				return err
			}
			st.reports[v.Name] = r
			return nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("report of %s: %w", v.Name, err))
		}
	}
	return errors.Join(errs...)
}

// order sends an order to a pod's control port, through the API server.
func (c *cluster) order(ctx context.Context, pod, what string, params url.Values, body []byte) ([]byte, error) {
	r := c.api.CoreV1().RESTClient().Post().Namespace(c.ns).Resource("pods").Name(fmt.Sprintf("%s:%d", pod, controlPort)).
		SubResource("proxy").Suffix(what).Body(body)
	for name, values := range params {
		for _, value := range values {
			r = r.Param(name, value)
		}
	}
	out, err := r.DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", pod, what, err, strings.TrimSpace(string(out)))
	}
	return out, nil
}

// misbehave makes one pod's calls fail or slow for a while.
func (st *stage) misbehave(ctx context.Context, how url.Values, long time.Duration) error {
	victim := st.victim()
	if _, err := st.order(ctx, victim.name, "set", how, nil); err != nil {
		return err
	}
	err := sleep(ctx, long)
	return errors.Join(err, st.undo(ctx, func(ctx context.Context) error {
		_, err := st.order(ctx, victim.name, "set", nil, nil)
		return err
	}))
}

// victim takes a pod that all clients call: the one that a client is pinned to, if there is such a client.
func (st *stage) victim() pod {
	p := st.anyVictim()
	st.victims = []string{p.ip}
	st.hit = time.Now()
	return p
}

func (st *stage) anyVictim() pod {
	ready := st.pods.ready(backendName)
	for _, p := range ready {
		if slices.Contains(st.pinned, p.ip) {
			return p
		}
	}
	return ready[0]
}

// victimsOn takes all pods of a node.
func (st *stage) victimsOn(node string) {
	for _, p := range st.pods.ready(backendName) {
		if p.node == node {
			st.victims = append(st.victims, p.ip)
		}
	}
}

func (st *stage) keepRaw() error {
	for name, r := range st.reports {
		b, err := json.Marshal(struct {
			From, Hit, To time.Time
			Victims       []string
			Fresh         map[string]time.Time
			Report        report.Report
		}{st.from, st.hit, st.to, st.victims, st.fresh, r})
		if err != nil {
			return err
		}
		file := st.scenario.name + "-" + strings.ReplaceAll(name, " ", "-") + ".json"
		if err := os.WriteFile(filepath.Join(st.raw, file), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits, and ends early with the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
