package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Desk makes a folder to run a reader's commands in: dir, with a link to each
// entry of the repository, so that paths work and new files land beside them.
func Desk(root, dir string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("make a desk: %w", err)
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("make a desk: %w", err)
		}
	}
	return nil
}

// Session runs the blocks of one page, in order.
type Session struct {
	// Command makes a program ready to start, with folder and environment.
	Command func(ctx context.Context, argv ...string) *exec.Cmd
	// Namespace is where the commands run, if not empty. The documents are
	// written for the namespace "default".
	Namespace string
	// Report gets each failure, at the block it belongs to.
	Report func(b Block, err error)

	behind []func() // ends what runs in the background
}

// patience is how long a block in the background may take to print its first
// line: kubectl waits for a pod until then.
const patience = 2 * time.Minute

// attempts is how often a block that measures is run until it prints what the
// document shows.
const attempts = 3

// Run goes through a page: it runs the blocks of the class and compares what
// they print with the output that is shown right after, if one is. It stops at
// the first block that does not run as its comment says, since what follows
// builds on it.
func (s *Session) Run(ctx context.Context, page *Page, class Class) {
	defer func() {
		for _, stop := range s.behind {
			stop()
		}
	}()
	for i, b := range page.Blocks {
		if b.Class != class {
			continue
		}
		var shown *Block
		if i+1 < len(page.Blocks) && page.Blocks[i+1].Class == Output {
			shown = &page.Blocks[i+1]
		}
		if !s.one(ctx, b, shown) {
			return
		}
	}
}

// one runs a block and compares; it reports false when the page cannot go on.
func (s *Session) one(ctx context.Context, b Block, shown *Block) bool {
	for n := 1; ; n++ {
		printed, err := s.block(ctx, b)
		if err != nil {
			s.Report(b, err)
			return false
		}
		if shown == nil {
			return true
		}
		if err = s.compare(*shown, printed); err == nil {
			return true
		}
		if !b.Again || n == attempts {
			s.Report(*shown, err)
			return true
		}
	}
}

func (s *Session) compare(shown Block, printed string) error {
	if s.Namespace != "" {
		printed = strings.ReplaceAll(printed, s.Namespace, "default")
	}
	if err := Match(shown.Text, printed); err != nil {
		return fmt.Errorf("%w\nif the document is out of date, write into it what was printed (a word … stands for anything):\n%s", err, printed)
	}
	return nil
}

var inDefault = regexp.MustCompile(`(-n(?:amespace)?[ =]|[.:])default\b`)

// script is a block's text with its namespace.
func (s *Session) script(b Block) string {
	if s.Namespace == "" {
		return b.Text
	}
	return inDefault.ReplaceAllString(b.Text, "${1}"+s.Namespace)
}

// block runs a block and returns what it printed.
func (s *Session) block(ctx context.Context, b Block) (string, error) {
	if b.Background {
		return s.start(ctx, b)
	}
	cmd := s.Command(ctx, "sh", "-eu", "-c", s.script(b))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return "", fmt.Errorf("run it: %w", err)
	}
	if code := cmd.ProcessState.ExitCode(); code != b.Exit {
		return "", fmt.Errorf("it ended with code %d, the document says %d; mend the commands, or write <!-- run: …, exit %d --> "+
			"if that is what a reader is to see\n%s\nstdout:\n%s\nstderr:\n%s", code, b.Exit, code, b.Text, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// start begins a command that goes on, and returns when it has said something.
func (s *Session) start(ctx context.Context, b Block) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := s.Command(ctx, "sh", "-eu", "-c", "exec "+strings.TrimSpace(s.script(b)))
	out := &heard{first: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		cancel()
		return "", fmt.Errorf("start it: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.behind = append(s.behind, func() { cancel(); <-ended })
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-out.first:
		return out.String(), nil
	case err := <-ended:
		ended <- err
		return "", fmt.Errorf("it was to go on in the background, and ended: %w\n%s", err, out)
	case <-late.C:
		return "", fmt.Errorf("it said nothing for %s", patience)
	}
}

// heard keeps what is written to it and tells when that begins.
type heard struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	first chan struct{}
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.buf.Len() == 0 && len(p) > 0 {
		close(h.first)
	}
	return h.buf.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.String()
}
