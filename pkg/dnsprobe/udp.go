package dnsprobe

import (
	"context"
	"fmt"
	"time"
)

// maxDatagram is the greatest UDP payload there is. Reading with less would cut an oversized answer and blame the server for it.
const maxDatagram = 65535

// ignoredReasons is for how many datagrams an answer says why they were passed over.
const ignoredReasons = 4

// exchangeUDP asks once over UDP and waits for the right answer until ctx ends, passing over datagrams that cannot be verified
// to answer the question: whoever sent them, the right one may still be on its way (RFC 5452 section 9.1).
func (c *Client) exchangeUDP(ctx context.Context, server string, s asked) (*Answer, error) {
	s.id = randomID()
	wire, err := encode(s)
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx, UDP, server)
	if err != nil {
		return nil, err
	}
	defer closeWith(ctx, conn)()

	start := time.Now()
	if _, err := conn.Write(wire); err != nil {
		return nil, fmt.Errorf("write: %w", exchangeError(ctx, err))
	}
	var passed ignored
	buf := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, passed.instead(fmt.Errorf("read: %w", exchangeError(ctx, err)))
		}
		rtt := time.Since(start)
		v, err := verify(buf[:n], s)
		if err != nil {
			passed.add(err)
			continue
		}
		a, err := decode(v, s)
		if err != nil {
			return nil, err
		}
		a.Server, a.Transport, a.RTT = server, UDP, rtt
		a.Ignored, a.IgnoredWhy = passed.count, passed.why
		return a, nil
	}
}

// ignored remembers datagrams that were passed over.
type ignored struct {
	count   int
	why     []string
	verdict error
}

func (i *ignored) add(err error) {
	i.count++
	if len(i.why) < ignoredReasons {
		i.why = append(i.why, err.Error())
	}
	// A forgery says more about the path than noise does.
	if i.verdict == nil || KindOf(i.verdict) == KindMalformed {
		i.verdict = err
	}
}

// instead replaces the time-out after which only wrong datagrams had come by what was wrong with them.
func (i *ignored) instead(err error) error {
	if i.verdict == nil || KindOf(err) != KindTimeout {
		return err
	}
	return fmt.Errorf("%w (%d such until the time was up)", i.verdict, i.count)
}
