package dnsprobe

import (
	"net"
	"testing"
)

// TestSessionIDsDoNotCollide takes so many ids that drawing them blindly would repeat some, and then one too many.
func TestSessionIDsDoNotCollide(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := newSession(ours, "pipe", new(Client))
	defer s.Close()
	ids := make(map[uint16]bool)
	for i := range maxOutstanding {
		x, err := s.register(fuzzAsked())
		if err != nil {
			t.Fatal(err)
		}
		if ids[x.asked.id] {
			t.Fatalf("id %d twice, after %d", x.asked.id, i)
		}
		ids[x.asked.id] = true
		if i%2 == 0 {
			s.forget(x) // an id given up must not be used anew either
		}
	}
	if _, err := s.register(fuzzAsked()); err == nil {
		t.Error("no limit to questions without an answer")
	}
}
