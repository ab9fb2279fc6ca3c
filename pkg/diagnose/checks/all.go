package checks

import (
	"embed"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

//go:generate go test . -run ^TestCatalogueIsFresh$ -update

// All returns every check in its canonical order: the Service and its endpoints, DNS, clients, servers, mesh,
// operations. A check stands after those that it depends on, and keeps its place once released.
func All() []diagnose.Check {
	return []diagnose.Check{
		clusterIPPinned(),
		headlessPortMismatch(),
		selectorMatchesNothing(),
		namedPortMissing(),
		noReadyEndpoints(),
		notReadyPublished(),
		sessionAffinity(),
		singleEndpoint(),
		podsOnOneNode(),
		podsOnOneZone(),
		dnsDisagrees(),
		dnsTruncated(),
		clientIPTarget(),
		clientPassthrough(),
		clientTargetUnknownService(),
		scaleOutBlind(),
		serverNotGRPC(),
		linkerdHeadless(),
		meshOneSided(),
		readinessMissing(),
		sidecarBroken(),
		clientSidecar(),
	}
}

// ByID returns the check of that ID; false when there is none.
func ByID(id string) (diagnose.Check, bool) {
	all := All()
	i := slices.IndexFunc(all, func(c diagnose.Check) bool { return c.ID == id })
	if i < 0 {
		return diagnose.Check{}, false
	}
	return all[i], true
}

//go:embed pages/*.md
var pages embed.FS

// page returns the documentation of a check. A missing page is an empty Doc, which diagnose.Validate reports.
func page(id string) string {
	b, err := pages.ReadFile("pages/" + id + ".md")
	if err != nil {
		return ""
	}
	return string(b)
}
