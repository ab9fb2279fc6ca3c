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

	printed string // by the last block that was run
	ran     bool
	behind  []func()
}

// patience is how long a block in the background may take to print its first
// line: kubectl waits for a pod until then.
const patience = 2 * time.Minute

// Run goes through a page: it runs the blocks of the class and compares what
// they print with the outputs that are shown. It stops at the first block that
// does not run as its comment says, since what follows builds on it.
func (s *Session) Run(ctx context.Context, page *Page, class Class) {
	defer func() {
		for _, stop := range s.behind {
			stop()
		}
	}()
	for _, b := range page.Blocks {
		switch {
		case b.Class == class:
			if err := s.block(ctx, b); err != nil {
				s.Report(b, err)
				return
			}
			s.ran = true
		case b.Class == Output && s.ran:
			s.compare(b)
		default:
			// An output belongs to the block right before it.
			s.ran = false
		}
	}
}

func (s *Session) compare(b Block) {
	printed := s.printed
	if s.Namespace != "" {
		printed = strings.ReplaceAll(printed, s.Namespace, "default")
	}
	if err := Match(b.Text, printed); err != nil {
		s.Report(b, fmt.Errorf("%w\nif the document is out of date, write into it what was printed (a word … stands for anything):\n%s", err, printed))
	}
}

var inDefault = regexp.MustCompile(`(-n(?:amespace)?[ =]|[.:])default\b`)

// script is a block's text with its namespace.
func (s *Session) script(b Block) string {
	if s.Namespace == "" {
		return b.Text
	}
	return inDefault.ReplaceAllString(b.Text, "${1}"+s.Namespace)
}

func (s *Session) block(ctx context.Context, b Block) error {
	if b.Background {
		return s.start(ctx, b)
	}
	cmd := s.Command(ctx, "sh", "-eu", "-c", s.script(b))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	s.printed = stdout.String()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return fmt.Errorf("run it: %w", err)
	}
	if code := cmd.ProcessState.ExitCode(); code != b.Exit {
		return fmt.Errorf("it ended with code %d, the document says %d; mend the commands, or write <!-- run: …, exit %d --> "+
			"if that is what a reader is to see\n%s\nstdout:\n%s\nstderr:\n%s", code, b.Exit, code, b.Text, &stdout, &stderr)
	}
	return nil
}

// start begins a command that goes on, and returns when it has said something.
func (s *Session) start(ctx context.Context, b Block) error {
	ctx, cancel := context.WithCancel(ctx)
	cmd := s.Command(ctx, "sh", "-eu", "-c", "exec "+strings.TrimSpace(s.script(b)))
	out := &heard{first: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		cancel()
		return fmt.Errorf("start it: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.behind = append(s.behind, func() { cancel(); <-ended })
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-out.first:
		s.printed = out.String()
		return nil
	case err := <-ended:
		ended <- err
		return fmt.Errorf("it was to go on in the background, and ended: %w\n%s", err, out)
	case <-late.C:
		return fmt.Errorf("it said nothing for %s", patience)
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
