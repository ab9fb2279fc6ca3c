package auto_test

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/auto"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/dns"
)

// The watch where the pod has the right to, DNS elsewhere; an event says which.
func ExampleNew() {
	source := auto.New(auto.WithDNS(dns.WithInterval(2 * time.Second)))
	conn, err := grpc.NewClient("refresh:///square-service.default:grpc",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		refresher.DialOption(refresher.WithSource(source), refresher.WithEvents(func(e refresher.Event) {
			if s, ok := e.What.(endpoint.SourceSwitched); ok {
				fmt.Printf("%s: endpoints come from %s now: %s\n", e.Target, s.To, s.Reason)
			}
		})))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
}
