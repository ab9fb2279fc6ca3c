package sidecar

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// TestRandomLives: whatever pods, sources and connections do, every call has one
// end, and all accounts are even afterwards.
func TestRandomLives(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, []int{1, 2, 3}, func(o *Options) {
				o.Policy = config.Default([]string{config.PeakEWMA, config.RoundRobin, config.LeastRequest}[seed%3])
				o.Policy.ConnectionsPerEndpoint = 1 + int(seed%2)
				o.Limits.DrainTimeout = 20 * time.Second
			}, func(w *world) { live(w, rand.New(rand.NewPCG(seed, 1))) }, func(w *world) {
				for i := 1; i <= 5; i++ {
					w.pod(i).streams = uint32(seed % 4) // 0: as many as one likes
				}
			})
		})
	}
}

// live plays a life.
func live(w *world, r *rand.Rand) {
	clients := []*fakeClient{w.client(), w.client()}
	calls := map[*fakeClient][]uint32{}
	for range 300 {
		switch r.IntN(12) {
		case 0:
			w.source.Set(some(r)...)
		case 1:
			w.source.Tell(endpoint.Set{Endpoints: some(r), Reason: "NXDOMAIN"})
		case 2:
			w.source.Fail(errTest)
		case 3, 4:
			w.meddle(1+r.IntN(5), r)
		case 5:
			if err := w.Configure(w.settings.Options); err != nil {
				w.t.Error(err)
			}
		case 6:
			pass(time.Duration(r.IntN(3000)) * time.Millisecond)
		case 7:
			w.answerAll(r.IntN(3) == 0)
		default:
			c := clients[r.IntN(len(clients))]
			calls[c] = append(calls[c], c.call())
		}
		w.check()
	}
	// Peace: every pod answers.
	for i := 1; i <= 5; i++ {
		pod := w.pod(i)
		w.mu.Lock()
		pod.refuse, pod.mute, pod.delay = false, false, 0
		w.mu.Unlock()
	}
	w.source.Set(endpoints(1, 2, 3, 4, 5)...)
	for range 200 {
		pass(time.Second)
		w.answerAll(false)
	}
	for c, ids := range calls {
		for _, id := range ids {
			if code, _ := c.ended(id); code == "" {
				w.t.Errorf("call %d has no end", id)
			}
		}
	}
	w.check()
	w.even()
}

func some(r *rand.Rand) []endpoint.Endpoint {
	var n []int
	for i := 1; i <= 5; i++ {
		if r.IntN(2) == 0 {
			n = append(n, i)
		}
	}
	return endpoints(n...)
}

// meddle does something to a pod.
func (w *world) meddle(i int, r *rand.Rand) {
	pod := w.pod(i)
	w.mu.Lock()
	var c *fakeConn
	if len(pod.conns) > 0 {
		c = pod.conns[r.IntN(len(pod.conns))]
	}
	switch r.IntN(5) {
	case 0:
		pod.refuse = !pod.refuse
	case 1:
		pod.mute = !pod.mute
	case 2:
		pod.delay = time.Duration(r.IntN(6000)) * time.Millisecond
	}
	w.mu.Unlock()
	if c == nil {
		return
	}
	switch r.IntN(3) {
	case 0:
		_ = c.nc.Close()
	case 1:
		c.sayGoAway()
	}
	synctest.Wait()
}

// answerAll ends what is open on all pods.
func (w *world) answerAll(badly bool) {
	var conns []*fakeConn
	w.mu.Lock()
	for _, pod := range w.pods {
		conns = append(conns, pod.conns...)
	}
	w.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		ids := c.calls
		c.calls = nil
		c.mu.Unlock()
		for _, id := range ids {
			code := "0"
			if badly {
				code = "14"
			}
			c.answer(id, code)
		}
	}
	synctest.Wait()
}

// check looks at what must be true at any time.
func (w *world) check() {
	w.t.Helper()
	synctest.Wait()
	p := w.Proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	dialling := 0
	for _, list := range [...][]*pod{p.pods, p.removed} {
		for _, pd := range list {
			if pd.dialling {
				dialling++
			}
			for _, c := range pd.usable {
				if c.closing || c.link.spare || c.rl.State() != relay.Ready {
					w.t.Errorf("%s: a connection that is %v is taken for usable", pd.addr, c.rl.State())
				}
			}
			if pd.extra.n < 0 || pd.extra.n > 0 && pd.extra.at == 0 || pd.active() > pd.p.settings.Limits.MaxConnectionsPerPod {
				w.t.Errorf("%s: %d connections, %+v", pd.addr, pd.active(), pd.extra)
			}
			for _, c := range pd.links {
				if c.rl.State() == relay.Closed {
					w.t.Errorf("%s: a closed connection is kept", pd.addr)
				}
			}
		}
	}
	if dialling > p.dialling {
		w.t.Errorf("%d attempts are counted, there are %d", p.dialling, dialling)
	}
	if len(p.changes)+len(p.growing)+len(p.dirty) > 0 {
		w.t.Error("something is left undone")
	}
	if p.alarmAt == 0 && (p.pollAt != 0 || p.evaluateAt != 0 || p.engine.NextTick() != 0) {
		w.t.Error("nothing wakes it up")
	}
}

// even looks at the accounts when nothing is open.
func (w *world) even() {
	w.t.Helper()
	s := w.Stats()
	if s.ClientStreams != 0 || s.Waiting != 0 {
		w.t.Errorf("%d calls are open, %d wait", s.ClientStreams, s.Waiting)
	}
	p := w.Proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialling != 0 {
		w.t.Errorf("%d attempts go on", p.dialling)
	}
	for _, pd := range p.pods {
		if n := pd.node.Stats(); n.InFlight != 0 {
			w.t.Errorf("%s: %d calls in flight", pd.addr, n.InFlight)
		}
		if len(pd.usable) != p.settings.Policy.ConnectionsPerEndpoint || len(pd.links) != len(pd.usable) {
			w.t.Errorf("%s: %d connections, %d of them usable", pd.addr, len(pd.links), len(pd.usable))
		}
		sum := uint64(0)
		for _, n := range pd.record.outcomes {
			sum += n
		}
		if sum != pd.record.calls || pd.record.outcomes[policy.Success] == 0 && pd.record.codes[0] != 0 {
			w.t.Errorf("%s: %d calls, %d outcomes", pd.addr, pd.record.calls, sum)
		}
	}
}
