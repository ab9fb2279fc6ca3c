package cli_test

import (
	"bytes"
	"context"
	"io"
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

// blanks are as many as one reads.
type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestLongStandardInput: what is too long is refused, never cut: the rest would be missing from what is applied.
func TestLongStandardInput(t *testing.T) {
	for name, c := range map[string]struct {
		size int64
		says string
	}{
		"fits":     {64 << 20, "error: the manifests are empty"},
		"too long": {64<<20 + 1, "error: -f -: it is longer than 64 MiB"},
	} {
		var out, stderr bytes.Buffer
		code := cli.Main(t.Context(), []string{"uninject", "-f", "-"}, cli.Streams{In: io.LimitReader(blanks{}, c.size), Out: &out, Err: &stderr})
		if code != int(cli.ExitCouldNot) || out.Len() > 0 || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s: exit %d, %q, %q", name, code, out.String(), stderr.String())
		}
	}
}
