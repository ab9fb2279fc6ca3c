package bot

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/ballot"
)

// TestVotesInTurn: each choice as often as any other, so that a known share fails.
func TestVotesInTurn(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	got := map[string]int{}
	votes := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodPost || r.URL.Path != "/api/vote" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if votes++; votes <= 100 {
			got[r.FormValue("choice")]++
		}
		if votes == 100 {
			stop()
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer web.Close()
	vars := map[string]string{EnvWeb: web.URL, EnvRate: "500"}
	if err := Run(ctx, app.Env{Stderr: io.Discard, Getenv: func(name string) string { return vars[name] }}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, c := range ballot.Choices() {
		// The bot does not wait for answers: votes may overtake each other, the last of these a later one.
		if got[c] < 9 || got[c] > 11 {
			t.Errorf("%d of the first 100 votes are for %s, want 10, give or take one: %v", got[c], c, got)
		}
		delete(got, c)
	}
	if len(got) > 0 {
		t.Errorf("votes for what is no choice: %v", got)
	}
}

func TestCountsWhatWasRefused(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	env := app.Env{Stderr: io.Discard}
	b := &bot{web: web.URL, client: web.Client()}
	b.vote(t.Context(), "apple", env.Logger())
	web.Close()
	b.vote(t.Context(), "apple", env.Logger())
	if b.cast.Load() != 1 || b.refused.Load() != 1 {
		t.Errorf("%d votes, %d refused; want 1 of 1, and one without an answer", b.cast.Load(), b.refused.Load())
	}
}

func TestBadSettings(t *testing.T) {
	for name, value := range map[string]string{EnvRate: "0", EnvWeb: "voting-web:8000"} {
		err := Run(t.Context(), app.Env{Stderr: io.Discard, Getenv: func(asked string) string { return map[string]string{name: value}[asked] }})
		var usage *app.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v, want a usage error that names it", name, value, err)
		}
	}
}
