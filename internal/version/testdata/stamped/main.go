// Command stamped prints the version information of its own build as JSON.
package main

import (
	"encoding/json"
	"os"

	"github.com/grpclb/kubectl-grpclb/internal/version"
)

func main() {
	if err := json.NewEncoder(os.Stdout).Encode(version.Get()); err != nil {
		os.Exit(1)
	}
}
