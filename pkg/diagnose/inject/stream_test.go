package inject_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
)

// square is the Service of the square example.
func square() inject.Service {
	return inject.Service{
		Key: diagnose.Key{Namespace: "default", Name: "square-service"}, Dial: "square-service-headless",
		Ports: []inject.Port{{Name: "grpc", Number: 6565, Target: 6565}},
	}
}

func options(mods ...func(*inject.Options)) inject.Options {
	o := inject.Options{
		Services: []inject.Service{square()}, Domain: "cluster.local", Native: true, Image: "grpclb.dev/grpclb-refresher:dev",
		Resources: inject.DefaultResources(),
	}
	for _, m := range mods {
		m(&o)
	}
	return o
}

var twin = map[string]any{
	"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "square-service-headless", "namespace": "default"},
	"spec": map[string]any{"clusterIP": "None"},
}

func writeYAML(v any) ([]byte, error) { return yaml.Marshal(v) }

// put injects every workload of a stream, as the command does.
func put(t testing.TB, src string, o inject.Options) string {
	t.Helper()
	s, err := inject.Parse([]byte(src))
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	s.RemoveTwins()
	for _, obj := range s.Objects() {
		w, ok, err := s.Workload(obj, "default")
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			continue
		}
		in, remarks := inject.Decide(w, o, inject.Facts{})
		if in == nil {
			t.Fatalf("%s is refused: %+v", w.Ref(), remarks)
		}
		if err := s.Add(obj, in); err != nil {
			t.Fatalf("%v\n%s", err, src)
		}
	}
	write := writeYAML
	if s.JSON() {
		write = json.Marshal
	}
	if err := s.AddTwin(twin, write, "svc/square-service-headless"); err != nil {
		t.Fatal(err)
	}
	return s.String()
}

func take(t testing.TB, src string) string {
	t.Helper()
	s, err := inject.Parse([]byte(src))
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	s.RemoveTwins()
	for _, obj := range s.Objects() {
		if _, err := s.Remove(obj); err != nil {
			t.Fatalf("%v\n%s", err, src)
		}
	}
	return s.String()
}

func corpus(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("testdata/corpus/*")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	out := map[string]string{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(p)] = string(b)
	}
	return out
}

// variants are the same manifest in other clothes: line ends, no line end at the end, the mark that Windows' editors put before UTF-8.
func variants(src string) map[string]string {
	unix := strings.ReplaceAll(src, "\r\n", "\n")
	return map[string]string{
		"as it is": src, "unix": unix, "windows": strings.ReplaceAll(unix, "\n", "\r\n"),
		"no end": strings.TrimRight(unix, "\n"), "windows, no end": strings.TrimRight(strings.ReplaceAll(unix, "\n", "\r\n"), "\r\n"),
		"windows, mark": "\ufeff" + strings.ReplaceAll(unix, "\n", "\r\n"), "mark": "\ufeff" + unix,
	}
}

var ways = map[string]func(*inject.Options){
	"native": func(*inject.Options) {},
	"plain":  func(o *inject.Options) { o.Native = false },
	"env":    func(o *inject.Options) { o.Mode = inject.ModeEnv },
	"two services": func(o *inject.Options) {
		o.Services = append(o.Services, inject.Service{
			Key: diagnose.Key{Namespace: "shop", Name: "cart"}, Dial: "cart-headless",
			Ports: []inject.Port{{Name: "grpc", Number: 80, Target: 50051}, {Name: "metrics", Number: 9090, Target: 9090, Other: true}},
		})
	},
}

// TestThereAndBack is the promise of the package: taking out what was put in gives the same bytes, putting it in twice changes nothing,
// and putting in something else is the same as putting that in at first.
func TestThereAndBack(t *testing.T) {
	for name, src := range corpus(t) {
		for variant, src := range variants(src) {
			for way, mod := range ways {
				t.Run(name+", "+variant+", "+way, func(t *testing.T) {
					if way == "plain" && strings.Contains(src, "Job") {
						t.Skip("a job needs a native sidecar")
					}
					once := put(t, src, options(mod))
					if once == src {
						t.Fatal("nothing was injected")
					}
					if diff := cmp.Diff(src, take(t, once)); diff != "" {
						t.Errorf("back again it is another:\n%s\nin between:\n%s", diff, once)
					}
					if diff := cmp.Diff(once, put(t, once, options(mod))); diff != "" {
						t.Errorf("twice is not once:\n%s", diff)
					}
					other := put(t, src, options(func(o *inject.Options) { o.Image = "other:1" }))
					if diff := cmp.Diff(other, put(t, once, options(func(o *inject.Options) { o.Image = "other:1" }))); diff != "" {
						t.Errorf("an upgrade leaves traces:\n%s", diff)
					}
					if strings.Contains(src, "\r\n") && strings.Contains(strings.ReplaceAll(once, "\r\n", ""), "\n") {
						t.Errorf("line ends are mixed:\n%q", once)
					}
				})
			}
		}
	}
}

