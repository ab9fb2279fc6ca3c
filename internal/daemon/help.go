package daemon

import (
	"fmt"
	"strings"
)

const aboutSidecar = `Take calls on local addresses and send each one to a pod, chosen per call, of a Service that is looked up again
every few seconds: for clients in any language, without a change to them.

HTTP/2 without TLS is relayed call by call, any gRPC method of any kind. Anything else (TLS, HTTP/1) is passed on as
it is, one connection to one pod, and counted. Any process of the same pod may use the addresses.

Usage:
  grpclb-refresher sidecar --listen IP:PORT --target NAME:PORT [--listen IP:PORT --target NAME:PORT ...] [flags]
  grpclb-refresher sidecar --config FILE [flags]
  grpclb-refresher --listen IP:PORT --target NAME:PORT [flags]

Examples:
  grpclb-refresher sidecar --listen 127.0.0.10:6565 --target square-service-headless.default:6565
  grpclb-refresher sidecar --config /etc/grpclb/sidecar.yaml --log-level debug
  curl -s 127.0.0.1:15651/debug/pools      what it knows, as JSON; / is a page
`

const afterSidecar = `
Every flag with a variable takes its value from there when it is not given. SIGHUP reads the file again; so does a
change of it. SIGTERM and SIGINT drain: /readyz says no, clients are asked to go, calls may end for --drain-timeout; a
second signal ends the process at once. Memory: GOGC and GOMEMLIMIT count when they are set.
`

const aboutCheck = `Read a file as sidecar --config does, and say what is wrong with it, or what it means.

Usage:
  grpclb-refresher check FILE|- [--allow-non-loopback]

What is wrong is on standard error, a line for each problem with line, column and field; what is allowed and seldom meant
follows as a warning. Nothing is looked up: whether a Service exists is the cluster's to say.
`

// SidecarHelp is what `sidecar --help` prints.
func SidecarHelp() string {
	var b strings.Builder
	b.WriteString(aboutSidecar + "\nFlags:\n")
	for _, f := range Flags() {
		value := f.Value
		if value != "" {
			value = " " + value
		}
		text := strings.ReplaceAll(f.What, "`", "")
		if f.Default != "" {
			text += " (default " + strings.Trim(f.Default, `"`) + ")"
		}
		fmt.Fprintf(&b, "  --%-22s %s\n", f.Name+value, text)
	}
	b.WriteString(afterSidecar + codes())
	return b.String()
}

// CheckHelp is what `check --help` prints.
func CheckHelp() string { return aboutCheck + codes() }

func codes() string {
	var b strings.Builder
	b.WriteString("\nExit codes:\n")
	for _, c := range Codes() {
		fmt.Fprintf(&b, "  %3d  %s\n", c.Code, strings.ReplaceAll(c.Mean, "`", ""))
	}
	return b.String()
}
