package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// What the end of a call says about the pod, as the library of this project has it.
func TestOutcomes(t *testing.T) {
	trailers := func(f ...string) func(*scene) {
		return func(s *scene) { s.pods[0].answer(1, true, f...) }
	}
	status := func(n int, f ...string) func(*scene) {
		return func(s *scene) {
			s.pods[0].headers(1, true, append([]string{fmt.Sprintf(":status=%d", n)}, f...)...)
		}
	}
	reset := func(code ErrCode) func(*scene) { return func(s *scene) { s.pods[0].reset(1, code) } }
	for _, c := range []struct {
		name string
		do   func(*scene)
		want policy.Outcome
	}{
		{"ok", trailers("grpc-status=0"), policy.Success},
		{"not found", trailers("grpc-status=5"), policy.Success},
		{"canceled", trailers("grpc-status=1", "grpc-retry-pushback-ms=5"), policy.Neutral},
		{"unknown", trailers("grpc-status=2"), policy.Erred},
		{"deadline exceeded", trailers("grpc-status=4"), policy.Neutral},
		{"resource exhausted", trailers("grpc-status=8"), policy.Overloaded},
		{"internal", trailers("grpc-status=13"), policy.Erred},
		{"unavailable", trailers("grpc-status=14"), policy.Failed},
		{"data loss", trailers("grpc-status=15"), policy.Erred},
		{"push-back", trailers("grpc-status=9", "grpc-retry-pushback-ms=-1"), policy.Overloaded},
		{"no status", trailers(), policy.Erred},
		{"a status that is none", trailers("grpc-status=x"), policy.Erred},
		{"http 400", status(400), policy.Erred},
		{"http 401", status(401), policy.Success},
		{"http 403", status(403), policy.Success},
		{"http 404", status(404), policy.Success},
		{"http 503", status(503), policy.Failed},
		{"http 418", status(418), policy.Erred},
		{"reset INTERNAL_ERROR", reset(InternalError), policy.Failed},
		{"reset CANCEL", reset(Cancel), policy.Neutral},
		{"reset ENHANCE_YOUR_CALM", reset(EnhanceYourCalm), policy.Overloaded},
		{"reset INADEQUATE_SECURITY", reset(InadequateSecurity), policy.Success},
		{"reset REFUSED_STREAM", reset(RefusedStream), policy.Overloaded},
		{"reset REFUSED_STREAM after headers", func(s *scene) {
			s.pods[0].answer(1, false)
			s.pods[0].reset(1, RefusedStream)
		}, policy.Failed},
		{"reset INTERNAL_ERROR after headers", func(s *scene) {
			s.pods[0].answer(1, false)
			s.pods[0].reset(1, InternalError)
		}, policy.Erred},
		{"malformed", func(s *scene) { s.pods[0].headers(1, true, "x=y") }, policy.Erred},
		{"lost", func(s *scene) { s.pods[0].conn.Lost(s.now, nil) }, policy.Failed},
		{"cancelled at once", func(s *scene) { s.client.reset(1, Cancel) }, policy.Neutral},
		{"cancelled at the deadline", func(s *scene) {
			s.after(99 * time.Millisecond)
			s.client.reset(1, Cancel)
		}, policy.TimedOut},
		{"cancelled at the deadline, headers came", func(s *scene) {
			s.pods[0].answer(1, false)
			s.after(100 * time.Millisecond)
			s.client.reset(1, Cancel)
		}, policy.Neutral},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 1)
			s.client.call(1, true, "grpc-timeout=100m")
			s.pods[0].got()
			c.do(s)
			if got := s.lastCall(); got.Outcome != c.want || len(s.calls) > 3 {
				t.Errorf("%+v is %s, not %s", got, got.Outcome, c.want)
			}
			s.over()
		})
	}
}

func TestOutcomesOfPlainHTTP(t *testing.T) {
	for status, want := range map[int]policy.Outcome{
		200: policy.Success, 404: policy.Success, 429: policy.Overloaded, 500: policy.Erred, 502: policy.Failed, 503: policy.Failed, 504: policy.Failed,
	} {
		s := newScene(t, 1)
		s.client.headers(1, true, ":method=GET", ":scheme=http", ":path=/")
		s.pods[0].got()
		s.pods[0].headers(1, true, fmt.Sprintf(":status=%d", status))
		if got := s.lastCall(); got.Outcome != want || got.Code != -1 || got.HTTP != status {
			t.Errorf("%d is %+v, not %s", status, got, want)
		}
		s.over()
	}
}

// A call that waited for most of its time says nothing about the pod that it came
// to at last.
func TestTimeOutInTheQueueIsNotThePods(t *testing.T) {
	s := newScene(t, 0)
	s.client.call(1, true, "grpc-timeout=100m")
	s.after(80 * time.Millisecond)
	s.addPod()
	s.after(19 * time.Millisecond)
	s.client.reset(1, Cancel)
	if got := s.lastCall(); got.Outcome != policy.Neutral {
		t.Errorf("%+v", got)
	}
	s.over()
}

func TestParseTimeout(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6,
		"0m": 1, "99999999H": 1<<63 - 1, "": 0, "S": 0, "1": 0, "1x": 0, "-1S": 0, "123456789S": 0, "1 S": 0,
	} {
		if got := parseTimeout(v); got != want {
			t.Errorf("%q is %v, not %v", v, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"StreamWindow": func(c *Config) { c.StreamWindow = 1 },
		"ConnWindow":   func(c *Config) { c.ConnWindow = c.StreamWindow - 1 },
		"MaxControl":   func(c *Config) { c.MaxControl = c.MaxHeaderList },
		"pings":        func(c *Config) { c.Budgets.Pings = Rate{} },
	} {
		c := DefaultConfig()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Opening.String() + Ready.String() + Draining.String() + Closed.String(), "openingreadydrainingclosed"},
		{HTTP11Required.String(), "HTTP_1_1_REQUIRED"},
		{ErrCode(99).String(), "error code 0x63"},
		{(&Error{EnhanceYourCalm, "x"}).Error(), "http2: ENHANCE_YOUR_CALM: x"},
	} {
		if c.got != c.want {
			t.Errorf("%q is not %q", c.got, c.want)
		}
	}
}
