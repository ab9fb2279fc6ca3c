// The square-aggregator command calls the SquareService over one channel and shows over HTTP which pods answered.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/square/internal/aggregator"
)

func main() { os.Exit(app.Run("square-aggregator", aggregator.Run)) }
