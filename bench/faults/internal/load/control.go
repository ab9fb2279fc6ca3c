package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
)

// Control is the HTTP side of a client: /start with Options as JSON, /streams?servers=3, /state, and /stop, which answers with the
// report. One run at a time; a new channel for each.
func Control(v Variant) http.Handler {
	c := &control{variant: v}
	mux := http.NewServeMux()
	mux.HandleFunc("/start", answer(c.start))
	mux.HandleFunc("/streams", answer(c.streams))
	mux.HandleFunc("/state", answer(c.state))
	mux.HandleFunc("/stop", answer(c.stop))
	return mux
}

type control struct {
	variant Variant
	mu      sync.Mutex
	run     *Run // guarded by mu; nil while nothing runs
}

var errIdle = errors.New("nothing is running")

func (c *control) start(r *http.Request) (any, error) {
	var o Options
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != nil { // of a driver that did not end it
		_, _ = c.run.Stop()
		c.run = nil
	}
	run, err := Start(c.variant, o)
	if err != nil {
		return nil, err
	}
	c.run = run
	return run.State(), nil
}

func (c *control) current() (*Run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return nil, errIdle
	}
	return c.run, nil
}

func (c *control) streams(r *http.Request) (any, error) {
	servers, err := strconv.Atoi(r.FormValue("servers"))
	if err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	run, err := c.current()
	if err != nil {
		return nil, err
	}
	if err := run.OpenStreams(servers); err != nil {
		return nil, err
	}
	return run.State(), nil
}

func (c *control) state(*http.Request) (any, error) {
	run, err := c.current()
	if err != nil {
		return nil, err
	}
	return run.State(), nil
}

func (c *control) stop(*http.Request) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return nil, errIdle
	}
	out, err := c.run.Stop()
	c.run = nil
	return out, err
}

func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // a driver that went away needs no answer
	}
}
