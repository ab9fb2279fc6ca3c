package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBrowser: the step runs the tests with their tag where there is a browser,
// and says what is missing where there is none.
func TestBrowser(t *testing.T) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	const page = "//go:build browser\n\npackage browser\n\nimport \"testing\"\n\nfunc TestPage(t *testing.T) { t.Fatal(\"the page is broken\") }\n"
	tests := map[string]struct {
		programs []string
		wantErr  string
		skipped  bool
	}{
		"no browser": {wantErr: "apt-get install chromium", skipped: true},
		"a browser":  {programs: []string{"google-chrome"}, wantErr: "go test -tags browser"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir, bin := t.TempDir(), t.TempDir()
			write(t, dir, map[string]string{
				"test/browser/go.mod":       "module example.com/browser\n\ngo 1.26\n",
				"test/browser/doc.go":       "// Package browser is looked at.\npackage browser\n",
				"test/browser/page_test.go": page,
			})
			if err := os.Symlink(goCommand, filepath.Join(bin, "go")); err != nil {
				t.Skip("needs symbolic links: ", err)
			}
			for _, p := range tc.programs {
				if err := os.WriteFile(filepath.Join(bin, p), []byte("#!/bin/sh\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			// Nothing else is found, apt-get neither.
			t.Setenv("PATH", bin)
			var out bytes.Buffer
			err := suite{root: dir}.browser(t.Context(), &out)
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Fatalf("error %v, want %q; output:\n%s", err, tc.wantErr, out.String())
			}
			var why skip
			if errors.As(err, &why) != tc.skipped {
				t.Errorf("skipped is %t, want %t", !tc.skipped, tc.skipped)
			}
			if !tc.skipped && !strings.Contains(out.String(), "the page is broken") {
				t.Errorf("the tests did not run:\n%s", out.String())
			}
		})
	}
}
