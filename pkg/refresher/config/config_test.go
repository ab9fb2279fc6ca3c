package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

// with is the default configuration, changed.
func with(policy string, change func(*config.Config)) config.Config {
	c := config.Default(policy)
	change(&c)
	return c
}

func TestParse(t *testing.T) {
	cases := []struct {
		name, policy, json string
		want               config.Config
	}{
		{"nothing", config.PeakEWMA, "", config.Default(config.PeakEWMA)},
		{"an empty object", config.RoundRobin, " {} ", config.Default(config.RoundRobin)},
		{"seconds", config.PeakEWMA, `{"slowStart":"1.5s"}`, with(config.PeakEWMA, func(c *config.Config) { c.SlowStart = 1500 * time.Millisecond })},
		{"other units", config.PeakEWMA, `{"decay":"300ms","longCall":"1m"}`, with(config.PeakEWMA, func(c *config.Config) {
			c.Decay, c.LongCall = 300*time.Millisecond, time.Minute
		})},
		{"zero where it means something", config.LeastRequest, `{"slowStart":"0s","ejection":{"consecutiveFailures":0}}`,
			with(config.LeastRequest, func(c *config.Config) { c.SlowStart, c.Ejection.ConsecutiveFailures = 0, 0 })},
		{"three levels", config.RoundRobin, `{"ejection":{"enabled":false,"successRateEjection":{"requestVolume":7}},"refresh":{"onTTL":true}}`,
			with(config.RoundRobin, func(c *config.Config) {
				c.Ejection.Enabled, c.Ejection.SuccessRate.RequestVolume, c.Refresh.OnTTL = false, 7, true
			})},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := config.Parse(tc.policy, []byte(tc.json))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	cases := []struct{ name, policy, json, want string }{
		{"another policy", "round_robin", `{}`, `no policy is called "round_robin": there are grpclb_refresher_peak_ewma, `},
		{"no JSON", config.PeakEWMA, `{`, "grpclb_refresher_peak_ewma: not JSON: unexpected end"},
		{"no object", config.PeakEWMA, `[1]`, "grpclb_refresher_peak_ewma: [1] is not an object"},
		{"null", config.PeakEWMA, `null`, "grpclb_refresher_peak_ewma: null is not an object"},
		{"a group that is none", config.PeakEWMA, `{"refresh":"5s"}`, `grpclb_refresher_peak_ewma.refresh: "5s" is not an object`},
		{"a misspelt field", config.PeakEWMA, `{"refresh":{"intervall":"5s"}}`,
			"grpclb_refresher_peak_ewma.refresh.intervall: no such field; there are interval, maxInterval, onTTL, followHeadlessTwin, emptyGrace, "},
		{"a misspelt group", config.RoundRobin, `{"ejections":{}}`,
			"grpclb_refresher_round_robin.ejections: no such field; there are slowStart, connectionsPerEndpoint, ejection, refresh"},
		{"another case", config.PeakEWMA, `{"SlowStart":"1s"}`, ".SlowStart: no such field"},
		{"another policy's field", config.RoundRobin, `{"decay":"10s"}`,
			"grpclb_refresher_round_robin.decay: a field of grpclb_refresher_peak_ewma alone"},
		{"a number for a duration", config.PeakEWMA, `{"slowStart":10}`,
			`.slowStart: 10 is not what it takes: a duration from "0.001s" to "900s", or "0s": a full share at once`},
		{"no unit", config.PeakEWMA, `{"slowStart":"10"}`, `.slowStart: "10" is not what it takes`},
		{"a value null", config.PeakEWMA, `{"slowStart":null}`, `.slowStart: null is not what it takes`},
		{"a fraction", config.PeakEWMA, `{"connectionsPerEndpoint":1.5}`, ".connectionsPerEndpoint: 1.5 is not what it takes: a whole number from 1 to 64"},
		{"a string for a truth value", config.PeakEWMA, `{"ejection":{"enabled":"yes"}}`, `.ejection.enabled: "yes" is not what it takes: true or false`},
		{"too little", config.PeakEWMA, `{"refresh":{"interval":"0.5s"}}`, `.refresh.interval: "0.5s" is out of range: it takes a duration from "1s" to "3600s"`},
		{"negative", config.PeakEWMA, `{"refresh":{"emptyGrace":"-1.5s"}}`, `.refresh.emptyGrace: "-1.5s" is out of range`},
		{"too much", config.PeakEWMA, `{"refresh":{"maxShrinkPercent":150}}`, ".refresh.maxShrinkPercent: 150 is out of range: it takes a whole number from 0 to 100"},
		{"too many", config.PeakEWMA, `{"connectionsPerEndpoint":65}`, ".connectionsPerEndpoint: 65 is out of range"},
		{"a contradiction", config.PeakEWMA, `{"refresh":{"interval":"60s"}}`,
			".refresh.maxInterval: 30s is less than refresh.interval, which is 60s"},
		{"a long value", config.PeakEWMA, `{"slowStart":"` + strings.Repeat("x", 100) + `"}`, `"` + strings.Repeat("x", 39) + "… is not"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := config.Parse(tc.policy, []byte(tc.json))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v\nwant one with: %s", err, tc.want)
			}
		})
	}
}

