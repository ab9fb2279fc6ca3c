package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"testing"
)

func TestExitCodes(t *testing.T) {
	cases := []struct {
		name string
		err  error
		want int
	}{
		{"good", nil, 0},
		{"-help", flag.ErrHelp, 0},
		{"a wrong call", fmt.Errorf("-rate 0: %w", ErrUsage), 2},
		{"anything else", errors.New("no lab"), 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Main("test", func(context.Context, []string) error { return c.err }); got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for arg, want := range map[string]error{"-n=1": nil, "-help": flag.ErrHelp, "-n=x": ErrUsage, "-m": ErrUsage} {
		f := flag.NewFlagSet("test", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		f.Int("n", 0, "a number")
		if got := Parse(f, []string{arg}); !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", arg, got, want)
		}
	}
}
