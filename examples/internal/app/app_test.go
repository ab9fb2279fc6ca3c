package app

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func env(vars map[string]string) Env {
	return Env{Getenv: func(name string) string { return vars[name] }}
}

func TestExitCode(t *testing.T) {
	cases := map[string]struct {
		err  error
		code int
		text string
	}{
		"success":     {nil, ExitOK, ""},
		"failure":     {errors.New("listen on :1: refused"), ExitFailed, "prog: listen on :1: refused\n"},
		"usage":       {fmt.Errorf("read settings: %w", Usagef("PORT=%q is wrong", "x")), ExitUsage, "prog: read settings: PORT=\"x\" is wrong\n"},
		"interrupted": {fmt.Errorf("run: %w", ErrInterrupted), ExitInterrupted, "prog: run: interrupted before the end\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := exitCode("prog", c.err, &stderr); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if stderr.String() != c.text {
				t.Errorf("stderr %q, want %q", stderr.String(), c.text)
			}
		})
	}
}

func TestPort(t *testing.T) {
	cases := []struct {
		value string
		want  int
		bad   bool
	}{
		{"", 6565, false},
		{"0", 0, false},
		{"65535", 65535, false},
		{"65536", 0, true},
		{"-1", 0, true},
		{"http", 0, true},
	}
	for _, c := range cases {
		got, err := env(map[string]string{"P": c.value}).Port("P", 6565)
		var usage *UsageError
		if (err != nil) != c.bad || (c.bad && !errors.As(err, &usage)) {
			t.Errorf("Port(%q): error %v, want a usage error: %v", c.value, err, c.bad)
		}
		if got != c.want {
			t.Errorf("Port(%q) = %d, want %d", c.value, got, c.want)
		}
	}
}

func TestInt(t *testing.T) {
	cases := []struct {
		value string
		want  int
		bad   bool
	}{
		{"", 7, false},
		{"1", 1, false},
		{"10", 10, false},
		{"11", 0, true},
		{"0", 0, true},
		{"1.5", 0, true},
	}
	for _, c := range cases {
		got, err := env(map[string]string{"N": c.value}).Int("N", 7, 1, 10)
		if (err != nil) != c.bad || got != c.want {
			t.Errorf("Int(%q) = %d, %v; want %d, error %v", c.value, got, err, c.want, c.bad)
		}
	}
}

func TestStringDefault(t *testing.T) {
	e := env(map[string]string{"SET": "x"})
	if got := e.String("SET", "d"); got != "x" {
		t.Errorf("set variable gave %q", got)
	}
	if got := e.String("UNSET", "d"); got != "d" {
		t.Errorf("unset variable gave %q", got)
	}
}
