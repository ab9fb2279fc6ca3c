package server

import (
	"bytes"
	"errors"
	"flag"
	"log/slog"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	loadpb "github.com/grpclb/kubectl-grpclb/examples/load/proto"
)

func TestCallsAreCountedAndLoggedNowAndThen(t *testing.T) {
	var log bytes.Buffer
	s := New("pod-a", 10, slog.New(slog.NewTextHandler(&log, nil)))
	for i := range int64(25) {
		reply, err := s.Call(t.Context(), &loadpb.CallRequest{Sequence: i})
		if err != nil || reply.GetSequence() != i || reply.GetHost() != "pod-a" {
			t.Fatalf("call %d: %v, %v", i, reply, err)
		}
	}
	if s.Calls() != 25 {
		t.Errorf("%d calls counted, want 25", s.Calls())
	}
	if n := strings.Count(log.String(), "calls served"); n != 2 || !strings.Contains(log.String(), "calls=20") {
		t.Errorf("25 calls were logged %d times, want at 10 and 20:\n%s", n, log.String())
	}
}

func TestFlags(t *testing.T) {
	read := func(args ...string) (options, error) {
		return readFlags(app.Env{Args: args, Stderr: &bytes.Buffer{}})
	}
	if o, err := read(); err != nil || o.port != 8001 || o.cert != "" {
		t.Errorf("defaults %+v, %v", o, err)
	}
	for _, arg := range []string{"--port=65536", "--port=-1", "--log-every=0", "stray", "--unknown", "--port=x"} {
		var usage *app.UsageError
		if _, err := read(arg); !errors.As(err, &usage) {
			t.Errorf("%s: %v, want a usage error", arg, err)
		}
	}
	if _, err := read("--help"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
	if err := Run(t.Context(), app.Env{Args: []string{"--help"}, Stderr: &bytes.Buffer{}}); err != nil {
		t.Errorf("Run --help: %v", err)
	}
}
