package report_test

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// hostile are texts that somebody may put into a cluster to be printed by this program.
var hostile = map[string]string{
	"ansi":      "\x1b[31mred\x1b[0m",
	"title":     "\x1b]0;owned\a",
	"c1":        "\u009b2J",
	"newline":   "a\nb\r\nc\rd",
	"overwrite": "bad\rgood",
	"backspace": "bad\b\b\bgood",
	"github":    "::error::boom",
	"github nl": "x\n::set-output name=a::b",
	"github v1": "##[error]x",
	"azure":     "##vso[task.setvariable variable=x]y",
	"teamcity":  "##teamcity[buildStatus]",
	"html":      "<script>alert(1)</script>",
	"markdown":  "[x](javascript:y) `code` **b**",
	"shell":     "$(reboot) `reboot` ; reboot | sh && x > /etc/passwd",
	"quotes":    `'"\'\\""`,
	"yaml":      "---\nkind: Secret\n",
	"yaml key":  "a: b # c",
	"template":  "{{.}} %s %d %!n",
	"long":      strings.Repeat("long", 600),
	"long rtl":  strings.Repeat("م", 900),
	"words":     strings.Repeat("word ", 450),
	"rtl":       "\u202egnp.exe",
	"isolate":   "a\u2066b\u2069",
	"zero":      "a\u200b\u200d\ufeffb",
	"line sep":  "a\u2028b\u2029c",
	"invalid":   "a\xff\xfe\xc3b",
	"nul":       "a\x00b",
	"wide":      "漢字漢字😀👩‍👩‍👧",
	"combining": "e" + strings.Repeat("\u0301", 50),
	"tags":      "\U000e0041\U000e007f",
	"empty":     "",
	"space":     " ",
}

// poison puts s into every string of a value: fields, list elements, map keys and values. Empty lists get one element.
func poison(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				poison(v.Field(i), s)
			}
		}
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		poison(v.Elem(), s)
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			poison(v.Index(i), s)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		poison(key, s)
		poison(val, s)
		v.SetMapIndex(key, val)
	case reflect.String:
		v.SetString(s)
	}
}

func poisoned(s string) diagnose.Report {
	var r diagnose.Report
	poison(reflect.ValueOf(&r).Elem(), s)
	r.FailOn = diagnose.Low
	svc := &r.Services[0]
	for i := range svc.Findings {
		svc.Findings[i].Severity = diagnose.High
	}
	for i := range svc.Skipped {
		svc.Skipped[i].Severity = diagnose.High
	}
	twice := svc.Findings[0]
	twice.Fixes = append([]diagnose.Fix(nil), twice.Fixes...)
	twice.Fixes[0].Strategy, twice.Fixes[0].Commands = "", nil // its documents are printed instead
	svc.Findings = append(svc.Findings, twice)
	second := *svc
	second.Findings = nil
	r.Services = append(r.Services, second)
	return r
}

