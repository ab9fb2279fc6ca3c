package agent

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/agent/sockdiag"
)

const aboutSockets = `Print the TCP sockets of this network namespace: who is connected to whom, and how many bytes flow.

The kernel's table is read twice, an interval apart, and the growth of each connection's byte counters gives its rates.
Needs Linux, and no privilege.

Usage:
  grpclb-refresher sockets [--port N]... [--interval 2s] [--samples 2] [--all]
`

const (
	minInterval = 10 * time.Millisecond
	maxInterval = 10 * time.Minute
	maxSamples  = 60
	lastDump    = 2 * time.Second // for the last table after a signal
)

// socketOptions are the flags of `sockets`, checked.
type socketOptions struct {
	ports    []uint16
	interval time.Duration
	samples  int
	limit    int
	states   sockdiag.StateSet
}

func runSockets(ctx context.Context, args []string, streams Streams) int {
	fs := flag.NewFlagSet("sockets", flag.ContinueOnError)
	ports := &list[uint16]{parse: parsePort}
	o := socketOptions{states: sockdiag.States(agentapi.StateEstablished, agentapi.StateListen)}
	fs.Var(ports, "port", "only sockets with local port `N`; may be given more than once")
	fs.DurationVar(&o.interval, "interval", 2*time.Second, "let `TIME` pass between two readings")
	fs.IntVar(&o.samples, "samples", 2, "read the table `N` times; once gives no rates")
	fs.IntVar(&o.limit, "max", 20000, "print at most `N` sockets and say how many were left out")
	all := fs.Bool("all", false, "sockets in every state, not only ESTABLISHED and LISTEN")
	if code, stop := parse(fs, args, aboutSockets, streams); stop {
		return code
	}
	o.ports = ports.values
	if *all {
		o.states = sockdiag.AllStates
	}
	if err := o.check(); err != nil {
		return usage(streams, err, "grpclb-refresher sockets --help")
	}
	report, read := readSockets(ctx, o)
	return finish(streams, func(b *bytes.Buffer) error { return agentapi.WriteSockets(b, report) }, read, report.Interrupted)
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("want a number from 1 to 65535")
	}
	return uint16(n), nil
}

func (o socketOptions) check() error {
	switch {
	case o.samples < 1 || o.samples > maxSamples:
		return fmt.Errorf("--samples must be from 1 to %d", maxSamples)
	case o.interval < minInterval || o.interval > maxInterval:
		return fmt.Errorf("--interval must be from %s to %s", minInterval, maxInterval)
	case o.limit < 1:
		return errors.New("--max must be at least 1")
	default:
		return nil
	}
}

// readSockets reads the tables. After a signal it reads a last one, so that the time waited is not lost. The second result is
// false when no table could be read.
func readSockets(ctx context.Context, o socketOptions) (agentapi.SocketReport, bool) {
	report := agentapi.SocketReport{At: time.Now().UTC()}
	report.Host, _ = os.Hostname() // a report without it is worth printing
	var tables []sockdiag.Table
	for i := range o.samples {
		if i > 0 && !sleep(ctx, o.interval) {
			report.Interrupted = true
		}
		table, err := dump(ctx, o)
		if err != nil {
			report.Errors = appendNew(report.Errors, err.Error())
		}
		if err == nil || len(table.Records) > 0 {
			tables = append(tables, table)
		}
		if report.Interrupted || errors.Is(err, sockdiag.ErrUnsupported) {
			break
		}
	}
	report.Samples = len(tables)
	if len(tables) == 0 {
		return report, false
	}
	first, last := tables[0].At, tables[len(tables)-1].At
	report.At, report.Interval = last.UTC(), last.Sub(first).Seconds()
	report.Sockets, report.Closed = sockdiag.Compare(tables)
	if extra := len(report.Sockets) - o.limit; extra > 0 {
		report.Sockets, report.Omitted = report.Sockets[:o.limit], extra
	}
	return report, true
}

// dump reads one table, also after a signal: it takes milliseconds.
func dump(ctx context.Context, o socketOptions) (sockdiag.Table, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastDump)
	defer cancel()
	table, err := sockdiag.Dump(ctx, o.states)
	return table.Filter(o.ports), err
}

func appendNew(list []string, text string) []string {
	for _, have := range list {
		if have == text {
			return list
		}
	}
	return append(list, text)
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// finish prints a report in one piece and gives the exit code.
func finish(streams Streams, write func(*bytes.Buffer) error, measured, interrupted bool) int {
	var b bytes.Buffer
	err := write(&b)
	if err == nil {
		_, err = streams.Out.Write(b.Bytes())
	}
	switch {
	case err != nil:
		_, _ = fmt.Fprintf(streams.Err, "grpclb-refresher: print report: %v\n", err)
		return ExitNothing
	case interrupted:
		return ExitInterrupted
	case !measured:
		return ExitNothing
	default:
		return ExitOK
	}
}
