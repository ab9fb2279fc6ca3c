package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Parse reads the object behind a policy's name in a service config. Fields that
// it leaves out have their defaults; nil and an empty object mean all of them.
// The error is an [*Error] that names every wrong field with its path and what
// it takes.
func Parse(policy string, data []byte) (Config, error) { return Default(policy).With(data) }

// With is [Parse] over c in place of the defaults.
func (c Config) With(data []byte) (Config, error) {
	if !Known(c.Policy) {
		return Config{}, c.Validate()
	}
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("{}")
	}
	r := reader{cfg: c}
	r.object("", data)
	if len(r.wrong) > 0 {
		return Config{}, &Error{Fields: r.wrong}
	}
	if err := r.cfg.Validate(); err != nil {
		return Config{}, err
	}
	return r.cfg, nil
}

// reader fills a Config and gathers what is wrong on the way.
type reader struct {
	cfg   Config
	wrong []string
}

func (r *reader) complain(path, format string, args ...any) {
	if path != "" {
		path = "." + path
	}
	r.wrong = append(r.wrong, r.cfg.Policy+path+": "+fmt.Sprintf(format, args...))
}

// object reads one JSON object; prefix is its path with a trailing dot, or "".
func (r *reader) object(prefix string, data []byte) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		path := strings.TrimSuffix(prefix, ".")
		if !json.Valid(data) {
			r.complain(path, "not JSON: %v", err)
			return
		}
		r.complain(path, "%s is not an object", short(data))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		r.member(prefix+name, prefix, members[name])
	}
}

func (r *reader) member(path, prefix string, data []byte) {
	for _, f := range fields {
		if f.Path == path {
			if f.Only != "" && f.Only != r.cfg.Policy {
				r.complain(path, "a field of %s alone", f.Only)
				return
			}
			if !f.set(&r.cfg, data) {
				r.complain(path, "%s is not what it takes: %s", short(data), f.wants())
			}
			return
		}
	}
	if slices.ContainsFunc(fields, func(f field) bool { return strings.HasPrefix(f.Path, path+".") }) {
		r.object(path+".", data)
		return
	}
	r.complain(path, "no such field; there are %s", strings.Join(siblings(r.cfg.Policy, prefix), ", "))
}

// siblings are the names that may stand below prefix.
func siblings(policy, prefix string) []string {
	var out []string
	for _, f := range fields {
		rest, below := strings.CutPrefix(f.Path, prefix)
		if !below || f.Only != "" && f.Only != policy {
			continue
		}
		if name, _, _ := strings.Cut(rest, "."); !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// set reads the value; it reports whether data has the field's type.
func (f field) set(c *Config, data []byte) bool {
	if string(bytes.TrimSpace(data)) == "null" {
		return false
	}
	switch {
	case f.dur != nil:
		var s string
		if json.Unmarshal(data, &s) != nil {
			return false
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return false
		}
		*f.dur(c) = d
		return true
	case f.num != nil:
		return json.Unmarshal(data, f.num(c)) == nil
	}
	return json.Unmarshal(data, f.flag(c)) == nil
}

// short is data for a message.
func short(data []byte) string {
	const most = 40
	s := strings.ToValidUTF8(string(bytes.TrimSpace(data)), "?")
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// MarshalJSON writes every field that the policy has, in the order of [Fields],
// so that the configuration in force can be read in one place.
func (c Config) MarshalJSON() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	var open []string
	b.WriteByte('{')
	first := true
	for _, f := range fields {
		if f.Only != "" && f.Only != c.Policy {
			continue
		}
		parts := strings.Split(f.Path, ".")
		folders, name := parts[:len(parts)-1], parts[len(parts)-1]
		for len(open) > len(folders) || !slices.Equal(open, folders[:len(open)]) {
			b.WriteByte('}')
			open = open[:len(open)-1]
		}
		if !first {
			b.WriteByte(',')
		}
		for _, folder := range folders[len(open):] {
			fmt.Fprintf(&b, "%q:{", folder)
			open = append(open, folder)
		}
		fmt.Fprintf(&b, "%q:%s", name, f.text(&c))
		first = false
	}
	b.WriteString(strings.Repeat("}", len(open)+1))
	return b.Bytes(), nil
}
