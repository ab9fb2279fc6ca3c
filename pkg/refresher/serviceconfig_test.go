package refresher

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

func TestMerge(t *testing.T) {
	base := config.Default(config.PeakEWMA)
	base.Refresh.Interval = 7 * time.Second
	roundRobin := base
	roundRobin.Policy = config.RoundRobin
	cases := []struct {
		name, given string
		want        string // PEAK and RR stand for the policies with all fields
		inForce     config.Config
	}{
		{"nothing", " ", `{"loadBalancingConfig":[PEAK]}`, base},
		{"the rest is kept", `{"methodConfig":[{"name":[{}]}],"healthCheckConfig":{"serviceName":"a"}}`,
			`{"healthCheckConfig":{"serviceName":"a"},"loadBalancingConfig":[PEAK],"methodConfig":[{"name":[{}]}]}`, base},
		{"a policy of ours", `{"loadBalancingConfig":[{"grpclb_refresher_round_robin":{}}]}`, `{"loadBalancingConfig":[RR]}`, roundRobin},
		{"two of ours: the first counts", `{"loadBalancingConfig":[{"grpclb_refresher_round_robin":{}},{"grpclb_refresher_peak_ewma":{}}]}`,
			`{"loadBalancingConfig":[RR,PEAK]}`, roundRobin},
		{"a stock policy", `{"loadBalancingConfig":[{"ring_hash":{"minRingSize":8}}]}`, `{"loadBalancingConfig":[{"ring_hash":{"minRingSize":8}}]}`, base},
		{"a stock policy in the old way", `{"loadBalancingPolicy":"pick_first"}`, `{"loadBalancingPolicy":"pick_first"}`, base},
		{"ours in the old way", `{"loadBalancingPolicy":"grpclb_refresher_round_robin"}`,
			`{"loadBalancingConfig":[RR],"loadBalancingPolicy":"grpclb_refresher_round_robin"}`, roundRobin},
		{"a field in another case", `{"LoadBalancingConfig":[{"grpclb_refresher_round_robin":{}}]}`, `{"loadBalancingConfig":[RR]}`, roundRobin},
		{"null", `{"loadBalancingConfig":null}`, `{"loadBalancingConfig":[PEAK]}`, base},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, inForce, err := merge(tc.given, base)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("PEAK", whole(t, base), "RR", whole(t, roundRobin)).Replace(tc.want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("service config (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tc.inForce, inForce); diff != "" {
				t.Errorf("in force (-want +got)\n%s", diff)
			}
		})
	}
}

func whole(t *testing.T, c config.Config) string {
	t.Helper()
	data, err := json.Marshal(map[string]config.Config{c.Policy: c})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMergeRefuses(t *testing.T) {
	cases := []struct{ name, given, want string }{
		{"no JSON", `{`, "not a JSON object: unexpected end"},
		{"no object", `[]`, "not a JSON object"},
		{"null", `null`, "null is not a JSON object"},
		{"no list", `{"loadBalancingConfig":{}}`, "loadBalancingConfig: it takes a list"},
		{"an empty list", `{"loadBalancingConfig":[]}`, "loadBalancingConfig: it takes a list"},
		{"two in one", `{"loadBalancingConfig":[{"a":{},"b":{}}]}`, "loadBalancingConfig[0]: one policy is wanted, not 2"},
		{"a name that is none", `{"loadBalancingPolicy":7}`, "loadBalancingPolicy: 7 is not the name of a policy"},
		{"twice", `{"loadBalancingConfig":[],"LOADBALANCINGCONFIG":[]}`, "LOADBALANCINGCONFIG and loadBalancingConfig are one field"},
		{"a wrong field", `{"loadBalancingConfig":[{"grpclb_refresher_peak_ewma":{"decay":7}}]}`, "grpclb_refresher_peak_ewma.decay: 7 is not what it takes"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := merge(tc.given, config.Default(config.PeakEWMA))
			if err == nil || !strings.HasPrefix(err.Error(), "service config: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v\nwant one with: %s", err, tc.want)
			}
		})
	}
}

func TestWithoutOurs(t *testing.T) {
	cases := []struct{ name, given, want string }{
		{"ours", `{"loadBalancingConfig":[{"grpclb_refresher_peak_ewma":{"decay":"1s"}}],"x":1}`, `{"loadBalancingConfig":[{"round_robin":{}}],"x":1}`},
		{"stock first", `{"loadBalancingConfig":[{"ring_hash":{}},{"grpclb_refresher_round_robin":{}}]}`, `{"loadBalancingConfig":[{"ring_hash":{}},{"round_robin":{}}]}`},
		{"in the old way", `{"loadBalancingPolicy":"pick_first"}`, `{"loadBalancingPolicy":"pick_first"}`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := withoutOurs(tc.given)
			if err != nil || got != tc.want {
				t.Errorf("%v: got %s, want %s", err, got, tc.want)
			}
		})
	}
	if _, err := withoutOurs("{"); err == nil {
		t.Error("what is no JSON was taken")
	}
}
