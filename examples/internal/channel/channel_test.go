package channel_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
	"github.com/grpclb/kubectl-grpclb/examples/internal/clustertest"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tally"
	squarepb "github.com/grpclb/kubectl-grpclb/examples/square/proto"
)

// named answers every call with its own name.
type named struct {
	squarepb.UnimplementedSquareServiceServer
	pod string
}

func (n named) FindSquareUnary(context.Context, *squarepb.Input) (*squarepb.Output, error) {
	return &squarepb.Output{Host: n.pod}, nil
}

func square(r grpc.ServiceRegistrar, pod string) {
	squarepb.RegisterSquareServiceServer(r, named{pod: pod})
}

// spread makes calls until each of pods has answered or the deadline ends, then 30 more, and counts those.
func spread(t *testing.T, conn *grpc.ClientConn, pods int) []tally.Row {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client := squarepb.NewSquareServiceClient(conn)
	call := func() string {
		out, err := client.FindSquareUnary(ctx, &squarepb.Input{Number: 2}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		return out.GetHost()
	}
	for seen := map[string]bool{}; len(seen) < pods; {
		seen[call()] = true
	}
	var counts tally.Counts
	for range 30 {
		counts.Add(call(), 1)
	}
	return counts.Rows()
}

func TestPoliciesOverOneChannel(t *testing.T) {
	service := clustertest.Start(t, 3, square, clustertest.Options{})
	t.Run("round_robin takes the pods in turn", func(t *testing.T) {
		conn, err := channel.Open(service.Target(), channel.Options{Policy: channel.RoundRobin})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		rows := spread(t, conn, 3)
		if len(rows) != 3 || rows[0].Calls != 10 || rows[2].Calls != 10 {
			t.Errorf("spread of 30 calls: %v, want 10 each", rows)
		}
	})
	t.Run("the default stays with one pod", func(t *testing.T) {
		conn, err := channel.Open(service.Target(), channel.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if rows := spread(t, conn, 1); len(rows) != 1 || rows[0].Calls != 30 {
			t.Errorf("spread of 30 calls: %v, want one pod", rows)
		}
	})
}

func TestDialErrorsAreReported(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	reports := make(chan error, 100)
	conn, err := channel.Open("passthrough:///"+closed, channel.Options{OnDialError: func(address string, err error) {
		if address != closed {
			t.Errorf("reported address %s, want %s", address, closed)
		}
		select {
		case reports <- err:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = squarepb.NewSquareServiceClient(conn).FindSquareUnary(ctx, &squarepb.Input{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("call: %v, want Unavailable", err)
	}
	select {
	case err := <-reports:
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("reported %v, want connection refused", err)
		}
	case <-ctx.Done():
		t.Error("no dial error was reported")
	}
}

func TestParsePolicy(t *testing.T) {
	for _, name := range []string{"pick_first", "round_robin"} {
		if p, err := channel.ParsePolicy(name); err != nil || string(p) != name {
			t.Errorf("ParsePolicy(%q) = %q, %v", name, p, err)
		}
	}
	for _, name := range []string{"", "ROUND_ROBIN", "least_request"} {
		if p, err := channel.ParsePolicy(name); err == nil {
			t.Errorf("ParsePolicy(%q) = %q, want an error", name, p)
		}
	}
}
