// The square-server command serves the square example's SquareService.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/square/internal/server"
)

func main() { os.Exit(app.Run("square-server", server.Run)) }
