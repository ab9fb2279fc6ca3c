package krew

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"
)

// Sum returns the SHA-256 in hex of what a URI leads to. The bot downloads it.
type Sum func(uri string) (string, error)

// Render makes a manifest from a template the way krew-release-bot does
// (rajatjindal/krew-release-bot, pkg/source/template.go, the same from v0.0.46 to v0.0.51): Go's
// text/template with the tag of the release as .TagName and two functions of
// its own. addURIAndSha writes a uri line and a sha256 line, the latter indented
// for manifests with four spaces; its first argument is a template again, which
// knows .TagName and no functions. indent moves both lines to another column.
// The bot's other values (.PluginOwner and the like) are empty when a template
// is tried out and are not offered here, so that using one is an error.
func Render(text []byte, tag string, sum Sum) ([]byte, error) {
	values := struct{ TagName string }{tag}
	t := template.New(".krew.yaml").Funcs(template.FuncMap{
		"indent": reindent,
		"addURIAndSha": func(uri, tag string) (string, error) {
			where, err := execute(template.New("uri"), uri, struct{ TagName string }{tag})
			if err != nil {
				return "", err
			}
			hash, err := sum(where.String())
			if err != nil {
				return "", fmt.Errorf("hash of %s: %w", where, err)
			}
			return "uri: " + where.String() + "\n    sha256: " + hash, nil
		},
	})
	out, err := execute(t, string(text), values)
	if err != nil {
		return nil, fmt.Errorf("render the release bot's template: %w", err)
	}
	return out.Bytes(), nil
}

func execute(t *template.Template, text string, values any) (*bytes.Buffer, error) {
	var out bytes.Buffer
	parsed, err := t.Parse(text)
	if err != nil {
		return nil, err
	}
	return &out, parsed.Execute(&out, values)
}

// reindent takes back the four spaces of addURIAndSha and indents every line but
// the first, which stands where the template put it.
func reindent(spaces int, text string) string {
	text = strings.ReplaceAll(text, "    sha256:", "sha256:")
	return strings.TrimSpace(strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", spaces)))
}
