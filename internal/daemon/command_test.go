package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/daemon/settings"
)

// called runs a command that ends by itself.
func called(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	streams := Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs}
	if args[0] == "check" {
		code = Check(args[1:], streams)
	} else {
		code = Sidecar(context.Background(), args[1:], streams)
	}
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte(config("1 a.b")), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte(config("1 a.b:1")), 0o600); err != nil {
		t.Fatal(err)
	}
	pair := []string{"--listen", "127.0.0.10:1", "--target", "a.b:1"}
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{nil, ExitUsage, "nothing to serve: give --listen IP:PORT and --target NAME:PORT, or --config FILE; see grpclb-refresher sidecar --help"},
		{[]string{"--listen", "127.0.0.10:1"}, ExitUsage, "1 times --listen and 0 times --target"},
		{[]string{"--listn", "127.0.0.10:1"}, ExitUsage, "unknown flag --listn; did you mean --listen?"},
		{[]string{"--frobnicate"}, ExitUsage, "unknown flag --frobnicate"},
		{[]string{"--listen"}, ExitUsage, "flag needs an argument"},
		{append(pair, "now"), ExitUsage, `unexpected argument "now"`},
		{append(pair, "--interval", "5"), ExitUsage, `--interval: "5" is not what it takes: a duration from "1s" to "3600s"; say the unit: "5s"`},
		{append(pair, "--set", "x"), ExitUsage, "FIELD=VALUE is wanted"},
		{append(pair, "--set", "policy.slowStrat=1s"), ExitUsage, "did you mean policy.slowStart?"},
		{append(pair, "--set", "frobnicate=1"), ExitUsage, "docs/sidecar.md lists them"},
		{append(pair, "--config", good), ExitUsage, "--listen and --config exclude each other"},
		{[]string{"--config", good, "--interval", "2s"}, ExitUsage, "--interval and --config exclude each other"},
		{[]string{"--listen", "0.0.0.0:1", "--target", "a.b:1"}, ExitUsage, "--allow-non-loopback"},
		{[]string{"--config", filepath.Join(dir, "none.yaml")}, ExitConfig, "no such file"},
		{[]string{"--config", dir}, ExitConfig, "is a directory"},
		{[]string{"--config", bad}, ExitConfig, "bad.yaml:5:11: targets[0].target: malformed target"},
	} {
		code, stdout, stderr := called(t, "", append([]string{"sidecar"}, tc.args...)...)
		if code != tc.code || stdout != "" || !strings.Contains(stderr, tc.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: code %d, want %d; stdout %q, stderr %q, want %q", tc.args, code, tc.code, stdout, stderr, tc.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	o, err := parseFlags([]string{"--listen", "127.0.0.10:1", "--target", "a.b:1", "--log-level", "warn"}, []string{
		"GRPCLB_REFRESHER_LOG_LEVEL=debug", "GRPCLB_REFRESHER_INTERVAL=2s", "GRPCLB_REFRESHER_DISABLE=1", "GRPCLB_REFRESHER_POLICY=",
		"GRPCLB_REFRESHER_SERVICE_HOST=10.0.0.1", "GRPCLB_REFRESHER_PORT_80_TCP=tcp://10.0.0.1:80", "GRPCLB_REFRESHER_DEBGU=off", "PATH=/bin",
	})
	if err != nil || o.Settings.Log.Level != slog.LevelWarn || o.Settings.Targets[0].Policy.Refresh.Interval != 2*time.Second {
		t.Fatalf("%+v, %v", o, err)
	}
	if len(o.Strange) != 1 || o.Strange[0].String() != "GRPCLB_REFRESHER_DEBGU: this variable stands for no flag; did you mean GRPCLB_REFRESHER_DEBUG?" {
		t.Errorf("%q", o.Strange)
	}
	_, err = parseFlags([]string{"--listen", "127.0.0.10:1", "--target", "a.b:1"}, []string{"GRPCLB_REFRESHER_INTERVAL=soon"})
	if err == nil || !strings.HasPrefix(err.Error(), "GRPCLB_REFRESHER_INTERVAL: ") {
		t.Errorf("%v", err)
	}
}

func TestFlagsOverFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(name, []byte("admin: {debug: off}\ndrainTimeout: 3s\n"+config("1 a.b:1")), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := parseFlags([]string{"--drain-timeout", "7s", "--debug-host", "Pools"}, []string{"GRPCLB_REFRESHER_CONFIG=" + name})
	if err != nil || o.File != name || o.Settings.DrainTimeout != 7*time.Second || o.Settings.Admin.Debug.IsValid() || o.Settings.Admin.Hosts[0] != "pools" {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestFlagTable: every flag says what it does, and those that stand for a field are
// fields.
func TestFlagTable(t *testing.T) {
	for _, f := range Flags() {
		if f.What == "" || f.Default != "" && f.Why == "" {
			t.Errorf("--%s: %+v", f.Name, f)
		}
		if _, _, ok := settings.Find(f.path); f.path != "" && !ok {
			t.Errorf("--%s: no field %s", f.Name, f.path)
		}
		if f.Env != "" && f.Env != EnvPrefix+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")) {
			t.Errorf("--%s: %s", f.Name, f.Env)
		}
	}
}

func TestHelp(t *testing.T) {
	code, stdout, stderr := called(t, "", "sidecar", "--help")
	if code != ExitOK || stderr != "" {
		t.Errorf("code %d, %q", code, stderr)
	}
	for _, f := range Flags() {
		if !strings.Contains(stdout, "  --"+f.Name+" ") {
			t.Errorf("no --%s in\n%s", f.Name, stdout)
		}
	}
	_, about, _ := called(t, "", "check", "--help")
	for _, c := range Codes() {
		line := fmt.Sprintf("  %3d  ", c.Code)
		if !strings.Contains(stdout, line) || !strings.Contains(about, line) {
			t.Errorf("no code %d", c.Code)
		}
	}
	for line := range strings.Lines(stdout) {
		if len(line) > 220 || strings.Contains(line, "`") {
			t.Errorf("%q", line)
		}
	}
	if Check([]string{"-h"}, Streams{Out: broken{}, Err: io.Discard}) != ExitFailed {
		t.Error("help that nobody got")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestCheck(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.yaml")
	text := config("1 square-headless.default:6565 name: square", "2 cart.shop.svc.cluster.local.:grpc policy: {refresh: {interval: 10s}}", "3 10.0.0.1:80", "4 solo:1")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = `stdin: valid, 4 targets

square
  calls to   127.0.0.10:1
  go to      the pods of square-headless.default, port 6565 of each (A or AAAA records)
  looked up  every 5s, by the DNS servers of /etc/resolv.conf
  chosen by  peak_ewma

cart.shop.svc.cluster.local.:grpc
  calls to   127.0.0.10:2
  go to      the pods of cart.shop.svc.cluster.local, or of cart-headless where cart has a cluster IP, port "grpc" of each (SRV records)
  looked up  every 10s, by the DNS servers of /etc/resolv.conf
  chosen by  peak_ewma

10.0.0.1:80
  calls to   127.0.0.10:3
  go to      10.0.0.1, one address, port 80
  chosen by  peak_ewma

solo:1
  calls to   127.0.0.10:4
  go to      the pods of solo, or of solo-headless where solo has a cluster IP, port 1 of each (A or AAAA records)
  looked up  every 5s, by the DNS servers of /etc/resolv.conf
  chosen by  peak_ewma

health and metrics at [::]:15650, pools page at 127.0.0.1:15651; drains for 25s at the end
`
	const warned = `stdin:10:3: targets[2]: 10.0.0.1:80 is one address: there is nothing to balance (warning)
stdin:12:3: targets[3]: solo:1 has no namespace: it is looked for in the one of the pod that the daemon runs in (warning)
`
	code, stdout, stderr := called(t, text, "check", "-")
	if code != ExitOK || stdout != want || stderr != warned {
		t.Errorf("code %d\n%s\n%s", code, stdout, stderr)
	}
	if code, stdout, _ = called(t, "", "check", name); code != ExitOK || stdout != strings.Replace(want, "stdin", name, 1) {
		t.Errorf("code %d\n%s", code, stdout)
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		stdin string
		code  int
		want  string
	}{
		{nil, "", ExitUsage, "check takes one file, or - for standard input, not 0"},
		{[]string{"a", "b"}, "", ExitUsage, "not 2"},
		{[]string{"--nope", "a"}, "", ExitUsage, "unknown flag --nope"},
		{[]string{"/does/not/exist"}, "", ExitConfig, "no such file"},
		{[]string{"-"}, "", ExitConfig, "stdin:1:1: it is empty"},
		{[]string{"-"}, config("1 a.b:1 x: 1"), ExitConfig, "stdin:6:3: targets[0].x: no such field"},
		{[]string{"-"}, strings.Replace(config("1 a.b:1"), "127.0.0.10", "10.0.0.1", 1), ExitConfig, "--allow-non-loopback"},
		{[]string{"--allow-non-loopback", "-"}, strings.Replace(config("1 a.b:1"), "127.0.0.10", "10.0.0.1", 1), ExitOK, ""},
	} {
		code, _, stderr := called(t, tc.stdin, append([]string{"check"}, tc.args...)...)
		if code != tc.code || !strings.Contains(stderr, tc.want) {
			t.Errorf("%q: code %d, %q", tc.args, code, stderr)
		}
	}
}

func TestCalm(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, false, slog.LevelInfo)
	for range 20 {
		log.With("target", "a").Info("flaps", "pod", "1")
		log.With("target", "a").Info("flaps", "pod", "2")
		log.WithGroup("g").Info("flaps")
	}
	log.Debug("not this")
	if n := strings.Count(out.String(), "\n"); n != 3*calmBurst {
		t.Errorf("%d lines:\n%s", n, &out)
	}
	s := calmState{seen: map[string]*burst{}}
	began := time.Unix(1, 0)
	for range calmBurst {
		if _, ok := s.pass("x", began); !ok {
			t.Error("left out")
		}
	}
	for range 3 {
		if _, ok := s.pass("x", began); ok {
			t.Error("let through")
		}
	}
	if left, ok := s.pass("x", began.Add(calmWindow)); !ok || left != 3 {
		t.Errorf("%d left out, %t", left, ok)
	}
	for i := range calmKeys + 1 {
		s.pass(fmt.Sprint(i), began)
	}
	if len(s.seen) > calmKeys {
		t.Errorf("%d are remembered", len(s.seen))
	}
}

func TestJSONLog(t *testing.T) {
	var out bytes.Buffer
	newLogger(&out, true, slog.LevelInfo).Info("x", "left", 1)
	if !strings.HasPrefix(out.String(), `{"time":`) {
		t.Error(out.String())
	}
}

func TestMemory(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(limit); debug.SetGCPercent(percent) })
	file := filepath.Join(t.TempDir(), "memory.max")
	if err := os.WriteFile(file, []byte("33554432\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := func(string) string { return "" }
	m := tuneMemory(none, []string{"nowhere", file})
	if m.gcPercent != gcPercent || m.container != 32<<20 || m.limit != (32<<20)/10*9 {
		t.Errorf("%+v", m)
	}
	if got := debug.SetGCPercent(100); got != gcPercent {
		t.Errorf("GOGC is %d", got)
	}
	m = tuneMemory(func(k string) string { return map[string]string{"GOGC": "50", "GOMEMLIMIT": "1GiB"}[k] }, []string{file})
	if got := debug.SetGCPercent(100); got != 100 || m.gcPercent != 0 {
		t.Errorf("GOGC is %d, %+v", got, m)
	}
	for _, unlimited := range []string{"max\n", "9223372036854771712\n"} {
		if err := os.WriteFile(file, []byte(unlimited), 0o600); err != nil {
			t.Fatal(err)
		}
		if n := containerLimit([]string{file}); n != 0 {
			t.Errorf("%s is %d", unlimited, n)
		}
	}
	if mebibytes(0) != "none" || mebibytes(32<<20) != "32 MiB" {
		t.Error(mebibytes(32 << 20))
	}
}
