//go:build browser

package browser

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// browser is the running browser; tests open tabs of it.
var browser context.Context

func TestMain(m *testing.M) {
	ctx, stop, err := launch()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	browser = ctx
	code := m.Run()
	stop()
	os.Exit(code)
}
