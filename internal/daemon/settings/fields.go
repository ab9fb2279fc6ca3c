package settings

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

// Field describes one field of the file, for documents and messages.
type Field struct {
	// Path is where it stands: "targets[].policy.slowStart".
	Path string
	// What is what it does, Why the reason for its default: both a phrase.
	What, Why string
	// Default is its default as it would be written, "" when it has to be given.
	Default string
	// Takes says in words which values there are.
	Takes string
}

// Fields lists every field that has a value of its own, in the order in which
// people read about them.
func Fields() []Field {
	var out []Field
	collect(root(), "", &out)
	return out
}

func collect(n *node, path string, out *[]Field) {
	switch n.kind {
	case object:
		for _, f := range n.fields {
			collect(f, strings.TrimPrefix(path+"."+f.name, "."), out)
		}
	case list:
		collect(n.item, path+"[]", out)
	default:
		f := Field{Path: path, What: n.What, Why: n.Why, Takes: n.takes()}
		if !n.required {
			f.Default = n.Default
		}
		*out = append(*out, f)
	}
}

type kind uint8

const (
	object kind = iota
	list
	text
	word
	duration
	number
	boolean
)

// node is one field of the format: what it holds, and where a value of it goes.
type node struct {
	name string
	kind kind
	Field
	// required fields have no default.
	required bool

	// fields are an object's, in order; item is a list's, which has at least least
	// and at most most of them.
	fields      []*node
	item        *node
	least, most int

	// begin and end frame an object: its fields are read between them.
	begin, end func(*reader, value)

	// words are what a word may be; pattern is what a text has to match, for the
	// schema alone.
	words   []string
	pattern string
	// min and max bound a number, or a duration in nanoseconds; zero says what 0
	// means when it is below min and allowed all the same.
	min, max int64
	zero     string
	// wants overrides the words of takes.
	wants string
	// set stores a value of the right type; the error says what is wrong with it.
	set func(*reader, value) error
}

// takes says what a field takes.
func (n *node) takes() string {
	var s string
	switch n.kind {
	case object:
		return "fields of its own"
	case list:
		return "a list"
	case word:
		return strings.Join(quoted(n.words), ", ")
	case boolean:
		return "true or false"
	case text:
		return cmp.Or(n.wants, "text")
	case duration:
		if n.wants != "" {
			return n.wants
		}
		s = fmt.Sprintf("a duration from %q to %q", short(time.Duration(n.min)), short(time.Duration(n.max)))
		if n.zero != "" {
			s += `, or "0s": ` + n.zero
		}
		return s
	}
	if n.wants != "" {
		return n.wants
	}
	s = fmt.Sprintf("a whole number from %d to %d", n.min, n.max)
	if n.zero != "" {
		s += ", or 0: " + n.zero
	}
	return s
}

// short writes a duration without parts that are zero: "25s", "1m30s", "1h".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return out
}

// Words that the schema checks texts by. They let through what only the parser
// can judge.
const (
	anAddress = `^(\[[0-9A-Fa-f:.]+\]|[0-9.]*):[0-9]+$`
	anyWord   = `^\S+$`
	aName     = `^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$`
	nameBytes = 128
)

// root is the whole format.
func root() *node {
	return &node{kind: object, fields: []*node{
		{name: "apiVersion", kind: word, words: []string{APIVersion}, required: true,
			Field: Field{What: "the format's version"}, set: nothing},
		{name: "kind", kind: word, words: []string{Kind}, required: true,
			Field: Field{What: "which of the project's files it is"}, set: nothing},
		adminNode(),
		{name: "drainDelay", kind: duration, min: int64(time.Second), max: int64(10 * time.Minute), zero: "draining begins at once",
			Field: Field{What: "after SIGTERM, how long everything goes on as before, or until no client is connected",
				Why:     "a native sidecar is stopped after the application; a plain container is stopped together with it and wants some seconds",
				Default: `"0s"`},
			set: func(r *reader, v value) error { r.out.DrainDelay = v.dur; return nil }},
		{name: "drainTimeout", kind: duration, min: int64(time.Second), max: int64(time.Hour), zero: "calls are cut at once",
			Field: Field{What: "after that, how long calls may take to end",
				Why:     "5 s less than a pod's usual terminationGracePeriodSeconds, so that the daemon ends by itself",
				Default: `"25s"`},
			set: func(r *reader, v value) error { r.out.DrainTimeout = v.dur; return nil }},
		logNode(),
		{name: "targets", kind: list, required: true, least: 1, most: maxTargets, item: targetNode()},
	}}
}

// maxTargets bounds the pools of one daemon: each has its goroutines, sockets and
// DNS questions.
const maxTargets = 256

func nothing(*reader, value) error { return nil }

