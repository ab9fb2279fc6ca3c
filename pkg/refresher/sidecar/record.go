package sidecar

import (
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// codeNames are gRPC's status codes
// (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

// maxCodes bounds how many different codes and HTTP statuses a pod can make us
// count.
const maxCodes = 40

// record is what a pod's calls came to.
type record struct {
	calls    uint64
	outcomes [policy.Neutral + 1]uint64
	codes    [len(codeNames)]uint64
	others   map[string]uint64 // other codes, and answers that were not gRPC's
	in, out  uint64
	latency  times
	recent   *window // nil before the first call
}

// add counts a call that ended. One that went on elsewhere is counted there.
func (r *record) add(c *relay.Call) {
	r.in += c.ResponseBytes
	r.out += c.RequestBytes
	if c.Retried {
		return
	}
	r.calls++
	r.outcomes[min(c.Outcome, policy.Neutral)]++
	if c.Code >= 0 && c.Code < len(r.codes) {
		r.codes[c.Code]++
	} else {
		r.other(c)
	}
	took := c.End.Sub(c.Start)
	r.latency.add(took)
	if r.recent == nil {
		r.recent = &window{}
	}
	r.recent.add(c.End, took, c.Outcome != policy.Success && c.Outcome != policy.Neutral)
}

func (r *record) other(c *relay.Call) {
	name := "NONE"
	switch {
	case c.Code >= 0:
		name = strconv.Itoa(c.Code)
	case c.HTTP != 0 && c.Outcome != policy.Neutral:
		name = "HTTP " + strconv.Itoa(c.HTTP)
	}
	if r.others == nil {
		r.others = map[string]uint64{}
	}
	if _, known := r.others[name]; !known && len(r.others) >= maxCodes {
		name = "OTHER"
	}
	r.others[name]++
}

// byCode lists what was counted.
func (r *record) byCode() map[string]uint64 {
	out := make(map[string]uint64, len(r.others)+2)
	for i, n := range r.codes {
		if n > 0 {
			out[codeNames[i]] = n
		}
	}
	for name, n := range r.others {
		out[name] = n
	}
	return out
}

// bounds of the histograms of all calls, in seconds and as durations.
var (
	bounds = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
	limits = func() (l [boundCount]time.Duration) {
		for i, b := range bounds {
			l[i] = seconds(b)
		}
		return l
	}()
)

const boundCount = 16

// times counts durations. The zero value is empty.
type times struct {
	counts [boundCount + 1]uint64
	sum    time.Duration
}

func (t *times) add(d time.Duration) {
	i := 0
	for i < boundCount && d > limits[i] {
		i++
	}
	t.counts[i]++
	t.sum += d
}

func (t *times) histogram() Histogram {
	h := Histogram{Bounds: bounds, Counts: slices.Clone(t.counts[:]), Sum: t.sum.Seconds()}
	for _, n := range t.counts {
		h.Count += n
	}
	return h
}

// The window of the last minute is a ring of slices. A duration's bucket is one of
// four to each power of two: a quantile is off by an eighth at most.
const (
	sliceTime = 10 * time.Second
	slicesOf  = 7 // six and the one that fills
	unitBits  = 14
	buckets   = 88 // up to 69 s
)

type window struct {
	slices [slicesOf]slice
}

type slice struct {
	number        int64 // of slices since the clock began; 0 with no calls is empty
	calls, errors uint32
	counts        [buckets]uint32
}

func sliceNumber(now policy.Nanos) int64 {
	n := int64(now) / int64(sliceTime)
	if now < 0 {
		n-- // the division is towards 0, of which there must not be two
	}
	return n
}

func (w *window) add(now policy.Nanos, took time.Duration, failed bool) {
	number := sliceNumber(now)
	s := &w.slices[uint64(number)%slicesOf]
	if s.number != number {
		*s = slice{number: number}
	}
	s.calls++
	if failed {
		s.errors++
	}
	s.counts[bucket(took)]++
}

// bucket is logarithmic: 16 us wide at first, then four to each power of two.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0)) >> unitBits
	if v < 4 {
		return int(v)
	}
	shift := bits.Len64(v) - 3
	return min(shift*4+int(v>>shift), buckets-1)
}

// lower is the least duration in a bucket.
func lower(i int) time.Duration {
	if i < 8 {
		return time.Duration(i) << unitBits
	}
	shift := i/4 - 1
	return time.Duration(i-shift*4) << (shift + unitBits)
}

// sum adds up the slices of the last minute.
func (w *window) sum(now policy.Nanos) (total slice) {
	if w == nil {
		return total
	}
	newest := sliceNumber(now)
	for i := range w.slices {
		s := &w.slices[i]
		if s.calls == 0 || s.number <= newest-slicesOf || s.number > newest {
			continue
		}
		total.calls += s.calls
		total.errors += s.errors
		for j, n := range s.counts {
			total.counts[j] += n
		}
	}
	return total
}

// quantile is the duration that the given share of calls did not exceed, 0 without
// calls. Within a bucket they are taken for evenly spread.
func (s *slice) quantile(q float64) time.Duration {
	rank := q * float64(s.calls)
	before := 0.0
	for i, n := range s.counts {
		if n == 0 {
			continue
		}
		if after := before + float64(n); after >= rank {
			from, to := lower(i), lower(i+1)
			return from + time.Duration(float64(to-from)*(rank-before)/float64(n))
		}
		before += float64(n)
	}
	return 0
}
