package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// terms are real licence texts, taken from the modules of this one and from Go.
func terms(t *testing.T) (bsd, apache string) {
	t.Helper()
	ctx := t.Context()
	root, err := goroot(ctx, ".")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join("..", "..", "..", "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	return string(theirs), string(own)
}

const gpl = `This program is free software: you can redistribute it and/or modify
it under the terms of the GNU General Public License as published by
the Free Software Foundation, either version 3 of the License, or
(at your option) any later version.

This program is distributed in the hope that it will be useful,
but WITHOUT ANY WARRANTY; without even the implied warranty of
MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
GNU General Public License for more details.

You should have received a copy of the GNU General Public License
along with this program.  If not, see <https://www.gnu.org/licenses/>.
`

func TestRead(t *testing.T) {
	bsd, apache := terms(t)
	tests := []struct {
		name  string
		files map[string]string
		// packages are the linked folders; the root when nil
		packages []string
		want     []string // NAME: LICENCES
		wantErr  string
	}{
		{name: "one licence", files: map[string]string{"LICENSE": bsd}, want: []string{"LICENSE: BSD-3-Clause"}},
		{name: "another spelling", files: map[string]string{"Licence.md": apache}, want: []string{"Licence.md: Apache-2.0"}},
		{name: "line ends of Windows", files: map[string]string{"COPYING": strings.ReplaceAll(bsd, "\n", "\r\n")}, want: []string{"COPYING: BSD-3-Clause"}},
		{name: "a notice is kept and not judged", files: map[string]string{"LICENSE": apache, "NOTICE.txt": "made by somebody"},
			want: []string{"LICENSE: Apache-2.0", "NOTICE.txt: "}},
		{name: "code copied from elsewhere has terms of its own", files: map[string]string{"LICENSE": apache, "third_party/LICENSE": bsd},
			packages: []string{"third_party/forked/golang"}, want: []string{"LICENSE: Apache-2.0", "third_party/LICENSE: BSD-3-Clause"}},
		{name: "what is not linked does not count", files: map[string]string{"LICENSE": apache, "cmd/LICENSE": gpl}, packages: []string{"lib"},
			want: []string{"LICENSE: Apache-2.0"}},
		{name: "a source file that is called so", files: map[string]string{"LICENSE": apache, "license.go": "package license"}, want: []string{"LICENSE: Apache-2.0"}},
		{name: "no licence", files: map[string]string{"README.md": "free for all"}, wantErr: "has no licence file"},
		{name: "a licence for a part alone", files: map[string]string{"third_party/LICENSE": bsd}, packages: []string{"third_party"}, wantErr: "has no licence file"},
		{name: "a text nobody knows", files: map[string]string{"LICENSE": "You may use this on Tuesdays, as long as nobody sees it."}, wantErr: "not the text of a known licence"},
		{name: "a licence that is not allowed", files: map[string]string{"LICENSE": gpl}, wantErr: "which is not in allowed.go"},
		{name: "an allowed one and another", files: map[string]string{"LICENSE": bsd + "\n" + gpl}, wantErr: "which is not in allowed.go"},
		{name: "below the root", files: map[string]string{"LICENSE": bsd, "x/LICENSE": gpl}, packages: []string{"x/y"}, wantErr: "x/LICENSE holds the licence GPL-3.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := module{path: "example.test/m", version: "v1.2.3", dir: t.TempDir()}
			for name, body := range tt.files {
				write(t, filepath.Join(m.dir, filepath.FromSlash(name)), body)
			}
			for _, p := range tt.packages {
				dir := filepath.Join(m.dir, filepath.FromSlash(p))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				m.folders = append(m.folders, dir)
			}
			err := m.read()
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) || !strings.Contains(err.Error(), "example.test/m v1.2.3") {
					t.Fatalf("error %v, want the module and %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range m.texts {
				got = append(got, x.name+": "+strings.Join(x.licences, " "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("texts (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReport holds the form: each module once at the top, each text once below.
func TestReport(t *testing.T) {
	shared := text{name: "LICENSE", licences: []string{"MIT"}, body: "the text that two share"}
	var b bytes.Buffer
	writeReport(&b, []module{
		{path: standard, programs: []string{"a"}, texts: []text{{name: "LICENSE", licences: []string{"BSD-3-Clause"}, body: "Go's own"}}},
		{path: "example.test/a", version: "v1.0.0", programs: []string{"a", "b"}, texts: []text{shared}},
		{path: "example.test/b", version: "v2.0.0", programs: []string{"b"}, texts: []text{shared, {name: "NOTICE", body: "made by us"}}},
	})
	_, got, _ := strings.Cut(b.String(), "see LICENSE.\n\n")
	want := standard + `: BSD-3-Clause
    in a
example.test/a v1.0.0: MIT
    in a, b
example.test/b v2.0.0: MIT
    in b

` + ruler + `
` + standard + `, LICENSE
` + ruler + `

Go's own

` + ruler + `
example.test/a v1.0.0, LICENSE
example.test/b v2.0.0, LICENSE
` + ruler + `

the text that two share

` + ruler + `
example.test/b v2.0.0, NOTICE
` + ruler + `

made by us
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestNothingIsWrittenBesideAnError links a module without a licence.
func TestNothingIsWrittenBesideAnError(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "go.mod"), "module example.test/top\n\ngo 1.26\n\nrequire example.test/m v0.0.0\n\nreplace example.test/m => ./m\n")
	write(t, filepath.Join(root, "m", "go.mod"), "module example.test/m\n")
	write(t, filepath.Join(root, "m", "m.go"), "package m\n")
	for _, p := range shipped {
		write(t, filepath.Join(root, "cmd", p.name, "main.go"), "package main\n\nimport _ \"example.test/m\"\n\nfunc main() {}\n")
	}
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOWORK", "off")
	var out bytes.Buffer
	err := run(t.Context(), []string{"-root", root}, &out, &out)
	if err == nil || !strings.Contains(err.Error(), "example.test/m") || !strings.Contains(err.Error(), "has no licence file") {
		t.Fatalf("error %v, want one about the missing licence", err)
	}
	if _, err := os.Stat(filepath.Join(root, reportName)); !os.IsNotExist(err) {
		t.Errorf("a report was written all the same: %v", err)
	}
	bsd, _ := terms(t)
	write(t, filepath.Join(root, "m", "LICENSE"), bsd)
	if err := run(t.Context(), []string{"-root", root}, &out, &out); err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(filepath.Join(root, reportName))
	if err != nil || !strings.Contains(string(report), "example.test/m") || !strings.Contains(string(report), standard) {
		t.Errorf("report %q, %v: want the module and the standard library in it", report, err)
	}
}

func write(t *testing.T, name, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}
