package policy

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A sim is a client, a policy and some pods on a virtual clock: calls arrive at
// random, wait in their pod's queue for a worker, and are served. Everything
// random comes from one seed, so that a run is the same every time.
type sim struct {
	rnd     *rand.Rand
	draws   func() uint64 // for the policy's draws; nil is rnd
	now     Nanos
	end     Nanos
	policy  Policy
	pods    []*simPod
	picker  Picker
	picked  []*simPod // the picker's candidates
	events  simEvents
	rate    float64       // calls per second
	timeout time.Duration // of a call; 0 is none
	retire  bool          // an Ejector is at work
	ejector *Ejector
	result  simResult
}

// simPod is a server.
type simPod struct {
	node    *Node
	weight  float64
	since   Nanos
	workers int           // calls that it serves at once
	service time.Duration // mean, exponentially distributed
	extra   func(now Nanos) time.Duration
	answer  func(now Nanos) Outcome // nil is Success; TimedOut is no answer
	free    []Nanos                 // when each worker is free
	ejected bool
	picks   int
	at      []Nanos // of each pick
}

type simResult struct {
	latencies []time.Duration
	failed    int
}

type simEvent struct {
	at Nanos
	do func()
}

type simEvents []simEvent

func (e simEvents) Len() int           { return len(e) }
func (e simEvents) Less(i, j int) bool { return e[i].at < e[j].at }
func (e simEvents) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)        { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// newSim makes n healthy pods of 4 workers that need 10 ms per call, and a client
// that keeps each of them half busy.
func newSim(p Policy, n int) *sim {
	s := &sim{rnd: rand.New(rand.NewPCG(1, uint64(n))), now: 1, policy: p, rate: 200 * float64(n)}
	for range n {
		s.add()
	}
	return s
}

func (s *sim) add() *simPod {
	p := &simPod{node: NewNode(DefaultNodeConfig()), workers: 4, service: 10 * time.Millisecond}
	p.free = make([]Nanos, p.workers)
	s.pods = append(s.pods, p)
	return p
}

// arrange makes a new picker of the pods that are not ejected.
func (s *sim) arrange() {
	var c []Candidate
	s.picked = nil
	for _, p := range s.pods {
		if !p.ejected {
			c = append(c, Candidate{Node: p.node, Weight: p.weight, Since: p.since})
			s.picked = append(s.picked, p)
		}
	}
	s.picker = s.policy.NewPicker(c, s.now)
	draws := s.draws
	if draws == nil {
		draws = s.rnd.Uint64
	}
	switch k := s.picker.(type) {
	case *peakPicker:
		k.draw.random = draws
	case *leastPicker:
		k.draw.random = draws
	}
}

func (s *sim) after(d time.Duration, do func()) { heap.Push(&s.events, simEvent{s.now.Add(d), do}) }

// run lets calls arrive for so long and returns what became of those.
func (s *sim) run(d time.Duration) simResult {
	s.result = simResult{}
	for _, p := range s.pods {
		p.picks, p.at = 0, nil
	}
	if s.retire && s.ejector == nil {
		s.ejector = NewEjector(DefaultEjectConfig())
	}
	s.arrange()
	if s.retire {
		s.evaluate()
	}
	s.end = s.now.Add(d)
	if s.rate > 0 {
		s.arrive()
	}
	for len(s.events) > 0 && s.events[0].at <= s.end {
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = s.end
	return s.result
}

func (s *sim) arrive() {
	gap := time.Duration(s.rnd.ExpFloat64() / s.rate * float64(time.Second))
	if s.now.Add(gap) > s.end {
		return
	}
	s.after(gap, func() {
		s.call()
		s.arrive()
	})
}

// call is one call, from its pick to its end.
func (s *sim) call() {
	p := s.picked[s.picker.Pick(s.now)]
	p.picks++
	p.at = append(p.at, s.now)
	start := s.now
	p.node.Begin(start)
	outcome, took := s.serve(p)
	if took < 0 {
		return // never
	}
	s.after(took, func() {
		if outcome == Success {
			s.result.latencies = append(s.result.latencies, took)
		} else {
			s.result.failed++
		}
		if p.node.End(start, s.now, outcome) && s.retire {
			s.evaluate()
		}
	})
}

// serve says how the call will end, and when; never is -1.
func (s *sim) serve(p *simPod) (Outcome, time.Duration) {
	outcome := Success
	if p.answer != nil {
		outcome = p.answer(s.now)
	}
	switch outcome {
	case Failed, Overloaded:
		return outcome, 200 * time.Microsecond
	case TimedOut:
		if s.timeout == 0 {
			return outcome, -1
		}
		return outcome, s.timeout
	}
	i := 0
	for k, f := range p.free {
		if f < p.free[i] {
			i = k
		}
	}
	begin := max(p.free[i], s.now)
	p.free[i] = begin.Add(time.Duration(s.rnd.ExpFloat64() * float64(p.service)))
	took := p.free[i].Sub(s.now)
	if p.extra != nil {
		took += p.extra(s.now)
	}
	if s.timeout > 0 && took > s.timeout {
		return TimedOut, s.timeout
	}
	return Success, took
}

func (s *sim) evaluate() {
	nodes := make([]*Node, len(s.pods))
	for i, p := range s.pods {
		nodes[i] = p.node
	}
	changes, next := s.ejector.Evaluate(s.now, nodes)
	for _, c := range changes {
		s.pods[slices.Index(nodes, c.Node)].ejected = c.Ejected
	}
	if len(changes) > 0 {
		s.arrange()
	}
	s.after(next.Sub(s.now), s.evaluate)
}

func (r simResult) p99() time.Duration {
	slices.Sort(r.latencies)
	return r.latencies[len(r.latencies)*99/100]
}

// share is a pod's part of the picks of the last run, 1 being the fair one.
func (s *sim) share(p *simPod) float64 {
	all := 0
	for _, q := range s.pods {
		all += q.picks
	}
	return float64(p.picks) / float64(all) * float64(len(s.pods))
}

func slowedBy(d time.Duration) func(Nanos) time.Duration {
	return func(Nanos) time.Duration { return d }
}

func always(o Outcome) func(Nanos) Outcome { return func(Nanos) Outcome { return o } }

// A pod that answers 200 ms late must hardly be felt; round robin shows that the
// simulation can tell. Of three busy pods one that is only four times as slow as
// the others' worst is still worth a call now and then, which is why those of the
// first case are less busy.
func TestSimSlowPod(t *testing.T) {
	for _, c := range []struct {
		pods    int
		service time.Duration
		length  time.Duration
	}{{3, 2 * time.Millisecond, 30 * time.Second}, {10, 10 * time.Millisecond, 20 * time.Second}, {100, 10 * time.Millisecond, 4 * time.Second}} {
		run := func(p Policy, extra time.Duration) (time.Duration, float64) {
			s := newSim(p, c.pods)
			for _, pod := range s.pods {
				pod.service = c.service
			}
			s.run(2 * time.Second)
			s.pods[0].extra = slowedBy(extra)
			return s.run(c.length).p99(), s.share(s.pods[0])
		}
		base, _ := run(PeakEWMA(DefaultPeakEWMAConfig()), 0)
		ours, share := run(PeakEWMA(DefaultPeakEWMAConfig()), 200*time.Millisecond)
		least, leastShare := run(LeastRequest(DefaultLeastRequestConfig()), 200*time.Millisecond)
		round, roundShare := run(RoundRobin(DefaultRoundRobinConfig()), 200*time.Millisecond)
		t.Logf("%d pods, p99: healthy %v; one slow: peak_ewma %v (it gets %.3f of its share), least_request %v (%.2f), round_robin %v (%.2f)", c.pods, base, ours, share, least, leastShare, round, roundShare)
		if ours > base*5/4 {
			t.Errorf("%d pods: p99 %v with a slow pod, %v without", c.pods, ours, base)
		}
		if c.pods <= 10 && round < 200*time.Millisecond {
			t.Errorf("%d pods: round_robin's p99 of %v does not show the slow pod", c.pods, round)
		}
	}
}

// A pod that fails at once looks like the fastest and the idlest of all.
func TestSimFailingFast(t *testing.T) {
	for n, o := range map[int]Outcome{3: Failed, 10: Overloaded} {
		s := newSim(PeakEWMA(DefaultPeakEWMAConfig()), n)
		s.run(5 * time.Second)
		s.pods[0].answer = always(o)
		r := s.run(60 * time.Second)
		t.Logf("%v, %d pods: %d of %d calls failed, share %.4f", o, n, r.failed, len(r.latencies)+r.failed, s.share(s.pods[0]))
		if r.failed > 40 {
			t.Errorf("%v, %d pods: %d calls failed in a minute", o, n, r.failed)
		}
		if r.failed == 0 {
			t.Errorf("%v, %d pods: it was never tried again", o, n)
		}
		s.pods[0].answer = nil
		s.run(30 * time.Second)
		s.run(10 * time.Second)
		if share := s.share(s.pods[0]); share < 0.7 || share > 1.4 {
			t.Errorf("%v, %d pods: half a minute after it recovered its share is %.2f of the fair one", o, n, share)
		}
	}
}

// With an Ejector no more calls fail than the threshold and those in flight then,
// and hardly more than one per return.
func TestSimEjection(t *testing.T) {
	for _, p := range []Policy{RoundRobin(DefaultRoundRobinConfig()), LeastRequest(DefaultLeastRequestConfig()), PeakEWMA(DefaultPeakEWMAConfig())} {
		s := newSim(p, 4)
		s.retire = true
		s.run(5 * time.Second)
		s.pods[0].answer = always(Failed)
		r := s.run(25 * time.Second)
		t.Logf("%s: %d calls failed", p.Name(), r.failed)
		if most := DefaultEjectConfig().ConsecutiveFailures + 4; r.failed > most {
			t.Errorf("%s: %d calls failed, more than %d", p.Name(), r.failed, most)
		}
		if r := s.run(100 * time.Second); r.failed > 6 {
			t.Errorf("%s: %d calls failed on the returns of 100 s", p.Name(), r.failed)
		}
		s.pods[0].answer = nil
		s.run(120 * time.Second)
		s.run(20 * time.Second)
		if share := s.share(s.pods[0]); share < 0.6 || share > 1.5 {
			t.Errorf("%s: after recovery its share is %.2f of the fair one", p.Name(), share)
		}
	}
}

// A pod that says nothing: its calls are stuck in flight, and no deadline helps.
func TestSimDeadPod(t *testing.T) {
	for _, rate := range []float64{20, 400, 2500} {
		s := newSim(PeakEWMA(DefaultPeakEWMAConfig()), 10)
		s.rate = rate
		s.run(10 * time.Second)
		s.pods[0].answer = always(TimedOut)
		s.run(20 * time.Second)
		t.Logf("%.0f calls/s, no deadline: %d picks of %.0f in 20 s", rate, s.pods[0].picks, 20*rate)
		if s.pods[0].picks > 40 {
			t.Errorf("%.0f calls/s: %d picks of a dead pod in 20 s", rate, s.pods[0].picks)
		}
	}
}

// A killed node costs about 1.5 s of its share where callers have deadlines.
func TestSimDeadPodWithDeadlines(t *testing.T) {
	for _, timeout := range []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second} {
		s := newSim(PeakEWMA(DefaultPeakEWMAConfig()), 10)
		s.timeout, s.retire = timeout, true
		s.run(10 * time.Second)
		s.pods[0].answer = always(TimedOut)
		r := s.run(30 * time.Second)
		budget := int(1.5 * s.rate / 10)
		t.Logf("deadline %v: %d calls timed out, 1.5 s of the share are %d", timeout, r.failed, budget)
		if r.failed > budget {
			t.Errorf("deadline %v: %d calls timed out, more than %d", timeout, r.failed, budget)
		}
	}
}

// A new pod begins with little and gets its share.
func TestSimSlowStart(t *testing.T) {
	for _, p := range []Policy{PeakEWMA(DefaultPeakEWMAConfig()), LeastRequest(DefaultLeastRequestConfig()), RoundRobin(DefaultRoundRobinConfig())} {
		s := newSim(p, 4)
		s.run(10 * time.Second)
		pod := s.add()
		pod.since = s.now
		var shares []float64
		for range 12 {
			s.run(time.Second)
			shares = append(shares, s.share(pod))
		}
		s.run(10 * time.Second)
		end := s.share(pod)
		t.Logf("%s: share by second %.2f, then %.2f", p.Name(), shares, end)
		if shares[0] > 0.5 || shares[0] == 0 {
			t.Errorf("%s: in its first second it has %.2f of its share", p.Name(), shares[0])
		}
		if shares[4] < shares[0] {
			t.Errorf("%s: it does not grow: %.2f", p.Name(), shares)
		}
		if end < 0.6 || end > 1.6 {
			t.Errorf("%s: in the end its share is %.2f of the fair one", p.Name(), end)
		}
	}
}

// Streams that live for ever neither slow their pods down nor send all other
// calls to a pod that has none.
func TestSimLongStreams(t *testing.T) {
	s := newSim(PeakEWMA(DefaultPeakEWMAConfig()), 10)
	for _, p := range s.pods[1:] {
		for range 100 {
			p.node.Begin(s.now)
		}
	}
	s.run(20 * time.Second)
	s.run(20 * time.Second)
	if share := s.share(s.pods[0]); share < 0.8 || share > 2 {
		t.Errorf("the pod without streams has %.2f of its share", share)
	}
	before := s.pods[1].node.Stats()
	if before.Long != 100 {
		t.Errorf("Long = %d with 100 old streams", before.Long)
	}
	for range 100 {
		s.pods[1].node.End(1, s.now, Success)
	}
	after := s.pods[1].node.Stats()
	if after.EWMA != before.EWMA || after.Long != 0 || after.InFlight != before.InFlight-100 {
		t.Errorf("the end of 100 long streams made %+v of %+v", after, before)
	}
}

// What was slow and is not any more gets its share back.
func TestSimRecovery(t *testing.T) {
	s := newSim(PeakEWMA(DefaultPeakEWMAConfig()), 5)
	s.run(10 * time.Second)
	s.pods[0].extra = slowedBy(200 * time.Millisecond)
	s.run(20 * time.Second)
	slow := s.share(s.pods[0])
	s.pods[0].extra = nil
	s.run(60 * time.Second)
	s.run(10 * time.Second)
	t.Logf("share while slow %.3f, a minute later %.2f", slow, s.share(s.pods[0]))
	if share := s.share(s.pods[0]); share < 0.7 || share > 1.4 {
		t.Errorf("a minute after it recovered its share is %.2f of the fair one", share)
	}
}

// Without a fault all get the same; also where all fail now and then.
func TestSimFair(t *testing.T) {
	for _, errors := range []float64{0, 0.01, 0.1} {
		for _, p := range []Policy{PeakEWMA(DefaultPeakEWMAConfig()), LeastRequest(DefaultLeastRequestConfig()), RoundRobin(DefaultRoundRobinConfig())} {
			s := newSim(p, 10)
			for _, pod := range s.pods {
				pod.answer = func(Nanos) Outcome {
					if s.rnd.Float64() < errors {
						return Failed
					}
					return Success
				}
			}
			s.run(10 * time.Second)
			r := s.run(20 * time.Second)
			least, most := 10.0, 0.0
			for _, pod := range s.pods {
				least, most = min(least, s.share(pod)), max(most, s.share(pod))
			}
			t.Logf("%s, %.0f%% errors: shares from %.2f to %.2f, p99 %v", p.Name(), 100*errors, least, most, r.p99())
			if least < 0.75 || most > 1.3 {
				t.Errorf("%s, %.0f%% errors: shares from %.2f to %.2f of the fair one", p.Name(), 100*errors, least, most)
			}
		}
	}
}

// A pod that fails half of its calls gets far fewer.
func TestSimHalfFailing(t *testing.T) {
	s := newSim(PeakEWMA(DefaultPeakEWMAConfig()), 5)
	s.pods[0].answer = func(Nanos) Outcome {
		if s.rnd.IntN(2) == 0 {
			return Failed
		}
		return Success
	}
	s.run(30 * time.Second)
	if share := s.share(s.pods[0]); share > 0.35 {
		t.Errorf("a pod that fails every second call has %.2f of its share", share)
	}
}

// Weights are shares.
func TestSimWeights(t *testing.T) {
	for _, p := range []Policy{PeakEWMA(DefaultPeakEWMAConfig()), LeastRequest(DefaultLeastRequestConfig()), RoundRobin(DefaultRoundRobinConfig())} {
		s := newSim(p, 4)
		s.pods[0].weight, s.pods[1].weight, s.pods[2].weight, s.pods[3].weight = 1, 1, 2, 4
		for i, pod := range s.pods {
			pod.workers = []int{4, 4, 8, 16}[i]
			pod.free = make([]Nanos, pod.workers)
		}
		s.run(5 * time.Second)
		s.run(30 * time.Second)
		for i, want := range []float64{0.5, 0.5, 1, 2} {
			if got := s.share(s.pods[i]); got < want*0.7 || got > want*1.4 {
				t.Errorf("%s: pod %d of weight %v has %.2f of an even share, want %.2f", p.Name(), i, s.pods[i].weight, got, want)
			}
		}
	}
}
