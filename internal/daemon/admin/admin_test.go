package admin

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

func TestHealthz(t *testing.T) {
	// Not even a daemon without a target is restarted for it.
	if w := get(t, Public(daemon()), "/healthz"); w.Code != http.StatusOK || w.Body.String() != "alive\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestReadyz(t *testing.T) {
	tests := map[string]struct {
		source fixed
		code   int
		want   string
	}{
		"ready": {daemon(same), 200, "ready\ntarget square: ready, 3 of 3 pods connected\nconfiguration: generation 1 of 2026-11-22T00:00:00Z, from flags\n"},
		"no target": {daemon(), 503,
			"not ready: no target\nconfiguration: generation 1 of 2026-11-22T00:00:00Z, from flags\n"},
		"one of two waits": {daemon(same, func(s *sidecar.Stats) {
			s.Name, s.Pods, s.Ready, s.Reason = "other\n\x1b[31m", nil, false, "no answer yet:\nSERVFAIL"
		}), 503, "not ready\ntarget square: ready, 3 of 3 pods connected\ntarget other  [31m: not ready, 0 of 0 pods connected, no answer yet: SERVFAIL\n" +
			"configuration: generation 1 of 2026-11-22T00:00:00Z, from flags\n"},
		"ready for a reason": {daemon(func(s *sidecar.Stats) { s.Pods, s.Reason = nil, "the source says that there are no pods" }), 200,
			"ready\ntarget square: ready, 0 of 0 pods connected, the source says that there are no pods\n" +
				"configuration: generation 1 of 2026-11-22T00:00:00Z, from flags\n"},
		"not ready without a reason": {daemon(func(s *sidecar.Stats) { s.Ready = false; s.Pods[0].Connections = 0 }), 503,
			"not ready\ntarget square: not ready, 2 of 3 pods connected\nconfiguration: generation 1 of 2026-11-22T00:00:00Z, from flags\n"},
		"a reload's new target": {daemon(same, func(s *sidecar.Stats) { s.Name, s.Pods, s.Ready = "late", nil, false }).with(func(i *Info) { i.Late = []string{"late"} }), 200,
			"ready\ntarget square: ready, 3 of 3 pods connected\ntarget late: not ready, 0 of 0 pods connected\n" +
				"configuration: generation 1 of 2026-11-22T00:00:00Z, from flags\n"},
		"target drains": {daemon(func(s *sidecar.Stats) { s.Draining = true }), 503,
			"not ready\ntarget square: draining, 3 of 3 pods connected\nconfiguration: generation 1 of 2026-11-22T00:00:00Z, from flags\n"},
		"daemon ends": {daemon(same).with(func(i *Info) { i.Draining = true }), 503,
			"not ready: the daemon ends, calls run out\ntarget square: ready, 3 of 3 pods connected\nconfiguration: generation 1 of 2026-11-22T00:00:00Z, from flags\n"},
		// The old configuration serves: no reason to take the pod out of its Service.
		"bad file": {daemon(same).with(func(i *Info) {
			i.Config = Config{File: "/etc/g.yaml", Generation: 3, Loaded: now, Error: "line 4:\nno field x", ErrorAt: now.Add(time.Minute)}
		}), 200, "ready\ntarget square: ready, 3 of 3 pods connected\nconfiguration: generation 3 of 2026-11-22T03:00:00Z " +
			"stays in force: the change of 2026-11-22T03:01:00Z was refused: line 4: no field x\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := get(t, Public(tc.source), "/readyz")
			if w.Code != tc.code {
				t.Errorf("status %d, want %d", w.Code, tc.code)
			}
			if diff := cmp.Diff(tc.want, w.Body.String()); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	source := daemon(same)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
		for name, h := range map[string]http.Handler{"public": Public(source), "debug": Debug(source, nil)} {
			for _, path := range []string{"/", "/metrics", "/debug/pools"} {
				w := get(t, h, path, func(r *http.Request) { r.Method = method })
				if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
					t.Errorf("%s: %s %s is answered with %d, Allow %q", name, method, path, w.Code, w.Header().Get("Allow"))
				}
			}
		}
	}
	if w := get(t, Debug(source, nil), "/debug/pools", func(r *http.Request) { r.Method = http.MethodHead }); w.Code != http.StatusOK {
		t.Errorf("HEAD is answered with %d", w.Code)
	}
}

// TestPaths: each handler answers what it should and nothing of the other's.
func TestPaths(t *testing.T) {
	source := daemon(same)
	for path, want := range map[string][2]int{ // public, debug
		"/healthz": {200, 404}, "/readyz": {200, 404}, "/metrics": {200, 404},
		"/": {404, 200}, "/debug/": {404, 200}, "/debug/fragment": {404, 200}, "/debug/pools": {404, 200},
		"/debug/pools/": {404, 404}, "/debug/pprof/": {404, 404}, "/debug/vars": {404, 404}, "/favicon.ico": {404, 404}, "/..%2fetc": {404, 404},
	} {
		got := [2]int{get(t, Public(source), path).Code, get(t, Debug(source, nil), path).Code}
		if got != want {
			t.Errorf("%s: public and debug answer %v, want %v", path, got, want)
		}
	}
}

