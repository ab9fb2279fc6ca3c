package report

import (
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

const ms = time.Millisecond

// sample is a run of five calls, one a second, on two peers; the third has none.
func sample() Report {
	return Report{
		Began: time.Unix(1000, 0), Peers: []string{"10.0.0.1", "10.0.0.2"},
		Calls: []Call{
			NewCall(0, 5*ms, codes.OK, 0),
			NewCall(time.Second, 900*ms, codes.OK, 1),
			NewCall(2*time.Second, ms, codes.Unavailable, -1),
			NewCall(3*time.Second, time.Second, codes.DeadlineExceeded, 1),
			NewCall(4*time.Second, 7*ms, codes.OK, 1),
		},
	}
}

func at(seconds float64) time.Time { return time.Unix(1000, int64(seconds*1e9)) }

func TestWindow(t *testing.T) {
	r := sample()
	cases := []struct {
		name          string
		calls         Calls
		count, failed int
	}{
		{"all", r.Window(at(0), at(9)), 5, 2},
		{"the end is not part of it", r.Window(at(0), at(2)), 2, 0},
		{"the beginning is", r.Window(at(2), at(4)), 2, 2},
		{"nothing", r.Window(at(9), at(10)), 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if n := len(c.calls); n != c.count {
				t.Errorf("%d calls, want %d", n, c.count)
			}
			if n := len(c.calls.Failed()); n != c.failed {
				t.Errorf("%d failed, want %d", n, c.failed)
			}
		})
	}
	if got := r.Window(at(0), at(9)).Codes(); got[codes.Unavailable] != 1 || got[codes.DeadlineExceeded] != 1 || got[codes.OK] != 3 {
		t.Errorf("codes %v", got)
	}
}

func TestQuantile(t *testing.T) {
	all := Calls(sample().Calls)
	for p, want := range map[float64]time.Duration{0: ms, 0.5: 7 * ms, 0.99: time.Second, 1: time.Second} {
		if got := all.Quantile(p); got != want {
			t.Errorf("quantile %v = %s, want %s", p, got, want)
		}
	}
	if got := (Calls{}).Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
}

func TestPeers(t *testing.T) {
	r := sample()
	if n := len(r.On(r.Calls, "10.0.0.2")); n != 3 {
		t.Errorf("%d calls on the second, want 3", n)
	}
	if n := len(r.On(r.Calls, "10.0.0.3")); n != 0 {
		t.Errorf("%d calls on a stranger", n)
	}
	if n := r.InFlight(at(1.5), at(1.5), "10.0.0.2"); n != 1 {
		t.Errorf("%d in flight on the second, want 1", n)
	}
	if n := r.InFlight(at(1.95), at(2.5), "10.0.0.2"); n != 0 {
		t.Errorf("%d in flight between two calls", n)
	}
	if first, ok := r.FirstCall("10.0.0.2"); !ok || !first.Equal(at(1)) {
		t.Errorf("first call at %v, %v", first, ok)
	}
	if _, ok := r.FirstCall("10.0.0.3"); ok {
		t.Error("a stranger was called")
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if c := got.Calls[3]; c.Start() != 3*time.Second || c.Took() != time.Second || c.Code() != codes.DeadlineExceeded || c.Peer() != 1 || c.End() != 4*time.Second {
		t.Errorf("call came back as %v", c)
	}
}
