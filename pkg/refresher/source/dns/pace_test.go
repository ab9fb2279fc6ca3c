package dns

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

func TestPaceWaits(t *testing.T) {
	large, small := Look{Bytes: 1233}, Look{Bytes: 1232}
	changed, asked, failed := Look{Bytes: 5000, Changed: true}, Look{Bytes: 5000, Asked: true}, Look{Changed: true}
	cases := []struct {
		name  string
		looks []Look
		want  []int // seconds
	}{
		{"small answers", []Look{small, small, small}, []int{5, 5, 5}},
		{"large answers double it up to 30 s", []Look{changed, large, large, large, large}, []int{5, 10, 20, 30, 30}},
		{"a change ends that", []Look{changed, large, large, changed, large}, []int{5, 10, 20, 5, 10}},
		{"a question ends that", []Look{changed, large, large, asked, large}, []int{5, 10, 20, 5, 10}},
		{"an error ends that", []Look{changed, large, large, failed, large}, []int{5, 10, 20, 5, 10}},
		{"a small answer ends that", []Look{changed, large, small}, []int{5, 10, 5}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := Pace{Interval: 5 * time.Second, MaxInterval: 30 * time.Second}
			var got []int
			for _, l := range c.looks {
				got = append(got, int(p.Next(l)/time.Second))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("waits %v, want %v", got, c.want)
			}
		})
	}
}

func TestPaceJitter(t *testing.T) {
	for r, want := range map[float64][2]time.Duration{ // random number: first wait, later waits
		0: {5000 * time.Millisecond, 4500 * time.Millisecond}, 0.5: {3 * time.Second, 5 * time.Second},
		0.999999999: {time.Second, 5500 * time.Millisecond},
	} {
		p := DefaultConfig().Pace()
		p.Random = func() float64 { return r }
		for i, want := range want {
			if got := p.Next(Look{}).Round(time.Microsecond); got != want {
				t.Errorf("random %v, wait %d: %v, want %v", r, i+1, got, want)
			}
		}
	}
	p := DefaultConfig().Pace()
	var least, most time.Duration = math.MaxInt64, 0
	p.Next(Look{})
	for range 10_000 {
		w := p.Next(Look{})
		least, most = min(least, w), max(most, w)
	}
	if least < 4500*time.Millisecond || least > 4510*time.Millisecond || most > 5500*time.Millisecond || most < 5490*time.Millisecond {
		t.Errorf("waits from %v to %v", least, most)
	}
}

func TestPaceOnTTL(t *testing.T) {
	p := Pace{Interval: 5 * time.Second, MaxInterval: 30 * time.Second, OnTTL: true}
	for ttl, want := range map[time.Duration]time.Duration{
		0: 5 * time.Second, 2 * time.Second: 5 * time.Second, 17 * time.Second: 17 * time.Second, 24 * time.Hour: time.Hour,
	} {
		if got := p.Next(Look{TTL: ttl}); got != want {
			t.Errorf("TTL %v: wait %v, want %v", ttl, got, want)
		}
	}
	p.Jitter, p.Random = 0.1, func() float64 { return 0.75 }
	if got, want := p.Next(Look{TTL: 10 * time.Second}), 11500*time.Millisecond; got != want {
		t.Errorf("wait %v, want %v: never before the TTL is over", got, want)
	}
}

// TestInterval is half an hour of the default pace.
func TestInterval(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.start("square:1", WithJitter(0.1))
		w.after(30 * time.Minute)
		looks := w.looks()
		for i := 2; i < len(looks); i++ {
			if gap := looks[i] - looks[i-1]; gap < 4500*time.Millisecond || gap > 5500*time.Millisecond {
				w.t.Fatalf("look %d came %v after the one before", i, gap)
			}
		}
		if n := len(looks); n < 350 || n > 370 {
			w.t.Errorf("%d looks in half an hour", n)
		}
	})
}

func TestBackOff(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, many(300)...)
		w.start("square:1")
		w.after(2 * time.Minute)
		if got, want := gaps(w.looks()), "5s 10s 20s 30s 30s"; got != want {
			w.t.Errorf("gaps %s, want %s", got, want)
		}
		w.ask(endpoint.Question{})
		w.after(6 * time.Second)
		if got, want := gaps(w.looks()[5:]), "25s 5s"; got != want {
			w.t.Errorf("after a question: gaps %s, want %s", got, want)
		}
	})
}

func gaps(looks []time.Duration) string {
	var out []string
	for i := 1; i < len(looks); i++ {
		out = append(out, fmt.Sprint(looks[i]-looks[i-1]))
	}
	return strings.Join(out, " ")
}

func TestOnTTL(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.start("square:1", RefreshOnTTL())
		w.after(time.Minute)
		if got, want := gaps(w.looks()), "30s 30s"; got != want {
			w.t.Errorf("gaps %s, want %s", got, want)
		}
	})
}

func TestAsk(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.start("square:1")
		for range 100 {
			w.ask(endpoint.Question{})
		}
		if n := len(w.looks()); n != 1+askBurst {
			w.t.Errorf("%d looks, want the first and %d more at once", n, askBurst)
		}
		for range 30 { // a storm of three seconds
			w.after(100 * time.Millisecond)
			w.ask(endpoint.Question{})
		}
		if n := len(w.looks()); n != 1+askBurst+3 {
			w.t.Errorf("%d looks after 3 s, want one more for each second", n)
		}
		before := len(w.looks())
		w.after(7 * time.Second) // the last question, then the interval
		if n := len(w.looks()) - before; n != 2 {
			w.t.Errorf("%d looks after the storm", n)
		}
	})
}

