package settings

import (
	"strconv"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// Limits are those of package sidecar. ShutdownTimeout is not among the fields of a
// target: it is the whole daemon's drainTimeout.
type Limits = sidecar.Limits

// DefaultLimits are the limits of a target that says nothing about them.
func DefaultLimits() Limits { return sidecar.DefaultLimits() }

// limitTime and limitNumber are the rows of the table below: one of the functions
// finds the value.
type limitTime struct {
	name, what, why string
	of              func(*Limits) *time.Duration
	min, max        time.Duration
	zero            string
}

type limitNumber struct {
	name, what, why string
	of              func(*Limits) *int
	min, max        int64
	zero            string
}

var limitTimes = []limitTime{
	{"connectTimeout", "how long a pod has to take a connection and to answer on it",
		"a pod in the cluster answers within milliseconds; five seconds outlast a SYN that was lost twice",
		func(l *Limits) *time.Duration { return &l.ConnectTimeout }, 10 * time.Millisecond, time.Minute, ""},
	{"drainTimeout", "how long calls may stay on a pod that was removed",
		"longer than most pods' grace period, which ends them anyway: it is for pods that live on without being ready",
		func(l *Limits) *time.Duration { return &l.DrainTimeout }, time.Second, 24 * time.Hour, ""},
	{"silentAfter", "a pod that leaves sent data unacknowledged for so long gets no new calls (Linux)",
		"a node that died is left alone after 1.5 s, whatever the calls' deadlines are",
		func(l *Limits) *time.Duration { return &l.SilentAfter }, 100 * time.Millisecond, time.Minute, ""},
	{"deadAfter", "and after so long its connection is closed (Linux)",
		"a pod that was paused, or a link that was cut for some seconds, loses no stream",
		func(l *Limits) *time.Duration { return &l.DeadAfter }, time.Second, time.Hour, ""},
	{"sniffTimeout", "a client that says nothing for so long after it connected is taken for one whose server speaks first",
		"HTTP/2 clients speak at once; in a protocol where the server begins, the first byte comes so much later",
		func(l *Limits) *time.Duration { return &l.SniffTimeout }, 10 * time.Millisecond, time.Minute, ""},
	{"maxWait", "how long a call waits for a pod that can take it, if its own deadline does not end it before",
		"a rolling restart of a Service with one pod takes seconds",
		func(l *Limits) *time.Duration { return &l.Relay.MaxWait }, time.Millisecond, 24 * time.Hour, "as long as the client does"},
}

var limitNumbers = []limitNumber{
	{"maxClients", "connections of clients that may be open; further ones are closed at once",
		"far more than the containers of one pod open, and few enough to bound the memory",
		func(l *Limits) *int { return &l.MaxClients }, 1, 1 << 20, ""},
	{"maxConnectionsPerPod", "connections to one pod, when the calls that its server allows on one are used up",
		"servers commonly allow 100 calls on a connection",
		func(l *Limits) *int { return &l.MaxConnectionsPerPod }, 1, 64, ""},
	{"maxWaiting", "calls that may wait for a pod; further ones fail at once with RESOURCE_EXHAUSTED",
		"a queue that is longer only fails later",
		func(l *Limits) *int { return &l.Relay.MaxWaiting }, 1, 1 << 24, "none waits"},
	{"maxHeaderList", "bytes of a call's metadata, counted as HTTP/2 does; a call with more is refused, and no other suffers",
		"grpc-java takes 8 KiB and grpc-go 16 MiB; nobody sends more than this and means it",
		func(l *Limits) *int { return &l.Relay.MaxHeaderList }, 4096, 16 << 20, ""},
	{"streamWindow", "bytes of one call that are held while the other side does not read",
		"65535 bytes, HTTP/2's own value, make large messages wait for round trips",
		func(l *Limits) *int { return &l.Relay.StreamWindow }, 65535, 1<<31 - 1, ""},
	{"connWindow", "the same for all calls of a connection, at least `streamWindow`",
		"four calls at full speed",
		func(l *Limits) *int { return &l.Relay.ConnWindow }, 65535, 1<<31 - 1, ""},
	{"maxBuffered", "bytes that may wait in all calls together before a client is slowed down as a whole",
		"with `connWindow` for each connection it bounds what slow readers cost",
		func(l *Limits) *int { return &l.Relay.MaxBuffered }, 1 << 16, 1 << 40, "at once"},
}

// AtStart names the limits in which wanted differs from those that a target runs
// with, and which hold from its next start on: the windows and bounds that its
// connections were told or are measured by. All others hold at once.
func AtStart(running, wanted Limits) []string {
	mixed := running
	mixed.Relay = wanted.Relay
	var out []string
	for _, f := range limitTimes {
		if *f.of(&mixed) != *f.of(&running) {
			out = append(out, f.name)
		}
	}
	for _, f := range limitNumbers {
		if *f.of(&mixed) != *f.of(&running) {
			out = append(out, f.name)
		}
	}
	return out
}

// limitsNode is made of those tables. What contradicts each other is found at the
// end of the object.
func limitsNode() *node {
	d := DefaultLimits()
	n := &node{name: "limits", kind: object, end: endLimits}
	for _, f := range limitTimes {
		n.fields = append(n.fields, &node{name: f.name, kind: duration, min: int64(f.min), max: int64(f.max), zero: f.zero,
			Field: Field{What: f.what, Why: f.why, Default: strconv.Quote(short(*f.of(&d)))},
			set:   func(r *reader, v value) error { *f.of(&r.target.Limits) = v.dur; return nil }})
	}
	for _, f := range limitNumbers {
		n.fields = append(n.fields, &node{name: f.name, kind: number, min: f.min, max: f.max, zero: f.zero,
			Field: Field{What: f.what, Why: f.why, Default: strconv.Itoa(*f.of(&d))},
			set:   func(r *reader, v value) error { *f.of(&r.target.Limits) = v.num; return nil }})
	}
	return n
}

func endLimits(r *reader, v value) {
	if l := r.target.Limits; l.DeadAfter < l.SilentAfter {
		r.complain(v.place, "deadAfter, %s, is less than silentAfter, %s", short(l.DeadAfter), short(l.SilentAfter))
	} else if l.Relay.ConnWindow < l.Relay.StreamWindow {
		r.complain(v.place, "connWindow, %d, is less than streamWindow, %d", l.Relay.ConnWindow, l.Relay.StreamWindow)
	} else if err := l.Validate(); err != nil {
		r.complain(v.place, "%v", err)
	}
}
