// The echo-backend command serves the echo example's EchoServer, in plaintext or over TLS.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/echo/internal/backend"
	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
)

func main() { os.Exit(app.Run("echo-backend", backend.Run)) }
