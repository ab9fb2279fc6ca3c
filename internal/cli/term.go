package cli

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// terminal says what may be drawn on the two output streams.
type terminal struct {
	color    bool // ANSI colours on standard output
	ascii    bool // nothing but ASCII on standard output
	width    int  // columns of standard output; 0: not a terminal, do not wrap
	progress bool // standard error is a terminal: a line may be redrawn
}

// detect looks at the streams and the environment (NO_COLOR: no-color.org; TERM; the locale for UTF-8).
func (a *app) detect() error {
	t := terminal{ascii: !utf8Locale()}
	fd, tty := descriptor(a.Out)
	if tty {
		if w, _, err := term.GetSize(fd); err == nil {
			t.width = w
		}
	} else if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		t.width = n
	}
	dumb := os.Getenv("TERM") == "dumb"
	switch a.color {
	case "auto":
		t.color = tty && !dumb && os.Getenv("NO_COLOR") == ""
	case "always":
		t.color = true
	case "never":
	default:
		return usage("", "--color is auto, always or never, not %q", a.color)
	}
	_, errTTY := descriptor(a.Err)
	t.progress = errTTY && !dumb && !a.quiet
	a.term = t
	return nil
}

func descriptor(w io.Writer) (int, bool) {
	if a, ok := w.(*answer); ok {
		w = a.w
	}
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	fd := int(f.Fd())
	return fd, term.IsTerminal(fd)
}

// utf8Locale reads the locale as setlocale(3) would. Without any locale (containers, CI) UTF-8 is assumed; "C" and
// "POSIX" ask for ASCII.
func utf8Locale() bool {
	for _, k := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(k); v != "" {
			u := strings.ToUpper(v)
			return strings.Contains(u, "UTF-8") || strings.Contains(u, "UTF8")
		}
	}
	return true
}
