// Command voting-web is the front end of the voting example: a page, and one gRPC channel to the voting service.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/web"
)

func main() { os.Exit(app.Run("voting-web", web.Run)) }
