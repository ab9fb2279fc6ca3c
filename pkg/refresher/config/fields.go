package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Field describes one field of the JSON, for documents and messages.
type Field struct {
	// Path is where it stands below the policy's name: "ejection.interval".
	Path string
	// What is what it does, Why the reason for its default: both a phrase.
	What, Why string
	// Only names the policy that has it, "" when all have it.
	Only string
	// Default is its default as JSON.
	Default string
	// Range is what it takes, in words.
	Range string
}

// Fields lists every field, in the order in which people read about them.
func Fields() []Field {
	out := make([]Field, len(fields))
	for i, f := range fields {
		c := Default(PeakEWMA)
		out[i] = f.Field
		out[i].Default = f.text(&c)
		out[i].Range = f.wants()
	}
	return out
}

// field is a Field with the place of its value. Exactly one of dur, num and flag
// is set.
type field struct {
	Field
	dur  func(*Config) *time.Duration
	num  func(*Config) *int
	flag func(*Config) *bool
	// min and max are nanoseconds for dur, else plain.
	min, max int64
	// zero says what 0 means when it is below min and allowed all the same.
	zero string
}

// fields is the one list of everything. A field without a reason for its default
// has no place in it.
var fields = []field{
	{
		Field: Field{Path: "slowStart", What: "time in which a new endpoint's share of calls grows from a tenth to a full one",
			Why: "a fresh pod fills caches and compiles code for some seconds; skipped when most of the endpoints are new"},
		dur: func(c *Config) *time.Duration { return &c.SlowStart }, min: ms, max: 15 * minute, zero: "a full share at once",
	},
	{
		Field: Field{Path: "decay", Only: PeakEWMA, What: "time in which an observed latency or failure loses about two thirds of its weight",
			Why: "Finagle's and Linkerd's value: seconds of trouble are remembered, minutes are not"},
		dur: func(c *Config) *time.Duration { return &c.Decay }, min: 100 * ms, max: 10 * minute,
	},
	{
		Field: Field{Path: "longCall", Only: PeakEWMA, What: "calls that last longer say nothing about latency: they are streams",
			Why: "longer than most unary deadlines, shorter than streams that wait for events"},
		dur: func(c *Config) *time.Duration { return &c.LongCall }, min: 100 * ms, max: 10 * minute,
	},
	{
		Field: Field{Path: "connectionsPerEndpoint", What: "connections to each endpoint",
			Why: "HTTP/2 multiplexes; more help only against a server's cap on concurrent streams (100 is common) or one busy TCP connection"},
		num: func(c *Config) *int { return &c.ConnectionsPerEndpoint }, min: 1, max: 64,
	},
	{
		Field: Field{Path: "ejection.enabled", What: "whether endpoints whose calls fail get none for a while",
			Why: "a pod that fails fast attracts calls otherwise"},
		flag: func(c *Config) *bool { return &c.Ejection.Enabled },
	},
	{
		Field: Field{Path: "ejection.consecutiveFailures", What: "failed calls in a row that eject an endpoint at once",
			Why: "Envoy's value: rarely chance, and few enough to end a bad pod's calls soon"},
		num: func(c *Config) *int { return &c.Ejection.ConsecutiveFailures }, min: 1, max: 1000, zero: "never",
	},
	{
		Field: Field{Path: "ejection.consecutiveTimeouts", What: "calls in a row whose deadline passed without a byte from the server, that eject it at once",
			Why: "a dead node answers nothing at all: three such calls cost less than waiting for TCP to notice"},
		num: func(c *Config) *int { return &c.Ejection.ConsecutiveTimeouts }, min: 1, max: 1000, zero: "never",
	},
	{
		Field: Field{Path: "ejection.silentFor", What: "and the first of those calls began at least so long ago",
			Why: "a dead node costs 1.5 s of its share of the calls; of callers with shorter deadlines it is they who are impatient"},
		dur: func(c *Config) *time.Duration { return &c.Ejection.SilentFor }, min: ms, max: hour, zero: "however long ago",
	},
	{
		Field: Field{Path: "ejection.interval", What: "time between two comparisons of success rates",
			Why: "gRFC A50's value"},
		dur: func(c *Config) *time.Duration { return &c.Ejection.Interval }, min: 100 * ms, max: 10 * minute,
	},
	{
		Field: Field{Path: "ejection.baseEjectionTime", What: "how long the first ejection lasts; the second lasts twice as long, and so on",
			Why: "gRFC A50's value"},
		dur: func(c *Config) *time.Duration { return &c.Ejection.BaseEjectionTime }, min: 100 * ms, max: hour,
	},
	{
		Field: Field{Path: "ejection.timeoutEjectionTime", What: "the same for an ejection by time-outs",
			Why: "a cut link or a paused pod is often back within seconds"},
		dur: func(c *Config) *time.Duration { return &c.Ejection.TimeoutEjectionTime }, min: 100 * ms, max: hour,
	},
	{
		Field: Field{Path: "ejection.maxEjectionTime", What: "no ejection lasts longer",
			Why: "gRFC A50's value"},
		dur: func(c *Config) *time.Duration { return &c.Ejection.MaxEjectionTime }, min: 100 * ms, max: 24 * hour,
	},
	{
		Field: Field{Path: "ejection.maxEjectionPercent", What: "at most that share of the endpoints is ejected, though always one of two or more",
			Why: "the rest has to carry the load; A50's 10 % ejects nothing sensible among three pods"},
		num: func(c *Config) *int { return &c.Ejection.MaxEjectionPercent }, min: 1, max: 100, zero: "none is",
	},
	{
		Field: Field{Path: "ejection.panicPercent", What: "when a smaller share of the endpoints is usable, ejections are set aside",
			Why: "Envoy's value: when most fail, the fault is elsewhere, and ejecting only overloads the rest"},
		num: func(c *Config) *int { return &c.Ejection.PanicPercent }, min: 1, max: 100, zero: "never",
	},
	{
		Field: Field{Path: "ejection.successRateEjection.stdevFactor", What: "an endpoint is an outlier so many thousandths of a standard deviation below the mean",
			Why: "gRFC A50's value"},
		num: func(c *Config) *int { return &c.Ejection.SuccessRate.StdevFactor }, min: 1, max: 100000, zero: "success rates eject nothing",
	},
	{
		Field: Field{Path: "ejection.successRateEjection.minimumHosts", What: "endpoints with enough calls that it takes to judge any",
			Why: "gRFC A50's value: a standard deviation of fewer says little"},
		num: func(c *Config) *int { return &c.Ejection.SuccessRate.MinimumHosts }, min: 1, max: 10000,
	},
	{
		Field: Field{Path: "ejection.successRateEjection.requestVolume", What: "calls in an interval that make an endpoint judged",
			Why: "gRFC A50's value: a rate of fewer says little"},
		num: func(c *Config) *int { return &c.Ejection.SuccessRate.RequestVolume }, min: 1, max: 1000000,
	},
	{
		Field: Field{Path: "refresh.interval", What: "time between two DNS look-ups, give or take 10 %",
			Why: "the longest that a new pod waits for its first call, at a fifth of a query per second and client; see the cost of a fleet"},
		dur: func(c *Config) *time.Duration { return &c.Refresh.Interval }, min: second, max: hour,
	},
	{
		Field: Field{Path: "refresh.maxInterval", What: "the interval doubles up to this while answers are larger than 1232 bytes and unchanged",
			Why: "stock grpc-go waits 30 s after a failure; a large answer that never changes is not worth more"},
		dur: func(c *Config) *time.Duration { return &c.Refresh.MaxInterval }, min: second, max: hour,
	},
	{
		Field: Field{Path: "refresh.onTTL", What: "wait for the records' TTL where it is longer than the interval",
			Why: "off: kubeadm's CoreDNS serves a TTL of 30 s for names that it does not cache, so the TTL says little"},
		flag: func(c *Config) *bool { return &c.Refresh.OnTTL },
	},
	{
		Field: Field{Path: "refresh.followHeadlessTwin", What: "use `NAME-headless` where `NAME` is a ClusterIP and the other resolves",
			Why: "a ClusterIP keeps every call of a channel on one pod"},
		flag: func(c *Config) *bool { return &c.Refresh.FollowHeadlessTwin },
	},
	{
		Field: Field{Path: "refresh.emptyGrace", What: "how long an empty answer is not believed",
			Why: "CoreDNS says NXDOMAIN for a headless Service none of whose pods is ready for a moment; pods restart in less than a minute"},
		dur: func(c *Config) *time.Duration { return &c.Refresh.EmptyGrace }, min: ms, max: 24 * hour, zero: "believed at once",
	},
	{
		Field: Field{Path: "refresh.maxShrinkPercent", What: "an answer that lost more than this share of the endpoints is asked again before it is believed",
			Why: "a rolling update and a halving by the autoscaler pass at once, a server that forgot half a cluster does not"},
		num: func(c *Config) *int { return &c.Refresh.MaxShrinkPercent }, min: 0, max: 100,
	},
	{
		Field: Field{Path: "refresh.minShrink", What: "and that lost at least so many",
			Why: "of one or two pods, one going is everyday life"},
		num: func(c *Config) *int { return &c.Refresh.MinShrink }, min: 1, max: 10000,
	},
	{
		Field: Field{Path: "refresh.confirmAfter", What: "two equal answers at least so far apart confirm a shrink",
			Why: "longer than a DNS server's reload, shorter than anybody notices"},
		dur: func(c *Config) *time.Duration { return &c.Refresh.ConfirmAfter }, min: ms, max: hour, zero: "any two",
	},
	{
		Field: Field{Path: "refresh.holdFor", What: "a shrink that nothing confirmed or contradicted is believed after this",
			Why: "as `refresh.emptyGrace`"},
		dur: func(c *Config) *time.Duration { return &c.Refresh.HoldFor }, min: ms, max: 24 * hour, zero: "at once",
	},
}

