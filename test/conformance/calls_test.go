//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var bothWays = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// patterned is bytes in which a piece that is missing, doubled or moved shows.
func patterned(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// echoed makes a unary call and compares what comes back.
func echoed(ctx context.Context, conn *grpc.ClientConn, data []byte, opts ...grpc.CallOption) error {
	var back bytesMessage
	if err := conn.Invoke(ctx, echoMethod, &bytesMessage{data}, &back, opts...); err != nil {
		return err
	}
	if !bytes.Equal(back.data, data) {
		return fmt.Errorf("%d bytes came back as %d, or others", len(data), len(back.data))
	}
	return nil
}

func TestSizes(t *testing.T) {
	conn := channel(t, startSidecar(t, startPod(t).addr).addr)
	// Around the size of a frame and of a window, less the five bytes before a message; and 3 MB.
	for _, n := range []int{0, 1, 16378, 16379, 16380, 65529, 65530, 65531, 1 << 20, 3_000_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := echoed(ctx, conn, patterned(n)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("3 MB on ten streams at once", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		var calls sync.WaitGroup
		for range 10 {
			calls.Go(func() {
				if err := echoed(ctx, conn, patterned(3_000_000)); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	})
}

// Over one connection of the client, so that stream numbers and HPACK tables grow old on it.
func TestHundredThousandStreams(t *testing.T) {
	const calls, workers = 100_000, 100
	s := startSidecar(t, startPod(t).addr)
	conn := channel(t, s.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := echoed(ctx, conn, patterned(100)); err != nil {
		t.Fatal(err)
	}
	before := s.resident(t)
	var begun, failed atomic.Int64
	var first sync.Once
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for n := begun.Add(1); n <= calls; n = begun.Add(1) {
				if err := echoed(ctx, conn, patterned(int(n%300))); err != nil {
					failed.Add(1)
					first.Do(func() { t.Error(err) })
				}
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d calls failed", failed.Load(), calls)
	}
	after := s.resident(t)
	t.Logf("figures: 100,000 streams on one connection, %d failed, memory %s before, %s after", failed.Load(), megabytes(before), megabytes(after))
	if after-before > 16<<20 {
		t.Errorf("memory grew from %s to %s", megabytes(before), megabytes(after))
	}
}

func TestCancelReachesThePod(t *testing.T) {
	p := startPod(t)
	conn := channel(t, startSidecar(t, p.addr).addr)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := conn.NewStream(ctx, bothWays, hangMethod)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	call := <-p.hanging
	if call.Err() != nil {
		t.Fatalf("the pod's call ended before its client's: %v", call.Err())
	}
	cancel()
	select {
	case <-call.Done():
	case <-time.After(10 * time.Second):
		t.Error("the pod's call goes on 10 s after its client was gone")
	}
}

func TestDeadlineReachesThePod(t *testing.T) {
	p := startPod(t)
	conn := channel(t, startSidecar(t, p.addr).addr)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	stream, err := conn.NewStream(ctx, bothWays, hangMethod)
	if err != nil {
		t.Fatal(err)
	}
	call := <-p.hanging
	theirs, ok := call.Deadline()
	mine, _ := ctx.Deadline()
	if d := theirs.Sub(mine); !ok || d.Abs() > 5*time.Second {
		t.Errorf("the pod's deadline is %s (%t), the client's %s", theirs, ok, mine)
	}
	if err := stream.RecvMsg(&bytesMessage{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v, want DEADLINE_EXCEEDED", err)
	}
	<-call.Done()
}

func TestEncodings(t *testing.T) {
	p := startPod(t)
	conn := channel(t, startSidecar(t, p.addr).addr)
	for _, name := range []string{"", "identity", gzip.Name, turnedName} {
		t.Run("encoding "+name, func(t *testing.T) {
			var opts []grpc.CallOption
			if name != "" {
				opts = append(opts, grpc.UseCompressor(name))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for _, n := range []int{0, 100, 200_000} {
				if err := echoed(ctx, conn, patterned(n), opts...); err != nil {
					t.Errorf("%d bytes: %v", n, err)
				}
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if want := strings.TrimPrefix(name, "identity"); !slices.Contains(p.seen, name) && !slices.Contains(p.seen, want) {
				t.Errorf("the pod saw the encodings %q, not %q", p.seen, name)
			}
		})
	}
}

func TestLargeMetadata(t *testing.T) {
	conn := channel(t, startSidecar(t, startPod(t).addr).addr)
	// In one field, and in many: the block takes CONTINUATION either way.
	one := []string{strings.Repeat("metadata", 20<<10/8)}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("%03d %s", i, strings.Repeat("m", 96)))
	}
	for name, values := range map[string][]string{"20 KB in one field": one, "20 KB in 200 fields": many} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			md := metadata.MD{"x-echo": values}
			var header, trailer metadata.MD
			for range 3 { // the second and third find fields in HPACK's tables
				err := echoed(metadata.NewOutgoingContext(ctx, md), conn, patterned(10), grpc.Header(&header), grpc.Trailer(&trailer))
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(header.Get("x-echo"), values) || !slices.Equal(trailer.Get("x-echo"), values) {
					t.Fatalf("%d values came back as %d in headers and %d in trailers, or others", len(values), len(header.Get("x-echo")), len(trailer.Get("x-echo")))
				}
			}
		})
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
