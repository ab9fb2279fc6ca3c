package settings

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

// The words at the head of a file.
const (
	// APIVersion is the version of the format. Fields are added within a version,
	// never renamed or given another meaning.
	APIVersion = "grpclb.dev/v1alpha1"
	// Kind tells the file from others of the project.
	Kind = "SidecarConfig"
)

// Settings are a whole configuration, checked and with every default filled in.
type Settings struct {
	// Admin says where the daemon tells about itself.
	Admin Admin
	// DrainDelay is how long the daemon goes on as before after it was told to
	// stop, or until no client is connected; 0: it drains at once.
	DrainDelay time.Duration
	// DrainTimeout is how long calls may take to end after that.
	DrainTimeout time.Duration
	// Log says what is written to standard error.
	Log Log
	// Targets are what is served, in the order of the file, one at least.
	Targets []Target
}

// Admin is about the daemon's own ports.
type Admin struct {
	// Listen is the address of health, readiness and metrics, which the kubelet
	// and Prometheus ask by the pod's IP; the zero value when it is off.
	Listen netip.AddrPort
	// Debug is the loopback address of the pools page; the zero value when it is off.
	Debug netip.AddrPort
	// Hosts are names by which the page may be asked for beside loopback ones.
	Hosts []string
}

// Log is about standard error.
type Log struct {
	Level slog.Level
	// JSON is false for text.
	JSON bool
}

// Target is one pool of pods and the addresses that lead to it.
type Target struct {
	// Name is for people and metrics; the target's text unless it was given.
	Name string
	// Listen are the addresses, one at least.
	Listen []netip.AddrPort
	// Target is the text that sidecar.ParseTarget takes.
	Target string
	// Policy is complete and valid.
	Policy config.Config
	// Limits bound what the pool may use.
	Limits Limits
}

// Key tells targets apart: a target with the same Key is the same pool, whatever
// else changed, and keeps its connections when the file is read again.
func (t Target) Key() string {
	var b strings.Builder
	b.WriteString(t.Target)
	for _, l := range t.Listen {
		b.WriteByte(' ')
		b.WriteString(l.String())
	}
	return b.String()
}

// Options are what the file itself cannot say.
type Options struct {
	// AllowNonLoopback lets targets listen where other machines can call.
	AllowNonLoopback bool
	// Override are values that count more than the file's, none of a target.
	Override []Assignment
}

// Default is a configuration without targets.
func Default() Settings {
	return Settings{
		Admin: Admin{
			Listen: netip.MustParseAddrPort("[::]:15650"),
			Debug:  netip.MustParseAddrPort("127.0.0.1:15651"),
		},
		DrainTimeout: 25 * time.Second,
	}
}

// defaultTarget is a target without an address.
func defaultTarget() Target {
	return Target{Policy: config.Default(config.PeakEWMA), Limits: DefaultLimits()}
}

// Problem is one thing that is wrong with, or questionable in, a configuration.
type Problem struct {
	// File is as it was named to Parse, "" for the command line. Line and Column
	// begin with 1; 0 when the place is unknown.
	File         string
	Line, Column int
	// Path is the field: "targets[0].policy.slowStart", or a flag; "" for the whole.
	Path string
	// Text says what is wrong and what would be right.
	Text string
}

// String is the form that editors and compilers have: file:line:column: path: text.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Error is what is wrong with a configuration, in the order of the file.
type Error struct {
	// Problems has one entry at least.
	Problems []Problem
}

// Error has a line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