const (
	ms     = int64(time.Millisecond)
	second = int64(time.Second)
	minute = int64(time.Minute)
	hour   = int64(time.Hour)
)

// pairs are two durations of which the first may not be longer.
var pairs = []struct {
	lowPath, highPath string
	low, high         func(*Config) *time.Duration
}{
	{"refresh.interval", "refresh.maxInterval",
		func(c *Config) *time.Duration { return &c.Refresh.Interval }, func(c *Config) *time.Duration { return &c.Refresh.MaxInterval }},
	{"ejection.baseEjectionTime", "ejection.maxEjectionTime",
		func(c *Config) *time.Duration { return &c.Ejection.BaseEjectionTime }, func(c *Config) *time.Duration { return &c.Ejection.MaxEjectionTime }},
	{"ejection.timeoutEjectionTime", "ejection.maxEjectionTime",
		func(c *Config) *time.Duration { return &c.Ejection.TimeoutEjectionTime }, func(c *Config) *time.Duration { return &c.Ejection.MaxEjectionTime }},
}

// value is the field as a plain number: nanoseconds, the number, 0 or 1.
func (f field) value(c *Config) int64 {
	switch {
	case f.dur != nil:
		return int64(*f.dur(c))
	case f.num != nil:
		return int64(*f.num(c))
	case *f.flag(c):
		return 1
	}
	return 0
}

