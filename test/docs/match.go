package docs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Match compares what a document shows with what a command printed, and says
// where they part; nil means that they agree.
//
// White space, line breaks and bars do not count. A word "…" stands for any
// words, also none. Numbers may differ unless they are a single digit by
// themselves, as the 1 and the 3 of "1 of 3 pods" are; and what the cluster makes
// up in a name may differ. JSON may be laid out over lines.
func Match(shown, printed string) error {
	want, got := words(shown), words(printed)
	// reach[i] is true when want so far can end before got[i].
	reach := make([]bool, len(got)+1)
	reach[0] = true
	for n, w := range want {
		next, any := make([]bool, len(got)+1), false
		for i, ok := range reach {
			switch {
			case !ok:
			case w == "…":
				for j := i; j <= len(got); j++ {
					next[j], any = true, true
				}
			case i < len(got) && got[i] == w:
				next[i+1], any = true, true
			}
		}
		if !any {
			return fmt.Errorf("%q of the document is not what was printed; before it: %s", w, tail(want[:n]))
		}
		reach = next
	}
	if !reach[len(got)] {
		return fmt.Errorf("more was printed than the document shows, which ends: %s", tail(want))
	}
	return nil
}

func tail(words []string) string {
	const most = 8
	if len(words) > most {
		words = append([]string{"…"}, words[len(words)-most:]...)
	}
	return strings.Join(words, " ")
}

var (
	bars   = regexp.MustCompile(`[█▏▎▍▌▋▊▉]+`)
	random = regexp.MustCompile(`-[0-9a-z]{6,10}-[0-9a-z]{5}\b|\bgrpclb-[a-z]+-[0-9a-z]{8}\b|\bgrpclb-[0-9a-z]{8}\b`)
	number = regexp.MustCompile(`\d[\d.,]*\d|\d[a-zµ%]`)
)

// words splits a text for comparison.
func words(s string) []string {
	var v any
	if json.Unmarshal([]byte(s), &v) == nil {
		if b, err := json.Marshal(v); err == nil {
			s = strings.NewReplacer(",", ", ").Replace(string(b))
		}
	}
	s = bars.ReplaceAllString(s, " ")
	s = random.ReplaceAllString(s, "-*")
	s = number.ReplaceAllStringFunc(s, func(n string) string {
		if last := n[len(n)-1]; last < '0' || last > '9' {
			return "#" + n[1:]
		}
		return "#"
	})
	return strings.Fields(s)
}
