package dns_test

import (
	"context"
	"fmt"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
)

// A program of its own takes the Sets as they come. Here the target is an
// address, so that no DNS server is needed.
func Example() {
	target, err := endpoint.ParseTarget("", "127.0.0.1:6565", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	source, err := dns.New(dns.WithInterval(dns.MinInterval)).Open(target)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := source.Run(ctx, printer{stop: cancel}); err != nil {
		fmt.Println(err)
	}
	// Output: dns: [127.0.0.1:6565]
}

type printer struct{ stop func() }

func (p printer) Update(s endpoint.Set) {
	fmt.Printf("%s: %v\n", s.Source, s.Endpoints)
	p.stop()
}

func (printer) Fail(err error)      { fmt.Println(err) }
func (printer) Note(endpoint.Event) {}
