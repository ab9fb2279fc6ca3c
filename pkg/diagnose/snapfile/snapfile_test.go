package snapfile_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"net/netip"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

func square(t testing.TB) *diagnose.Snapshot {
	t.Helper()
	s, err := snapfile.LoadFile("testdata/square.snapshot.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var exact = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})}

func TestSaveLoad(t *testing.T) {
	want := square(t)
	want.Gaps[0].Reason = "a\x7f\u009b\u202e: \xff\n::error::x" // what a cluster may say
	var b bytes.Buffer
	if err := snapfile.Save(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := snapfile.Load(&b)
	if err != nil {
		t.Fatal(err)
	}
	want.Gaps[0].Reason = strings.ToValidUTF8(want.Gaps[0].Reason, "\ufffd")
	if diff := cmp.Diff(want, got, exact); diff != "" {
		t.Error(diff)
	}
}

func TestLoadJSON(t *testing.T) {
	got, err := snapfile.Load(strings.NewReader(`{"apiVersion":"grpclb.dev/v1alpha1","kind":"Snapshot","someFutureField":{"a":1},"depth":"static"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Depth != "static" || got.Pods.State != diagnose.NotAsked {
		t.Errorf("got %+v", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	const head = "apiVersion: grpclb.dev/v1alpha1\nkind: Snapshot\n"
	cases := []struct{ name, in, reason string }{
		{"empty", " \n", "the file is empty"},
		{"comment", "# nothing\n", "no snapshot"},
		{"newer", "apiVersion: grpclb.dev/v2\nkind: Snapshot\n", `version "grpclb.dev/v2"`},
		{"report", "apiVersion: grpclb.dev/v1alpha1\nkind: Report\n", "a report, not a snapshot"},
		{"another object", "apiVersion: v1\nkind: Pod\n", `kind "Pod"`},
		{"not yaml", "\t{", "no YAML"},
		{"a list", "- 1\n", "no YAML"},
		{"binary", "\x00\x01\x02", "no YAML"},
		{"wrong form", head + "pods: {state: known, value: 7}\n", "wrong form"},
		{"wrong address", head + "sockets: {state: known, value: [{sockets: [{local: nowhere}]}]}\n", "wrong form"},
		{"bomb", head + bomb, "excessive aliasing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := snapfile.Load(strings.NewReader(c.in))
			var f *snapfile.FormatError
			if !errors.As(err, &f) {
				t.Fatalf("got %v, want a *FormatError", err)
			}
			if !strings.Contains(err.Error(), c.reason) || f.Hint == "" {
				t.Errorf("got %q, hint %q; want %q and a hint", err, f.Hint, c.reason)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
		})
	}
}

// bomb is a small text that aliases turn into a billion nodes.
const bomb = `
a: &a [x,x,x,x,x,x,x,x,x]
b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]
c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]
d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]
e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]
f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]
g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]
h: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]
i: &i [*h,*h,*h,*h,*h,*h,*h,*h,*h]
`

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
	}
	return len(p), nil
}

func TestLoadStopsAtTheLimit(t *testing.T) {
	if _, err := snapfile.Load(endless{}); !errors.Is(err, snapfile.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := snapfile.Load(io.MultiReader(strings.NewReader("a: b\n"), brokenReader{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestSaveFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	want := square(t)
	if err := snapfile.SaveFile(path, want); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", st.Mode())
	}
	got, err := snapfile.LoadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, exact); diff != "" {
		t.Error(diff)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSaveFileFails(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "taken")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := snapfile.SaveFile(target, square(t)); err == nil {
		t.Error("a directory was replaced")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := snapfile.SaveFile(filepath.Join(dir, "no", "where"), square(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := snapfile.LoadFile(filepath.Join(dir, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// FuzzLoad holds that any input is either refused or a snapshot that can be diagnosed, shown, redacted and saved.
func FuzzLoad(f *testing.F) {
	b, err := os.ReadFile("testdata/square.snapshot.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("apiVersion: grpclb.dev/v1alpha1\nkind: Snapshot\ntargets: [{name: a}]\nservices: {state: known, value: [{name: a, ports: [{port: -1}]}]}\n"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := snapfile.Load(bytes.NewReader(in))
		if err != nil {
			return
		}
		r := diagnose.Run(s, diagnose.Options{})
		if err := report.Text(io.Discard, r, report.TextOptions{Wide: true, Width: 80, Facts: s}); err != nil {
			t.Errorf("text: %v", err)
		}
		red, err := snapfile.Redact(s, []byte("salt"))
		if err != nil {
			t.Fatalf("redact: %v", err)
		}
		var out bytes.Buffer
		if err := snapfile.Save(&out, red); err != nil {
			t.Fatalf("save: %v", err)
		}
		if _, err := snapfile.Load(&out); err != nil {
			t.Errorf("a saved snapshot does not load: %v", err)
		}
	})
}
