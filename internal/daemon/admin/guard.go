package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// readOnly lets GET and HEAD through, and adds what every answer needs.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		// All of it is of the moment.
		h.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "Only GET and HEAD: nothing can be changed here.", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onlyHosts refuses requests whose Host is neither loopback nor allowed. Listening
// on loopback alone does not keep a browser's pages out: one from evil.example
// may point its own name to 127.0.0.1 and is then of the same origin as ours
// (DNS rebinding). What it cannot change is the Host header, its name.
func onlyHosts(allowed []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if host := hostname(r.Host); !isLoopback(host) && !slices.ContainsFunc(allowed, func(a string) bool { return hostname(a) == host }) {
			// RFC 9110 section 15.5.20: this server does not answer for that name.
			http.Error(w, fmt.Sprintf("This page answers as localhost, or by a name that the configuration allows, not as %q.", clip(host, 100)),
				http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostname is a Host header's name or address: without the port, the brackets and
// the dot of the root, in lower case.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// isLoopback takes addresses by their value, and of names only the one that
// RFC 6761 section 6.3 has resolved to loopback everywhere.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
