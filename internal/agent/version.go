package agent

import (
	"encoding/json"
	"flag"
	"fmt"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/version"
)

const aboutVersion = `Print the version of this binary and of the reports it prints.

Usage:
  grpclb-refresher version [-o json]
`

func runVersion(args []string, streams Streams) int {
	fs := flag.NewFlagSet("version", flag.ContinueOnError)
	output := fs.String("o", "text", "output `format`, text or json")
	if code, stop := parse(fs, args, aboutVersion, streams); stop {
		return code
	}
	info := version.Get()
	switch *output {
	case "text":
		return emit(streams, fmt.Sprintf("grpclb-refresher %s %s, reports %s\n", info.Version, info.Platform, agentapi.Version))
	case "json":
		b, err := json.Marshal(struct {
			version.Info
			Reports string `json:"reports"`
		}{info, agentapi.Version})
		if err != nil {
			return ExitNothing
		}
		return emit(streams, string(b)+"\n")
	default:
		return usage(streams, fmt.Errorf("unknown format %q", *output), "grpclb-refresher version --help")
	}
}
