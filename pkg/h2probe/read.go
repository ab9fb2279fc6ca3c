package h2probe

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// reader is what the reading goroutine alone uses.
type reader struct {
	c       *Caller
	framer  *http2.Framer
	decoder *hpack.Decoder
	started bool
}

func (c *Caller) readLoop() {
	defer c.wg.Done()
	br := bufio.NewReaderSize(c.head, 16<<10)
	if err := c.checkFirst(br); err != nil {
		c.fail(err)
		return
	}
	r := &reader{c: c, framer: http2.NewFramer(io.Discard, br), decoder: hpack.NewDecoder(4096, nil)}
	r.framer.SetMaxReadFrameSize(maxFrame)
	r.framer.SetReuseFrames()
	r.decoder.SetMaxStringLength(maxHeaderList)
	for {
		if err := r.step(); err != nil {
			c.fail(err)
			return
		}
		c.poke() // most frames leave something to write
	}
}

// checkFirst looks at the first frame's header before anything is made of it: it must be SETTINGS (RFC 9113 section 3.4), or
// the GOAWAY of a server that turns us away.
func (c *Caller) checkFirst(br *bufio.Reader) error {
	h, err := br.Peek(9)
	if err != nil {
		return &NotHTTP2Error{First: c.head.bytes(), Err: err}
	}
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	kind, flags, id := http2.FrameType(h[3]), http2.Flags(h[4]), binary.BigEndian.Uint32(h[5:])
	settings := kind == http2.FrameSettings && length%6 == 0 && !flags.Has(http2.FlagSettingsAck)
	goAway := kind == http2.FrameGoAway && length >= 8
	if id != 0 || length > maxFrame || (!settings && !goAway) {
		return &NotHTTP2Error{First: c.head.bytes()}
	}
	return nil
}

// step takes in one frame. An error ends the connection.
func (r *reader) step() error {
	f, err := r.framer.ReadFrame()
	if err != nil {
		var se http2.StreamError
		if errors.As(err, &se) {
			return r.resetBroken(se.StreamID, se.Code, se)
		}
		return r.connError(err)
	}
	c := r.c
	if h, ok := f.(*http2.HeadersFrame); ok {
		block, err := r.readBlock(h)
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.onHeadersLocked(h.StreamID, block, h.StreamEnded())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle++; c.idle > maxIdleFrames {
		return fmt.Errorf("%w: %d frames that move no call forward, the last a %s", ErrFlood, maxIdleFrames, f.Header().Type)
	}
	if c.out.Len() > maxQueued {
		return fmt.Errorf("%w: %d bytes of answers wait", ErrNotReading, c.out.Len())
	}
	return r.onFrameLocked(f)
}

func (r *reader) onFrameLocked(f http2.Frame) error {
	c := r.c
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if err := c.onSettingsLocked(f); err != nil {
			return err
		}
		if !r.started {
			r.started = true
			close(c.started)
		}
		return nil
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.framer.WritePing(true, f.Data)
		}
		return nil
	case *http2.DataFrame:
		return c.onDataLocked(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdateLocked(f.StreamID, int64(f.Increment))
	case *http2.RSTStreamFrame:
		s, err := c.streamLocked(f.StreamID)
		if s != nil {
			c.finishLocked(s, &ResetError{Code: f.ErrCode})
		}
		return err
	case *http2.GoAwayFrame:
		return c.onGoAwayLocked(f, r.started)
	case *http2.PushPromiseFrame:
		return &ProtocolError{Reason: "PUSH_PROMISE, though push was disabled"}
	default:
		return nil // PRIORITY and unknown types: RFC 9113 section 5.5 has them ignored
	}
}

// readBlock decodes a header block over all its frames. Fields are dropped as they are decoded but for the few that matter, so
// that neither a long list nor a small one that unfolds by indexing (RFC 7541 section 7.3) costs memory.
func (r *reader) readBlock(h *http2.HeadersFrame) (*fields, error) {
	block := &fields{}
	r.decoder.SetEmitFunc(block.add)
	fragment, ended := h.HeaderBlockFragment(), h.HeadersEnded()
	size := 0
	for frames := 0; ; frames++ {
		size += len(fragment)
		if size > maxHeaderBlock || frames > maxContinuations {
			return nil, fmt.Errorf("%w: %d bytes in %d frames", ErrHeadersTooLarge, size, frames+1)
		}
		if _, err := r.decoder.Write(fragment); err != nil {
			return nil, headerError(err)
		}
		if block.size > maxHeaderList {
			return nil, fmt.Errorf("%w: more than %d bytes of fields", ErrHeadersTooLarge, maxHeaderList)
		}
		if ended {
			break
		}
		f, err := r.framer.ReadFrame()
		if err != nil {
			return nil, r.connError(err)
		}
		next, ok := f.(*http2.ContinuationFrame)
		if !ok {
			return nil, &ProtocolError{Reason: "header block interrupted by another frame"}
		}
		fragment, ended = next.HeaderBlockFragment(), next.HeadersEnded()
	}
	if err := r.decoder.Close(); err != nil {
		return nil, headerError(err)
	}
	return block, nil
}

func headerError(err error) error {
	if errors.Is(err, hpack.ErrStringLength) {
		return fmt.Errorf("%w: a string of more than %d bytes", ErrHeadersTooLarge, maxHeaderList)
	}
	return &ProtocolError{Reason: "header compression: " + err.Error()}
}

