// Package inject puts the refresher sidecar into the pod template of a client, and takes it out again.
//
//	stream, err := inject.Parse(manifests)
//	for _, o := range stream.Objects() {
//		w, ok, err := stream.Workload(o, "default") // false for what has no pod template
//		in, remarks := inject.Decide(w, options, facts) // nil when a remark is a Refusal
//		err = stream.Add(o, in) // and stream.Remove(o) gives the same bytes again
//	}
//	out := stream.String()
//
// An injected pod has three things more: a container named grpclb-refresher, hostAliases that lead the names of the Services to it, and an
// annotation that records both. Or, where names cannot be led there, its variables and arguments name 127.0.0.1 instead ([ModeEnv]).
//
// # Text stays text
//
// Manifests are edited as text, at places that the YAML parser names: lines are put in and taken out, nothing is written anew. Comments,
// key order, indentation, anchors and line ends stay as they are, and taking out what was put in gives the same bytes. Every result is
// parsed again and compared with what the change means for the object; a form in which the two differ (a pod spec under a merge key, say)
// is refused rather than damaged. Objects of a cluster, which have no text, get the same operations on their JSON form.
//
// # What it refuses to do
//
// It asks no cluster, reads no file and knows no flags: what Services have for ports is given to it. It does not judge whether a Service
// speaks gRPC. It never edits a document that is not a workload.
package inject
