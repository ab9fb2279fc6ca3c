package cli_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/cli"
)

// silentInput is a terminal at which nobody types: the read that waits is interrupted.
type silentInput struct {
	interrupt func()
	end       chan struct{}
}

func (s silentInput) Read([]byte) (int, error) {
	s.interrupt()
	<-s.end
	return 0, nil
}

// TestInterruptAtStandardInput: what waits for a manifest that does not come ends when it is interrupted.
func TestInterruptAtStandardInput(t *testing.T) {
	for _, args := range [][]string{
		{"inject", "-f", "-", "--service", "x"},
		{"uninject", "-f", "-"},
		{"diagnose", "--from", "-"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		in := silentInput{cancel, make(chan struct{})}
		var out, stderr bytes.Buffer
		code := cli.Main(ctx, args, cli.Streams{In: in, Out: &out, Err: &stderr})
		close(in.end)
		if code != int(cli.ExitInterrupted) || out.Len() > 0 || !strings.Contains(stderr.String(), "interrupted") {
			t.Errorf("%v: exit %d, %q, %q", args, code, out.String(), stderr.String())
		}
	}
}
