package fix

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// stays is why a target is left to its owner. how says what to do, as a sentence without the final dot in which toHere
// stands for the new target; empty means to write the new target instead of the old one.
type stays struct{ why, how string }

// Error returns the reason.
func (s *stays) Error() string { return s.why }

// toHere stands for the new target in stays.how.
const toHere = "{to}"

// The reasons for which a target is left to its owner.
var (
	errContainerGone = errors.New("the container is not there any more")
	errTargetGone    = errors.New("the target is not there any more, or is written in another way")
	errImmutable     = errors.New("the ConfigMap is immutable")
	errPortApart     = errors.New("its port, written apart, has to change with it and could not be found there")
	errDone          = errors.New("the new target is there already")
	errPart          = &stays{why: "the target is only a part of the value"}
	errList          = &stays{
		why: "the value is a list, and round_robin needs one name that stands for all pods",
		how: "By hand: let the client dial " + toHere + " over a channel of its own, without a list",
	}
)

// rewrite returns a value with the new target, if the value is the target and nothing else: what a program makes of a
// target inside of a longer value cannot be known.
func rewrite(old string, e edit) (string, error) {
	core := strings.Trim(strings.TrimSpace(old), `"'`)
	refs := reference.FindAllString(core, -1)
	switch {
	case core != "" && (core == e.t.Token || isURL(e.t.Scheme) && core == e.t.Token+"/"):
		return strings.Replace(old, core, e.to, 1), nil
	case core == e.to:
		return "", errDone
	case len(refs) == 1 && refs[0] == core:
		return "", &stays{why: "it takes the value of " + core, how: "What " + core + " becomes holds here too"}
	case len(refs) > 0:
		all := strings.Join(refs, ", ")
		return "", &stays{why: "the value is composed of " + all, how: fmt.Sprintf("By hand: change those, or write %s as the whole value", toHere)}
	case standsIn(old, e.t.Token) && strings.Contains(core, ","):
		return "", errList
	case standsIn(old, e.t.Token):
		return "", errPart
	}
	return "", errTargetGone
}

// reference is a variable inside of a value: $(NAME) for the kubelet, ${NAME} and $NAME for a shell.
var reference = regexp.MustCompile(`\$(\([A-Za-z_][\w.-]*\)|\{[A-Za-z_]\w*\}|[A-Za-z_]\w*)`)

func isURL(scheme string) bool { return scheme == "http" || scheme == "https" }

// rewriteText changes the target in a configuration file: where it is the whole value of a key. left tells that it also
// stands elsewhere in the text, comments not counted.
func rewriteText(text string, e edit) (now string, left bool, err error) {
	if !strings.ContainsRune(strings.TrimSpace(text), '\n') {
		if now, err := rewrite(text, e); err == nil || errors.Is(err, errDone) {
			return now, false, err
		}
	}
	var b strings.Builder
	found, done := false, false
	for line := range strings.Lines(text) {
		body := strings.TrimSpace(line)
		if strings.HasPrefix(body, "#") || strings.HasPrefix(body, "//") {
			b.WriteString(line)
			continue
		}
		changed, ok := rewriteLine(line, e.t.Token, e.to)
		b.WriteString(changed)
		found = found || ok
		left = left || standsIn(changed, e.t.Token)
		done = done || standsIn(line, e.to)
	}
	switch {
	case found:
		return b.String(), left, nil
	case left:
		return "", true, errPart
	case done: // also when another workload that reads the same key has brought the change
		return "", false, errDone
	}
	return "", false, errTargetGone
}

var (
	// keyBefore is a line up to a value without quotes: YAML, properties, TOML, a shell's assignments.
	keyBefore = regexp.MustCompile(`^\s*(- +)*(export +)?["']?[\w./-]+["']?( *= *|\s*:\s+)$`)
	// endAfter is what may follow such a value, and commaAfter one in quotes (JSON).
	endAfter   = regexp.MustCompile(`^\s*(\s#.*)?$`)
	quoteAfter = regexp.MustCompile(`^\s*(}.*|,\s*(["'][^"']*["']\s*:.*|[\w.-]+\s*[:=].*)?|#.*)?$`)
	// keyBeforeQuote is what stands before a value in quotes.
	keyBeforeQuote = regexp.MustCompile(`[\w"'\])./-]\s*[:=]\s*$`)
)

// rewriteLine changes the target where it is the whole value of a key of the line. An element of a list is none.
func rewriteLine(line, token, to string) (string, bool) {
	var b strings.Builder
	found := false
	done := 0
	for _, i := range standing(line, token) {
		before, after := line[:i], strings.TrimRight(line[i+len(token):], "\r\n")
		q := last(before)
		quoted := (q == '"' || q == '\'') && next(after) == q
		if quoted && keyBeforeQuote.MatchString(before[:len(before)-1]) && quoteAfter.MatchString(after[1:]) ||
			!quoted && keyBefore.MatchString(before) && endAfter.MatchString(after) {
			b.WriteString(line[done:i] + to)
			done = i + len(token)
			found = true
		}
	}
	b.WriteString(line[done:])
	return b.String(), found
}

// standing returns where token stands by itself in s: "square:6565" does not in "big-square:6565" or "square:65650".
func standing(s, token string) []int {
	var out []int
	if token == "" {
		return nil
	}
	for from := 0; ; {
		i := strings.Index(s[from:], token)
		if i < 0 {
			return out
		}
		i += from
		from = i + len(token)
		if !inName(last(s[:i])) && !inName(next(s[from:])) {
			out = append(out, i)
		}
	}
}

func standsIn(s, token string) bool { return len(standing(s, token)) > 0 }

// inName reports whether a byte may continue a host name or a port.
func inName(c byte) bool {
	return c == '-' || c == '.' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
