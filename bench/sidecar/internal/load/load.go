// Package load is the client of the sidecar's benchmark: raw HTTP/2 frames on one connection per address, so light that what it measures
// is the others.
//
//	r, err := load.Run(ctx, load.Config{Addrs: []string{"127.0.0.1:6565"}, Mode: load.Open, Rate: 2000, Size: 100, Duration: 2 * time.Second})
//
// In the open mode calls begin on a schedule that no answer can hold up, and a call's time counts from the moment when it was to begin: a
// proxy that stands still for 10 ms has all calls of that time wait, and they are counted so (there is no coordinated omission).
//
// It refuses to be a client for anything else: no TLS, no retries, no answers in several header blocks' parts.
package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Mode is how calls follow each other.
type Mode string

// The modes.
const (
	Open     Mode = "open"     // unary calls at a rate
	Closed   Mode = "closed"   // unary calls, each of Streams begins when the one before has ended
	PingPong Mode = "pingpong" // Streams long streams, one message at a time on each
)

// The methods of the echo service, which returns every message.
const (
	Unary = "/bench.Echo/Unary"
	Bidi  = "/bench.Echo/Bidi"
)

// Config is one run.
type Config struct {
	Addrs    []string // a connection each, used in turn
	Mode     Mode
	Rate     int // calls a second, all addresses together; Open
	Streams  int // Closed, PingPong
	Size     int // of a message, in bytes
	Warm     time.Duration
	Duration time.Duration
	Mark     func() // called at the end of Warm and at the end of Duration, from another goroutine
}

// Result is what a run saw between the two marks.
type Result struct {
	Calls    int // that ended, or messages that came back
	Failed   int
	Error    string // the first failure
	Elapsed  time.Duration
	Latency  []time.Duration // sorted, of those that succeeded
	Unserved int             // calls that were to begin and had not ended some seconds after the run
}

// Quantile is the time under which a share p (0 to 1) of the calls ended; 0 without calls.
func (r Result) Quantile(p float64) time.Duration {
	if len(r.Latency) == 0 {
		return 0
	}
	return r.Latency[min(int(p*float64(len(r.Latency))), len(r.Latency)-1)]
}

// run is a Run under way.
type run struct {
	cfg      Config
	conns    []*conn
	readers  sync.WaitGroup
	mu       sync.Mutex // below a conn's
	result   Result
	from, to time.Time // the window: zero while it has not begun, or not ended
	stopped  bool
	open     int // calls under way
	idle     chan struct{}
}

// Run calls and counts. It returns an error when there was nothing to measure: a refused connection, say.
func Run(ctx context.Context, cfg Config) (_ Result, err error) {
	r := &run{cfg: cfg, idle: make(chan struct{}, 1)}
	payload := make([]byte, messageHead+cfg.Size)
	payload[1], payload[2], payload[3], payload[4] = byte(cfg.Size>>24), byte(cfg.Size>>16), byte(cfg.Size>>8), byte(cfg.Size)
	for i := range cfg.Size {
		payload[messageHead+i] = byte(i * 7)
	}
	defer func() {
		for _, c := range r.conns {
			err = errors.Join(err, c.close())
		}
		r.readers.Wait()
	}()
	for _, addr := range cfg.Addrs {
		c, err := dial(addr, payload)
		if err != nil {
			return Result{}, err
		}
		c.done, c.message, c.long = r.done, r.message, cfg.Mode == PingPong
		r.conns = append(r.conns, c)
		r.readers.Go(func() { _ = c.read() }) // its streams have the error
		r.readers.Go(c.write)
		select {
		case <-c.settings:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(5 * time.Second):
			return Result{}, fmt.Errorf("%s sent no SETTINGS", addr)
		}
	}
	r.window()
	if cfg.Mode == Open {
		r.pace(ctx)
	} else {
		r.fill(ctx)
	}
	r.settle(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.result.Latency)
	r.result.Elapsed = r.to.Sub(r.from)
	r.result.Unserved = r.open
	if r.result.Calls == 0 && r.result.Failed == 0 {
		return r.result, errors.New("nothing ended in the time of the run")
	}
	return r.result, ctx.Err()
}

// window opens and closes the time that counts.
func (r *run) window() {
	r.readers.Go(func() {
		time.Sleep(r.cfg.Warm)
		r.mark(&r.from)
		time.Sleep(r.cfg.Duration)
		r.mark(&r.to)
	})
}

