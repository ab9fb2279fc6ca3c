// Package sbom writes the bill of materials of a release archive: an SPDX 2.3 document of the Go modules that are in its binary.
//
// The source is the build information that the linker put into the binary, so the list is of what is in there and not of
// what a go.mod allows. The same archive gives the same document, byte for byte. What it does not do: guess licences. It
// says NOASSERTION where it was told nothing.
package sbom

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

// Namespace is what the identity of every document begins with.
const Namespace = "https://github.com/grpclb/kubectl-grpclb/spdx/"

// Stdlib is the name under which vulnerability databases know the standard library.
const Stdlib = "stdlib"

const (
	supplier   = "kubectl-grpclb authors"
	noLicence  = "NOASSERTION"
	noDownload = "NOASSERTION"
)

// Archive is a release archive with one program in it.
type Archive struct {
	// Name is the file's name, without a folder.
	Name string
	// SHA256 is the hash of the whole file, in hexadecimal.
	SHA256 string
	// Binary is the program's name in the archive.
	Binary string
	// BinarySHA256 is the hash of the program, in hexadecimal.
	BinarySHA256 string
	// Time is the program's modification time in the archive, which a release sets to the commit's.
	Time time.Time
	// Build is what the program says of its own build.
	Build *debug.BuildInfo
}

// Write writes the document of an archive as JSON.
func Write(w io.Writer, a Archive) error {
	doc := Document(a)
	if err := spdxlib.ValidateDocument(doc); err != nil {
		return fmt.Errorf("bill of materials of %s: %w", a.Name, err)
	}
	if err := json.Write(doc, w, json.Indent("  "), json.EscapeHTML(false)); err != nil {
		return fmt.Errorf("bill of materials of %s: %w", a.Name, err)
	}
	return nil
}

// Document is the bill: the archive contains the program, the program was made from the main module, and that depends on the
// others.
func Document(a Archive) *v2_3.Document {
	version := a.Build.Main.Version
	file := &v2_3.Package{
		PackageName: a.Name, PackageSPDXIdentifier: "Archive", PackageVersion: version, PackageFileName: a.Name,
		PackageSupplier:         &common.Supplier{Supplier: supplier, SupplierType: "Organization"},
		PackageDownloadLocation: noDownload, PackageLicenseConcluded: noLicence, PackageLicenseDeclared: "Apache-2.0",
		PackageCopyrightText: noLicence, PrimaryPackagePurpose: "ARCHIVE",
		PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: a.SHA256}},
	}
	program := &v2_3.Package{
		PackageName: a.Binary, PackageSPDXIdentifier: "Program", PackageVersion: version, PackageFileName: a.Binary,
		PackageDownloadLocation: noDownload, PackageLicenseConcluded: noLicence, PackageLicenseDeclared: "Apache-2.0",
		PackageCopyrightText: noLicence, PrimaryPackagePurpose: "APPLICATION",
		PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: a.BinarySHA256}},
	}
	main := modulePackage(&a.Build.Main)
	main.PackageLicenseDeclared = "Apache-2.0"
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: a.Name, DocumentNamespace: Namespace + a.Name + "/" + a.SHA256,
		CreationInfo: &v2_3.CreationInfo{
			Created: a.Time.UTC().Format("2006-01-02T15:04:05Z"),
			Creators: []common.Creator{
				{CreatorType: "Organization", Creator: supplier},
				{CreatorType: "Tool", Creator: "kubectl-grpclb/internal/release/sbom"},
			},
		},
		Packages: []*v2_3.Package{file, program, main},
	}
	relate := func(from *v2_3.Package, how string, to *v2_3.Package) {
		doc.Relationships = append(doc.Relationships, &v2_3.Relationship{
			RefA: common.MakeDocElementID("", string(from.PackageSPDXIdentifier)), Relationship: how,
			RefB: common.MakeDocElementID("", string(to.PackageSPDXIdentifier)),
		})
	}
	relate(&v2_3.Package{PackageSPDXIdentifier: "DOCUMENT"}, common.TypeRelationshipDescribe, file)
	relate(file, common.TypeRelationshipContains, program)
	relate(program, common.TypeRelationshipGeneratedFrom, main)
	for _, m := range modules(a.Build) {
		p := modulePackage(m)
		doc.Packages = append(doc.Packages, p)
		relate(main, common.TypeRelationshipDependsOn, p)
	}
	return doc
}

// modules are what the main module's code was linked with: the standard library, and every module with its replacement in
// its place.
func modules(build *debug.BuildInfo) []*debug.Module {
	out := []*debug.Module{{Path: Stdlib, Version: build.GoVersion}}
	for _, m := range build.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		out = append(out, m)
	}
	return out
}

func modulePackage(m *debug.Module) *v2_3.Package {
	// Vulnerability databases write Go's own releases without the letters.
	purl := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(strings.TrimPrefix(m.Version, "go"), "+", "%2B")
	p := &v2_3.Package{
		PackageName: m.Path, PackageSPDXIdentifier: identifier(m), PackageVersion: m.Version,
		PackageDownloadLocation: noDownload, PackageLicenseConcluded: noLicence, PackageLicenseDeclared: noLicence,
		PackageCopyrightText: noLicence, PrimaryPackagePurpose: "LIBRARY",
		PackageExternalReferences: []*v2_3.PackageExternalReference{
			{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl},
		},
	}
	if m.Sum != "" {
		// Not a checksum in SPDX's sense, which is of one file.
		p.PackageSourceInfo = "go.sum " + m.Sum
	}
	return p
}

var notInIdentifiers = regexp.MustCompile(`[^A-Za-z0-9.-]`)

// identifier is the module's path and version with what SPDX does not allow replaced. The hash keeps paths apart that become the same by it.
func identifier(m *debug.Module) common.ElementID {
	sum := sha256.Sum256([]byte(m.Path + "@" + m.Version))
	name := notInIdentifiers.ReplaceAllString(m.Path+"-"+m.Version, "-")
	return common.ElementID("Module-" + name + "-" + hex.EncodeToString(sum[:4]))
}

// isProgram tells an archive's program from its documents.
func isProgram(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, ".exe") || base == "kubectl-grpclb" || base == "grpclb-refresher"
}

// readBuild reads the build information of a program that is in memory.
func readBuild(name string, r io.ReaderAt) (*debug.BuildInfo, error) {
	build, err := buildinfo.Read(r)
	if err != nil {
		return nil, fmt.Errorf("build information of %s: %w", name, err)
	}
	return build, nil
}
