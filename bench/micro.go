package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/grpclb/kubectl-grpclb/bench/internal/result"
)

// micro runs the Go benchmarks ten times, the least that benchstat judges by, and prints its tables as they are.
func micro(ctx context.Context, b *bench, s *result.Section) error {
	const count = "10"
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", "50ms", "-count", count, "./micro")
	cmd.Dir = b.path("bench")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run the benchmarks: %w", err)
	}
	raw := b.follow(out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run the benchmarks: %w: %s", err, tail(raw))
	}
	file := filepath.Join(b.dir, "micro.txt")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	stat := exec.CommandContext(ctx, "go", "tool", "benchstat", "-col", "/impl", file)
	stat.Dir = b.path("tools")
	var stderr bytes.Buffer
	stat.Stderr = &stderr
	table, err := stat.Output()
	if err != nil {
		return fmt.Errorf("benchstat: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	s.Block = strings.ReplaceAll(string(table), b.dir+string(filepath.Separator), "")
	return nil
}

// follow collects the output of go test and tells each benchmark once.
func (b *bench) follow(r io.Reader) []byte {
	var all bytes.Buffer
	last := ""
	for s := bufio.NewScanner(r); s.Scan(); {
		all.WriteString(s.Text() + "\n")
		if name, _, _ := strings.Cut(s.Text(), " "); strings.HasPrefix(name, "Benchmark") && name != last {
			last = name
			b.say("%s", name)
		}
	}
	return all.Bytes()
}

func tail(b []byte) []byte { return b[max(0, len(b)-600):] }