func (r *run) mark(at *time.Time) {
	if r.cfg.Mark != nil {
		r.cfg.Mark()
	}
	r.mu.Lock()
	*at = time.Now()
	r.mu.Unlock()
}

// batch is how much is gathered at most before it is written, by one that is late and has no pause to write in.
const batch = 16 << 10

// pace begins calls on a schedule. A peer that takes no more streams makes it wait, and the calls behind it are late by their own clocks.
func (r *run) pace(ctx context.Context) {
	sleep, leave := sleeper()
	defer leave()
	every := time.Second / time.Duration(r.cfg.Rate)
	begin := time.Now()
	n := int((r.cfg.Warm + r.cfg.Duration) / every)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		at := begin.Add(time.Duration(i) * every)
		if wait := time.Until(at); wait > 0 {
			for _, c := range r.conns {
				c.mu.Lock()
				_ = c.flush() // its streams have the error
				c.mu.Unlock()
			}
			if wait = time.Until(at); wait > 0 {
				sleep(wait)
			}
		}
		c := r.conns[i%len(r.conns)]
		c.mu.Lock()
		for len(c.streams) >= c.max && c.err == nil {
			if len(c.out) > 0 && !c.writing {
				_ = c.flush() // the loop looks at err; it may have let go of mu
			} else {
				c.room.Wait()
			}
		}
		r.begin(c, at)
		if len(c.out) >= batch {
			_ = c.flush() // its streams have the error
		}
		c.mu.Unlock()
	}
	for _, c := range r.conns {
		c.mu.Lock()
		_ = c.flush() // its streams have the error
		c.mu.Unlock()
	}
}

// begin starts a unary call; the caller holds the connection's lock.
func (r *run) begin(c *conn, at time.Time) {
	r.count(1)
	if c.err != nil {
		r.done(c, &stream{intended: at}, at, c.err)
		return
	}
	c.open(Unary, at, true)
}

// fill opens the streams of the other modes and waits; they go on by themselves.
func (r *run) fill(ctx context.Context) {
	for i := range r.cfg.Streams {
		c := r.conns[i%len(r.conns)]
		c.mu.Lock()
		if r.cfg.Mode == Closed {
			r.begin(c, time.Now())
		} else {
			r.count(1)
			c.open(Bidi, time.Now(), false)
		}
		_ = c.flush() // its streams have the error
		c.mu.Unlock()
	}
	select {
	case <-ctx.Done():
	case <-time.After(r.cfg.Warm + r.cfg.Duration):
	}
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
}

// settle waits for what is under way, some seconds at most.
func (r *run) settle(ctx context.Context) {
	limit := time.After(3 * time.Second)
	for {
		r.mu.Lock()
		over := r.open == 0 && !r.to.IsZero()
		r.mu.Unlock()
		if over {
			return
		}
		select {
		case <-r.idle:
		case <-time.After(20 * time.Millisecond):
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *run) count(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open += n
	return r.stopped
}

// note records one call or message by its times. Those that began in the window count for latency, those that ended in it for CPU.
func (r *run) note(s *stream, end time.Time, err error) {
	if err != nil {
		if r.result.Failed++; r.result.Error == "" {
			r.result.Error = err.Error()
		}
		return
	}
	if !r.from.IsZero() && r.to.IsZero() {
		r.result.Calls++
	}
	if !r.from.IsZero() && !s.intended.Before(r.from) && (r.to.IsZero() || s.intended.Before(r.to)) {
		r.result.Latency = append(r.result.Latency, end.Sub(s.intended))
	}
}

// done is told the end of a stream.
func (r *run) done(c *conn, s *stream, at time.Time, err error) {
	r.mu.Lock()
	if r.cfg.Mode != PingPong || err != nil {
		r.note(s, at, err)
	}
	r.open--
	stopped := r.stopped
	if r.open == 0 {
		select {
		case r.idle <- struct{}{}:
		default:
		}
	}
	r.mu.Unlock()
	if r.cfg.Mode == Closed && !stopped && c.err == nil {
		r.begin(c, at)
	}
}

// message is told a whole message of a long stream: the next one leaves, the last one with the stream's end.
func (r *run) message(c *conn, s *stream) {
	r.mu.Lock()
	r.note(s, c.now, nil)
	over := s.end // what came back was the last
	s.end = r.stopped
	r.mu.Unlock()
	if over {
		return
	}
	s.intended = c.now
	c.send(s)
}