// TestAskOneLook: questions that wait are answered by one look, also when it is
// one that was due anyway, and a Verify among them is not lost.
func TestAskOneLook(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.start("square:1", WithInterval(time.Second))
		for range askBurst {
			w.ask(endpoint.Question{})
		}
		w.after(500 * time.Millisecond)
		w.ask(endpoint.Question{})
		w.ask(endpoint.Question{Verify: true})
		w.ask(endpoint.Question{})
		before := len(w.sets())
		w.after(500 * time.Millisecond)
		sets := w.sets()
		if len(sets) != before+1 || !sets[before].Verified {
			w.t.Errorf("%d more updates, want one that is verified", len(sets)-before)
		}
	})
}

func TestAskDuringALook(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1", "10.0.0.2")...)
		w.net.Attack(server1, func(p *dnstest.Peer) {
			if p.Pause(time.Second) {
				dnstest.Zones(w.zone)(p)
			}
		})
		w.start("square:1")
		w.after(500 * time.Millisecond)
		w.ask(endpoint.Question{})
		w.ask(endpoint.Question{})
		w.after(3500 * time.Millisecond) // two questions of the first look, one of the second
		if got, want := w.looks(), []time.Duration{2 * time.Second, 3 * time.Second}; !slices.Equal(got, want) {
			w.t.Errorf("looks ended at %v, want %v", got, want)
		}
	})
}

func TestAskBeforeRunAndAfter(t *testing.T) {
	inBubble(t, func(w *world) {
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		target := endpoint.Target{Host: "square", Port: 1}
		s, err := New(WithDial(w.net.DialContext), WithResolvConf(w.conf)).Open(target)
		if err != nil {
			w.t.Fatal(err)
		}
		s.(endpoint.Asker).Ask(endpoint.Question{Verify: true})
		ctx, cancel := context.WithCancel(w.t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx, &w.sink) }()
		w.after(0)
		if sets := w.sets(); len(sets) != 1 || !sets[0].Verified {
			w.t.Errorf("updates %+v", sets)
		}
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		n := len(w.list())
		s.(endpoint.Asker).Ask(endpoint.Question{})
		w.after(time.Hour)
		if len(w.list()) != n {
			w.t.Error("the sink was called after Run had returned")
		}
	})
}

// TestEndDuringALook: nothing is told of a look that the end of ctx cut.
func TestEndDuringALook(t *testing.T) {
	for name, behave := range map[string]dnstest.Behaviour{"silence": dnstest.Silence(), "drip": dnstest.SlowDrip(time.Second)} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.net.Attack(server1, behave)
				s, err := New(WithDial(w.net.DialContext), WithResolvConf(w.conf)).Open(endpoint.Target{Host: "square", Port: 1})
				if err != nil {
					w.t.Fatal(err)
				}
				for _, verify := range []bool{false, true} {
					s.(endpoint.Asker).Ask(endpoint.Question{Verify: verify})
					ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
					if err := s.Run(ctx, &w.sink); err != nil {
						w.t.Error(err)
					}
					cancel()
				}
				if got := w.list(); got != nil {
					w.t.Errorf("told %+v", got)
				}
			})
		})
	}
}

func TestBucketRefills(t *testing.T) {
	var b bucket
	now := time.Unix(1000, 0)
	for i := range askBurst {
		if d := b.take(now); d != 0 {
			t.Fatalf("token %d: wait %v", i, d)
		}
	}
	if d := b.take(now); d != askEvery {
		t.Errorf("wait %v, want %v", d, askEvery)
	}
	if d := b.take(now.Add(askEvery / 4)); d != askEvery*3/4 {
		t.Errorf("wait %v, want three quarters of %v", d, askEvery)
	}
	now = now.Add(time.Hour)
	for i := range askBurst {
		if d := b.take(now); d != 0 {
			t.Fatalf("an hour later, token %d: wait %v", i, d)
		}
	}
	if d := b.take(now); d == 0 {
		t.Error("more tokens than the burst")
	}
}

// TestOutcomesAreSaid: each look ends in a word of the list.
func TestOutcomesAreSaid(t *testing.T) {
	for _, o := range Outcomes() {
		if o == "" || strings.ToLower(string(o)) != string(o) {
			t.Errorf("outcome %q", o)
		}
	}
	inBubble(t, func(w *world) {
		behaviours := []dnstest.Behaviour{
			dnstest.Garbage(40), dnstest.CNAMELoop(3), dnstest.NotAResponse(), dnstest.WrongQuestion(mdns.Question{Name: "x.", Qtype: 1, Qclass: 1}),
			dnstest.Truncated("udp", "tcp"), dnstest.Hangup(), dnstest.HangupWithin(3), dnstest.Huge(4000), dnstest.RefuseEDNS(mdns.RcodeFormatError),
			dnstest.Forge(3, dnstest.Honest()), dnstest.ChangeCase(), dnstest.SlowDrip(time.Second),
		}
		w.zone.Headless(square, "grpc", 1, ips("10.0.0.1")...)
		w.start("square:1")
		for i, b := range behaviours {
			w.net.Attack(server1, b)
			before := len(w.outcomes())
			w.after(time.Minute)
			now := w.outcomes()
			if len(now) == before {
				w.t.Errorf("behaviour %d: no look ended in a minute", i)
			}
			for _, word := range now[before:] {
				if !slices.Contains(Outcomes(), Outcome(word)) {
					w.t.Errorf("behaviour %d: outcome %q", i, word)
				}
			}
		}
	})
}
