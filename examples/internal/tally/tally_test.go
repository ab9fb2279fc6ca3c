package tally

import (
	"bytes"
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRowsAreOrdered(t *testing.T) {
	var c Counts
	if rows := c.Rows(); rows == nil || len(rows) != 0 {
		t.Errorf("an empty tally gave %#v, want an empty list", rows)
	}
	c.Add("b", 2)
	c.Add("c", 5)
	c.Add("a", 1)
	c.Add("a", 1)
	want := []Row{{"c", 5}, {"a", 2}, {"b", 2}}
	if diff := cmp.Diff(want, c.Rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestAddFromManyGoroutines(t *testing.T) {
	var c Counts
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				c.Add("pod", 1)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff([]Row{{"pod", 800}}, c.Rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestWriteTable(t *testing.T) {
	var out bytes.Buffer
	if err := WriteTable(&out, []Row{{"pod-one", 3000}, {"b", 1000}}); err != nil {
		t.Fatal(err)
	}
	want := "POD       CALLS   SHARE\n" +
		"pod-one   3,000   75.0 %\n" +
		"b         1,000   25.0 %\n"
	if out.String() != want {
		t.Errorf("table:\n%swant:\n%s", out.String(), want)
	}
	out.Reset()
	if err := WriteTable(&out, nil); err != nil || out.Len() != 0 {
		t.Errorf("no rows printed %q, error %v", out.String(), err)
	}
}

type brokenWriter struct{}

var errBroken = errors.New("pipe closed")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteTableReportsABrokenPipe(t *testing.T) {
	if err := WriteTable(brokenWriter{}, []Row{{"a", 1}}); !errors.Is(err, errBroken) {
		t.Errorf("error %v, want %v", err, errBroken)
	}
}

func TestThousands(t *testing.T) {
	cases := map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 1000000: "1,000,000", -12345: "-12,345", -100: "-100",
		math.MinInt64: "-9,223,372,036,854,775,808",
	}
	for n, want := range cases {
		if got := Thousands(n); got != want {
			t.Errorf("Thousands(%d) = %q, want %q", n, got, want)
		}
	}
}
