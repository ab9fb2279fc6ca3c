package relay

// check holds that the accounts of an Engine are right: what must be true between
// any two calls of its methods.
func (s *scene) check() {
	s.t.Helper()
	e := s.e
	seen := make(map[*stream]bool)
	for st := e.firstWait; st != nil; st = st.wnext {
		if !st.waiting || st.back != nil || st.front == nil {
			s.t.Errorf("a waiting call with waiting %v, back %v, front %v", st.waiting, st.back, st.front)
		}
		seen[st] = true
	}
	if len(seen) != e.waiting || e.waiting > max(e.cfg.MaxWaiting, 0) {
		s.t.Errorf("%d calls wait, %d are counted", len(seen), e.waiting)
	}
	for _, p := range s.peers {
		s.checkConn(p, seen)
	}
	buffered, retained, metadata := 0, 0, 0
	for st := range seen {
		buffered += st.req.pending() + st.res.pending()
		retained += len(st.retained)
		metadata += st.metadata
		for _, h := range []*half{&st.req, &st.res} {
			s.checkHalf(h)
		}
	}
	if e.metadata != metadata || metadata > e.cfg.MaxBuffered {
		s.t.Errorf("%d of metadata are kept, %d are counted", metadata, e.metadata)
	}
	if buffered > 2*e.cfg.MaxBuffered {
		s.t.Errorf("%d bytes wait", buffered)
	}
	if e.streams != len(seen) || e.buffered != buffered || e.retained != retained {
		s.t.Errorf("%d streams, %d buffered, %d retained; counted are %d, %d, %d", len(seen), buffered, retained, e.streams, e.buffered, e.retained)
	}
	for _, p := range s.peers {
		c := p.conn
		if c.state == Closed {
			continue
		}
		// Less than half a window is on its way back at any time.
		if sum := c.recvWin + c.credit; sum != e.cfg.ConnWindow || c.credit >= e.cfg.ConnWindow/2 {
			s.t.Errorf("%s: may send %d, %d to return: not %d in all", p.name, c.recvWin, c.credit, e.cfg.ConnWindow)
		}
	}
	if e.kick || len(e.doomed) > 0 && e.doomed[0].state != Closed {
		s.t.Error("work is left undone")
	}
	for _, st := range e.free {
		if seen[st] {
			s.t.Error("a stream is in use and in the store")
		}
	}
}

func (s *scene) checkConn(p *peer, seen map[*stream]bool) {
	s.t.Helper()
	c, cfg := p.conn, s.e.cfg
	for id, st := range c.streams {
		seen[st] = true
		if c.client && (st.front != c || st.fid != id) || !c.client && (st.back != c || st.bid != id) {
			s.t.Errorf("%s: stream %d is not its own", p.name, id)
		}
	}
	if c.state == Closed {
		if len(c.streams) > 0 || c.waitHead.first != nil || c.waitData.first != nil {
			s.t.Errorf("%s is closed and has %d streams", p.name, len(c.streams))
		}
		return
	}
	// DATA stops at MaxOut; one frame and headers of one block may lie across it.
	if most := cfg.MaxOut + 2*maxFrame + cfg.MaxControl + cfg.MaxHeaderList; c.Unwritten() > most {
		s.t.Errorf("%s: %d bytes to write, more than %d", p.name, c.Unwritten(), most)
	}
	for _, l := range []*blocked{&c.waitHead, &c.waitData} {
		var prev *half
		for h := l.first; h != nil; h = h.next {
			if to, _ := h.target(); to != c || h.blocked != l || h.prev != prev {
				s.t.Errorf("%s: the list of those who wait is broken", p.name)
			}
			prev = h
		}
		if l.last != prev {
			s.t.Errorf("%s: the list of those who wait has a wrong end", p.name)
		}
	}
	if c.waitHead.first != nil && !c.full() {
		s.t.Errorf("%s: streams wait for room in Out, which has it", p.name)
	}
	if c.waitData.first != nil && c.sendWin > 0 && !c.full() {
		s.t.Errorf("%s: streams wait for a window that is open", p.name)
	}
	if c.sendWin < 0 || c.zombies < 0 {
		s.t.Errorf("%s: window %d, %d cancelled calls", p.name, c.sendWin, c.zombies)
	}
}

func (s *scene) checkHalf(h *half) {
	s.t.Helper()
	cfg := s.e.cfg
	if h.held < 0 || h.credit < 0 || h.recv < 0 || h.recv+h.held+h.credit > cfg.StreamWindow {
		s.t.Errorf("half %v: may send %d, holds %d, %d to return", h.res, h.recv, h.held, h.credit)
	}
	if h.pending() > cfg.StreamWindow+cfg.RetainRequest {
		s.t.Errorf("half %v: %d bytes wait", h.res, h.pending())
	}
	to, _ := h.target()
	if h.pending() > 0 && to != nil && h.blocked == nil && h.win > 0 && !to.full() && to.sendWin > 0 {
		s.t.Errorf("half %v: %d bytes wait for nothing", h.res, h.pending())
	}
}
