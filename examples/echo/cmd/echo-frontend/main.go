// The echo-frontend command calls the echo backends through two Services and shows over HTTP which pods answered.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/echo/internal/frontend"
	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
)

func main() { os.Exit(app.Run("echo-frontend", frontend.Run)) }
