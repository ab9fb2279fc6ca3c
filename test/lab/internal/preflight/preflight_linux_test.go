package preflight

import (
	"os"
	"strings"
	"testing"
)

func TestWithoutRootTheSentenceNamesTheAlternative(t *testing.T) {
	err := Root()
	if os.Geteuid() == 0 {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), Alternative) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

func TestStateDiskThatIsNotThere(t *testing.T) {
	if err := stateDisk(t.TempDir() + "/none"); err == nil {
		t.Error("no error")
	}
}

func TestFirstLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "one": "one", "\n one\ntwo": "one"} {
		if got := firstLine([]byte(in)); got != want {
			t.Errorf("firstLine(%q) = %q", in, got)
		}
	}
}
