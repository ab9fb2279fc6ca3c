package target

import (
	"cmp"
	"slices"
	"strings"
)

// Nearest returns the candidates that look like a mistyped name, nearest first, at most three: a few edits away (a quarter of the
// length, at least two), or one containing the other.
func Nearest(name string, candidates []string) []string {
	type scored struct {
		name string
		d    int
	}
	limit := max(2, len(name)/4)
	var near []scored
	for _, c := range candidates {
		d := distance(name, c, limit)
		if d > limit && len(name) >= 3 && len(c) >= 3 && (strings.Contains(c, name) || strings.Contains(name, c)) {
			d = limit + 1 + abs(len(c)-len(name))
		} else if d > limit {
			continue
		}
		near = append(near, scored{c, d})
	}
	slices.SortFunc(near, func(a, b scored) int { return cmp.Or(cmp.Compare(a.d, b.d), strings.Compare(a.name, b.name)) })
	var out []string
	for _, s := range near[:min(3, len(near))] {
		out = append(out, s.name)
	}
	return out
}

// distance is the edit distance with neighbouring letters swapped as one edit (optimal string alignment); limit+1 when more than
// limit.
func distance(a, b string, limit int) int {
	if abs(len(a)-len(b)) > limit || len(a) > 253 || len(b) > 253 {
		return limit + 1
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return min(prev[len(b)], limit+1)
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
