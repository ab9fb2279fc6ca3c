// Package quote makes text from a cluster harmless for the place where it is printed.
//
// Names, reasons and DNS answers are written by whoever may write to a cluster; a terminal, a shell and a CI system all
// take some of that text as orders. Three functions stand between them:
//
//   - [Visible] for anything a person reads: what cannot be seen is spelled out, and CI workflow commands lose their
//     effect;
//   - [Shell] and [CommandLine] for command lines that a person copies into a POSIX shell.
//
// It refuses to quote for a shell what a person could not read: an argument with a control character or an invisible
// one is not offered as a command at all.
package quote

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Visible returns s with everything spelled out that a reader would not see, or that a terminal or a CI system would
// act on: control characters (C0, DEL, C1) and line breaks, bidirectional controls, zero-width and other default
// ignorable characters, odd spaces, unassigned code points and invalid UTF-8. They become \u00XX, \U00XXXXXX, or \xXX
// for a stray byte. Workflow commands (::error::, ##[group], ##vso[…]) have their first character spelled out. The
// result is always one line of valid UTF-8, and printable text comes back as it was.
func Visible(s string) string {
	return disarm(spell(s))
}

func spell(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case shown(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

// Printable reports whether all of s can be seen: Visible would spell nothing out. Line breaks cannot be seen.
func Printable(s string) bool { return printable(s) }

func printable(s string) bool {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !shown(r) {
			return false
		}
		i += n
	}
	return true
}

// shown reports whether a rune leaves ink, or is the space. unicode.IsPrint leaves out the categories C and Z, and so
// all bidirectional and zero-width controls; letters and marks that draw nothing (Hangul fillers, variation selectors)
// have a property of their own.
func shown(r rune) bool {
	if r < 0x7f { // almost all of it, without a table
		return r >= ' '
	}
	return unicode.IsPrint(r) &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && !unicode.Is(unicode.Variation_Selector, r)
}

// disarm takes the effect from the commands that CI systems look for in the output of programs: GitHub and Gitea obey
// a line that starts with ::name, and a word may come to stand first when text is wrapped; GitHub, Azure and TeamCity
// obey ##[…], ##vso[…] and ##teamcity[…].
func disarm(s string) string {
	for strings.Contains(s, "##") {
		s = strings.ReplaceAll(s, "##", `\u0023#`) // again: of three hashes two remain
	}
	if !strings.Contains(s, "::") {
		return s
	}
	words := strings.Split(s, " ")
	for i, w := range words {
		if workflow(w) {
			words[i] = `\u003a` + w[1:]
		}
	}
	return strings.Join(words, " ")
}

// workflow tells ::error from the IPv6 addresses ::1 and ::ffff:192.0.2.1.
func workflow(word string) bool {
	rest, ok := strings.CutPrefix(word, "::")
	if !ok || rest == "" || !unicode.IsLetter(rune(rest[0])) {
		return false
	}
	_, err := netip.ParseAddr(word)
	return err != nil
}

// Shell returns arg as one word of a POSIX shell (XCU 2.2): unchanged when nothing in it is special, in single quotes
// otherwise. It returns false for an argument that Visible would change: on its way to the reader it would become another one.
func Shell(arg string) (string, bool) {
	if Visible(arg) != arg {
		return "", false
	}
	if arg != "" && arg[0] != '=' && strings.IndexFunc(arg, special) < 0 {
		return arg, true
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'", true
}

// special names what may mean something to a shell; everything outside a short list does.
func special(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("-_./:=@,+%", r)
}

// CommandLine returns a command as a person types it into a POSIX shell, its pipe included. It returns false when an
// argument cannot be printed, or when there is no command.
func CommandLine(c diagnose.Command) (string, bool) {
	line, ok := words(c.Args)
	if !ok || len(c.PipeTo) == 0 {
		return line, ok
	}
	to, ok := words(c.PipeTo)
	return line + " | " + to, ok
}

func words(args []string) (string, bool) {
	out := make([]string, len(args))
	for i, a := range args {
		q, ok := Shell(a)
		if !ok {
			return "", false
		}
		out[i] = q
	}
	return strings.Join(out, " "), len(args) > 0
}
