package agent

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/agent/calls"
	"github.com/grpclb/kubectl-grpclb/pkg/h2probe"
)

const aboutProbe = `Make gRPC calls to targets and count them by connection.

A target is HOST:PORT, which connects once, to the first address that answers, as gRPC clients do by default (pick_first);
or dns:///HOST:PORT, which connects to every address of the name and calls them in turn (round_robin). NAME= before it
labels it in the report. The calls of one channel are made one after the other.

The report is printed when the calls are over; with --hold the connections then stay open, so that the servers' socket
tables can be matched with the local addresses in the report.

Usage:
  grpclb-refresher probe --target [NAME=]HOST:PORT|dns:///HOST:PORT... [--channels K] [--calls N | --duration T] [flags]
`

const (
	defaultCalls = 100
	defaultRate  = 100
	maxDuration  = time.Hour
	maxTimeout   = time.Minute
)

// probeOptions are the flags of `probe`, checked.
type probeOptions struct {
	calls.Config
	hold time.Duration
}

func runProbe(ctx context.Context, args []string, streams Streams) int {
	o, fs := probeFlags()
	if code, stop := parse(fs, args, aboutProbe, streams); stop {
		return code
	}
	o.complete(fs)
	if err := o.check(); err != nil {
		return usage(streams, err, "grpclb-refresher probe --help")
	}
	report, done := calls.Run(ctx, o.Config)
	defer done()
	report.Host, _ = os.Hostname() // a report without it is worth printing
	report.HoldSeconds = o.hold.Seconds()
	connected := slices.ContainsFunc(report.Channels, func(c agentapi.Channel) bool { return c.StartError == "" })
	if report.Interrupted {
		report.HoldSeconds = 0
	}
	code := finish(streams, func(b *bytes.Buffer) error { return agentapi.WriteProbe(b, report) }, connected, report.Interrupted)
	if code == ExitOK {
		sleep(ctx, o.hold) // a signal now only ends the hold: everything has been said
	}
	return code
}

func probeFlags() (*probeOptions, *flag.FlagSet) {
	o := &probeOptions{}
	fs := flag.NewFlagSet("probe", flag.ContinueOnError)
	fs.Func("target", "call `TARGET`, see above; may be given more than once", func(text string) error {
		t, err := calls.ParseTarget(text)
		if err == nil {
			o.Targets = append(o.Targets, t)
		}
		return err
	})
	fs.IntVar(&o.Channels, "channels", 1, "make `K` channels to each target")
	fs.IntVar(&o.Calls, "calls", defaultCalls, "make `N` calls on each channel; no limit when only --duration is given")
	fs.Float64Var(&o.Rate, "rate", defaultRate, "start `N` calls a second on each channel; 0 is as fast as answers come")
	fs.DurationVar(&o.Duration, "duration", 0, "end the calls after `TIME`")
	fs.DurationVar(&o.Timeout, "timeout", 2*time.Second, "give each look-up, connect and call `TIME`")
	fs.DurationVar(&o.hold, "hold", 0, "keep the connections open for `TIME` after the report")
	fs.StringVar(&o.Method, "method", h2probe.HealthMethod, "call `METHOD`, /package.Service/Method, with an empty message")
	fs.StringVar(&o.Authority, "authority", "", "use `NAME` as :authority of the calls, and check certificates for it")
	fs.BoolVar(&o.TLS, "tls", false, "encrypt, and verify the server's certificate with the system's roots")
	fs.BoolVar(&o.SkipVerify, "insecure-skip-verify", false, "encrypt, and take any certificate; for counting, not for secrets")
	return o, fs
}

// complete fills in what follows from which flags were given.
func (o *probeOptions) complete(fs *flag.FlagSet) {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if given["duration"] && !given["calls"] {
		o.Calls = 0
	}
	o.TLS = o.TLS || o.SkipVerify
}

func (o *probeOptions) check() error {
	m := o.Method
	switch {
	case len(o.Targets) == 0:
		return errors.New("no --target")
	case len(o.Targets) > calls.MaxTargets:
		return fmt.Errorf("more than %d targets", calls.MaxTargets)
	case o.Channels < 1 || o.Channels > calls.MaxChannels:
		return fmt.Errorf("--channels must be from 1 to %d", calls.MaxChannels)
	case o.Calls < 0 || o.Calls > calls.MaxCalls, o.Calls == 0 && o.Duration == 0:
		return fmt.Errorf("--calls must be from 1 to %d", calls.MaxCalls)
	case !(o.Rate >= 0 && o.Rate <= calls.MaxRate): // NaN is neither
		return fmt.Errorf("--rate must be from 0 to %d", calls.MaxRate)
	case o.Duration < 0 || o.Duration > maxDuration:
		return fmt.Errorf("--duration must be from 0s to %s", maxDuration)
	case o.hold < 0 || o.hold > maxDuration:
		return fmt.Errorf("--hold must be from 0s to %s", maxDuration)
	case o.Timeout <= 0 || o.Timeout > maxTimeout:
		return fmt.Errorf("--timeout must be more than 0s and at most %s", maxTimeout)
	case !strings.HasPrefix(m, "/") || strings.Count(m, "/") != 2 || strings.HasSuffix(m, "/"):
		return errors.New("--method must be of the form /package.Service/Method")
	default:
		return nil
	}
}
