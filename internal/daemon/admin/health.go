package admin

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// healthz says that the process answers. Nothing that other machines do may make
// it fail: the kubelet would restart the proxy in the middle of its calls.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", plainText)
	_, _ = io.WriteString(w, "alive\n")
}

const plainText = "text/plain; charset=utf-8"

// readyz says whether calls can be taken, with a line for each target. A
// configuration that was refused is told and changes nothing: the one before is
// in force.
func readyz(w http.ResponseWriter, src Source) {
	pools, info := src.Pools(), src.Info()
	var out bytes.Buffer
	ready := !info.Draining && len(pools) > 0
	for _, s := range pools {
		ready = ready && (s.Ready || slices.Contains(info.Late, s.Name)) && !s.Draining
	}
	switch {
	case info.Draining:
		fmt.Fprintln(&out, "not ready: the daemon ends, calls run out")
	case ready:
		fmt.Fprintln(&out, "ready")
	case len(pools) == 0:
		fmt.Fprintln(&out, "not ready: no target")
	default:
		fmt.Fprintln(&out, "not ready")
	}
	for _, s := range pools {
		fmt.Fprintf(&out, "target %s: %s\n", oneLine(s.Name), readiness(s))
	}
	fmt.Fprintf(&out, "configuration: %s\n", configLine(info.Config))
	w.Header().Set("Content-Type", plainText)
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(out.Bytes())
}

func readiness(s sidecar.Stats) string {
	connected, members := countPods(s)
	about := fmt.Sprintf("%d of %d pods connected", connected, members)
	switch {
	case s.Draining:
		return "draining, " + about
	case s.Ready && s.Reason != "":
		return "ready, " + about + ", " + oneLine(s.Reason)
	case s.Ready:
		return "ready, " + about
	case s.Reason != "":
		return "not ready, " + about + ", " + oneLine(s.Reason)
	}
	return "not ready, " + about
}

// countPods counts the pods that a target has, and those of them with a
// connection. Pods that were removed are not counted.
func countPods(s sidecar.Stats) (connected, members int) {
	for i := range s.Pods {
		if !isMember(&s.Pods[i]) {
			continue
		}
		members++
		if s.Pods[i].Connections > 0 {
			connected++
		}
	}
	return connected, members
}

// isMember is false for a pod that was removed and only ends its calls.
func isMember(p *sidecar.Pod) bool {
	return p.State != sidecar.StateDraining && p.State != sidecar.StateGone
}

func configLine(c Config) string {
	var line strings.Builder
	fmt.Fprintf(&line, "generation %d", c.Generation)
	if !c.Loaded.IsZero() {
		fmt.Fprintf(&line, " of %s", c.Loaded.UTC().Format(time.RFC3339))
	}
	if c.File == "" {
		line.WriteString(", from flags")
	}
	if c.Error != "" {
		fmt.Fprintf(&line, " stays in force: the change of %s was refused: %s", c.ErrorAt.UTC().Format(time.RFC3339), oneLine(c.Error))
	}
	return line.String()
}

// oneLine makes text that others wrote fit for a line: no control characters, no
// direction marks that turn the rest around, not endless.
func oneLine(s string) string {
	return clip(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")), maxText)
}

// clip cuts text after n characters.
func clip(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i] + "…"
		}
		n--
	}
	return s
}
