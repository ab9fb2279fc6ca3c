// Package config is what an operator may tune: the JSON of the load-balancing
// policies, its defaults with their reasons, and errors that name the field.
//
// It refuses to guess. A field that does not exist, a number without a unit, a
// share of 150 % are errors that say which field it is and what it takes.
//
//	{"loadBalancingConfig": [{"grpclb_refresher_peak_ewma": {
//	  "slowStart": "10s",
//	  "ejection": {"consecutiveFailures": 5},
//	  "refresh": {"interval": "5s"}
//	}}]}
//
// The object behind the policy's name is what [Parse] reads. Every field may be
// left out.
//
// # Units
//
// Durations are strings with a unit, as in the rest of a gRPC service config:
// "5s", "1.5s"; Go's other units ("300ms", "1m") are taken too. Shares are
// whole percents.
//
// # One table
//
// [Fields] lists every field with its default, its range and why the default is
// what it is. Parsing, validation, marshalling and the table of
// docs/refresher.md are made from it, so that none of them can disagree.
package config
