package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
	"go.uber.org/goleak"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// corpus is an archive of files, each perhaps followed by what is said of it.
type corpus struct {
	file    string
	archive *txtar.Archive
}

func open(t testing.TB, name string) *corpus {
	t.Helper()
	file := filepath.Join("testdata", name)
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return &corpus{file, a}
}

// each calls do with every case, and compares what it returns with what stands in
// the archive.
func (c *corpus) each(t *testing.T, suffix string, do func(t *testing.T, name string, data []byte) string) {
	want := map[string]string{}
	for _, f := range c.archive.Files {
		want[f.Name] = string(f.Data)
	}
	fresh := &txtar.Archive{Comment: c.archive.Comment}
	for _, f := range c.archive.Files {
		base, isCase := strings.CutSuffix(f.Name, ".yaml")
		if !isCase {
			continue
		}
		fresh.Files = append(fresh.Files, f)
		t.Run(base, func(t *testing.T) {
			got := do(t, f.Name, f.Data)
			if got != "" {
				fresh.Files = append(fresh.Files, txtar.File{Name: base + suffix, Data: []byte(got)})
			}
			if diff := cmp.Diff(want[base+suffix], got); diff != "" && !*golden.Update {
				t.Errorf("-update rewrites it (-want +got):\n%s", diff)
			}
		})
	}
	if *golden.Update {
		golden.Write(t, c.file, txtar.Format(fresh))
	}
}

