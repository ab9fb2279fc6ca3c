package config_test

import (
	"fmt"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

// What is left out has its default, what is wrong is told with its path.
func ExampleParse() {
	c, err := config.Parse(config.PeakEWMA, []byte(`{"refresh": {"interval": "1.5s"}}`))
	fmt.Println(c.Refresh.Interval, c.Refresh.EmptyGrace, err)

	_, err = config.Parse(config.PeakEWMA, []byte(`{"refresh": {"interval": "0.1s"}}`))
	fmt.Println(err)
	// Output:
	// 1.5s 1m0s <nil>
	// grpclb_refresher_peak_ewma.refresh.interval: "0.1s" is out of range: it takes a duration from "1s" to "3600s"
}
