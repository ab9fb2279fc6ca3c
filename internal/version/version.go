// Package version says which build of the project is running.
//
// Release and make builds stamp the variables below through the linker
// (-ldflags "-X github.com/grpclb/kubectl-grpclb/internal/version.Version=v1.2.3").
// A binary built by "go install module@version" carries no stamp: then the
// answer comes from the build information that the go command embeds. The
// package prints nothing and decides nothing; it imports no other package of
// the project, so that every binary can afford it.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Stamped by the linker; they must stay plain string variables without an
// initialiser other than a constant, or -X has no effect. Read them through
// [Get], which fills the gaps.
var (
	// Version is the release in semver with a leading "v" ("v0.3.1"), or what
	// "git describe" calls an untagged build. Empty means not stamped.
	Version = ""
	// Commit is the full or shortened git commit hash. Empty means not stamped.
	Commit = ""
	// Date is the commit's time (RFC 3339, UTC), not the moment of the build:
	// two builds of one commit must be the same bytes. Empty means not stamped.
	Date = ""
	// Image is the image of grpclb-refresher that was released with this
	// build, by its digest ("ghcr.io/grpclb/grpclb-refresher@sha256:…"): a tag
	// can be moved, a digest cannot. Empty means that none was released.
	Image = ""
)

// Unreleased is the Version of a build that neither the linker nor the module
// system gave a number.
const Unreleased = "devel"

// Info is what a build knows of itself. The JSON names are part of the
// `version -o json` output.
type Info struct {
	// Version is never empty: a semver tag, a describe string or [Unreleased].
	Version string `json:"version"`
	// Commit is the git commit hash; empty when unknown.
	Commit string `json:"commit,omitempty"`
	// Date is the commit's time, RFC 3339; empty when unknown.
	Date string `json:"date,omitempty"`
	// Modified is true for a build from a work tree with uncommitted changes.
	// Stamped builds say it in Version instead ("-dirty").
	Modified bool `json:"modified,omitempty"`
	// Image is the released image of grpclb-refresher, by its digest; empty in
	// a build that is not a release's.
	Image string `json:"image,omitempty"`
	// GoVersion is the Go release that compiled the binary ("go1.26.8").
	GoVersion string `json:"goVersion"`
	// Platform is GOOS/GOARCH of the binary.
	Platform string `json:"platform"`
}

// Get returns the running build's Info: the linker's stamp first, the embedded
// build information for whatever the stamp leaves open.
func Get() Info {
	build, _ := debug.ReadBuildInfo()
	return resolve(Info{
		Version:   Version,
		Commit:    Commit,
		Date:      Date,
		Image:     Image,
		GoVersion: runtime.Version(),
		Platform:  runtime.GOOS + "/" + runtime.GOARCH,
	}, build)
}

// String is the one-line form: "v0.3.1 (commit 1a2b3c4d5e6f, 2026-09-01T10:00:00Z, go1.26.8 linux/amd64)".
func (i Info) String() string {
	var about []string
	if i.Commit != "" {
		about = append(about, "commit "+short(i.Commit))
	}
	if i.Date != "" {
		about = append(about, i.Date)
	}
	if i.Modified {
		about = append(about, "modified")
	}
	about = append(about, i.GoVersion+" "+i.Platform)
	return i.Version + " (" + strings.Join(about, ", ") + ")"
}

// resolve fills what the stamp left empty from build, which is nil for a binary
// built without module support. VCS facts are taken only when the stamp names
// no commit: a stamp and a work tree must not be mixed into one answer.
func resolve(stamp Info, build *debug.BuildInfo) Info {
	if build == nil {
		if stamp.Version == "" {
			stamp.Version = Unreleased
		}
		return stamp
	}
	if stamp.Commit == "" {
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				stamp.Commit = s.Value
			case "vcs.time":
				if stamp.Date == "" {
					stamp.Date = s.Value
				}
			case "vcs.modified":
				stamp.Modified = s.Value == "true"
			}
		}
	}
	if stamp.Version == "" {
		stamp.Version = moduleVersion(build)
	}
	return stamp
}

// moduleVersion is the main module's version; "(devel)" is what the go command
// writes for a build inside the module's own tree.
func moduleVersion(build *debug.BuildInfo) string {
	if v := build.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return Unreleased
}

// short cuts a hash to the 12 digits that Go's pseudo-versions use as well.
func short(commit string) string {
	if len(commit) > 12 {
		return commit[:12]
	}
	return commit
}
