// The load-client command makes many calls over one channel and tells which pods answered.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/load/internal/client"
)

func main() { os.Exit(app.Run("load-client", client.Run)) }
