package prometheus_test

import (
	"fmt"
	"log"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/prometheus"
)

// The collector joins the registry that the application has.
func ExampleNewCollector() {
	r, err := refresher.New()
	if err != nil {
		log.Fatal(err)
	}
	registry := client.NewRegistry()
	registry.MustRegister(prometheus.NewCollector(r, prometheus.WithEndpoints()))

	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		fmt.Println(f.GetName(), f.GetMetric()[0].GetGauge().GetValue()+f.GetMetric()[0].GetCounter().GetValue())
	}
	// Output:
	// grpclb_refresher_disabled 0
	// grpclb_refresher_events_dropped_total 0
}
