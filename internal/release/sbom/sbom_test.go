package sbom

import (
	"bytes"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

func example() Archive {
	return Archive{
		Name: "x_1.0.0_linux_amd64.tar.gz", SHA256: strings.Repeat("a", 64), Binary: "x", BinarySHA256: strings.Repeat("b", 64),
		Time: time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("east", 3600)),
		Build: &debug.BuildInfo{
			GoVersion: "go1.26.8",
			Main:      debug.Module{Path: "example.com/x", Version: "v1.0.0+dirty"},
			Deps: []*debug.Module{
				{Path: "example.com/a_b", Version: "v1.0.0", Sum: "h1:abc="},
				{Path: "example.com/a-b", Version: "v1.0.0"},
				{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v2.0.0"}},
			},
		},
	}
}

func TestDocumentIsValidAndSaysWhatIsLinked(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, example()); err != nil {
		t.Fatal(err)
	}
	doc, err := json.Read(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	if doc.CreationInfo.Created != "2026-02-03T03:05:06Z" {
		t.Errorf("created %s", doc.CreationInfo.Created)
	}
	var purls []string
	ids := map[string]bool{}
	for _, p := range doc.Packages {
		if ids[string(p.PackageSPDXIdentifier)] {
			t.Errorf("%s is the identifier of two packages", p.PackageSPDXIdentifier)
		}
		ids[string(p.PackageSPDXIdentifier)] = true
		for _, r := range p.PackageExternalReferences {
			purls = append(purls, r.Locator)
		}
	}
	want := []string{
		"pkg:golang/example.com/x@v1.0.0%2Bdirty", "pkg:golang/stdlib@1.26.8", "pkg:golang/example.com/a_b@v1.0.0",
		"pkg:golang/example.com/a-b@v1.0.0", "pkg:golang/example.com/new@v2.0.0",
	}
	if diff := cmp.Diff(want, purls); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

func TestSameArchiveGivesSameBytes(t *testing.T) {
	var a, b bytes.Buffer
	if err := Write(&a, example()); err != nil {
		t.Fatal(err)
	}
	if err := Write(&b, example()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a.String(), b.String()); diff != "" {
		t.Errorf("two documents of one archive:\n%s", diff)
	}
	other := example()
	other.SHA256 = strings.Repeat("c", 64)
	if Document(example()).DocumentNamespace == Document(other).DocumentNamespace {
		t.Error("two archives share one identity")
	}
}
