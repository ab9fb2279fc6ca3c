package sidecar

import (
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// alarm has tick called at that moment, or before; 0 is never. mu is held. One
// timer serves everything: what is due is looked for when it fires.
func (p *Proxy) alarm(at policy.Nanos) {
	if at == 0 || p.closed || p.alarmAt != 0 && p.alarmAt <= at {
		return
	}
	p.alarmAt = at
	in := max(at.Sub(policy.Now()), 0)
	if p.timer == nil {
		p.timer = time.AfterFunc(in, p.tick)
		return
	}
	p.timer.Reset(in)
}

// tick does what is due.
func (p *Proxy) tick() {
	p.mu.Lock()
	now := policy.Now()
	p.alarmAt = 0
	if p.closed {
		p.release(now)
		return
	}
	if at := p.engine.NextTick(); at != 0 && at <= now {
		p.engine.Tick(now)
	}
	p.expire(now)
	p.sweep(now)
	p.lookForFirst(now)
	if p.pollAt != 0 && p.pollAt <= now {
		p.poll(now)
	}
	if p.evaluateAt != 0 && p.evaluateAt <= now {
		p.evaluate(now)
	}
	p.schedule(now)
	p.release(now)
}

// expire gives up connections on which no SETTINGS come, or which nobody needs, and
// begins attempts whose pause is over.
func (p *Proxy) expire(now policy.Nanos) {
	for _, list := range [...][]*pod{p.pods, p.removed} {
		for _, pd := range list {
			for i := 0; i < len(pd.links); i++ {
				c := pd.links[i]
				if c.rl.State() == relay.Opening && !c.closing && c.link.begun.Add(p.settings.Limits.ConnectTimeout) <= now {
					p.loseLocked(c, errNoSettings, now)
				}
			}
			pd.shed(now)
		}
	}
	for _, pd := range p.pods {
		if pd.retryAt != 0 && pd.retryAt <= now {
			pd.retryAt = 0
			pd.connect(now)
		}
	}
}

// schedule sets the alarm for what is left.
func (p *Proxy) schedule(now policy.Nanos) {
	for _, list := range [...][]*pod{p.pods, p.removed} {
		for _, pd := range list {
			for _, c := range pd.links {
				if c.rl.State() == relay.Opening && !c.closing {
					p.alarm(c.link.begun.Add(p.settings.Limits.ConnectTimeout))
				}
			}
			if pd.retryAt > now {
				p.alarm(pd.retryAt)
			}
			p.alarm(pd.lingerUntil)
			p.alarm(pd.drainBy)
			p.alarm(pd.extra.at)
			if pd.goneAt != 0 {
				p.alarm(pd.goneAt.Add(showGoneFor))
			}
		}
	}
	p.alarm(p.askAt)
	p.alarm(p.pollAt)
	p.alarm(p.evaluateAt)
}
