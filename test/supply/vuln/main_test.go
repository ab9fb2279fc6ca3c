//go:build supply

package main

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The made-up advisories: each names a module that the agent links.
const (
	// framer is in a function that the agent calls with every probe.
	framer = `{"schema_version":"1.3.1","id":"GO-2020-9901","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z",
		"aliases":["CVE-2020-99901"],"summary":"Made-up fault of the HTTP/2 framer","details":"Made up for a test.",
		"affected":[{"package":{"name":"golang.org/x/net","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
			"ecosystem_specific":{"imports":[{"path":"golang.org/x/net/http2","symbols":["NewFramer"]}]}}],
		"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2020-9901"}}`
	// server is in the same package, in a function that the agent never calls.
	server = `{"schema_version":"1.3.1","id":"GO-2020-9902","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z",
		"aliases":["CVE-2020-99902"],"summary":"Made-up fault of HTTP/2 servers","details":"Made up for a test.",
		"affected":[{"package":{"name":"golang.org/x/net","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
			"ecosystem_specific":{"imports":[{"path":"golang.org/x/net/http2","symbols":["ConfigureServer"]}]}}],
		"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2020-9902"}}`
	// command is in what the plugin's main runs.
	command = `{"schema_version":"1.3.1","id":"GO-2020-9903","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z",
		"aliases":["CVE-2020-99903"],"summary":"Made-up fault of a command-line library","details":"Made up for a test.",
		"affected":[{"package":{"name":"github.com/spf13/cobra","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
			"ecosystem_specific":{"imports":[{"path":"github.com/spf13/cobra","symbols":["Command.ExecuteContext"]}]}}],
		"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2020-9903"}}`
)

var agent = []scan{{"./cmd/grpclb-refresher", "linux"}}

// TestDatabases runs the real tool over the real programs with databases that
// are made here, so that the gate is seen to close and to open.
func TestDatabases(t *testing.T) {
	tests := []struct {
		name       string
		advisories map[string]string // module to advisory
		scans      []scan
		want       int
		says       string
		silent     string
	}{
		{name: "nothing known", scans: agent, want: exitSound, says: "vulnerabilities: none that is known and reachable (database of 2026-01-01)"},
		{name: "a fault in what the agent calls", advisories: map[string]string{"golang.org/x/net": framer}, scans: agent,
			want: exitFailed, says: "GO-2020-9901"},
		{name: "a fault that the agent cannot reach", advisories: map[string]string{"golang.org/x/net": server}, scans: agent,
			want: exitSound, says: "vulnerabilities: none that is known and reachable", silent: "FOUND"},
		{name: "a fault in what the plugin calls", advisories: map[string]string{"github.com/spf13/cobra": command},
			scans: []scan{{"./cmd/kubectl-grpclb", "linux"}}, want: exitFailed, says: "vulnerabilities: FOUND"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := database(t, tt.advisories)
			var out bytes.Buffer
			got := check{root: "../../..", database: "file://" + filepath.ToSlash(dir), require: true, scans: tt.scans, out: &out}.run(t.Context())
			if got != tt.want || !strings.Contains(out.String(), tt.says) {
				t.Errorf("exit code %d, want %d and %q in:\n%s", got, tt.want, tt.says, &out)
			}
			if tt.silent != "" && strings.Contains(out.String(), tt.silent) {
				t.Errorf("%q in:\n%s", tt.silent, &out)
			}
		})
	}
}

// TestOutOfReach: not having looked is never told as having found nothing.
func TestOutOfReach(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not through this proxy", http.StatusForbidden)
	}))
	defer refusing.Close()
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>please sign in</html>")) }))
	defer portal.Close()
	for name, database := range map[string]string{
		"nobody listens": gone.URL, "a proxy refuses": refusing.URL, "a portal answers": portal.URL,
		"no such folder": "file://" + filepath.ToSlash(t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			for require, want := range map[bool]int{false: exitSound, true: exitOutOfReach} {
				var out bytes.Buffer
				got := check{root: "../../..", database: database, require: require, scans: agent, out: &out}.run(t.Context())
				if got != want || !strings.Contains(out.String(), "vulnerabilities: NOT CHECKED: the database "+database+" is out of reach") || strings.Contains(out.String(), "none") {
					t.Errorf("with require %t: exit code %d, want %d, in one line that says so:\n%s", require, got, want, &out)
				}
			}
		})
	}
}

// TestHalfDatabase: one that breaks off while it is read is a failure, whether or not it is required.
func TestHalfDatabase(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/index/db.json.gz" {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		packed := gzip.NewWriter(w)
		_, _ = packed.Write([]byte(`{"modified":"2026-01-01T00:00:00Z"}`))
		_ = packed.Close()
	}))
	defer srv.Close()
	var out bytes.Buffer
	got := check{root: "../../..", database: srv.URL, scans: agent, out: &out}.run(t.Context())
	if got != exitFailed || !strings.Contains(out.String(), "vulnerabilities: NOT CHECKED: govulncheck ./cmd/grpclb-refresher for linux") {
		t.Errorf("exit code %d, want %d:\n%s", got, exitFailed, &out)
	}
}

// database writes a database in the form of https://go.dev/doc/security/vuln/database.
func database(t *testing.T, advisories map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	modules, vulns := "", ""
	for module, advisory := range advisories {
		_, rest, _ := strings.Cut(advisory, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		write(t, filepath.Join(dir, "ID", id+".json"), advisory)
		modules = `{"path":"` + module + `","vulns":[{"id":"` + id + `","modified":"2026-01-01T00:00:00Z"}]}`
		vulns = `{"id":"` + id + `","modified":"2026-01-01T00:00:00Z"}`
	}
	write(t, filepath.Join(dir, "index", "db.json"), `{"modified":"2026-01-01T00:00:00Z"}`)
	write(t, filepath.Join(dir, "index", "modules.json"), "["+modules+"]")
	write(t, filepath.Join(dir, "index", "vulns.json"), "["+vulns+"]")
	return dir
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
