// Command voting-server serves the VotingService of the voting example.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/server"
)

func main() { os.Exit(app.Run("voting-server", server.Run)) }
