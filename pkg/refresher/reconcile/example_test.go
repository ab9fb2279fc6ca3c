package reconcile_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

func pods(addrs ...string) []endpoint.Endpoint {
	var out []endpoint.Endpoint
	for _, a := range addrs {
		out = append(out, endpoint.At(netip.MustParseAddrPort(a)))
	}
	return out
}

// A name server that is behind has one of four pods; the next answer has all.
func ExampleStep() {
	cfg, now := reconcile.DefaultConfig(), time.Unix(0, 0)
	all := pods("10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565", "10.0.0.4:6565")
	var state reconcile.State
	var out reconcile.Output
	for _, answer := range []endpoint.Set{{Endpoints: all}, {Endpoints: all[:1]}, {Endpoints: all, Verified: true}} {
		state, out = reconcile.Step(cfg, state, now, reconcile.Answer{Set: answer})
		believed, held := state.Counts()
		fmt.Println(believed, "believed,", held, "held; ask again:", out.Ask != nil)
	}
	// Output:
	// 4 believed, 0 held; ask again: false
	// 1 believed, 3 held; ask again: true
	// 4 believed, 0 held; ask again: false
}

// The members follow a source until the context ends.
func ExampleLoop() {
	pool := static.New(pods("10.0.0.1:6565")...)
	source, err := pool.Open(endpoint.Target{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	loop := reconcile.New(reconcile.Options{
		Source: source,
		Publish: func(s reconcile.State) {
			for _, m := range s.Members() {
				fmt.Println("member", m.ID, m.Endpoint)
			}
			if len(s.Members()) == 2 {
				cancel()
				return
			}
			pool.Set(pods("10.0.0.1:6565", "10.0.0.2:6565")...)
		},
	})
	if err := loop.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// member 1 10.0.0.1:6565
	// member 1 10.0.0.1:6565
	// member 2 10.0.0.2:6565
}