// facts is a snapshot in which everything that a table shows is s.
func facts(s string) *diagnose.Snapshot {
	k := diagnose.Key{Namespace: s, Name: s}
	return &diagnose.Snapshot{
		Services: diagnose.Know([]diagnose.Service{{Key: k, Type: "ClusterIP", ClusterIPs: []string{"None"}, Selector: map[string]string{s: s},
			Ports: []diagnose.ServicePort{{Name: "grpc", Port: 1, TargetPort: "2", AppProtocol: "grpc"}, {Name: s, Port: 3, TargetPort: "4", AppProtocol: "grpc"}}}}),
		Targets: []diagnose.Key{k},
		Slices: diagnose.Know([]diagnose.Slice{{Key: k, Service: s, AddressType: "IPv4", Ports: []diagnose.SlicePort{{Name: s, Port: 4}},
			Endpoints: []diagnose.SliceEndpoint{{Addresses: []string{"10.0.0.1"}, Ready: true, Node: s, Zone: s, Pod: k}}}}),
		Pods: diagnose.Know([]diagnose.Pod{{Key: k, IPs: []string{"10.0.0.2"}, Owner: diagnose.Owner{Kind: s, Name: s}}}),
		DNS: diagnose.Know([]diagnose.DNSAnswer{
			{Server: k, Name: s + "." + s + ".svc.", Type: "A", Rcode: "NOERROR", Addresses: []string{"10.0.0.2", s}, Transport: s},
			{Server: k, Name: s + "." + s + ".svc.", Type: "AAAA", Rcode: s, Transport: s},
			{Server: k, Name: s + "." + s + ".svc.", Type: s, Error: s},
		}),
		Ports: diagnose.Know([]diagnose.PortProbe{{Pod: k, Port: 4, Proto: s, TLS: &diagnose.TLSInfo{DNSNames: []string{s, s}}, Health: s, Error: s}}),
		Workloads: diagnose.Know([]diagnose.Workload{{Kind: "Deployment", Key: k, Targets: []diagnose.Target{
			{Container: s, Source: "env", Name: s, Token: s, Scheme: s, Host: s, Port: 1, Kind: "service", Service: k, Policy: s},
			{Container: s, Source: "configmap", Name: s, ConfigMap: s, Token: s, Host: s, Kind: "service", Service: k},
			{Container: s, Source: "arg", Name: s, Token: s, Host: s, Port: 3, Kind: "service", Service: k}}}}),
		Gaps: []diagnose.Gap{{Fact: diagnose.FactDNS, Subject: s, Status: diagnose.Status{Reason: s, Hint: s}}},
	}
}

func TestHostileText(t *testing.T) {
	for name, s := range hostile {
		t.Run(name, func(t *testing.T) {
			r, snap := poisoned(s), facts(s)
			v, _ := snap.View(snap.Targets[0])
			unknown := *snap
			unknown.DNS = diagnose.Unknown[[]diagnose.DNSAnswer](diagnose.Failed, s, s)
			blind, _ := unknown.View(unknown.Targets[0])
			for _, o := range []report.TextOptions{
				{}, {Width: 80}, {Width: 1}, {Wide: true, Width: 100, Facts: snap}, {ASCII: true, Width: 80}, {Color: true, Wide: true, Facts: snap},
			} {
				for what, f := range map[string]func(io.Writer) error{
					"text":     func(w io.Writer) error { return report.Text(w, r, o) },
					"facts":    func(w io.Writer) error { return report.Text(w, diagnose.Run(snap, diagnose.Options{}), o) },
					"spread":   func(w io.Writer) error { return report.SpreadTable(w, r.Services[0], o) },
					"probe":    func(w io.Writer) error { return report.ProbeTable(w, r.Services[0], o) },
					"dns":      func(w io.Writer) error { return report.DNSTable(w, v, o) },
					"dns none": func(w io.Writer) error { return report.DNSTable(w, blind, o) },
					"name":     func(w io.Writer) error { return report.Name(w, r) },
				} {
					harmless(t, fmt.Sprintf("%s %+v", what, o.Width), render(t, f), o.ASCII && what != "name")
				}
			}
		})
	}
}

// harmless holds that each line of an output is what it seems, and that none is of absurd length.
func harmless(t *testing.T, what, out string, ascii bool) {
	t.Helper()
	if !utf8.ValidString(out) || !strings.HasSuffix(out, "\n") {
		t.Errorf("%s: not text that ends in a line break", what)
	}
	for line := range strings.Lines(sgr.ReplaceAllString(out, "")) {
		line = strings.TrimSuffix(line, "\n")
		if shown := quote.Visible(line); shown != line {
			t.Errorf("%s: prints %.200q", what, line)
		}
		if trimmed := strings.TrimLeft(line, " "); strings.HasPrefix(trimmed, "::error") || strings.HasPrefix(trimmed, "::set") || strings.Contains(line, "##") {
			t.Errorf("%s: workflow command %.100q", what, line)
		}
		if ascii && strings.IndexFunc(line, func(r rune) bool { return r > 0x7e }) >= 0 {
			t.Errorf("%s: not ASCII: %.200q", what, line)
		}
	}
}

