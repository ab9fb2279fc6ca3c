package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/daemon/settings"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// Streams are the process's own, or a test's.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Sidecar runs `sidecar` with the arguments that follow the word, and returns the
// exit code. It handles signals itself: the end of ctx counts as the first one.
func Sidecar(ctx context.Context, args []string, streams Streams) int {
	// Before anything else: a signal that comes while the file is read counts, too.
	caught := make(chan os.Signal, 4)
	signal.Notify(caught, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	defer signal.Stop(caught)
	o, err := parseFlags(args, os.Environ())
	if code, stop := sidecarError(err, streams); stop {
		return code
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	return run(ctx, o, environment{
		signals: caught, getenv: os.Getenv, cgroup: cgroupFiles(), look: look.C, stderr: streams.Err,
		make: func(o sidecar.Options) (proxy, error) { return sidecar.New(o) },
	})
}

func sidecarError(err error, streams Streams) (code int, stop bool) {
	var use usageError
	switch {
	case err == nil:
		return ExitOK, false
	case errors.Is(err, flag.ErrHelp):
		return emit(streams, SidecarHelp()), true
	case errors.As(err, &use):
		refuse(streams, err.Error()+"; see grpclb-refresher sidecar --help")
		return ExitUsage, true
	}
	refuse(streams, err.Error())
	return ExitConfig, true
}

// refuse writes each line with the program's name, as the agents do.
func refuse(streams Streams, text string) {
	for line := range strings.Lines(text) {
		_, _ = fmt.Fprintf(streams.Err, "grpclb-refresher: %s\n", strings.TrimSuffix(line, "\n"))
	}
}

func emit(streams Streams, text string) int {
	if _, err := io.WriteString(streams.Out, text); err != nil {
		return ExitFailed
	}
	return ExitOK
}

// Check runs `check` with the arguments that follow the word, and returns the exit
// code.
func Check(args []string, streams Streams) int {
	var o settings.Options
	var names []string
	for _, a := range args {
		switch strings.TrimPrefix(a, "-") {
		case "-help", "h", "help":
			return emit(streams, CheckHelp())
		case "-allow-non-loopback", "allow-non-loopback":
			o.AllowNonLoopback = true
			continue
		}
		if strings.HasPrefix(a, "-") && a != "-" {
			refuse(streams, fmt.Sprintf("unknown flag %s; see grpclb-refresher check --help", a))
			return ExitUsage
		}
		names = append(names, a)
	}
	if len(names) != 1 {
		refuse(streams, fmt.Sprintf("check takes one file, or - for standard input, not %d; see grpclb-refresher check --help", len(names)))
		return ExitUsage
	}
	return check(names[0], o, streams)
}

func check(name string, o settings.Options, streams Streams) int {
	var data []byte
	var err error
	if name == "-" {
		name = "stdin"
		data, err = io.ReadAll(io.LimitReader(streams.In, settings.MaxSize+1))
	} else {
		data, err = readFile(name)
	}
	if err != nil {
		refuse(streams, err.Error())
		return ExitConfig
	}
	s, warnings, err := settings.Parse(name, data, o)
	if err != nil {
		_, _ = fmt.Fprintln(streams.Err, err) // editors read FILE:LINE:COLUMN at the beginning of a line
		return ExitConfig
	}
	for _, w := range warnings {
		_, _ = fmt.Fprintf(streams.Err, "%s (warning)\n", w)
	}
	return emit(streams, s.Explain(name))
}