func adminNode() *node {
	return &node{name: "admin", kind: object, fields: []*node{
		{name: "listen", kind: text, pattern: anAddress + `|^off$`, wants: `an IP address and a port, ":PORT" for all addresses, or "off"`,
			Field: Field{What: "where `/healthz`, `/readyz` and `/metrics` are",
				Why:     "the kubelet and Prometheus come by the pod's IP, and what is said there is no secret",
				Default: `":15650"`},
			set: setAdmin},
		{name: "debug", kind: text, pattern: anAddress + `|^off$`, wants: `a loopback address and a port, or "off"`,
			Field: Field{What: "where the pools page and `/debug/pools` are",
				Why:     "it names pods and nodes: only who is in the pod, or may port-forward to it, sees it",
				Default: `"127.0.0.1:15651"`},
			set: setDebug},
		{name: "hosts", kind: list, most: 16, item: &node{kind: text, pattern: aName, wants: "a host name without a port",
			Field: Field{What: "names by which the page may be asked for, beside loopback addresses and `localhost`",
				Why:     "a page on loopback has to refuse foreign names, or any web site could read it through a name of its own (DNS rebinding)",
				Default: "no others"},
			set: setHost}},
	}}
}

func logNode() *node {
	return &node{name: "log", kind: object, fields: []*node{
		{name: "level", kind: word, words: []string{"debug", "info", "warn", "error"},
			Field: Field{What: "the least that is logged", Why: "what an operator would want to know later, and nothing for a single call",
				Default: `"info"`},
			set: func(r *reader, v value) error { return r.out.Log.Level.UnmarshalText([]byte(v.text)) }},
		{name: "format", kind: word, words: []string{"text", "json"},
			Field: Field{What: "the form of a line", Why: "`kubectl logs` is read by people; collectors want `json`", Default: `"text"`},
			set:   func(r *reader, v value) error { r.out.Log.JSON = v.text == "json"; return nil }},
	}}
}

func targetNode() *node {
	return &node{kind: object, begin: beginTarget, end: endTarget, fields: []*node{
		{name: "name", kind: text, pattern: aName, wants: "letters, digits, dots, hyphens, underscores and colons, at most 128",
			Field: Field{What: "what it is called on the page and in metrics", Why: "the target says it all", Default: "the target itself"},
			set:   setName},
		{name: "listen", kind: list, required: true, least: 1, most: 64, item: &node{kind: text, pattern: anAddress,
			wants: "a loopback IP address and a port: `127.0.0.10:6565`, `[::1]:6565`", required: true,
			Field: Field{What: "addresses whose calls go to the target's pods"},
			set:   setListen}},
		{name: "target", kind: text, required: true, pattern: anyWord, wants: "`NAME:PORT`, the port as a number or as the name of the Service's port; `dns://SERVER/NAME:PORT` asks that DNS server",
			Field: Field{What: "the Service whose pods are called: a headless one, or one with a twin `NAME-headless`"},
			set:   setTarget},
		policyNode(),
		limitsNode(),
	}}
}

// shortNames are the policies without the prefix that they have in gRPC's registry.
func shortNames() []string {
	var out []string
	for _, n := range config.Names() {
		out = append(out, strings.TrimPrefix(n, policyPrefix))
	}
	return out
}

const policyPrefix = "grpclb_refresher_"

// policyNode is made of config's table.
func policyNode() *node {
	p := &node{name: "policy", kind: object, begin: beginPolicy, end: endPolicy}
	p.fields = append(p.fields, &node{name: "name", kind: word, words: shortNames(),
		Field: Field{What: "how a pod is chosen for a call: by latency and calls in flight, in turn, or by calls in flight alone",
			Why: "the one that also avoids slow pods", Default: strconv.Quote(shortNames()[0])},
		set: func(r *reader, v value) error { r.policy.name = policyPrefix + v.text; return nil }})
	for _, f := range config.Fields() {
		at := p
		parts := strings.Split(f.Path, ".")
		for _, folder := range parts[:len(parts)-1] {
			at = at.folder(folder)
		}
		what := f.What
		if f.Only != "" {
			what += " (`" + strings.TrimPrefix(f.Only, policyPrefix) + "` alone)"
		}
		leaf := &node{name: parts[len(parts)-1], kind: number, wants: f.Range,
			Field: Field{What: what, Why: strings.ReplaceAll(f.Why, "`refresh.", "`policy.refresh."), Default: f.Default},
			set:   setPolicy(f.Path)}
		switch {
		case strings.HasPrefix(f.Default, `"`):
			leaf.kind = duration
		case f.Default == "true" || f.Default == "false":
			leaf.kind = boolean
		}
		at.fields = append(at.fields, leaf)
	}
	return p
}

// folder is the object of that name below n, made when it is not there yet.
func (n *node) folder(name string) *node {
	if f := n.field(name); f != nil {
		return f
	}
	f := &node{name: name, kind: object}
	n.fields = append(n.fields, f)
	return f
}

// field is the field of that name, nil when there is none.
func (n *node) field(name string) *node {
	for _, f := range n.fields {
		if f.name == name {
			return f
		}
	}
	return nil
}