// TestHosts: a page of another origin that pointed its own name to loopback is
// refused (DNS rebinding).
func TestHosts(t *testing.T) {
	h := Debug(daemon(same), []string{"Debug.Example.com", "10.1.2.3"})
	for host, want := range map[string]int{
		"localhost": 200, "localhost:15651": 200, "LOCALHOST.": 200, "127.0.0.1:15651": 200, "127.9.9.9": 200, "[::1]:15651": 200, "[::ffff:127.0.0.1]": 200,
		"debug.example.com": 200, "DEBUG.example.com.:80": 200, "10.1.2.3:15651": 200,
		"": 421, "evil.example": 421, "evil.example:15651": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "notlocalhost": 421,
		"10.1.2.4": 421, "0.0.0.0": 421, "[::]": 421, "2130706433": 421, "0x7f.1": 421, "127.1": 421, "example.com": 421, "<script>": 421,
	} {
		w := get(t, h, "/debug/pools", func(r *http.Request) { r.Host = host })
		if w.Code != want {
			t.Errorf("Host %q is answered with %d, want %d", host, w.Code, want)
		}
		if want == 421 && (strings.Contains(w.Body.String(), "10.0.0.1") || !strings.Contains(w.Body.String(), "localhost")) {
			t.Errorf("Host %q reads %q", host, w.Body)
		}
	}
}

func TestHeaders(t *testing.T) {
	h := Debug(daemon(same), nil)
	for _, path := range []string{"/", "/debug/fragment", "/debug/pools", "/nothing"} {
		head := get(t, h, path).Header()
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := head.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		policy := head.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; ") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", path, policy)
		}
	}
	if got := get(t, Public(daemon(same)), "/metrics").Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("metrics are %q", got)
	}
	// The page's text is what the policy's hashes are of.
	body := get(t, h, "/").Body.String()
	for _, part := range []string{"<style>" + style + "</style>", "<script>" + script + "</script>"} {
		if !strings.Contains(body, part) {
			t.Errorf("the page has not %.20s… as it is embedded", part)
		}
	}
	for _, outside := range []string{"http://", "https://", "//cdn", " src=", " style=", " onclick="} {
		if strings.Contains(strings.ReplaceAll(body, "http://www.w3.org/2000/svg", ""), outside) || strings.Contains(strings.ReplaceAll(body, "http&#58;", ""), " on=") {
			t.Errorf("the page has %q", outside)
		}
	}
}

func TestPoolsAsJSON(t *testing.T) {
	source := daemon(same).with(func(i *Info) { i.Config.File = "/etc/g.yaml" })
	w := get(t, Debug(source, nil), "/debug/pools")
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("it is %q", got)
	}
	var back Document
	if err := json.Unmarshal(w.Body.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(source.pools, back.Targets); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(source.info, back.Info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	// What scripts of others read.
	var raw struct {
		At      time.Time
		Info    map[string]any
		Targets []map[string]any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &raw); err != nil {
		t.Fatal(err)
	}
	pod := raw.Targets[0]["pods"].([]any)[0].(map[string]any)
	if pod["p50"] != 0.0018 || pod["p99"] != 0.012 || pod["addr"] != "10.0.0.1:6565" || raw.At.IsZero() {
		t.Errorf("a pod is %v", pod)
	}
	if w := get(t, Debug(daemon(), nil), "/debug/pools"); !strings.Contains(w.Body.String(), `"targets": []`) {
		t.Errorf("no targets are\n%s", w.Body)
	}
}

// TestFieldsStay: a field that somebody's script reads is not renamed and does
// not change its type. New ones are added with -update.
func TestFieldsStay(t *testing.T) {
	source := daemon(troubled).with(func(i *Info) { i.Config.File, i.Version.Image = "/etc/g.yaml", "example.com/refresher@sha256:0" })
	var document any
	if err := json.Unmarshal(get(t, Debug(source, nil), "/debug/pools").Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	fieldsOf(document, "", have)
	file := filepath.Join("testdata", "fields.txt")
	if *golden.Update {
		golden.Write(t, file, []byte(strings.Join(slices.Sorted(maps.Keys(have)), "\n")+"\n"))
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(before)) {
		if line = strings.TrimSpace(line); !have[line] {
			t.Errorf("%s is gone", line)
		}
	}
}

// fieldsOf collects the paths and types of a JSON value. What stands under a key
// that is data, such as a status code, goes by "*".
func fieldsOf(v any, path string, out map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if strings.HasSuffix(path, "odes") || strings.HasSuffix(path, "kinds") || strings.HasSuffix(path, "ecisions") || strings.HasSuffix(path, "utcomes") {
				key = "*"
			}
			fieldsOf(value, path+"."+key, out)
		}
	case []any:
		for _, value := range v {
			fieldsOf(value, path+"[]", out)
		}
	case string:
		out[path+" string"] = true
	case float64:
		out[path+" number"] = true
	case bool:
		out[path+" boolean"] = true
	}
}
