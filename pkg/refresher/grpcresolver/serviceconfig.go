package grpcresolver

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/balancer"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

// serviceConfig is the service config that the channels get, and our policy's
// part of it.
type serviceConfig struct {
	json string
	// policy is what the operator tuned. With somebody else's policy it holds
	// [Options.Tuning]: the guard works for all of them.
	policy config.Config
	ours   bool
}

// mergeServiceConfig completes the user's service config, "" or a JSON object,
// with our policy where it names none. grpc-go takes the resolver's config or
// the channel's default, never both, so everything else of the user's has to be
// in it as well.
func mergeServiceConfig(user string, tuning config.Config) (serviceConfig, error) {
	if strings.TrimSpace(user) == "" {
		user = "{}"
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(user), &fields); err != nil {
		return serviceConfig{}, fmt.Errorf("service config: %w", err)
	}
	if fields == nil {
		return serviceConfig{}, errors.New("service config: null is not an object")
	}
	list, chosen := field(fields, "loadBalancingConfig")
	if !chosen {
		name, named := field(fields, "loadBalancingPolicy")
		if !named {
			name = json.RawMessage(`"` + config.PeakEWMA + `"`)
		}
		var policy string
		if err := json.Unmarshal(name, &policy); err != nil {
			return serviceConfig{}, fmt.Errorf("service config: loadBalancingPolicy: %w", err)
		}
		var err error
		if list, err = json.Marshal([]map[string]struct{}{{policy: {}}}); err != nil {
			return serviceConfig{}, fmt.Errorf("service config: loadBalancingPolicy: %w", err)
		}
		fields["loadBalancingConfig"] = list
	}
	policy, ours, err := chosenPolicy(list, tuning)
	if err != nil {
		return serviceConfig{}, fmt.Errorf("service config: %w", err)
	}
	merged, err := json.Marshal(fields)
	if err != nil {
		return serviceConfig{}, fmt.Errorf("service config: %w", err)
	}
	return serviceConfig{json: string(merged), policy: policy, ours: ours}, nil
}

// field finds a member as grpc-go does: by its name in any case.
func field(fields map[string]json.RawMessage, name string) (json.RawMessage, bool) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if strings.EqualFold(key, name) && string(fields[key]) != "null" {
			return fields[key], true
		}
	}
	return nil, false
}

// chosenPolicy finds the entry that gRPC will use, the first whose policy is
// linked in (gRFC A24), and reads it when it is ours.
func chosenPolicy(list json.RawMessage, tuning config.Config) (c config.Config, ours bool, err error) {
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(list, &entries); err != nil {
		return c, false, fmt.Errorf("loadBalancingConfig: %w", err)
	}
	var names []string
	for i, entry := range entries {
		if len(entry) != 1 {
			return c, false, fmt.Errorf("loadBalancingConfig[%d]: one policy is wanted, not %d", i, len(entry))
		}
		for name, data := range entry {
			if config.Known(name) {
				c, err = config.Parse(name, data)
				return c, true, err
			}
			if balancer.Get(name) != nil {
				return tuning, false, nil
			}
			names = append(names, name)
		}
	}
	return c, false, fmt.Errorf("loadBalancingConfig: no policy of this program is in it (%s); ours are %s",
		strings.Join(names, ", "), strings.Join(config.Names(), ", "))
}
