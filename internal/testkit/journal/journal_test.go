package journal_test

import (
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/journal"
)

// TestBuffer: with -race, that reading and writing at once is allowed.
func TestBuffer(t *testing.T) {
	var b journal.Buffer
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				if _, err := io.WriteString(&b, "line\n"); err != nil {
					t.Error(err)
				}
				if !strings.HasPrefix(b.String(), "line\n") {
					t.Error("what was written is not there")
				}
			}
		})
	}
	all.Wait()
	if got := strings.Count(b.String(), "line\n"); got != 200 {
		t.Errorf("%d lines, want 200", got)
	}
}
