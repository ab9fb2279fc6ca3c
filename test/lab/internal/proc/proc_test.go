package proc

import (
	"os"
	"runtime"
	"testing"
)

func TestParseStat(t *testing.T) {
	const tail = " S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 9 0 987654 1000 50 18446744073709551615 1 1"
	for name, tc := range map[string]struct {
		in   string
		want Stat
		bad  bool
	}{
		"plain":                    {in: "42 (kubelet)" + tail, want: Stat{ID: ID{42, 987654}, State: 'S', Parent: 1, Threads: 9}},
		"spaces and parens inside": {in: "42 (a) b (c) d)" + tail, want: Stat{ID: ID{42, 987654}, State: 'S', Parent: 1, Threads: 9}},
		"cut short":                {in: "42 (kubelet) S 1 42", bad: true},
		"no name":                  {in: "42 kubelet S 1", bad: true},
		"not a number":             {in: "x (kubelet)" + tail, bad: true},
		"empty":                    {in: "", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseStat(tc.in)
			if (err != nil) != tc.bad {
				t.Fatalf("error %v, want one: %v", err, tc.bad)
			}
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestMarkedWith(t *testing.T) {
	for in, want := range map[string]string{
		"A=b\x00" + MarkEnv + "=/var/cache/lab\x00C=d\x00": "/var/cache/lab",
		"X" + MarkEnv + "=/other\x00":                      "",
		"":                                                 "",
	} {
		if got := MarkedWith(in); got != want {
			t.Errorf("MarkedWith(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAliveTellsAProcessFromItsSuccessor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	self, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !self.ID.Alive() {
		t.Error("this process is not alive")
	}
	reused := ID{PID: self.PID, Start: self.Start + 1}
	if reused.Alive() {
		t.Error("a process that was started at another time passes for this one")
	}
	if (ID{}).Alive() {
		t.Error("no process is alive")
	}
}

func TestProgramOf(t *testing.T) {
	for cmdline, want := range map[string]string{
		"/build/bin/kubelet\x00--config=/etc/kubelet.yaml\x00": "kubelet",
		"kubelet\x00":               "kubelet",
		"/bin/sh\x00-c\x00/kubelet": "sh",
		"":                          "", // a kernel thread has none
	} {
		if got := programOf(cmdline); got != want {
			t.Errorf("%q: %q, want %q", cmdline, got, want)
		}
	}
}

func TestEnded(t *testing.T) {
	for _, tc := range []struct {
		s    Stat
		want bool
	}{
		{Stat{State: 'S', Threads: 9}, false},
		{Stat{State: 'Z', Threads: 9}, false}, // the first thread has ended, others hold its ports
		{Stat{State: 'Z', Threads: 1}, true},
		{Stat{State: 'X'}, true},
	} {
		if got := tc.s.Ended(); got != tc.want {
			t.Errorf("%+v: ended %t, want %t", tc.s, got, tc.want)
		}
	}
}
