// Command measured carries out a plan of package child and writes what each run took. It is started by the benchmarks and of no use by
// hand; that it is small is all it is for.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/grpclb/kubectl-grpclb/bench/internal/child"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := child.Serve(ctx, os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
