// The gen command prints the Secret and the ConfigMap that the TLS example's manifests mount, with a certificate made
// at that moment:
//
//	go run ./examples/echo/tls/gen -namespace default | kubectl apply -f -
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/echo/internal/tlssecret"
	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
)

func main() { os.Exit(app.Run("gen", tlssecret.Run)) }
