package relay

import "encoding/binary"

// Settings of RFC 9113, 6.5.2.
const (
	settingHeaderTableSize      uint16 = 1
	settingEnablePush           uint16 = 2
	settingMaxConcurrentStreams uint16 = 3
	settingInitialWindowSize    uint16 = 4
	settingMaxFrameSize         uint16 = 5
	settingMaxHeaderListSize    uint16 = 6
)

// defaultTable is the size of an HPACK table that nobody changed (RFC 7541, 4.2).
const defaultTable = 4096

type setting struct {
	id    uint16
	value uint32
}

// hello writes our SETTINGS, first among them, and opens the connection's window.
func (c *Conn) hello(first setting) {
	cfg := &c.engine.cfg
	all := [...]setting{
		first,
		{settingInitialWindowSize, uint32(cfg.StreamWindow)},
		{settingMaxHeaderListSize, uint32(cfg.MaxHeaderList)},
	}
	c.control(6*len(all), frameSettings, 0, 0)
	for _, s := range all {
		c.out = binary.BigEndian.AppendUint16(c.out, s.id)
		c.out = binary.BigEndian.AppendUint32(c.out, s.value)
	}
	if n := cfg.ConnWindow - defaultWindow; n > 0 {
		c.writeWindowUpdate(0, n)
	}
}

// onSettings takes SETTINGS (RFC 9113, 6.5).
func (c *Conn) onSettings(flags byte, id uint32, p []byte) *Error {
	switch {
	case id != 0:
		return protocol("SETTINGS on a stream")
	case flags&flagAck != 0:
		if len(p) != 0 {
			return &Error{FrameSizeError, "an acknowledgement of SETTINGS with content"}
		}
		if c.acked {
			return c.superfluous()
		}
		c.acked = true
		return nil
	case len(p)%6 != 0:
		return &Error{FrameSizeError, "SETTINGS of a wrong length"}
	}
	if err := c.charge(budgetSettings); err != nil {
		return err
	}
	// In the order in which they come, and then at once the acknowledgement (RFC
	// 9113, 6.5.3). What the new values set going obeys all of them, behind it: the
	// peer's decoder may refuse a block that does not.
	was := c.initWin
	for ; len(p) > 0; p = p[6:] {
		if err := c.set(setting{binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])}); err != nil {
			return err
		}
	}
	c.control(0, frameSettings, flagAck, 0)
	if c.initWin > was {
		c.pushAll()
	}
	if c.state == Opening {
		c.state = Ready
		c.hadRoom = c.Room()
		c.engine.kick = c.engine.kick || c.hadRoom
		c.engine.host.Changed(c)
		return nil
	}
	c.roomChanged()
	return nil
}

func (c *Conn) set(s setting) *Error {
	switch s.id {
	case settingHeaderTableSize:
		c.resizeTable(min(s.value, defaultTable))
	case settingEnablePush:
		// Pushing is nothing that a server may allow (RFC 9113, 6.5.2).
		if s.value > 1 || !c.client && s.value != 0 {
			return protocol("a wrong SETTINGS_ENABLE_PUSH")
		}
	case settingMaxConcurrentStreams:
		c.maxConc = s.value
	case settingInitialWindowSize:
		if s.value > maxWindow {
			return &Error{FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE is larger than 2^31-1"}
		}
		return c.resize(int(s.value))
	case settingMaxFrameSize:
		// Frames are never larger than the smallest value that is allowed.
		if s.value < maxFrame || s.value > 1<<24-1 {
			return protocol("a wrong SETTINGS_MAX_FRAME_SIZE")
		}
	}
	return nil
}

// resizeTable keeps our encoder's table within what the peer's decoder has room
// for, and within the default. One that shrinks and grows between two blocks takes
// two updates in one (RFC 7541, 4.2), at which decoders in use fail, that of
// golang.org/x/net among them: the growth waits for the next block.
func (c *Conn) resizeTable(n uint32) {
	was := c.enc.MaxDynamicTableSize()
	c.enc.SetMaxDynamicTableSizeLimit(n)
	c.tableGrows = 0
	switch {
	case n < was:
		c.tableShrunk = true
	case n > was && c.tableShrunk:
		c.tableGrows = n
	case n > was:
		c.enc.SetMaxDynamicTableSize(n)
	}
}

// tableTold is called when a block has told the peer of what resizeTable did.
func (c *Conn) tableTold() {
	c.tableShrunk = false
	if c.tableGrows > 0 {
		c.enc.SetMaxDynamicTableSize(c.tableGrows)
		c.tableGrows = 0
	}
}

// resize changes the windows of all streams by what the initial one changes; they
// may become negative (RFC 9113, 6.9.2).
func (c *Conn) resize(win int) *Error {
	by := win - c.initWin
	c.initWin = win
	if by == 0 {
		return nil
	}
	for _, s := range c.streams {
		h := s.outgoing(c)
		if h.win += by; h.win > maxWindow {
			return &Error{FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE makes a window larger than 2^31-1"}
		}
	}
	return nil
}

// pushAll sends what waited for the windows of their streams, the oldest first.
func (c *Conn) pushAll() {
	for _, s := range c.open(0) {
		c.engine.push(s.outgoing(c), maxWindow)
	}
}
