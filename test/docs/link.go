package docs

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// Link is a reference to something else.
type Link struct {
	Code // Text is the destination as it is written
}

func (r *reader) link(to string) {
	r.page.Links = append(r.page.Links, Link{Code{r.page.Name, r.line, to}})
}

var (
	rawLink   = regexp.MustCompile(`\b(?:src|srcset|href)="([^"]*)"`)
	rawAnchor = regexp.MustCompile(`\b(?:id|name)="([^"]+)"`)
)

// rawLinks finds links and anchors in HTML that stands in a document.
func (r *reader) rawLinks(html string) {
	for _, m := range rawLink.FindAllStringSubmatch(html, -1) {
		r.link(m[1])
	}
	for _, m := range rawAnchor.FindAllStringSubmatch(html, -1) {
		r.page.Anchors[m[1]] = true
	}
}

// anchor notes the fragment that GitHub makes of a heading: lower case, letters,
// digits, hyphens and underscores, and a number from the second of a kind on.
func (r *reader) anchor(heading string) {
	var b strings.Builder
	for _, c := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(c) || unicode.IsDigit(c) || c == '-' || c == '_':
			b.WriteRune(c)
		case c == ' ':
			b.WriteByte('-')
		}
	}
	slug := b.String()
	for n := 1; r.page.Anchors[slug]; n++ {
		slug = fmt.Sprintf("%s-%d", b.String(), n)
	}
	r.page.Anchors[slug] = true
}

// CheckLinks returns what is wrong with the links of the pages: a file or anchor
// of the repository that does not exist, or an address that is none. Nothing
// is asked of other hosts.
func CheckLinks(root string, pages []*Page) []error {
	anchors := map[string]map[string]bool{}
	for _, p := range pages {
		anchors[p.Name] = p.Anchors
	}
	var out []error
	for _, p := range pages {
		for _, l := range p.Links {
			if what := l.wrong(root, anchors); what != "" {
				out = append(out, fmt.Errorf("%s: link to %s: %s", l, l.Text, what))
			}
		}
	}
	return out
}

func (l Link) wrong(root string, anchors map[string]map[string]bool) string {
	u, err := url.Parse(l.Text)
	switch {
	case err != nil || l.Text == "":
		return "this is no address"
	case u.Scheme == "mailto" && strings.Contains(u.Opaque, "@"):
		return ""
	case u.Scheme == "https":
		if !strings.Contains(u.Host, ".") || strings.ContainsAny(l.Text, " <>") {
			return "this is no address on another host"
		}
		return ""
	case u.Scheme != "":
		return "write https, or a path of the repository"
	case strings.HasPrefix(u.Path, "/"):
		return "write a path relative to the page: GitHub has another root"
	}
	target := l.Page
	switch {
	case u.Path == "" && IsCheck(l.Page):
		target = "docs/checks.md" // where GitHub's readers see the page, among the others
	case u.Path != "":
		target = path.Join(path.Dir(l.Page), u.Path)
	}
	if strings.HasPrefix(target, "../") {
		// ../../security/advisories and the like are pages of GitHub's own.
		return "it leads out of the repository"
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(target))); err != nil {
		return "no such file in the repository"
	}
	if u.Fragment != "" && path.Ext(target) == ".md" && !anchors[target][u.Fragment] {
		return "no heading of " + target + " makes this anchor"
	}
	return ""
}