// TestEveryWrongField: one run tells all there is to mend.
func TestEveryWrongField(t *testing.T) {
	_, err := config.Parse(config.PeakEWMA, []byte(`{"decay":1,"ejection":{"x":1},"slowStart":"1h"}`))
	var all *config.Error
	if !errors.As(err, &all) || len(all.Fields) != 2 {
		t.Errorf("want the two fields of the wrong type or name first, got %v", err)
	}
	err = with(config.PeakEWMA, func(c *config.Config) { c.Decay, c.LongCall = 0, 0 }).Validate()
	if !errors.As(err, &all) || len(all.Fields) != 2 {
		t.Errorf("want the two fields out of range, got %v", err)
	}
}

// TestWith: what the JSON leaves out stays as it was.
func TestWith(t *testing.T) {
	base := with(config.PeakEWMA, func(c *config.Config) { c.Refresh.Interval = 2 * time.Second })
	got, err := base.With([]byte(`{"refresh":{"minShrink":3}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Refresh.Interval != 2*time.Second || got.Refresh.MinShrink != 3 {
		t.Errorf("got %+v", got.Refresh)
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	for _, policy := range config.Names() {
		t.Run(policy, func(t *testing.T) {
			want := with(policy, func(c *config.Config) {
				c.SlowStart, c.Ejection.SuccessRate.StdevFactor, c.Refresh.OnTTL = 1250*time.Millisecond, 3, true
			})
			data, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := config.Parse(policy, data)
			if err != nil {
				t.Fatalf("%v\n%s", err, data)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if _, err := json.Marshal(config.Config{}); err == nil {
		t.Error("an invalid configuration was written")
	}
}

// TestFields: each field says why its default is what it is, and its default is
// one that it takes.
func TestFields(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range config.Fields() {
		if f.What == "" || f.Why == "" || f.Range == "" || f.Default == "" || seen[f.Path] {
			t.Errorf("incomplete or twice there: %+v", f)
		}
		seen[f.Path] = true
		data := f.Default
		parts := strings.Split(f.Path, ".")
		for i := len(parts) - 1; i >= 0; i-- {
			data = fmt.Sprintf("{%q:%s}", parts[i], data)
		}
		got, err := config.Parse(config.PeakEWMA, []byte(data))
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
		if diff := cmp.Diff(config.Default(config.PeakEWMA), got); diff != "" {
			t.Errorf("%s: the default is not the default\n%s", f.Path, diff)
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d fields", len(seen))
	}
}

// FuzzParse: what is accepted is valid, and survives being written and read.
func FuzzParse(f *testing.F) {
	f.Add(config.PeakEWMA, `{"slowStart":"10s","refresh":{"interval":"1.5s"}}`)
	f.Add(config.RoundRobin, `{"ejection":{"successRateEjection":{"minimumHosts":3}}}`)
	f.Add(config.LeastRequest, `{"refresh":{"refresh":{}}}`)
	f.Add("", `null`)
	f.Fuzz(func(t *testing.T, policy, data string) {
		c, err := config.Parse(policy, []byte(data))
		if err != nil {
			if !config.Known(policy) {
				return
			}
			var all *config.Error
			if !errors.As(err, &all) || len(all.Fields) == 0 {
				t.Fatalf("an error without a field: %v", err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse(policy, text)
		if err != nil || again != c {
			t.Fatalf("%v: %+v became %+v", err, c, again)
		}
	})
}
