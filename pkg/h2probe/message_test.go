package h2probe

import (
	"testing"
	"time"
	"unicode/utf8"
)

func TestEncodeTimeout(t *testing.T) {
	tests := []struct {
		in   time.Duration
		want string
	}{
		{-1, "1n"}, {0, "1n"}, {1, "1n"}, {99999999, "99999999n"}, {100000000, "100000u"}, {100000001, "100001u"},
		{2 * time.Second, "2000000u"}, {1000 * time.Second, "1000000m"}, {48 * time.Hour, "172800S"},
		{1 << 62, "76861434M"},
	}
	for _, tt := range tests {
		got := encodeTimeout(tt.in)
		if len(got) > 9 {
			t.Errorf("%s: %s has more than eight digits", tt.in, got)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestDecodeStatusMessage(t *testing.T) {
	tests := [][2]string{
		{"plain", "plain"}, {"a%20b", "a b"}, {"100%", "100%"}, {"%4", "%4"}, {"%zz", "%zz"}, {"%C3%A4", "ä"}, {"%ff", "\uFFFD"}, {"%25", "%"},
	}
	for _, tt := range tests {
		if got := decodeStatusMessage(tt[0]); got != tt[1] {
			t.Errorf("%q: %q, want %q", tt[0], got, tt[1])
		}
	}
}

func FuzzStatusMessage(f *testing.F) {
	f.Add("a%20%C3%A4%zz%")
	f.Fuzz(func(t *testing.T, s string) {
		got := decodeStatusMessage(s)
		if !utf8.ValidString(got) || len(got) > 3*maxStatusMessage {
			t.Errorf("%q: %q", s, got)
		}
	})
}

func TestDecodeHealth(t *testing.T) {
	tests := []struct {
		in, want string
		bad      bool
	}{
		{in: "", want: "UNKNOWN"}, {in: "\x08\x01", want: "SERVING"}, {in: "\x08\x02", want: "NOT_SERVING"},
		{in: "\x12\x01x\x08\x01", want: "SERVING"}, {in: "\x1d1234\x21abcdefgh\x08\x03", want: "SERVICE_UNKNOWN"},
		{in: "\x08\x09", bad: true}, {in: "\x08", bad: true}, {in: "\x12\x05x", bad: true}, {in: "\x0b", bad: true}, {in: "\x80", bad: true},
	}
	for _, tt := range tests {
		got, err := decodeHealth([]byte(tt.in))
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%q: %q, error %v", tt.in, got, err)
		}
	}
}

func TestTextsOfPeersAreSafe(t *testing.T) {
	if got := clean("a\x1b[31m\u202e\xff\"", 100); got != `a\x1b[31m\u202e\ufffd"` {
		t.Errorf("clean: %s", got)
	}
	if got := clean("plain text", 5); got != "plain" {
		t.Errorf("clean: %s", got)
	}
}
