package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// licenceFile and noticeFile are the names that hold a module's terms. Terms
// and notices are both part of the report; only terms say which licence it is.
var (
	licenceFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|patents)([.-].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^notice([.-].*)?$`)
	sourceFile  = regexp.MustCompile(`(?i)\.(go|s|sh|py|tmpl)$`)
)

// recognised is the share of a licence file, in percent, that has to be text of
// known licences. The rest is a title, a copyright line, a sentence about which
// files are meant.
const recognised = 75

// text is one licence or notice file of a module.
type text struct {
	name     string // relative to the module, slash-separated
	licences []string
	body     string
}

// read collects the licence and notice files of the folders from the module's
// root down to each linked package, and judges them.
func (m *module) read() error {
	folders := []string{m.dir}
	for _, f := range m.folders {
		for dir := f; len(dir) > len(m.dir); dir = filepath.Dir(dir) {
			if !slices.Contains(folders, dir) {
				folders = append(folders, dir)
			}
		}
	}
	slices.Sort(folders)
	known := false
	for _, dir := range folders {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("%s: look for its licence: %w", m.path, err)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || sourceFile.MatchString(e.Name()) {
				continue
			}
			isLicence := licenceFile.MatchString(e.Name())
			if !isLicence && !noticeFile.MatchString(e.Name()) {
				continue
			}
			t, err := m.readFile(filepath.Join(dir, e.Name()), isLicence)
			if err != nil {
				return err
			}
			known = known || isLicence && dir == m.dir
			m.texts = append(m.texts, t)
		}
	}
	if !known {
		return fmt.Errorf("%s %s has no licence file in %s: without one nobody may hand it on", m.path, m.version, m.dir)
	}
	return nil
}

// readFile reads one file. Terms have to be recognised and allowed.
func (m *module) readFile(name string, terms bool) (text, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return text{}, fmt.Errorf("%s: read its licence: %w", m.path, err)
	}
	rel, err := filepath.Rel(m.dir, name)
	if err != nil {
		return text{}, fmt.Errorf("%s: read its licence: %w", m.path, err)
	}
	t := text{name: filepath.ToSlash(rel), body: tidy(string(data))}
	if !terms {
		return t, nil
	}
	cov := licensecheck.Scan(data)
	if cov.Percent < recognised {
		return text{}, fmt.Errorf("%s %s: %s is not the text of a known licence (%.0f %% of it is): read it, and do without the module if it is none of those in allowed.go",
			m.path, m.version, t.name, cov.Percent)
	}
	for _, match := range cov.Match {
		if match.IsURL {
			continue
		}
		if allowed[match.ID] == "" {
			return text{}, fmt.Errorf("%s %s: %s holds the licence %s, which is not in allowed.go: do without the module, or add the licence with a reason",
				m.path, m.version, t.name, match.ID)
		}
		if !slices.Contains(t.licences, match.ID) {
			t.licences = append(t.licences, match.ID)
		}
	}
	slices.Sort(t.licences)
	return t, nil
}

// tidy makes line ends the same everywhere and takes blank space off the ends.
func tidy(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		out = append(out, strings.TrimRight(line, " \t\r\n"))
	}
	return strings.Trim(strings.Join(out, "\n"), "\n")
}

// licences are those of all texts, sorted.
func (m *module) licences() []string {
	var out []string
	for _, t := range m.texts {
		for _, l := range t.licences {
			if !slices.Contains(out, l) {
				out = append(out, l)
			}
		}
	}
	slices.Sort(out)
	return out
}
