package relay

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// A call that goes elsewhere because its pod's connection failed, or was aborted,
// must not reach that pod as well: not with what is left in Out, and not with what
// a write that is under way brings there.
func TestNoCallRunsTwice(t *testing.T) {
	ends := map[string]func(p *peer){
		"failed":  func(p *peer) { p.do(func() { _ = p.fr.WriteRawFrame(http2.FramePing, 0, 0, []byte("short")) }) },
		"aborted": func(p *peer) { p.conn.Abort(p.now, Status{codeUnavailable, "the pod is gone"}) },
	}
	for name, end := range ends {
		for _, under := range []bool{false, true} {
			s := newScene(t, 2)
			p := s.pods[0]
			p.held = true
			s.client.call(1, true)
			var taken []byte
			if under {
				taken = p.conn.TakeOut(nil)
				s.client.call(3, true)
			}
			end(p)
			p.in.Write(taken)
			p.conn.Written(s.now, len(taken))
			p.held = false
			first, second := p.got(), s.pods[1].got()
			both := strings.Join(first, "\n") + "\n" + strings.Join(second, "\n")
			if n := strings.Count(both, "HEADERS"); n != 1+len(taken)/max(len(taken), 1) {
				t.Errorf("%s, a write under way: %v: the pods got %q and %q", name, under, first, second)
			}
			if !strings.HasPrefix(first[len(first)-1], "GOAWAY") {
				t.Errorf("%s: the last frame is %s", name, first[len(first)-1])
			}
			if under {
				s.client.expect("HEADERS 1 END" + unavailable + "…")
			}
			s.over()
		}
	}
}