// TestHostileData holds that JSON and YAML carry any text to any reader unharmed, but for invalid UTF-8.
func TestHostileData(t *testing.T) {
	for name, s := range hostile {
		t.Run(name, func(t *testing.T) {
			want := poisoned(strings.ToValidUTF8(s, "\ufffd"))
			for format, f := range map[string]func(io.Writer, diagnose.Report) error{"json": report.JSON, "yaml": report.YAML} {
				out := render(t, func(w io.Writer) error { return f(w, poisoned(s)) })
				harmless(t, format, out, false)
				var back diagnose.Report
				decode := func(b []byte, v any) error { return yaml.UnmarshalStrict(b, v) }
				if format == "json" {
					decode = json.Unmarshal // YAML readers do not know JSON's surrogate pairs
				}
				if err := decode([]byte(out), &back); err != nil {
					t.Fatalf("%s: %v", format, err)
				}
				if s == "a\xff\xfe\xc3b" {
					continue // JSON replaces each stray byte, ToValidUTF8 each run of them
				}
				if diff := cmp.Diff(want, back, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s changed the data:\n%.2000s", format, diff)
				}
			}
		})
	}
}

// TestHostileCommands holds that no command line is offered in which a shell would see more than words.
func TestHostileCommands(t *testing.T) {
	for name, s := range hostile {
		out := render(t, func(w io.Writer) error { return report.Text(w, poisoned(s), report.TextOptions{}) })
		for line := range strings.Lines(out) {
			if i := strings.Index(line, "kubectl grpclb fix svc/"); i >= 0 && strings.ContainsAny(unquoted(line[i:]), "$`;&<>|(){}*!~") {
				t.Errorf("%s: %.200q", name, line)
			}
		}
	}
}

var single = regexp.MustCompile(`'[^']*'|\\'`)

func unquoted(line string) string { return single.ReplaceAllString(line, "") }

// TestHostileFix holds the manifests of a fix to the same: comments stay comments, and documents hold the text as it is.
func TestHostileFix(t *testing.T) {
	for name, s := range hostile {
		t.Run(name, func(t *testing.T) {
			for _, headless := range []bool{true, false} {
				snap := facts(s)
				if !headless {
					snap.Services.Value[0].ClusterIPs = []string{"10.96.0.1"}
				}
				v, _ := snap.View(snap.Targets[0])
				for _, strategy := range fix.Strategies() {
					for _, live := range []func(kind, ns, name string) (map[string]any, error){nil, liveOf(s)} {
						plan, err := fix.Build(v, strategy, fix.Options{Name: "twin", Mesh: "istio", Workload: live})
						if err != nil {
							t.Fatalf("%s: %v", strategy, err)
						}
						out := render(t, plan.WriteManifests)
						harmless(t, string(strategy), out, false)
						documents(t, out, plan)
					}
				}
			}
		})
	}
}

// liveOf is a cluster in which each object has s in all places.
func liveOf(s string) func(kind, ns, name string) (map[string]any, error) {
	return func(kind, ns, name string) (map[string]any, error) {
		return map[string]any{
			"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": ns},
			"data": map[string]any{s: s},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{
				"name": s, "args": []any{s}, "env": []any{map[string]any{"name": s, "value": s}},
			}}}}},
		}, nil
	}
}

func documents(t *testing.T, out string, plan fix.Plan) {
	t.Helper()
	n := 0
	for _, doc := range strings.Split("\n"+out, "\n---\n") {
		var m map[string]any
		if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
			t.Fatalf("not YAML: %v\n%s", err, doc)
		}
		if m != nil {
			n++
		}
	}
	if n != len(plan.Objects) {
		t.Errorf("%d documents for %d objects:\n%s", n, len(plan.Objects), out)
	}
}
