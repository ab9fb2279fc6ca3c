package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// resolvedAgain is an age at which grpc-go's DNS resolver may look again.
const resolvedAgain = 30 * time.Second

// scenarios are all faults, in the order of the table.
func scenarios() []scenario {
	all := []scenario{
		{name: "scale", title: "scale 3 -> 6 -> 3", replicas: 3, fault: scaleOutAndIn, budgets: []budget{noneFailed, firstCall}},
		{name: "cached", title: "scale 3 -> 6, CoreDNS with cache 30", replicas: 3, dns: dnsCached, fault: scaleOutCached, budgets: []budget{noneFailed, firstCall}},
		{name: "restart", title: "rolling restart, preStop 8 s", replicas: 3, age: resolvedAgain, fault: rollingRestart, budgets: []budget{noneFailed}},
		{name: "dns-gone", title: "CoreDNS gone 30 s", replicas: 3, fault: noDNS, budgets: []budget{noneFailed}},
		{name: "nxdomain", title: "NXDOMAIN 20 s while a pod restarts", replicas: 3, age: resolvedAgain, fault: wrongDNS(dnsNXDOMAIN), budgets: []budget{noneFailed}},
		{name: "servfail", title: "SERVFAIL 20 s while a pod restarts", replicas: 3, age: resolvedAgain, fault: wrongDNS(dnsSERVFAIL), budgets: []budget{noneFailed}},
		{name: "api", title: "API server stopped 60 s during 3 -> 6", replicas: 3, fault: noAPI, budgets: []budget{noneFailed}},
		{name: "many", title: "100 -> 400 endpoints", before: manyBegin, fault: manyMore, after: manyEnd, budgets: []budget{noneFailed}},
		{name: "kill", title: "pod killed and deleted without grace", replicas: 3, fault: killOne, budgets: []budget{inFlight}},
		{name: "node", title: "node dead (link cut 55 s)", replicas: 4, fault: killNode, budgets: []budget{nodeShare}},
		{name: "slow", title: "one of 3 pods slower by 200 ms, 25 s", replicas: 3, fault: slowOne, budgets: []budget{noneFailed, nearBaseline}},
		{name: "pause", title: "pod stopped 5 s (SIGSTOP)", replicas: 3, fault: pauseOne, budgets: []budget{noStreamBroken}},
		{name: "cut", title: "link of a node cut 3 s", replicas: 3, fault: cutLink, budgets: []budget{noStreamBroken}},
	}
	all = append(all, scenario{
		name: "sidecar", title: "the sidecar itself killed (SIGKILL)", replicas: 3, sidecar: true, fault: killProxy, budgets: []budget{backSoon},
	})
	for _, code := range []codes.Code{codes.Unavailable, codes.ResourceExhausted} {
		name, word := "unavailable", "UNAVAILABLE"
		if code == codes.ResourceExhausted {
			name, word = "exhausted", "RESOURCE_EXHAUSTED"
		}
		title := "one of 3 pods fails fast with " + word + ", 20 s"
		all = append(all,
			scenario{name: name, title: title, replicas: 3, fault: failOne(code), budgets: []budget{threshold}},
			scenario{name: name + "-retry", title: title + ", with a retryPolicy", replicas: 3, retry: true, fault: failOne(code), budgets: []budget{noneFailed}})
	}
	return all
}

// ready waits until so many backends are ready.
func (st *stage) ready(ctx context.Context, pods int) error {
	return st.until(ctx, undoTime, fmt.Sprintf("%d pods to be ready", pods), func(context.Context) (bool, error) {
		n := len(st.pods.ready(backendName))
		return n == pods, fmt.Errorf("there are %d", n)
	})
}

// grow scales to 6 and waits for the pods to be ready.
func (st *stage) grow(ctx context.Context) error {
	if err := st.scale(ctx, backendName, 6); err != nil {
		return err
	}
	return st.ready(ctx, 6)
}

func scaleOutAndIn(ctx context.Context, st *stage) error {
	if err := st.grow(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, 2*lookOnceMore); err != nil {
		return err
	}
	st.shrunk = time.Now()
	if err := st.scale(ctx, backendName, 3); err != nil {
		return err
	}
	if err := st.ready(ctx, 3); err != nil {
		return err
	}
	return sleep(ctx, preStop*time.Second+lookOnceMore)
}

func scaleOutCached(ctx context.Context, st *stage) error {
	if err := st.grow(ctx); err != nil {
		return err
	}
	return sleep(ctx, 40*time.Second)
}

func rollingRestart(ctx context.Context, st *stage) error {
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"bench.grpclb.dev/restarted":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	if _, err := st.api.AppsV1().Deployments(st.ns).Patch(ctx, backendName, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		return err
	}
	if err := st.rollout(ctx, backendName, undoTime); err != nil {
		return err
	}
	return sleep(ctx, preStop*time.Second+lookOnceMore)
}

func noDNS(ctx context.Context, st *stage) error {
	if err := st.dnsGone(ctx, func() error { return sleep(ctx, 30*time.Second) }); err != nil {
		return err
	}
	return sleep(ctx, lookOnceMore)
}

// wrongDNS has one pod deleted, as politely as any, while every answer is wrong.
func wrongDNS(version string) func(context.Context, *stage) error {
	return func(ctx context.Context, st *stage) error {
		err := st.withDNS(ctx, version, func() error {
			if err := st.api.CoreV1().Pods(st.ns).Delete(ctx, st.victim().name, metav1.DeleteOptions{}); err != nil {
				return err
			}
			return sleep(ctx, 20*time.Second)
		})
		if err != nil {
			return err
		}
		return sleep(ctx, lookOnceMore)
	}
}

