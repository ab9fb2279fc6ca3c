package docs

import (
	"errors"
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Calls parses commands for a shell (bash's language, of which sh is a part: what
// is run is judged by sh itself) and returns the arguments of every
// call of the plugin in them, without the program's name. What a variable or a
// substitution would hold is "x".
func Calls(script string) ([][]string, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil {
		var at syntax.ParseError
		if errors.As(err, &at) {
			return nil, fmt.Errorf("line %d of the block: %s", at.Pos.Line(), at.Text)
		}
		return nil, err
	}
	var out [][]string
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok {
			return true
		}
		var words []string
		for _, w := range call.Args {
			words = append(words, literal(w.Parts))
		}
		if args, ok := pluginArgs(words); ok {
			out = append(out, args)
		}
		return true
	})
	return out, nil
}

// pluginArgs takes the ways off in which the documents start the plugin.
func pluginArgs(words []string) ([]string, bool) {
	line := strings.Join(words, "\x00")
	for _, name := range []string{"kubectl grpclb", "kubectl-grpclb", "go run ./cmd/kubectl-grpclb", "bin/kubectl-grpclb"} {
		rest, ok := strings.CutPrefix(line, strings.ReplaceAll(name, " ", "\x00"))
		switch {
		case ok && rest == "":
			return nil, true
		case ok && rest[0] == 0:
			return strings.Split(rest[1:], "\x00"), true
		}
	}
	return nil, false
}

func literal(parts []syntax.WordPart) string {
	var b strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			b.WriteString(p.Value)
		case *syntax.SglQuoted:
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			b.WriteString(literal(p.Parts))
		default:
			b.WriteString("x")
		}
	}
	return b.String()
}
