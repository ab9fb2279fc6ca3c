package main

import (
	"math"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
)

// TestLooks holds the simulation against what can be reckoned by hand.
func TestLooks(t *testing.T) {
	const clients, until = 200, 100 * time.Second
	for _, c := range []struct {
		manner int
		look   dns.Look
		want   float64 // looks of one client
		slack  float64
	}{
		{0, dns.Look{}, 20, 0},
		{1, dns.Look{}, 20.5, 0.2},
		{2, dns.Look{}, 20.9, 0.2},           // the first wait is 3 s on average
		{0, dns.Look{Bytes: 5000}, 6, 0},     // 0, 5, 15, 35, 65, 95 s
		{2, dns.Look{Bytes: 5000}, 6.1, 0.3}, // the last of them falls out for some
	} {
		total := 0
		for range clients {
			manners()[c.manner].looks(until, c.look, func(time.Duration) { total++ })
		}
		if got := float64(total) / clients; math.Abs(got-c.want) > c.slack {
			t.Errorf("%s, answers of %d octets: %.2f looks, want %.1f", manners()[c.manner].name, c.look.Bytes, got, c.want)
		}
	}
}

// TestAnswerSizes holds the messages against what CoreDNS was seen to send.
func TestAnswerSizes(t *testing.T) {
	answers, err := answersOf(73, 74, 300)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ least, most int }{{1200, 1232}, {3000, 4000}, {13_000, 15_000}, {9000, 13_000}, {9000, 13_000}, {42_000, 52_000}} {
		if got := answers[i].size; got < want.least || got > want.most {
			t.Errorf("%s: %d octets, want %d to %d", answers[i].what, got, want.least, want.most)
		}
	}
	for _, a := range answers {
		if a.octets <= a.size {
			t.Errorf("%s: %d octets in all for an answer of %d", a.what, a.octets, a.size)
		}
	}
}
