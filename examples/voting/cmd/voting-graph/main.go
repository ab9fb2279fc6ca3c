// Command voting-graph draws the CPU of the voting example's pods, and tells how many votes each had.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/graph"
)

func main() { os.Exit(app.Run("voting-graph", graph.Run)) }
