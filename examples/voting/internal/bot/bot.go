// Package bot votes: for all choices in turn, at a steady rate, on the front end's API, so that the voting service has something to do and
// a known share of its calls fails. It neither retries nor waits for an answer before the next vote.
package bot

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/ballot"
)

// The environment variables that the bot reads.
const (
	// EnvWeb is the front end's base URL, http://voting-web:8000 by default.
	EnvWeb = "WEB_URL"
	// EnvRate is how many votes it casts in a second, 50 by default.
	EnvRate = "VOTES_PER_SECOND"
)

const (
	defaultRate = 50
	// maxRate keeps a typing error from turning an example into an attack.
	maxRate = 5000
	// maxInFlight bounds the votes that wait for an answer; further ones are left out rather than queued.
	maxInFlight = 64
	timeout     = 5 * time.Second
	tellEvery   = 10 * time.Second
)

// bot is the program at work.
type bot struct {
	web           string
	client        *http.Client
	cast, refused atomic.Int64
}

// Run is the program: it votes until ctx ends.
func Run(ctx context.Context, env app.Env) error {
	rate, err := env.Int(EnvRate, defaultRate, 1, maxRate)
	if err != nil {
		return err
	}
	web := env.String(EnvWeb, "http://voting-web:8000")
	if u, err := url.Parse(web); err != nil || u.Scheme != "http" || u.Host == "" {
		return app.Usagef("%s=%q is not a URL such as http://voting-web:8000", EnvWeb, web)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: maxInFlight}
	defer transport.CloseIdleConnections()
	b := &bot{web: web, client: &http.Client{Timeout: timeout, Transport: transport}}
	b.run(ctx, rate, env.Logger())
	return nil
}

// run returns when every vote that it began has ended.
func (b *bot) run(ctx context.Context, rate int, log *slog.Logger) {
	log.Info("voting", "web", b.web, "votesPerSecond", rate)
	tick, tell := time.NewTicker(time.Second/time.Duration(rate)), time.NewTicker(tellEvery)
	defer tick.Stop()
	defer tell.Stop()
	var votes errgroup.Group
	votes.SetLimit(maxInFlight)
	for n := 0; ; {
		select {
		case <-ctx.Done():
			// No vote returns an error to the group: failures are counted.
			_ = votes.Wait()
			return
		case <-tell.C:
			log.Info("so far", "votes", b.cast.Load(), "refused", b.refused.Load())
		case <-tick.C:
			choice := ballot.Choices()[n%len(ballot.Choices())]
			if votes.TryGo(func() error { b.vote(ctx, choice, log); return nil }) {
				n++
			}
		}
	}
}

func (b *bot) vote(ctx context.Context, choice string, log *slog.Logger) {
	code, err := b.post(ctx, choice)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		log.Warn("no answer", "error", err)
		return
	case code != http.StatusOK:
		b.refused.Add(1)
	}
	b.cast.Add(1)
}

func (b *bot) post(ctx context.Context, choice string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.web+"/api/vote?choice="+url.QueryEscape(choice), nil)
	if err != nil {
		return 0, fmt.Errorf("vote: %w", err)
	}
	out, err := b.client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("vote: %w", err)
	}
	return out.StatusCode, out.Body.Close()
}
