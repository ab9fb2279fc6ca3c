package krew

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// What krew's developer guide asks for in numbers, and what fits a terminal.
const (
	shortest = 50 // characters of shortDescription, which "krew search" shows in a table
	columns  = 80 // of the lines of description and caveats, which are shown indented
	caveats  = 10 // lines: the guide wants steps there, not documentation
)

// platforms are the systems that a release has archives for.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

var (
	hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// redundant are words that say nothing in a list of kubectl plugins.
	redundant = regexp.MustCompile(`(?i)\b(kubectl|kube|kubernetes|k8s|krew|plugin)\b`)
)

// Review reads a manifest as a reviewer of krew's index does and returns what is
// wrong with it; nil means nothing. The rules are those of krew's guides on
// manifests, naming and submitting, and of this project's releases: six
// platforms, GitHub archives, the licences installed beside the program. What
// krew's own validator refuses is left to it.
func Review(text []byte) []string {
	m, err := Parse(text)
	if err != nil {
		return []string{err.Error()}
	}
	r := &review{}
	r.want("apiVersion", m.APIVersion, "krew.googlecontainertools.github.com/v1alpha2")
	r.want("kind", m.Kind, "Plugin")
	r.want("metadata.name", m.Metadata.Name, Name)
	r.want("homepage", m.Spec.Homepage, Homepage)
	if _, err := version.ParseSemantic(m.Spec.Version); err != nil || !strings.HasPrefix(m.Spec.Version, "v") {
		r.say("version %q is no semantic version with a leading v", m.Spec.Version)
	}
	r.words(m.Spec)
	r.platforms(m.Spec)
	return r.faults
}

type review struct{ faults []string }

func (r *review) say(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *review) want(field, got, want string) {
	if got != want {
		r.say("%s is %q, want %q", field, got, want)
	}
}

// words judges what people read.
func (r *review) words(s Spec) {
	short := s.ShortDescription
	if n := len([]rune(short)); n == 0 || n > shortest {
		r.say("shortDescription has %d characters, want 1 to %d", n, shortest)
	}
	if strings.ContainsAny(short, "\r\n") || strings.HasSuffix(short, ".") {
		r.say("shortDescription is a tagline of one line without a full stop")
	}
	if word := redundant.FindString(short); word != "" {
		r.say("shortDescription says %q, which every plugin could", word)
	}
	if !strings.Contains(s.Description, `NOT gRPC's deprecated "grpclb"`) {
		r.say("description does not tell the plugin from gRPC's grpclb policy")
	}
	for _, field := range []struct{ name, text string }{{"description", s.Description}, {"caveats", s.Caveats}} {
		if strings.TrimSpace(field.text) == "" {
			r.say("%s is empty", field.name)
		}
		for line := range strings.Lines(field.text) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > columns {
				r.say("%s has a line of %d columns, want %d at most: %s", field.name, n, columns, strings.TrimSpace(line))
			}
		}
	}
	if n := strings.Count(s.Caveats, "\n"); n > caveats {
		r.say("caveats has %d lines, want %d at most", n, caveats)
	}
}

// platforms judges what is downloaded and installed.
func (r *review) platforms(s Spec) {
	var have []string
	hashes := map[string]int{}
	for _, p := range s.Platforms {
		have = append(have, p.String())
		hashes[p.Sha256]++
		r.platform(s.Version, p)
	}
	slices.Sort(have)
	want := slices.Sorted(slices.Values(platforms))
	if !slices.Equal(have, want) {
		r.say("platforms are %v, want %v", have, want)
	}
	for sum, n := range hashes {
		if n > 1 && (sum != NotReleased || n != len(s.Platforms)) {
			r.say("sha256 %s stands on %d of %d platforms", sum, n, len(s.Platforms))
		}
	}
}

func (r *review) platform(version string, p Platform) {
	if len(p.Selector.MatchLabels) != 2 {
		r.say("%s: the selector has %d labels, want os and arch", p, len(p.Selector.MatchLabels))
	}
	r.want(p.String()+": uri", p.URI, Downloads+version+"/"+Archive(number(version), p.OS(), p.Arch()))
	if !hexSum.MatchString(p.Sha256) {
		r.say("%s: sha256 %q is not 64 lower-case hexadecimal digits", p, p.Sha256)
	}
	r.want(p.String()+": bin", p.Bin, p.Program())
	want := []File{{p.Program(), "."}}
	for _, name := range Licenses {
		want = append(want, File{name, "."})
	}
	if !slices.Equal(p.Files, want) {
		r.say("%s: files are %v, want %v", p, p.Files, want)
	}
}