// check says what is wrong with the field in c, "" when nothing is.
func (f field) check(c *Config) string {
	v := f.value(c)
	if f.flag != nil || v >= f.min && v <= f.max || v == 0 && f.zero != "" {
		return ""
	}
	return f.text(c) + " is out of range: it takes " + f.wants()
}

// text is the value as JSON.
func (f field) text(c *Config) string {
	switch {
	case f.dur != nil:
		return strconv.Quote(seconds(*f.dur(c)))
	case f.num != nil:
		return strconv.Itoa(*f.num(c))
	}
	return strconv.FormatBool(*f.flag(c))
}

// wants says what the field takes.
func (f field) wants() string {
	var s string
	switch {
	case f.flag != nil:
		return "true or false"
	case f.dur != nil:
		s = fmt.Sprintf("a duration from %q to %q", seconds(time.Duration(f.min)), seconds(time.Duration(f.max)))
	default:
		s = fmt.Sprintf("a whole number from %d to %d", f.min, f.max)
	}
	switch {
	case f.zero == "":
		return s
	case f.dur != nil:
		return s + `, or "0s": ` + f.zero
	}
	return s + ", or 0: " + f.zero
}

// seconds writes a duration as a service config does (the JSON form of
// google.protobuf.Duration): seconds with at most nine decimals.
func seconds(d time.Duration) string {
	sign := ""
	whole, frac := int64(d/time.Second), int64(d%time.Second)
	if d < 0 {
		sign, whole, frac = "-", -whole, -frac
	}
	s := sign + strconv.FormatInt(whole, 10)
	if frac != 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%09d", frac), "0")
	}
	return s + "s"
}
