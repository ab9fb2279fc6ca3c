package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/bench/sidecar/internal/load"
)

// memory is what a process has in memory, in bytes: all of it, and what of it is its own and not a file's.
type memory struct{ resident, anonymous int64 }

// process is a program that this one started, and ends.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	over chan error
}

// start runs a program, its output in a file of dir.
func start(name, dir string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), over: make(chan error, 1)}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = dir, out, out, append(os.Environ(), env...)
	err = errors.Join(p.cmd.Start(), out.Close())
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.over <- p.cmd.Wait() }()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// answers waits until calls through addr succeed.
func (p *process) answers(ctx context.Context, addrs ...string) error {
	limit := time.Now().Add(15 * time.Second)
	for {
		r, err := load.Run(ctx, load.Config{Addrs: addrs, Mode: load.Open, Rate: 100, Size: 10, Duration: 60 * time.Millisecond})
		if err == nil && r.Failed == 0 && r.Unserved == 0 {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%d calls failed (%s), %d unanswered", r.Failed, r.Error, r.Unserved)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case end := <-p.over:
			p.over <- end
			return fmt.Errorf("%s ended (%w): %s", p.name, errors.Join(end, err), p.tail())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%s does not answer: %w: %s", p.name, err, p.tail())
		}
	}
}

// tail is the end of what it printed.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimSpace(b)
	return string(b[max(0, len(b)-800):])
}

// stop ends it, and does not leave before it has ended.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.over:
		return nil
	case <-time.After(3 * time.Second):
	}
	err := p.cmd.Process.Kill()
	<-p.over
	return err
}
