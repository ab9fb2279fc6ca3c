package state

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestLockIsHeldByOneAndTellsTheOthersBy(t *testing.T) {
	d := Dir(t.TempDir())
	unlock, err := d.Lock(t.Context(), "up", func(string) { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	var told []string
	_, err = d.Lock(ctx, "down", func(holder string) { told = append(told, holder) })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a held lock was taken: %v", err)
	}
	if len(told) != 1 || !strings.HasPrefix(told[0], "up (pid ") {
		t.Errorf("told %q, want once that up holds it", told)
	}

	taken := make(chan error, 1)
	go func() {
		again, err := d.Lock(t.Context(), "down", func(string) {})
		if err == nil {
			again()
		}
		taken <- err
	}()
	unlock()
	select {
	case err := <-taken:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a released lock was not taken")
	}
}