// connError explains an error of the framer.
func (r *reader) connError(err error) error {
	var ce http2.ConnectionError
	if errors.As(err, &ce) {
		if detail := r.framer.ErrorDetail(); detail != nil {
			return &ProtocolError{Reason: clean(detail.Error(), 200)}
		}
		return &ProtocolError{Reason: http2.ErrCode(ce).String()}
	}
	return asTransport(err)
}

// resetBroken ends the one call whose frame the framer refused.
func (r *reader) resetBroken(id uint32, code http2.ErrCode, cause error) error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	s, err := r.c.streamLocked(id)
	if s != nil {
		r.c.resetLocked(s, code, &ProtocolError{Reason: clean(cause.Error(), 200)})
	}
	return err
}

// streamLocked finds a running call. Nil without an error is a call that has ended, whose late frames mean nothing; a
// stream that never was opened is an error (RFC 9113 section 5.1.1).
func (c *Caller) streamLocked(id uint32) (*stream, error) {
	if id%2 == 0 || id >= c.nextID {
		return nil, &ProtocolError{Reason: fmt.Sprintf("frame on stream %d, which was never opened", id)}
	}
	return c.streams[id], nil
}

func (c *Caller) onHeadersLocked(id uint32, block *fields, end bool) error {
	s, err := c.streamLocked(id)
	if s == nil {
		if c.idle++; err == nil && c.idle > maxIdleFrames {
			err = fmt.Errorf("%w: header blocks for calls that have ended", ErrFlood)
		}
		return err
	}
	first := !s.headers
	ended, err := s.takeHeaders(block, end)
	switch {
	case ended:
		c.finishLocked(s, err)
	case err != nil:
		c.resetLocked(s, http2.ErrCodeCancel, err)
	}
	if first && !s.headers {
		c.idle++ // an interim answer is no progress
	} else {
		c.idle = 0
	}
	return nil
}

func (c *Caller) onDataLocked(f *http2.DataFrame) error {
	// Padding counts for flow control (RFC 9113 section 6.9.1), and so does DATA of calls that have ended.
	c.owed += f.Length
	if c.owed >= windowStep {
		_ = c.framer.WriteWindowUpdate(0, c.owed)
		c.owed = 0
	}
	s, err := c.streamLocked(f.StreamID)
	if s == nil {
		return err
	}
	if len(f.Data()) > 0 {
		c.idle = 0
	}
	if err := s.takeData(f.Data(), f.StreamEnded()); err != nil {
		c.resetLocked(s, http2.ErrCodeCancel, err)
		return nil
	}
	s.owed += f.Length
	if s.owed >= windowStep {
		_ = c.framer.WriteWindowUpdate(s.id, s.owed)
		s.owed = 0
	}
	return nil
}

func (c *Caller) onWindowUpdateLocked(id uint32, n int64) error {
	if id == 0 {
		if c.window += n; c.window > maxWindow {
			return &ProtocolError{Reason: "connection window grows beyond 2^31-1"}
		}
		c.broadcastLocked()
		return nil
	}
	s, err := c.streamLocked(id)
	if s == nil {
		return err
	}
	if s.window += n; s.window > maxWindow {
		c.resetLocked(s, http2.ErrCodeFlowControl, &ProtocolError{Reason: "stream window grows beyond 2^31-1"})
		return nil
	}
	c.broadcastLocked()
	return nil
}

func (c *Caller) onSettingsLocked(f *http2.SettingsFrame) error {
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return &ProtocolError{Reason: fmt.Sprintf("SETTINGS with %s = %d", s.ID, s.Val)}
		}
		v := s.Val
		switch s.ID {
		case http2.SettingHeaderTableSize:
			c.settings.HeaderTableSize = &v
			c.encoder.SetMaxDynamicTableSizeLimit(v)
		case http2.SettingMaxConcurrentStreams:
			c.settings.MaxConcurrentStreams = &v
		case http2.SettingInitialWindowSize:
			return c.onInitialWindowLocked(v)
		case http2.SettingMaxFrameSize:
			c.settings.MaxFrameSize = &v // noted only: our frames are never larger than the minimum
		case http2.SettingMaxHeaderListSize:
			c.settings.MaxHeaderListSize = &v
		}
		return nil
	})
	if err != nil {
		return err
	}
	_ = c.framer.WriteSettingsAck()
	c.broadcastLocked()
	return nil
}

// onInitialWindowLocked moves the windows of running calls by the difference, below zero if need be (RFC 9113 section 6.9.2).
func (c *Caller) onInitialWindowLocked(v uint32) error {
	old := int64(initialWindow)
	if w := c.settings.InitialWindowSize; w != nil {
		old = int64(*w)
	}
	c.settings.InitialWindowSize = &v
	for _, s := range c.streams {
		if s.window += int64(v) - old; s.window > maxWindow {
			return &ProtocolError{Reason: "SETTINGS make a stream window grow beyond 2^31-1"}
		}
	}
	return nil
}

// onGoAwayLocked ends the calls that the server will not process and lets the others finish.
func (c *Caller) onGoAwayLocked(f *http2.GoAwayFrame, started bool) error {
	e := &GoAwayError{Code: f.ErrCode, Debug: clean(string(f.DebugData()), 256)}
	c.goAway = e
	for id, s := range c.streams {
		if id > f.LastStreamID {
			c.finishLocked(s, e)
		}
	}
	c.broadcastLocked()
	if !started {
		return e
	}
	return nil
}
