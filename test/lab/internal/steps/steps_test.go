package steps

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEveryStepEndsAsOneLineWithItsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := New(&out)
		s := log.Begin("network")
		time.Sleep(1500 * time.Millisecond)
		s.Done("3 namespaces")
		s = log.Begin("kernel")
		time.Sleep(time.Second)
		if err := s.End(errors.New("no overlay"), "never shown"); err == nil {
			t.Error("End swallowed the error")
		}
		log.Begin("quiet").Done("")
		log.Note("the cluster is %s", "up")
		want := "" +
			"  1.50s  network: 3 namespaces (1.50s)\n" +
			"  2.50s  kernel: FAILED: no overlay (1.00s)\n" +
			"  2.50s  quiet (0.00s)\n" +
			"  2.50s  the cluster is up\n"
		if got := out.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestLongStepShowsThatItIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := New(&out).Begin("build")
		s.Update("%d packages", 7)
		time.Sleep(2*repeat + time.Second)
		s.Done("")
		if got := strings.Count(out.String(), "... build: 7 packages ("); got != 2 {
			t.Errorf("%d reports in %s:\n%s", got, 2*repeat, out.String())
		}
		if !strings.HasSuffix(out.String(), "31.00s  build (31.00s)\n") {
			t.Errorf("no last line:\n%s", out.String())
		}
	})
}

func TestTerminalRedrawsOneLineAndLeavesNoRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := New(&out)
		log.tty, log.width = true, 30
		s := log.Begin("build")
		s.Update("%s", strings.Repeat("long ", 20))
		time.Sleep(redraw + time.Millisecond)
		s.Done("ok")
		drawn, rest, found := strings.Cut(out.String(), "\r\x1b[K  0.20s  build: ok")
		if !found {
			t.Fatalf("the redrawn line was not erased: %q", out.String())
		}
		if line := strings.TrimPrefix(drawn, "\r\x1b[K"); len([]rune(line)) > 30 {
			t.Errorf("a redrawn line of %d columns would wrap: %q", len([]rune(line)), line)
		}
		if strings.Contains(rest, "...") {
			t.Errorf("redrawn after its end: %q", rest)
		}
	})
}

func TestMinutes(t *testing.T) {
	if got := seconds(6*time.Minute + 19*time.Second); got != "  6m19s" {
		t.Errorf("got %q", got)
	}
}
