// Package admin answers the daemon's HTTP questions: is it alive, is it ready,
// what are its metrics, and what does each pool look like.
//
//	go http.Serve(podIP, admin.Public(source))
//	go http.Serve(loopback, admin.Debug(source, nil))
//
// It refuses to change anything: every path is read with GET or HEAD. It shows
// addresses, counts and reasons, never a call's metadata or payload. It opens no
// socket and starts no goroutine; the caller owns the servers.
//
// # Public
//
// [Public] is for the pod's own address, so for anybody in the cluster: /healthz,
// /readyz and /metrics. [Metrics] lists what is in the latter.
//
// # Debug
//
// [Debug] is for loopback: /debug/pools is a [Document] in JSON, / a page that is
// complete without JavaScript and live with it. A web page of another origin
// must not read it by DNS rebinding, so the Host header has to be a loopback name
// or one that the configuration allows. The page loads nothing from elsewhere,
// and its content security policy allows the embedded style and script by their
// hashes alone.
package admin

import (
	"net/http"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/version"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// Source is what is shown: the daemon. Both methods are called for each request,
// from any goroutine, and return at once.
type Source interface {
	// Pools returns what is known of each target, in the order of the
	// configuration.
	Pools() []sidecar.Stats
	// Info returns what is known of the daemon itself.
	Info() Info
}

// Info is about the daemon as a whole. The JSON names are those of /debug/pools.
type Info struct {
	// Version is the build that runs.
	Version version.Info `json:"version"`
	// Started is when the process began.
	Started time.Time `json:"started"`
	// Config is what became of the configuration.
	Config Config `json:"config"`
	// Draining means that the daemon ends: no new connections, calls run out.
	Draining bool `json:"draining"`
	// Late are the names of targets that a reload added and that were not ready yet:
	// they do not make the daemon unready, since the others are served.
	Late []string `json:"late,omitempty"`
}

// Config is about the configuration that is in force, and the last one that is
// not.
type Config struct {
	// File is where it was read, "" when flags are all there is: those cannot be
	// reloaded.
	File string `json:"file"`
	// Generation counts the configurations that were put in force, 1 for that of
	// the start; Loaded is when this one was.
	Generation int       `json:"generation"`
	Loaded     time.Time `json:"loaded"`
	// Refused counts reloads that failed. Error is why the last one did, "" when it
	// did not: then the file on disk is the one in force. ErrorAt is when.
	Refused uint64    `json:"refused"`
	Error   string    `json:"error"`
	ErrorAt time.Time `json:"errorAt"`
}

// Document is what /debug/pools answers. Times are RFC 3339, a time that is not
// known is "0001-01-01T00:00:00Z"; durations are seconds. Fields are added, never
// renamed.
type Document struct {
	// At is when it was made.
	At   time.Time `json:"at"`
	Info Info      `json:"info"`
	// Targets are in the order of the configuration, never null.
	Targets []sidecar.Stats `json:"targets"`
}

// Public answers /healthz, /readyz and /metrics.
func Public(src Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", healthz)
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { readyz(w, src) })
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { metrics(w, src) })
	return readOnly(mux)
}

// Debug answers / and /debug/ with the page and /debug/pools with a [Document].
// A request's Host must be a loopback address, localhost or one of hosts, which
// are names without a port.
func Debug(src Source, hosts []string) http.Handler {
	p := page{source: src, now: time.Now, policy: contentPolicy()}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", p.serve)
	mux.HandleFunc("/debug/{$}", p.serve)
	mux.HandleFunc("/debug/fragment", p.serveFragment)
	mux.HandleFunc("/debug/pools", p.serveJSON)
	return readOnly(onlyHosts(hosts, mux))
}
