package agentapi

import (
	"encoding/json"
	"fmt"
	"io"
)

// MaxLine bounds every line that this package writes, newline included. Runtimes split container output at 16 KiB.
const MaxLine = 12 << 10

// MaxText bounds each free text (errors, names) in a report, in bytes. Writers cut longer ones.
const MaxText = 384

// line is one line of the wire form; exactly one of its payload fields is set.
type line struct {
	Version  string          `json:"version"`
	Kind     string          `json:"kind"`
	Head     json.RawMessage `json:"head,omitempty"`
	Sockets  json.RawMessage `json:"sockets,omitempty"`
	Targets  json.RawMessage `json:"targets,omitempty"`
	Channels json.RawMessage `json:"channels,omitempty"`
	Errors   json.RawMessage `json:"errors,omitempty"`
	End      *end            `json:"end,omitempty"`
}

type end struct {
	Lines int `json:"lines"`
	Items int `json:"items"`
}

// WriteSockets writes r in the wire form. Only an error of w or of the encoding is returned; r is not changed.
func WriteSockets(w io.Writer, r SocketReport) error {
	sockets, errs := r.Sockets, r.Errors
	r.Version, r.Sockets, r.Errors = Version, nil, nil
	r.Host = Cut(r.Host)
	e := &encoder{w: w, kind: KindSockets}
	e.head(r)
	writeList(e, sockets, func(l *line, raw json.RawMessage) { l.Sockets = raw })
	writeList(e, cutAll(errs), func(l *line, raw json.RawMessage) { l.Errors = raw })
	return e.end()
}

// WriteProbe writes r in the wire form, as WriteSockets does.
func WriteProbe(w io.Writer, r ProbeReport) error {
	targets, channels, errs := r.Targets, r.Channels, r.Errors
	r.Version, r.Targets, r.Channels, r.Errors = Version, nil, nil, nil
	r.Host, r.Method = Cut(r.Host), Cut(r.Method)
	e := &encoder{w: w, kind: KindProbe}
	e.head(r)
	writeList(e, cutTargets(targets), func(l *line, raw json.RawMessage) { l.Targets = raw })
	writeList(e, cutChannels(channels), func(l *line, raw json.RawMessage) { l.Channels = raw })
	writeList(e, cutAll(errs), func(l *line, raw json.RawMessage) { l.Errors = raw })
	return e.end()
}

// encoder counts what it wrote and keeps the first error, so that the writers above read as a list of parts.
type encoder struct {
	w            io.Writer
	kind         string
	lines, items int
	err          error
}

func (e *encoder) head(v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		e.err = fmt.Errorf("encode %s: %w", e.kind, err)
		return
	}
	e.put(&line{Head: raw})
}

func (e *encoder) put(l *line) {
	if e.err != nil {
		return
	}
	l.Version, l.Kind = Version, e.kind
	b, err := json.Marshal(l)
	if err == nil {
		_, err = e.w.Write(append(b, '\n'))
	}
	if err != nil {
		e.err = fmt.Errorf("write %s: %w", e.kind, err)
		return
	}
	e.lines++
}

func (e *encoder) end() error {
	e.put(&line{End: &end{Lines: e.lines, Items: e.items}})
	return e.err
}

// writeList packs items greedily into lines. An item is bounded by MaxText on each of its texts, so that one always fits.
func writeList[T any](e *encoder, items []T, set func(*line, json.RawMessage)) {
	const room = MaxLine - 128 // the line's own members and the newline
	batch := []byte{'['}
	flush := func() {
		if len(batch) > 1 {
			l := &line{}
			set(l, append(batch, ']'))
			e.put(l)
		}
		batch = []byte{'['}
	}
	for _, it := range items {
		raw, err := json.Marshal(it)
		if err != nil {
			e.err = fmt.Errorf("encode %s: %w", e.kind, err)
			return
		}
		if len(batch)+1+len(raw) > room {
			flush()
		}
		if len(batch) > 1 {
			batch = append(batch, ',')
		}
		batch = append(batch, raw...)
		e.items++
	}
	flush()
}

// Cut shortens s to at most [MaxText] bytes at a rune boundary and marks the cut with an ellipsis.
func Cut(s string) string {
	const mark = "…"
	if len(s) <= MaxText {
		return s
	}
	n := MaxText - len(mark)
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + mark
}

func cutAll(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = Cut(s)
	}
	return out
}

func cutTargets(in []Target) []Target {
	out := make([]Target, len(in))
	for i, t := range in {
		t.Name, t.Target, t.Error = Cut(t.Name), Cut(t.Target), Cut(t.Error)
		out[i] = t
	}
	return out
}

func cutChannels(in []Channel) []Channel {
	out := make([]Channel, len(in))
	for i, c := range in {
		c.Name, c.Target = Cut(c.Name), Cut(c.Target)
		c.StartError, c.EndError = Cut(c.StartError), Cut(c.EndError)
		out[i] = c
	}
	return out
}
