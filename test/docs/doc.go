// Package docs holds the documents to what they say: it reads the pages as
// GitHub renders them, sorts their code blocks into a few classes, and runs or
// checks each block as its class asks. Links and anchors are checked as well.
//
// What a block is, is said by its language and by a comment on the line before
// it, which no reader of the rendered page sees:
//
//	<!-- run: here -->            sh, run by this package's tests, without a cluster
//	<!-- run: lab -->             sh, run by test/e2e on a cluster, page by page, in order
//	<!-- run: lab, exit 1 -->     the same, and it ends with that code
//	<!-- run: lab, background --> the same, and it goes on until the page's end
//	<!-- run: lab, again -->      the same, and it measures: a slow machine may need three tries
//	<!-- output -->               what the block before it prints; see [Match] for what may differ
//	<!-- not run: REASON -->      one of the reasons in [Excuses], and a word on this case
//
// yaml, json and go blocks need no comment: they are parsed, Kubernetes objects
// are decoded strictly and tried on the cluster's API server, Go is compiled.
// Text between <!-- sample: … -->, <!-- measured: … --> or <!-- generated: … -->
// and its end is written, and kept fresh, by a generator of its own; between
// <!-- followed: … --> and its end a test of its own does what stands there. On the pages of checks the
// commands stand indented with NAMES to fill in: their syntax is checked, and
// the flags of every call of the plugin, wherever it stands in a document.
//
// The package knows nothing of what the project does; test/e2e and the tests
// here bring the plugin and the cluster.
package docs
