package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckCoverage(t *testing.T) {
	const head = "mode: set\n"
	const line = "example.com/m/pkg/refresher/%s/x.go:%d.1,%d.2 %d %d\n"
	block := func(pkg string, at, statements, count int) string {
		return fmt.Sprintf(line, pkg, at, at+1, statements, count)
	}
	tests := map[string]struct{ profile, want, wantOut string }{
		"enough": {
			profile: head + block("a", 1, 9, 1) + block("a", 3, 1, 0),
			wantOut: " 90.0 %  example.com/m/pkg/refresher/a\n 90.0 %  of all 10 statements\n",
		},
		"run by another package's tests": {
			profile: head + block("a", 1, 10, 0) + block("a", 1, 10, 3),
			wantOut: "100.0 %  example.com/m/pkg/refresher/a\n100.0 %  of all 10 statements\n",
		},
		"one package below, though not all together": {
			profile: head + block("a", 1, 8, 1) + block("a", 3, 2, 0) + block("b", 1, 100, 1),
			wantOut: " 80.0 %  example.com/m/pkg/refresher/a\n100.0 %  example.com/m/pkg/refresher/b\n 98.2 %  of all 110 statements\n",
			want:    "less than 90 % of the statements are run by tests in example.com/m/pkg/refresher/a (80.0 %)",
		},
		"a contract suite": {
			profile: head + block("a", 1, 1, 1) + block("a/atest", 1, 10, 0),
			wantOut: "100.0 %  example.com/m/pkg/refresher/a\n100.0 %  of all 1 statements\n",
		},
		"nothing":    {profile: head, want: "the profile is empty"},
		"no profile": {profile: "a b\n", want: "not a line of a coverage profile"},
		"no number":  {profile: "a b c\n", want: "not a line of a coverage profile"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "profile")
			if err := os.WriteFile(file, []byte(tc.profile), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := checkCoverage(file, &out)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if tc.wantOut != "" {
				if diff := cmp.Diff(tc.wantOut, out.String()); diff != "" {
					t.Errorf("output (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestInRefresher(t *testing.T) {
	for path, want := range map[string]bool{
		"example.com/m/pkg/refresher": true, "example.com/m/pkg/refresher/pool": true,
		"example.com/m/pkg/refresherx": false, "example.com/m/cmd/grpclb-refresher": false,
	} {
		if got := inRefresher(path); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
}

// TestEarlierGRPC: the versions that are tested are of the two minor releases
// before the one in go.mod.
func TestEarlierGRPC(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\s` + regexp.QuoteMeta(grpcModule) + ` v1\.(\d+)\.`).FindSubmatch(mod)
	if m == nil {
		t.Fatal("go.mod does not require grpc-go")
	}
	ours, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	for i, version := range earlierGRPC {
		if want := fmt.Sprintf("v1.%d.", ours-1-i); !strings.HasPrefix(version, want) {
			t.Errorf("earlierGRPC[%d] is %s: with grpc-go v1.%d in go.mod it is the newest patch of %sx", i, version, ours, want)
		}
	}
}

// TestUnitRoot: tests inside and outside the library run, and what the tests of
// the library leave out is named.
func TestUnitRoot(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"go.mod":                  "module example.com/m\n\ngo 1.26\n",
		"other/o.go":              "// Package other is outside.\npackage other\n",
		"other/o_test.go":         "package other\n\nimport \"testing\"\n\nfunc TestOther(t *testing.T) {}\n",
		"pkg/refresher/r.go":      "// Package refresher is half tested.\npackage refresher\n\nfunc One() int { return 1 }\n\nfunc Two() int { return 2 }\n",
		"pkg/refresher/r_test.go": "package refresher\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) { One() }\n",
	})
	m := module{rel: ".", dir: dir}
	var out bytes.Buffer
	err := suite{root: dir}.unitRoot(t.Context(), &out, m)
	if err == nil || !strings.Contains(err.Error(), "example.com/m/pkg/refresher (50.0 %)") {
		t.Errorf("error %v, want one that names the package", err)
	}
	for _, want := range []string{"example.com/m/other", " 50.0 %  example.com/m/pkg/refresher\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the output\n%s", want, out.String())
		}
	}
	write(t, dir, map[string]string{"other/o_test.go": "package other\n\nimport \"testing\"\n\nfunc TestOther(t *testing.T) { t.Fatal(\"broken\") }\n",
		"pkg/refresher/two_test.go": "package refresher\n\nimport \"testing\"\n\nfunc TestTwo(t *testing.T) { Two() }\n"})
	out.Reset()
	err = suite{root: dir}.unitRoot(t.Context(), &out, m)
	if err == nil || strings.Contains(err.Error(), "%") || !strings.Contains(out.String(), "100.0 %  example.com/m/pkg/refresher\n") {
		t.Errorf("with another package's tests broken: error %v, output\n%s", err, out.String())
	}
}