// TestAppend: files become one stream, in which each document is what it was.
func TestAppend(t *testing.T) {
	const eol = "\n"
	for name, c := range map[string]struct {
		files []string
		want  string
		json  bool
		err   string
	}{
		"yaml":            {[]string{"a: 1\n", "b: 2\n"}, "a: 1\n---\nb: 2\n", false, ""},
		"has its line":    {[]string{"a: 1\n", "# b\n---\nb: 2\n"}, "a: 1\n# b\n---\nb: 2\n", false, ""},
		"no line end":     {[]string{"a: 1", "b: 2"}, "a: 1\n---\nb: 2", false, ""},
		"words, no end":   {[]string{"a: 1\n# one", "b: 2\n"}, "a: 1\n# one\n---\nb: 2\n", false, ""},
		"windows":         {[]string{"a: 1\r\nc: 1", "b: 2\r\n"}, "a: 1\r\nc: 1\r\n---\r\nb: 2\r\n", false, ""},
		"mark":            {[]string{"\ufeffa: 1\n", "\ufeffb: 2\n"}, "\ufeffa: 1\n---\nb: 2\n", false, ""},
		"json":            {[]string{`{"a":1}`, `{"b":2}` + eol}, "{\"a\":1}\n{\"b\":2}\n", true, ""},
		"json, then yaml": {[]string{`{"a":1} {"c":3}`, "b: 2\n"}, "{\"a\":1}\n---\n{\"c\":3}\n---\nb: 2\n", false, ""},
		"yaml, then json": {[]string{"b: 2\n", "{\"a\":1}\n{\"c\":3}\n"}, "b: 2\n---\n{\"a\":1}\n---\n{\"c\":3}\n", false, ""},
		"flow":            {[]string{"{a: 1}\n", "{b: 2}\n"}, "{a: 1}\n---\n{b: 2}\n", false, ""},
		"open text":       {[]string{"a: |\n  text", "b: 2\n"}, "", false, "ends in the middle of a line"},
	} {
		t.Run(name, func(t *testing.T) {
			var all *inject.Stream
			var want []map[string]any
			for _, f := range c.files {
				s, err := inject.Parse([]byte(f))
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range s.Objects() {
					want = append(want, o.Content())
				}
				if all == nil {
					all = s
				} else if err := all.Append(s); c.err != "" || err != nil {
					if err == nil || !strings.Contains(err.Error(), c.err) || c.err == "" {
						t.Errorf("%v, want %q", err, c.err)
					}
					return
				}
			}
			if all.String() != c.want || all.JSON() != c.json {
				t.Errorf("%q, want %q; JSON %t", all.String(), c.want, all.JSON())
			}
			again, err := inject.Parse([]byte(all.String()))
			if err != nil {
				t.Fatal(err)
			}
			var got []map[string]any
			for _, o := range again.Objects() {
				got = append(got, o.Content())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestParseError: what cannot be read is named by its lines in the file.
func TestParseError(t *testing.T) {
	for name, c := range map[string]struct {
		src  string
		want []string
	}{
		"first":           {"a: 1\nb: [\n", []string{"begins on line 1 "}},
		"later":           {"a: 1\n---\nb: 1\nb: 2\n", []string{"begins on line 2 ", "line 4: ", "defined at line 3"}},
		"utf-16":          {"\xff\xfea\x00:\x00 \x001\x00", []string{"not UTF-8"}},
		"utf-16, no mark": {"a\x00:\x00 \x001\x00", []string{"not UTF-8"}},
		"latin":           {"a: \xe4\n", []string{"not UTF-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inject.Parse([]byte(c.src))
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%v, want %q", err, w)
				}
			}
		})
	}
}

// FuzzStream holds the promise for any text: what can be parsed is edited and comes back as it was, or is refused and stays as it is.
func FuzzStream(f *testing.F) {
	for _, src := range corpus(f) {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		s, err := inject.Parse([]byte(src))
		if err != nil || len(s.RemoveTwins()) > 0 {
			return
		}
		if s.String() != src {
			t.Fatalf("parsed, it is another:\n%q\n%q", src, s.String())
		}
		for _, obj := range s.Objects() {
			w, ok, err := s.Workload(obj, "default")
			if err != nil || !ok || w.Injected {
				continue
			}
			in, _ := inject.Decide(w, options(), inject.Facts{})
			if in == nil {
				continue
			}
			before := s.String()
			if err := s.Add(obj, in); err != nil {
				if s.String() != before {
					t.Fatalf("refused (%v) and changed:\n%q\n%q", err, before, s.String())
				}
				continue
			}
			if _, err := s.Remove(obj); err != nil || s.String() != before {
				t.Fatalf("%v, back again it is another:\n%q\n%q", err, before, s.String())
			}
		}
	})
}