// noAPI stops the control plane when the new pods have their nodes: they start, become ready, and nobody learns it for a minute.
func noAPI(ctx context.Context, st *stage) error {
	if err := st.scale(ctx, backendName, 6); err != nil {
		return err
	}
	err := st.until(ctx, settleTime, "the new pods to have nodes", func(context.Context) (bool, error) {
		placed := 0
		for _, p := range st.pods.there(backendName) {
			if p.node != "" {
				placed++
			}
		}
		return placed == 6, nil
	})
	if err != nil {
		return err
	}
	if err := st.freeze(ctx, time.Minute); err != nil {
		return err
	}
	if err := st.ready(ctx, 6); err != nil {
		return err
	}
	return sleep(ctx, 2*lookOnceMore)
}

// freeze stops the control plane. The lab's command lasts as long as the pipe to it, so that nothing stays frozen, however this ends.
func (c *cluster) freeze(ctx context.Context, long time.Duration) error {
	cmd := exec.Command(c.lab, "freeze", "controlplane")
	cmd.Dir = c.root + "/test/lab"
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && line != "frozen\n" {
		err = fmt.Errorf("lab freeze says %q", line)
	}
	if err == nil {
		err = sleep(ctx, long)
	}
	_ = in.Close() // which thaws
	_, _ = io.Copy(io.Discard, out)
	return errors.Join(err, cmd.Wait())
}

// manyBegin starts the pod that answers at many addresses, and leads them to it. It runs with its own CPU share like any pod; what 400
// connections cost a client is the same as with 400 pods.
func manyBegin(ctx context.Context, st *stage) error {
	if _, err := st.api.AppsV1().Deployments(st.ns).Create(ctx, manyBackend(), metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := st.rollout(ctx, manyName, time.Minute); err != nil {
		return err
	}
	nodes, err := st.api.CoreV1().Nodes().Get(ctx, faultyNode, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, a := range nodes.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if err := route(clientNode, manyRange, a.Address); err != nil {
			return err
		}
	}
	if err := route(faultyNode, manyRange, st.pods.ready(manyName)[0].ip); err != nil {
		return err
	}
	return st.addSlice(ctx, 0)
}

func manyEnd(ctx context.Context, st *stage) error {
	return errors.Join(unroute(clientNode, manyRange), unroute(faultyNode, manyRange),
		st.api.DiscoveryV1().EndpointSlices(st.ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + manyName}),
		st.api.AppsV1().Deployments(st.ns).Delete(ctx, manyName, metav1.DeleteOptions{}))
}

// manyMore writes 300 addresses more into EndpointSlices, which all lead to one pod.
func manyMore(ctx context.Context, st *stage) error {
	for i := 1; i < 4; i++ {
		if err := st.addSlice(ctx, i); err != nil {
			return err
		}
	}
	return sleep(ctx, 30*time.Second)
}

func (st *stage) addSlice(ctx context.Context, i int) error {
	if _, err := st.api.DiscoveryV1().EndpointSlices(st.ns).Create(ctx, manySlice(i), metav1.CreateOptions{}); err != nil {
		return err
	}
	if i > 0 {
		for _, a := range manyAddresses(i) {
			st.fresh[a] = time.Now()
		}
	}
	return nil
}

func killOne(ctx context.Context, st *stage) error {
	p := st.victim()
	if err := killPod(p.uid); err != nil {
		return err
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	if err := st.api.CoreV1().Pods(st.ns).Delete(ctx, p.name, now); err != nil {
		return err
	}
	return sleep(ctx, 2*lookOnceMore)
}

// killProxy kills the daemon beside the client, which kubelet starts again.
func killProxy(ctx context.Context, st *stage) error {
	for _, v := range st.variants() {
		if !v.Sidecar {
			continue
		}
		pods := st.pods.where(func(p pod) bool { return p.name == slug(v) })
		if len(pods) != 1 {
			return fmt.Errorf("%d pods are called %s", len(pods), slug(v))
		}
		st.hit = time.Now()
		if err := killSidecar(pods[0].uid); err != nil {
			return err
		}
	}
	return sleep(ctx, 2*lookOnceMore)
}

// cutFor cuts the other node's link, at the far side, as a broken switch does.
func (st *stage) cutFor(ctx context.Context, long time.Duration) error {
	st.victimsOn(faultyNode)
	st.hit = time.Now()
	err := st.labRun(ctx, "fault", "cut", faultyNode)
	if err == nil {
		err = sleep(ctx, long)
	}
	return errors.Join(err, st.undo(ctx, func(ctx context.Context) error { return st.labRun(ctx, "fault", "mend", faultyNode) }))
}

func killNode(ctx context.Context, st *stage) error {
	return st.cutFor(ctx, 55*time.Second)
}

func cutLink(ctx context.Context, st *stage) error {
	if err := st.cutFor(ctx, 3*time.Second); err != nil {
		return err
	}
	return sleep(ctx, 2*lookOnceMore)
}

func pauseOne(ctx context.Context, st *stage) error {
	p := st.victim()
	if err := stopPod(p.uid); err != nil {
		return err
	}
	err := sleep(ctx, 5*time.Second)
	if err := errors.Join(err, contPod(p.uid)); err != nil {
		return err
	}
	return sleep(ctx, 2*lookOnceMore)
}

func slowOne(ctx context.Context, st *stage) error {
	return st.misbehave(ctx, url.Values{"delay": {"200ms"}}, 25*time.Second)
}

func failOne(code codes.Code) func(context.Context, *stage) error {
	return func(ctx context.Context, st *stage) error {
		return st.misbehave(ctx, url.Values{"code": {strconv.Itoa(int(code))}}, 20*time.Second)
	}
}
