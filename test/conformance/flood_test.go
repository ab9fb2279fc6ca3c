//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// What the sidecar may have in memory, beyond what it had before, whatever a client of it does. Any container of the pod may be that client.
const (
	floodBound = 32 << 20
	// 200 streams, and for each a window of what the pod sent and the client does not take; and what garbage Go leaves.
	unreadBound = 40 << 20
	// A thousand connections that say nothing.
	idleBound = 48 << 20
)

// floodTime is for how long each flood goes on.
const floodTime = 1500 * time.Millisecond

func TestFloods(t *testing.T) {
	for _, f := range floods {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			s := startSidecar(t, startPod(t).addr)
			w := watch(t, s)
			stop := make(chan struct{})
			timer := time.AfterFunc(floodTime, func() { close(stop) })
			defer timer.Stop()
			sent, ended := f.run(t, s.addr, stop)
			w.end(fmt.Sprintf("%s (%s)", f.name, f.why), floodBound, fmt.Sprintf("%s sent, %d connections ended by it", megabytes(sent), ended))
		})
	}
}

// A client that calls and does not read: 200 streams of answers without an end.
func TestSlowRead(t *testing.T) {
	const streams = 200
	for name, test := range map[string]struct {
		deaf   bool
		window uint32
	}{
		"windows shut":                    {false, 0},
		"one byte of windows":             {false, 1},
		"windows wide open, nothing read": {true, 1<<31 - 1},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := startSidecar(t, startPod(t).addr)
			w := watch(t, s)
			a, err := attack(t, s.addr, test.deaf, http2.Setting{ID: http2.SettingInitialWindowSize, Val: test.window})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = a.Close() }() // it may be closed already
			a.put(a.frames.WriteWindowUpdate(0, 1<<31-1-65535))
			head := block(pourMethod)
			for range streams {
				a.call(head, false)
			}
			if err := a.flush(); err != nil {
				t.Fatal(err)
			}
			pause(t, floodTime)
			w.end(fmt.Sprintf("slow read, %s", name), unreadBound, fmt.Sprintf("%d streams", streams))
		})
	}
}

// Connections that never finish their first words, or say them and nothing more.
func TestManyConnections(t *testing.T) {
	const connections = 1000
	for name, words := range map[string]string{
		"nothing said":       "",
		"half of a preface":  http2.ClientPreface[:12],
		"half of a SETTINGS": http2.ClientPreface + "\x00\x00\x06\x04",
		"idle":               http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := startSidecar(t, startPod(t).addr)
			w := watch(t, s)
			open := 0
			for range connections {
				conn, err := net.DialTimeout("tcp", s.addr, 5*time.Second)
				if err != nil {
					t.Fatalf("after %d connections: %v", open, err)
				}
				defer func() { _ = conn.Close() }() // it may be closed already
				open++
				go func() { _, _ = io.Copy(io.Discard, conn) }() // until it ends
				if _, err := io.WriteString(conn, words); err != nil {
					t.Fatal(err)
				}
			}
			pause(t, floodTime/2)
			w.end("connections, "+name, idleBound, fmt.Sprintf("%d of them", open))
		})
	}
}

// pause lets something go on for a while: these tests look at what it does, not for when it is done.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// watched looks at a sidecar's memory and at the calls of an innocent client while something happens.
type watched struct {
	t      *testing.T
	s      *sidecar
	before int64
	stop   chan struct{}
	all    sync.WaitGroup

	mu     sync.Mutex
	most   int64
	took   []time.Duration
	failed []error
}

// innocentDeadline is generous: on a machine that is busy with other things, too, a slow call is no failure of the sidecar's.
const innocentDeadline = 30 * time.Second

func watch(t *testing.T, s *sidecar) *watched {
	t.Helper()
	conn := channel(t, s.addr)
	w := &watched{t: t, s: s, stop: make(chan struct{})}
	for range 20 {
		if err := w.innocent(conn); err != nil {
			t.Fatal(err)
		}
	}
	w.before = s.resident(t)
	w.took = nil
	w.every(50*time.Millisecond, func() {
		n := s.resident(t)
		w.mu.Lock()
		w.most = max(w.most, n)
		w.mu.Unlock()
	})
	w.every(10*time.Millisecond, func() {
		if err := w.innocent(conn); err != nil {
			w.mu.Lock()
			w.failed = append(w.failed, err)
			w.mu.Unlock()
		}
	})
	return w
}

// every calls do again and again, one call at a time.
func (w *watched) every(d time.Duration, do func()) {
	w.all.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			do()
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
	})
}

func (w *watched) innocent(conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), innocentDeadline)
	defer cancel()
	begun := time.Now()
	err := echoed(ctx, conn, patterned(100))
	w.mu.Lock()
	w.took = append(w.took, time.Since(begun))
	w.mu.Unlock()
	return err
}

// end stops looking, notes what was seen and judges it.
func (w *watched) end(what string, bound int64, note string) {
	w.t.Helper()
	close(w.stop)
	w.all.Wait()
	slices.Sort(w.took)
	at := func(p float64) time.Duration {
		return w.took[min(int(p*float64(len(w.took))), len(w.took)-1)].Round(10 * time.Microsecond)
	}
	row := figures{
		strings.TrimSuffix(what, " ()"), note, megabytes(w.before), megabytes(w.most), fmt.Sprintf("%d, %d failed", len(w.took), len(w.failed)),
		fmt.Sprintf("%s, %s", at(0.5), at(0.99)),
	}
	w.t.Log(row)
	noted = append(noted, row)
	if grown := w.most - w.before; grown > bound {
		w.t.Errorf("memory grew by %s, more than %s", megabytes(grown), megabytes(bound))
	}
	if len(w.failed) > 0 {
		w.t.Errorf("%d calls of another client failed, first: %v", len(w.failed), w.failed[0])
	}
}
