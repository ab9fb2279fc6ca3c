// Package settings is what grpclb-refresher's sidecar may be told: the file, its
// fields with their defaults and reasons, and errors that name the place.
//
// It refuses to guess. A field that does not exist, a number without a unit, two
// targets on one address are errors with line, column and the field's path:
//
//	sidecar.yaml:9:15: targets[0].policy.slowStart: 10 is not what it takes: a duration ...
//
// A file looks like this; what it leaves out has its default:
//
//	apiVersion: grpclb.dev/v1alpha1
//	kind: SidecarConfig
//	targets:
//	- listen: ["127.0.0.10:6565"]
//	  target: square-service-headless.default:6565
//
// # One table
//
// [Fields] lists every field. The parser, the published JSON schema and the tables
// of docs/sidecar.md are made from it, so that none of them can disagree. The
// fields of a policy are those of package config, here as well.
//
// # What only the command line may allow
//
// An address that other machines can reach is refused unless
// [Options.AllowNonLoopback] is set, and no field of the file can set it: who may
// write a ConfigMap may not open a pod to its neighbours.
package settings
