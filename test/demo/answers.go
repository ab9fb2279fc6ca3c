package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tally is which pods answered a request to the aggregator, which makes one
// call for each number.
type tally struct {
	calls int
	pods  map[string]int
}

// answers asks the aggregator for nine squares, through the API server's proxy
// for Services: no port has to be opened on this machine.
func (d *demo) answers(ctx context.Context, typed bool) (tally, error) {
	path := fmt.Sprintf("/api/v1/namespaces/%s/services/aggregator-service:8080/proxy/grpc/9", namespace)
	argv := d.bed.Kubectl("get", "--raw", path)
	if typed {
		d.typed(argv)
	}
	out, err := d.quiet(ctx, d.bed, argv)
	if err != nil {
		return tally{}, err
	}
	return count(out)
}

// count reads the aggregator's answer: [{"input":1,"result":1,"hostname":"square-app-…"},…].
func count(answer []byte) (tally, error) {
	var rows []struct {
		Input    int    `json:"input"`
		Result   int    `json:"result"`
		Hostname string `json:"hostname"`
	}
	if err := json.Unmarshal(answer, &rows); err != nil {
		return tally{}, fmt.Errorf("read the aggregator's answer %.100q: %w", answer, err)
	}
	t := tally{calls: len(rows), pods: map[string]int{}}
	for _, r := range rows {
		if r.Result != r.Input*r.Input {
			return t, fmt.Errorf("%s says that %d squared is %d", r.Hostname, r.Input, r.Result)
		}
		t.pods[r.Hostname]++
	}
	if t.calls == 0 {
		return t, fmt.Errorf("the aggregator made no calls")
	}
	return t, nil
}

func (d *demo) show(t tally) {
	for _, pod := range slices.Sorted(maps.Keys(t.pods)) {
		d.say("%s  %d of %d  %s", pod, t.pods[pod], t.calls, strings.Repeat("#", t.pods[pod]))
	}
}