func TestAccepted(t *testing.T) {
	open(t, "accepted.txtar").each(t, ".warn", func(t *testing.T, name string, data []byte) string {
		s, warnings, err := Parse(name, data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range s.Targets {
			if err := target.Policy.Validate(); err != nil || len(target.Listen) == 0 || target.Name == "" {
				t.Errorf("%+v: %v", target, err)
			}
			if err := target.Limits.Validate(); err != nil {
				t.Error(err)
			}
		}
		return lines(warnings)
	})
}

func lines(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

func TestRefused(t *testing.T) {
	for _, archive := range []string{"refused.txtar", "refused-by-parser.txtar"} {
		open(t, archive).each(t, ".want", func(t *testing.T, name string, data []byte) string {
			s, _, err := Parse(name, data, Options{})
			var wrong *Error
			if !errors.As(err, &wrong) || len(s.Targets) > 0 {
				t.Fatalf("it is taken: %+v, %v", s, err)
			}
			for _, p := range wrong.Problems {
				if p.File != name || p.Text == "" || strings.Contains(p.Text, "grpclb_refresher_") {
					t.Errorf("%+v", p)
				}
			}
			return lines(wrong.Problems)
		})
	}
}

func TestEverything(t *testing.T) {
	for _, f := range open(t, "accepted.txtar").archive.Files {
		if f.Name != "everything.yaml" {
			continue
		}
		s, _, err := Parse(f.Name, f.Data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		policy := config.Default(config.RoundRobin)
		policy.SlowStart, policy.ConnectionsPerEndpoint = 0, 2
		policy.Ejection.Enabled, policy.Ejection.ConsecutiveFailures = false, 0
		policy.Refresh.Interval, policy.Refresh.MaxInterval, policy.Refresh.OnTTL = time.Minute, time.Minute, true
		limits := DefaultLimits()
		limits.ConnectTimeout, limits.SilentAfter, limits.DeadAfter, limits.MaxClients = time.Second, time.Second, 10*time.Second, 10
		limits.Relay.MaxWait, limits.Relay.MaxWaiting, limits.Relay.StreamWindow, limits.Relay.ConnWindow = 0, 0, 65535, 65535
		at := netip.MustParseAddrPort
		want := Settings{
			Admin:      Admin{Listen: at("0.0.0.0:9000"), Debug: at("[::1]:9001"), Hosts: []string{"pools.example.org", "grpclb"}},
			DrainDelay: 5 * time.Second, DrainTimeout: 20 * time.Second,
			Log: Log{Level: -4, JSON: true},
			Targets: []Target{
				{Name: "square", Listen: []netip.AddrPort{at("127.0.0.10:6565"), at("[::1]:6565")},
					Target: "square-service.default.svc.cluster.local.:grpc", Policy: policy, Limits: limits},
				{Name: "cart.shop:50051", Listen: []netip.AddrPort{at("127.0.0.11:50051")}, Target: "cart.shop:50051",
					Policy: config.Default(config.PeakEWMA), Limits: DefaultLimits()},
			},
		}
		if diff := cmp.Diff(want, s, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		return
	}
	t.Error("no such case")
}

// TestDefaults: what the table says is what a file without the field gets.
func TestDefaults(t *testing.T) {
	const head = "apiVersion: grpclb.dev/v1alpha1\nkind: SidecarConfig\n"
	const target = "targets:\n- listen: [\"127.0.0.10:1\"]\n  target: a.b:1\n"
	bare, _, err := Parse("bare", []byte(head+target), Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range Fields() {
		if f.What == "" || f.Takes == "" || f.Default != "" && f.Why == "" {
			t.Errorf("%s: What %q, Takes %q, Why %q", f.Path, f.What, f.Takes, f.Why)
		}
		if f.Default == "" || strings.Contains(f.Path, "hosts") || f.Path == "targets[].name" {
			continue
		}
		n++
		text := ""
		if rest, ofTarget := strings.CutPrefix(f.Path, "targets[]."); ofTarget {
			text = head + target + nested(rest, "  ") + f.Default + "\n"
		} else {
			text = head + nested(f.Path, "") + f.Default + "\n" + target
		}
		said, _, err := Parse("said", []byte(text), Options{})
		if diff := cmp.Diff(bare, said, cmpopts.EquateComparable(netip.AddrPort{})); err != nil || diff != "" {
			t.Errorf("%s: its default is not %s: %v\n%s", f.Path, f.Default, err, diff)
		}
	}
	if n < 40 {
		t.Errorf("%d fields have a default", n)
	}
}

// nested writes a path as YAML, up to the value.
func nested(path, indent string) string {
	var b strings.Builder
	for i, name := range strings.Split(path, ".") {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(indent + strings.Repeat("  ", i) + name + ": ")
	}
	return b.String()
}

func TestTooLarge(t *testing.T) {
	_, _, err := Parse("big", slices.Repeat([]byte("#"), MaxSize+1), Options{})
	if err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("%v", err)
	}
	many := "apiVersion: grpclb.dev/v1alpha1\nkind: SidecarConfig\n"
	for i := range 300 {
		many += fmt.Sprintf("x%d: 1\n", i)
	}
	var wrong *Error
	if _, _, err := Parse("many", []byte(many), Options{}); !errors.As(err, &wrong) || len(wrong.Problems) != maxProblems+1 {
		t.Errorf("%v", err)
	}
}

func TestNonLoopbackAllowed(t *testing.T) {
	text := "apiVersion: grpclb.dev/v1alpha1\nkind: SidecarConfig\ntargets:\n- listen: [\"0.0.0.0:1\", \":2\"]\n  target: a.b:1\n"
	s, _, err := Parse("x", []byte(text), Options{AllowNonLoopback: true})
	if err != nil || s.Targets[0].Listen[1] != netip.MustParseAddrPort("[::]:2") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFromFlags(t *testing.T) {
	pairs := []Pair{{"127.0.0.10:1", "a.b:1"}, {"127.0.0.11:1", "c.d:1"}, {"[::1]:1", "a.b:1"}}
	given := []Assignment{
		{"log.level", "debug", "--log-level"}, {"policy.refresh.interval", "2s", "--interval"},
		{"policy.name", "round_robin", "--policy"}, {"limits.maxClients", "7", "--set"}, {"policy.ejection.enabled", "false", "--set"},
	}
	s, warnings, err := FromFlags(pairs, given, Options{})
	if err != nil || len(warnings) > 0 || len(s.Targets) != 2 {
		t.Fatalf("%+v, %q, %v", s, warnings, err)
	}
	first := s.Targets[0]
	if first.Key() != "a.b:1 127.0.0.10:1 [::1]:1" || s.Targets[1].Key() != "c.d:1 127.0.0.11:1" {
		t.Errorf("%q, %q", first.Key(), s.Targets[1].Key())
	}
	for _, target := range s.Targets {
		if p := target.Policy; p.Policy != config.RoundRobin || p.Refresh.Interval != 2*time.Second || p.Ejection.Enabled || target.Limits.MaxClients != 7 {
			t.Errorf("%+v", target)
		}
	}
	if s.Log.Level != -4 {
		t.Errorf("%+v", s.Log)
	}
}

func TestFromFlagsRefuses(t *testing.T) {
	good := []Pair{{"127.0.0.10:1", "a.b:1"}, {"127.0.0.11:1", "c.d:1"}}
	for _, tc := range []struct {
		name  string
		pairs []Pair
		given []Assignment
		want  string
	}{
		{"address", []Pair{{"10.0.0.1:1", "a.b:1"}}, nil, "--listen: 10.0.0.1:1 is not a loopback address"},
		{"target", []Pair{{"127.0.0.10:1", "a.b"}}, nil, "--target: malformed target"},
		{"unit", good, []Assignment{{"policy.refresh.interval", "5", "--interval"}}, `--interval: "5" is not what it takes: a duration from "1s"`},
		{"range", good, []Assignment{{"policy.refresh.interval", "1ms", "--interval"}}, `--interval: "0.001s" is out of range`},
		{"policy", good, []Assignment{{"policy.name", "p2c", "--policy"}}, `--policy: "p2c" is not what it takes: "peak_ewma", `},
		{"number", good, []Assignment{{"limits.maxClients", "many", "--set"}}, `--set: many is not what it takes: a whole number`},
		{"same address", []Pair{{"127.0.0.10:1", "a.b:1"}, {"127.0.0.10:1", "c.d:1"}}, nil, "127.0.0.10:1 cannot be listened on beside 127.0.0.10:1 of --listen"},
		{"own port", []Pair{{"127.0.0.1:15651", "a.b:1"}}, nil, "--listen: 127.0.0.1:15651 cannot be listened on beside 127.0.0.1:15651 of admin.debug"},
		{"unknown", good, []Assignment{{"policy.nope", "1", "--set"}}, "no such field"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := FromFlags(tc.pairs, tc.given, Options{})
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("%v, want %q, once", err, tc.want)
			}
		})
	}
}

func TestOverride(t *testing.T) {
	text := []byte("apiVersion: grpclb.dev/v1alpha1\nkind: SidecarConfig\nadmin: {debug: off}\ntargets:\n- listen: [\"127.0.0.10:1\"]\n  target: a.b:1\n")
	s, _, err := Parse("x", text, Options{Override: []Assignment{{"admin.debug", "127.0.0.1:9", "--debug"}}})
	if err != nil || s.Admin.Debug.Port() != 9 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, _, err := Parse("x", text, Options{Override: []Assignment{{"admin.debug", "10.0.0.1:9", "--debug"}}}); err == nil {
		t.Error("taken")
	}
}

func TestFind(t *testing.T) {
	for path, want := range map[string]string{
		"policy.slowStart": "", "drainTimeout": "", "limits.maxClients": "", "limits.maxClient": "limits.maxClients", "policy": "", "frobnicate": "",
	} {
		f, near, ok := Find(path)
		if near != want || ok != (want == "" && path != "policy" && path != "frobnicate") || ok && f.What == "" {
			t.Errorf("%s: %+v, %q, %t", path, f, near, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, archive := range []string{"accepted.txtar", "refused.txtar", "refused-by-parser.txtar"} {
		for _, file := range open(f, archive).archive.Files {
			if strings.HasSuffix(file.Name, ".yaml") {
				f.Add(file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := Parse("x", data, Options{})
		if (err == nil) != (len(s.Targets) > 0) {
			t.Errorf("%d targets, error %v", len(s.Targets), err)
		}
		keys := map[string]bool{}
		for _, target := range s.Targets {
			if keys[target.Key()] {
				t.Errorf("%s twice", target.Key())
			}
			keys[target.Key()] = true
			if err := target.Policy.Validate(); err != nil {
				t.Error(err)
			}
			for _, l := range target.Listen {
				if !l.Addr().IsLoopback() {
					t.Error(l)
				}
			}
		}
	})
}

// TestAtStart: the guide names the limits that a reload does not change.
func TestAtStart(t *testing.T) {
	running, wanted := DefaultLimits(), DefaultLimits()
	if got := AtStart(running, wanted); got != nil {
		t.Errorf("%q differ", got)
	}
	for _, f := range limitTimes {
		*f.of(&wanted)++
	}
	for _, f := range limitNumbers {
		*f.of(&wanted)++
	}
	names := AtStart(running, wanted)
	if want := []string{"maxWait", "maxWaiting", "maxHeaderList", "streamWindow", "connWindow", "maxBuffered"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	guide, err := os.ReadFile("../../../docs/sidecar.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(guide), "### When the file changes")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, name := range names {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("docs/sidecar.md does not say that %s waits for the next start", name)
		}
	}
}
