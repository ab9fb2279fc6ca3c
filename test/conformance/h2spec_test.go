//go:build conformance

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2 "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// deviations are the cases of h2spec that the sidecar does not do as the suite wants it, each with the reason. One that passes is stale, and
// a failure.
var deviations = map[string]string{}

// unasked are the cases that h2spec leaves out by itself, with the reason.
var unasked = map[string]string{}

func TestH2Spec(t *testing.T) {
	// Some cases are silent for as long as another connection takes, and must not be taken for a protocol in which the server speaks first.
	host, port := split(t, startSidecar(t, serveHTTP(t), "--set", "limits.sniffTimeout=1m").addr)
	// Ten seconds is for a busy machine: one case opens as many streams as are allowed and one more, which are ten thousand, and the time
	// counts until the last one's answer.
	c := &config.Config{Host: host, Port: port, Path: "/", Timeout: 10 * time.Second, MaxHeaderLen: 4000, Strict: true}
	seen := map[string]bool{}
	for _, group := range []*spec.TestGroup{generic.Spec(), h2.Spec(), hpack.Spec()} {
		walk(group, func(id string, test *spec.TestCase) {
			seen[id] = true
			t.Run(strings.ReplaceAll(id, "/", "-"), func(t *testing.T) { judge(t, id, test, runCase(c, test)) })
		})
	}
	for _, table := range []map[string]string{deviations, unasked} {
		for id := range table {
			if !seen[id] {
				t.Errorf("%s stands among the exceptions, and is no case", id)
			}
		}
	}
	if len(seen) < 140 {
		t.Errorf("%d cases, where the suite has more than 140: the walk through it is broken", len(seen))
	}
}

// walk calls visit for every case, with the name that h2spec's own command has for it.
func walk(group *spec.TestGroup, visit func(id string, test *spec.TestCase)) {
	for i, test := range append(group.Tests, group.StrictTests...) {
		visit(fmt.Sprintf("%s/%d", group.ID(), i+1), test)
	}
	for _, g := range group.Groups {
		walk(g, visit)
	}
}

// runCase runs a case on a connection of its own.
func runCase(c *config.Config, test *spec.TestCase) error {
	conn, err := spec.Dial(c)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // many cases end it
	return test.Run(c, conn)
}

func judge(t *testing.T, id string, test *spec.TestCase, err error) {
	t.Helper()
	why, known := deviations[id]
	switch {
	case errors.Is(err, spec.ErrSkipped):
		if unasked[id] == "" {
			t.Errorf("%s (%s): left out by h2spec, and nobody says why", id, test.Desc)
		}
	case err == nil && known:
		t.Errorf("%s (%s) passes: drop it from the exceptions, where it stands because %s", id, test.Desc, why)
	case err == nil && unasked[id] != "":
		t.Errorf("%s (%s) passes: drop it from the cases that are left out", id, test.Desc)
	case err != nil && !known:
		var told *spec.TestError
		if errors.As(err, &told) {
			err = fmt.Errorf("want %s, got %s", strings.Join(told.Expected, " or "), told.Actual)
		}
		t.Errorf("%s (%s): %s: %v", id, test.Desc, test.Requirement, err)
	}
}

func split(t *testing.T, addr string) (host string, port int) {
	t.Helper()
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if port, err = strconv.Atoi(text); err != nil {
		t.Fatal(err)
	}
	return host, port
}

// serveHTTP is a pod that answers any request over HTTP/2 without TLS, after reading all of it.
func serveHTTP(t *testing.T) string {
	t.Helper()
	l := listen(t)
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the client broke off, or lied about the length
		}
		w.Header().Set("content-type", "text/plain")
		_, _ = w.Write([]byte(strings.Repeat("conformance ", 20))) // the client may be gone
	})}
	s.ErrorLog = log.New(io.Discard, "", 0)                   // what it thinks of its peer is the peer's matter
	s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 20_000} // more than the sidecar allows, so that its own limit is the one that is met
	s.Protocols = new(http.Protocols)
	s.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // what is open then is closed next
		_ = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
