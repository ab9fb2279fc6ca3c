package settings

import (
	"fmt"
	"strings"
)

// names are the fields of an object.
func names(n *node) []string {
	out := make([]string, len(n.fields))
	for i, f := range n.fields {
		out[i] = f.name
	}
	return out
}

// unknown says that n has no such field, and where there is one that may be meant.
func unknown(n *node, name string) string {
	if near, ok := Nearest(name, names(n)); ok {
		return fmt.Sprintf("no such field; did you mean %s?", near)
	}
	var elsewhere []string
	for _, f := range Fields() {
		if i := strings.LastIndexByte(f.Path, '.'); i >= 0 && strings.EqualFold(f.Path[i+1:], name) {
			elsewhere = append(elsewhere, f.Path)
		}
	}
	if elsewhere != nil {
		return fmt.Sprintf("no such field here; there is %s", strings.Join(elsewhere, " and "))
	}
	return fmt.Sprintf("no such field; there are %s", strings.Join(names(n), ", "))
}

// Nearest is the word that a mistyped one most likely meant. Case does not count,
// and up to two letters, but less than half of them, may be wrong.
func Nearest(s string, words []string) (string, bool) {
	best, at := "", 3
	for _, w := range words {
		d := distance(strings.ToLower(s), strings.ToLower(w))
		if d < at && 2*d < len(w) {
			best, at = w, d
		}
	}
	return best, best != ""
}

// distance is the number of letters to insert, remove or replace (Levenshtein).
func distance(a, b string) int {
	const far = 64 // longer than any name
	if len(a) > far || len(b) > far {
		return far
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
