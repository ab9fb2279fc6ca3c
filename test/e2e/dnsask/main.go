// Command dnsask asks a DNS server the same question over TCP and over UDP
// with several buffer sizes, from inside a pod, and prints what really came
// back beside what pkg/dnsprobe predicts from the TCP answer, as JSON.
//
//	dnsask SERVER:53 TYPE NAME...
//
// It is the end-to-end tests' witness: from outside of a cluster, UDP cannot
// be seen. It judges nothing.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// Size is what one buffer size gave and was predicted to give.
type Size struct {
	Predicted dnsprobe.PredictedUDP `json:"predicted"`
	Truncated bool                  `json:"truncated"`
	Records   int                   `json:"records"`
	Bytes     int                   `json:"bytes"`
}

// Line is the outcome for one name.
type Line struct {
	Name    string `json:"name"`
	Records int    `json:"records"` // over TCP
	Sizes   []Size `json:"sizes"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dnsask:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: dnsask SERVER:53 A|SRV NAME")
	}
	typ, ok := map[string]dnsprobe.Type{"A": dnsprobe.TypeA, "SRV": dnsprobe.TypeSRV}[args[1]]
	if !ok {
		return fmt.Errorf("type %s is not A or SRV", args[1])
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, name := range args[2:] {
		line, err := ask(ctx, args[0], dnsprobe.Question{Name: name, Type: typ})
		if err != nil {
			return err
		}
		if err := json.NewEncoder(out).Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func ask(ctx context.Context, server string, q dnsprobe.Question) (Line, error) {
	full, err := (&dnsprobe.Client{Transport: dnsprobe.TCP}).Ask(ctx, server, q)
	if err != nil {
		return Line{}, fmt.Errorf("ask for %s over TCP: %w", q.Name, err)
	}
	predicted, err := dnsprobe.PredictUDP(full)
	if err != nil {
		return Line{}, err
	}
	line := Line{Name: q.Name, Records: len(full.Final())}
	for _, p := range predicted {
		c := dnsprobe.Client{Transport: dnsprobe.UDP, KeepTruncated: true}
		if p.EDNS {
			c.EDNSSize = p.UDPSize
		}
		a, err := c.Ask(ctx, server, q)
		if err != nil {
			return Line{}, fmt.Errorf("ask for %s over UDP with %d bytes: %w", q.Name, p.UDPSize, err)
		}
		line.Sizes = append(line.Sizes, Size{Predicted: p, Truncated: a.Flags.Truncated, Records: len(a.Final()), Bytes: a.Size})
	}
	return line, nil
}
