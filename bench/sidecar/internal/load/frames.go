package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// field is told the fields of a response's header block.
func (c *conn) field(f hpack.HeaderField) {
	if c.current == nil {
		return
	}
	switch f.Name {
	case ":status":
		c.current.http = f.Value
	case "grpc-status":
		if n, err := strconv.Atoi(f.Value); err == nil {
			c.current.status = n
		}
	}
}

// take acts on one frame; the caller holds mu.
func (c *conn) take(kind http2.FrameType, flags http2.Flags, id uint32, body []byte) error {
	switch kind {
	case http2.FrameData:
		return c.data(flags, id, body)
	case http2.FrameHeaders:
		return c.headers(flags, id, body)
	case http2.FrameSettings:
		if flags&http2.FlagSettingsAck == 0 {
			c.announced(body)
		}
	case http2.FramePing:
		if flags&http2.FlagPingAck == 0 {
			c.head(len(body), http2.FramePing, http2.FlagPingAck, 0)
			c.out = append(c.out, body...)
		}
	case http2.FrameWindowUpdate:
		if len(body) != 4 {
			return errors.New("a WINDOW_UPDATE of a wrong size")
		}
		n := int64(binary.BigEndian.Uint32(body) &^ (1 << 31))
		if id == 0 {
			c.window += n
		} else if s := c.streams[id]; s != nil {
			s.window += n
		}
		c.unblock()
	case http2.FrameRSTStream:
		if s := c.streams[id]; s != nil && len(body) == 4 {
			c.finish(s, fmt.Errorf("reset with %v", http2.ErrCode(binary.BigEndian.Uint32(body))))
		}
	case http2.FrameGoAway:
		return fmt.Errorf("GOAWAY %q", body)
	case http2.FrameContinuation, http2.FramePushPromise:
		return fmt.Errorf("a frame of kind %v, which no answer here needs", kind)
	}
	return nil
}

func (c *conn) data(flags http2.Flags, id uint32, body []byte) error {
	if flags&http2.FlagDataPadded != 0 {
		return errors.New("padded DATA")
	}
	if c.credit += len(body); c.credit >= connWindow/4 {
		c.windowUpdate(0, c.credit)
		c.credit = 0
	}
	s := c.streams[id]
	if s == nil {
		return nil // reset before
	}
	s.received += len(body)
	if s.credit += len(body); s.credit >= streamWindow/4 {
		c.windowUpdate(id, s.credit)
		s.credit = 0
	}
	switch {
	case flags&http2.FlagDataEndStream != 0:
		c.finish(s, nil)
	case c.long && s.received >= len(c.payload):
		s.received -= len(c.payload)
		c.message(c, s)
	}
	return nil
}

func (c *conn) headers(flags http2.Flags, id uint32, body []byte) error {
	if flags&http2.FlagHeadersEndHeaders == 0 || flags&(http2.FlagHeadersPadded|http2.FlagHeadersPriority) != 0 {
		return errors.New("HEADERS in parts, with padding or with a priority, which no answer here needs")
	}
	c.current = c.streams[id] // nil when it was reset; the block is decoded all the same
	if _, err := c.dec.Write(body); err != nil {
		return err
	}
	if err := c.dec.Close(); err != nil {
		return err
	}
	if c.current != nil && flags&http2.FlagHeadersEndStream != 0 {
		c.finish(c.current, nil)
	}
	return nil
}

// announced takes the peer's SETTINGS (RFC 9113, section 6.5.2) and acknowledges them.
func (c *conn) announced(body []byte) {
	for ; len(body) >= 6; body = body[6:] {
		value := binary.BigEndian.Uint32(body[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(body)) {
		case http2.SettingInitialWindowSize:
			for _, s := range c.streams {
				s.window += int64(value) - c.initial
			}
			c.initial = int64(value)
		case http2.SettingMaxConcurrentStreams:
			c.max = int(min(value, 1<<30))
		case http2.SettingMaxFrameSize:
			c.frame = int(min(value, 16384)) // the size that everybody sends
		case http2.SettingHeaderTableSize:
			c.enc.SetMaxDynamicTableSizeLimit(value)
		}
	}
	c.head(0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	select {
	case <-c.settings:
	default:
		close(c.settings)
	}
	c.unblock()
	c.room.Broadcast()
}

// finish ends a stream; whoever was refused says why.
func (c *conn) finish(s *stream, err error) {
	delete(c.streams, s.id)
	switch {
	case err != nil:
	case s.http != "200":
		err = fmt.Errorf(":status %q", s.http)
	case s.status != 0:
		err = fmt.Errorf("grpc-status %d", s.status)
	case !c.long && s.received != len(c.payload):
		err = fmt.Errorf("%d bytes came back of %d", s.received, len(c.payload))
	}
	c.done(c, s, c.now, err)
	if len(s.body) == 0 { // else it is among the blocked, who look it up by its number
		c.spare = append(c.spare, s)
	}
	c.room.Signal()
}
