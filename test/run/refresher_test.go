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
