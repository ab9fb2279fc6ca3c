package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/report"
	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/wire"
)

const (
	// sayEvery is the time between two messages of a stream.
	sayEvery = 100 * time.Millisecond
	// mostTries is how many streams are opened in search of one per server.
	mostTries = 200
)

// OpenStreams opens streams until there is one on each of as many servers. A stream on a server that has one already is closed again:
// no policy lets its user choose.
func (r *Run) OpenStreams(servers int) error {
	have := map[string]bool{}
	for range mostTries {
		if len(have) == servers {
			return nil
		}
		s, err := r.open()
		if err != nil {
			return err
		}
		if have[s.peer] {
			s.cancel()
			continue
		}
		have[s.peer] = true
		r.keep(s)
	}
	return fmt.Errorf("%d streams reached %d servers, want %d", mostTries, len(have), servers)
}

// chat is a stream that is there.
type chat struct {
	grpc.ClientStream
	cancel context.CancelFunc
	peer   string
}

// open opens one stream and waits until its server has it.
func (r *Run) open() (*chat, error) {
	ctx, cancel := context.WithCancel(r.life)
	impatient := time.AfterFunc(5*time.Second, cancel)
	defer impatient.Stop()
	var header metadata.MD
	s, err := r.target.Conn.NewStream(ctx, wire.ChatDesc, wire.Chat)
	if err == nil {
		header, err = s.Header()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open a stream: %w", err)
	}
	var dialled net.Addr
	if p, ok := peer.FromContext(s.Context()); ok {
		dialled = p.Addr
	}
	server := r.server(header, dialled)
	if server == "" {
		cancel()
		return nil, errors.New("open a stream: no peer")
	}
	return &chat{ClientStream: s, cancel: cancel, peer: server}, nil
}

// keep talks on a stream until it ends, and notes how that went.
func (r *Run) keep(s *chat) {
	opened := time.Since(r.began)
	r.streams.Go(func() {
		t := time.NewTicker(sayEvery)
		defer t.Stop()
		for n := int64(0); s.SendMsg(wrapperspb.Int64(n)) == nil; n++ { // the receiving side learns why it is not
			select {
			case <-t.C:
			case <-s.Context().Done():
				return
			}
		}
	})
	r.streams.Go(func() {
		defer s.cancel()
		out := report.Stream{Peer: s.peer, Opened: opened}
		var err error
		for last := time.Now(); ; out.Echoes++ {
			if err = s.RecvMsg(new(wrapperspb.Int64Value)); err != nil {
				out.Gap = max(out.Gap, time.Since(last))
				break
			}
			out.Gap, last = max(out.Gap, time.Since(last)), time.Now()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.stopping {
			out.Ended = time.Since(r.began)
			if !errors.Is(err, io.EOF) {
				out.Code, out.Message = status.Code(err), status.Convert(err).Message()
			}
			if out.Code == codes.OK && !errors.Is(err, io.EOF) {
				out.Code = codes.Unknown // an error is one, even if it carries no status
			}
		}
		r.r.Streams = append(r.r.Streams, out)
	})
}
