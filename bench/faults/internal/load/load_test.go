package load

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/backend"
	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/report"
)

// serve starts a backend on loopback; end stops it as SIGTERM does.
func serve(t *testing.T) (addr, control string, end func()) {
	t.Helper()
	addr, control = free(t), free(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- backend.Serve(ctx, backend.Config{Addr: addr, Control: control, Work: time.Millisecond, Grace: time.Second})
	}()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("backend: %v", err)
		}
	}
	t.Cleanup(end)
	return addr, control, end
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// to is a variant that knows one address.
func to(addr string) Variant {
	return Variant{Name: "test", Open: func(o Options) (*Target, error) { return dial("passthrough:///" + addr) }}
}

// behind is a variant that dials a proxy's address: its peer is what the server says of itself.
func behind(addr string) Variant {
	v := to(addr)
	v.Hidden = true
	return v
}

func options() Options {
	return Options{Service: "backend", Namespace: "test", Rate: 200, Deadline: time.Second}
}

// post sends an order and reads the answer.
func post(t *testing.T, address string, body, out any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Post(address, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s", address, r.Status)
	}
	if out != nil {
		if err := json.NewDecoder(r.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
}

// calls waits until a run has made so many more that satisfy a condition.
func calls(t *testing.T, control string, enough func(State) bool) State {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var s State
		post(t, control+"/state", nil, &s)
		if enough(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("it stays at %+v", s)
		}
	}
}

func TestRun(t *testing.T) {
	addr, orders, end := serve(t)
	client := httptest.NewServer(Control(to(addr)))
	defer client.Close()
	// The channel is lazy: the first calls wait for the connection, and for the server to be there.
	for try := time.NewTicker(10 * time.Millisecond); ; {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			break
		}
		<-try.C
	}
	post(t, client.URL+"/start", options(), nil)
	s := calls(t, client.URL, func(s State) bool { return s.OnPeer["127.0.0.1"] > 20 })
	if s.Failed > 0 {
		t.Errorf("%d healthy calls failed", s.Failed)
	}
	post(t, client.URL+"/streams?servers=1", nil, nil)
	post(t, "http://"+orders+"/set?"+url.Values{"code": {"8"}}.Encode(), nil, nil)
	calls(t, client.URL, func(s State) bool { return s.Failed > 5 })
	post(t, "http://"+orders+"/set?delay=30ms", nil, nil)
	now := calls(t, client.URL, func(State) bool { return true })
	calls(t, client.URL, func(s State) bool { return s.OnPeer["127.0.0.1"] > now.OnPeer["127.0.0.1"]+20 })
	end() // which ends the stream, politely
	var r report.Report
	post(t, client.URL+"/stop", nil, &r)
	if n := report.Calls(r.Calls).Codes()[codes.ResourceExhausted]; n == 0 {
		t.Error("no call has the code that was ordered")
	}
	slow := report.Calls(r.Calls).Where(func(c report.Call) bool { return c.Code() == codes.OK && c.Took() > 30*time.Millisecond })
	if len(slow) == 0 {
		t.Error("no call was slow")
	}
	if len(r.Streams) != 1 || r.Streams[0].Broken() || r.Streams[0].Ended == 0 || r.Streams[0].Peer != "127.0.0.1" {
		t.Errorf("streams %+v, want one that the server ended", r.Streams)
	}
	if len(r.Errors) == 0 {
		t.Error("no message is kept")
	}
}

// TestHiddenPeer: behind a proxy it is the servers who say who they are, and a call that nobody answered has no peer.
func TestHiddenPeer(t *testing.T) {
	addr, _, end := serve(t)
	client := httptest.NewServer(Control(behind(addr)))
	defer client.Close()
	post(t, client.URL+"/start", options(), nil)
	calls(t, client.URL, func(s State) bool { return s.OnPeer["127.0.0.1"] > 5 })
	post(t, client.URL+"/streams?servers=1", nil, nil)
	end()
	calls(t, client.URL, func(s State) bool { return s.Failed > 5 })
	var r report.Report
	post(t, client.URL+"/stop", nil, &r)
	lost := report.Calls(r.Calls).Where(func(c report.Call) bool { return c.Code() == codes.Unavailable && c.Peer() < 0 })
	if len(lost) == 0 || len(r.On(lost, "127.0.0.1")) != len(lost) || !r.Hidden {
		t.Errorf("%d calls without an answer, %d of them the server's; hidden: %v", len(lost), len(r.On(lost, "127.0.0.1")), r.Hidden)
	}
}

func TestNothingRuns(t *testing.T) {
	client := httptest.NewServer(Control(to("127.0.0.1:1")))
	defer client.Close()
	for _, what := range []string{"/stop", "/state", "/streams?servers=1", "/streams", "/start"} {
		r, err := http.Post(client.URL+what, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Body.Close(); err != nil || r.StatusCode != http.StatusConflict {
			t.Errorf("%s: %s, %v", what, r.Status, err)
		}
	}
}

func TestVariants(t *testing.T) {
	for _, v := range append(Variants(), SidecarVariants()...) {
		if got, err := Find(v.Name); err != nil || got.Name != v.Name {
			t.Errorf("Find(%q) = %q, %v", v.Name, got.Name, err)
		}
	}
	if _, err := Find("nobody"); err == nil {
		t.Error("a variant that there is not was found")
	}
}
