package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const ruler = "--------------------------------------------------------------------------------"

// writeReport writes the list of modules and then every text once, with the
// modules that it belongs to: most of them share one of a few.
func writeReport(w io.Writer, modules []module) {
	fmt.Fprint(w, "Licences of the code by others that is part of kubectl-grpclb and grpclb-refresher\n\n"+
		"Written by \"make generate\" from the modules that the programs link, on all platforms together.\n"+
		"kubectl-grpclb and grpclb-refresher themselves are under the Apache License 2.0; see LICENSE.\n\n")
	for _, m := range modules {
		fmt.Fprintf(w, "%s: %s\n    in %s\n", m.title(), strings.Join(m.licences(), ", "), strings.Join(m.programs, ", "))
	}
	var bodies []string
	owners := map[string][]string{}
	for _, m := range modules {
		for _, t := range m.texts {
			if owners[t.body] == nil {
				bodies = append(bodies, t.body)
			}
			owners[t.body] = append(owners[t.body], m.title()+", "+t.name)
		}
	}
	for _, body := range bodies {
		fmt.Fprintf(w, "\n%s\n%s\n%s\n\n%s\n", ruler, strings.Join(owners[body], "\n"), ruler, body)
	}
}

// writeList writes one line for each module.
func writeList(w io.Writer, modules []module) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range modules {
		fmt.Fprintf(t, "%s\t%s\t%s\n", m.title(), strings.Join(m.licences(), ", "), strings.Join(m.programs, ", "))
	}
	return t.Flush()
}

func (m *module) title() string { return strings.TrimSpace(m.path + " " + m.version) }
