// Command pod is both sides of the fault benchmarks, as they run in pods: a server that misbehaves when it is told to, and a client that
// calls at a fixed rate in one of the ways that are compared. The driver, bench/faults, puts it into an image and starts it.
//
//	pod backend
//	pod client -variant "grpc-go dns"
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/backend"
	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: pod backend|client [flags]")
	}
	switch args[0] {
	case "backend":
		return serve(ctx, args[1:])
	case "client":
		return call(ctx, args[1:])
	}
	return fmt.Errorf("no side is called %q: backend or client", args[0])
}

func serve(ctx context.Context, args []string) error {
	var cfg backend.Config
	f := flag.NewFlagSet("backend", flag.ContinueOnError)
	f.StringVar(&cfg.Addr, "addr", ":"+strconv.Itoa(load.Port), "where calls are taken")
	f.StringVar(&cfg.Control, "control", ":9090", "where orders are taken")
	f.StringVar(&cfg.Local, "local", "", "a range of addresses to own; needs CAP_NET_ADMIN")
	f.DurationVar(&cfg.Work, "work", 5*time.Millisecond, "how long a healthy call takes")
	f.DurationVar(&cfg.Grace, "grace", 5*time.Second, "how long calls may take to end after SIGTERM")
	if err := f.Parse(args); err != nil {
		return err
	}
	return backend.Serve(ctx, cfg)
}

func call(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("client", flag.ContinueOnError)
	name := f.String("variant", "", "the way in which calls are spread")
	control := f.String("control", ":9090", "where orders are taken")
	if err := f.Parse(args); err != nil {
		return err
	}
	v, err := load.Find(*name)
	if err != nil {
		return err
	}
	s := &http.Server{Addr: *control, Handler: load.Control(v), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return s.Close()
	}
}
