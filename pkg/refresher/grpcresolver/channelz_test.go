package grpcresolver

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	channelzpb "google.golang.org/grpc/channelz/grpc_channelz_v1"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// channelz shows the channel with one subchannel for each endpoint, and their
// calls. Importing its service also turns on the trace of every resolver state,
// for all tests of the package.
func TestChannelz(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	channelz.RegisterChannelzServiceToServer(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	admin, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })

	bs := backends(t, 3)
	b := newBuilder(t, static.New(endpoints(bs...)...))
	c, cc := open(t, b, 3)
	answeredBy(t, c, 10)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	find := func() *channelzpb.Channel {
		for start := int64(0); ; {
			r, err := channelzpb.NewChannelzClient(admin).GetTopChannels(ctx, &channelzpb.GetTopChannelsRequest{StartChannelId: start})
			if err != nil {
				t.Fatal(err)
			}
			for _, ch := range r.GetChannel() {
				start = ch.GetRef().GetChannelId() + 1
				if ch.GetData().GetTarget() == square && len(ch.GetSubchannelRef()) > 0 {
					return ch
				}
			}
			if r.GetEnd() {
				return nil
			}
		}
	}
	ch := find()
	if ch == nil || len(ch.GetSubchannelRef()) != 3 || ch.GetData().GetCallsSucceeded() != 10 {
		t.Errorf("channelz shows %v", ch)
	}
	_ = cc.Close()
	eventually(t, "the channel is gone", func() bool { return find() == nil })
}

// A channel that falls asleep and wakes up again and again leaves nothing behind;
// TestMain looks for goroutines.
func TestIdleCycles(t *testing.T) {
	bs := backends(t, 2)
	b := newBuilder(t, static.New(endpoints(bs...)...))
	c, cc := dial(t, b, grpc.WithIdleTimeout(10*time.Millisecond))
	for range 10 {
		mustCall(t, c)
		enterIdle(t, cc)
	}
	s := b.Stats()[0]
	for _, e := range s.Endpoints {
		if e.Connections > 1 || e.Calls.InFlight != 0 {
			t.Errorf("after ten sleeps %v has %d connections and %d calls", e, e.Connections, e.Calls.InFlight)
		}
	}
}
