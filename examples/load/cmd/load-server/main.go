// The load-server command answers the load example's calls and logs how many it had.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/load/internal/server"
)

func main() { os.Exit(app.Run("load-server", server.Run)) }
