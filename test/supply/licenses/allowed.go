package main

// allowed are the licences that a shipped module may have, with the reason why
// each is no burden on who uses or embeds the programs. The names are SPDX
// identifiers, as github.com/google/licensecheck gives them.
var allowed = map[string]string{
	"Apache-2.0":         "permissive, the project's own; the notice files travel with the programs",
	"BSD-2-Clause":       "permissive; its text travels with the programs",
	"BSD-3-Clause":       "permissive; its text travels with the programs",
	"ISC":                "permissive; its text travels with the programs",
	"MIT":                "permissive; its text travels with the programs",
	"MPL-2.0":            "copyleft for the module's own files only, which we use unchanged and which its module path leads to",
	"GooglePatentClause": "the additional patent grant of the Go project; it gives and asks for nothing here",
	"GooglePatentsFile":  "the additional patent grant of the Go project; it gives and asks for nothing here",
}
