package refresher

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

// The fields of a service config that say how calls are balanced.
const (
	lbConfig = "loadBalancingConfig"
	lbPolicy = "loadBalancingPolicy"
)

// merge returns the service config of a channel: what the application gave, and
// our policy where it names none of its own. The second result is the tuning in
// force: that of the policy of ours that comes first, base if none does.
func merge(given string, base config.Config) (string, config.Config, error) {
	members, err := object(given)
	if err != nil {
		return "", base, err
	}
	list, ok, err := policies(members, base)
	if err != nil || !ok {
		return given, base, err
	}
	inForce := base
	for i := len(list) - 1; i >= 0; i-- {
		for name, data := range list[i] {
			if !config.Known(name) {
				continue
			}
			c := base
			c.Policy = name
			if c, err = c.With(data); err != nil {
				return "", base, fmt.Errorf("service config: %w", err)
			}
			if list[i][name], err = json.Marshal(c); err != nil {
				return "", base, fmt.Errorf("service config: %w", err)
			}
			inForce = c
		}
	}
	text, err := withPolicies(members, list)
	return text, inForce, err
}

// object reads a service config. Of the fields that matter here it knows one
// spelling: grpc-go, whose fields encoding/json matches in any case, knows all.
func object(text string) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if strings.TrimSpace(text) == "" {
		return members, nil
	}
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		return nil, fmt.Errorf("service config: not a JSON object: %w", err)
	}
	if members == nil {
		return nil, errors.New("service config: null is not a JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		for _, known := range []string{lbConfig, lbPolicy} {
			if name == known || !strings.EqualFold(name, known) {
				continue
			}
			if _, twice := members[known]; twice {
				return nil, fmt.Errorf("service config: %s and %s are one field", name, known)
			}
			members[known] = members[name]
			delete(members, name)
		}
	}
	for _, known := range []string{lbConfig, lbPolicy} {
		if string(members[known]) == "null" {
			delete(members, known)
		}
	}
	return members, nil
}

// withPolicies writes a service config with a list of policies.
func withPolicies(members map[string]json.RawMessage, list []map[string]json.RawMessage) (string, error) {
	data, err := json.Marshal(list)
	if err != nil {
		return "", fmt.Errorf("service config: %w", err)
	}
	members[lbConfig] = data
	if data, err = json.Marshal(members); err != nil {
		return "", fmt.Errorf("service config: %w", err)
	}
	return string(data), nil
}

// policies is the list of policies of a service config, ours when it has none;
// false when it names a stock policy in the old way, which stays as it is.
func policies(members map[string]json.RawMessage, base config.Config) ([]map[string]json.RawMessage, bool, error) {
	raw, ok := members[lbConfig]
	if !ok {
		name := base.Policy
		if old, ok := members[lbPolicy]; ok {
			if err := json.Unmarshal(old, &name); err != nil {
				return nil, false, fmt.Errorf("service config: %s: %s is not the name of a policy", lbPolicy, old)
			}
			if !config.Known(name) {
				return nil, false, nil
			}
		}
		return []map[string]json.RawMessage{{name: nil}}, true, nil
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return nil, false, fmt.Errorf("service config: %s: it takes a list of one or more objects, each with the name of a policy", lbConfig)
	}
	for i, entry := range list {
		if len(entry) != 1 {
			return nil, false, fmt.Errorf("service config: %s[%d]: one policy is wanted, not %d", lbConfig, i, len(entry))
		}
	}
	return list, true, nil
}

// withoutOurs is a service config for stock grpc-go: round_robin in place of
// every policy of ours.
func withoutOurs(serviceConfig string) (string, error) {
	members, err := object(serviceConfig)
	if err != nil {
		return "", err
	}
	list, ok, err := policies(members, config.Config{})
	if err != nil || !ok {
		return serviceConfig, err
	}
	for i, entry := range list {
		for name := range entry {
			if config.Known(name) {
				list[i] = map[string]json.RawMessage{"round_robin": []byte("{}")}
			}
		}
	}
	return withPolicies(members, list)
}

// check has grpc-go itself read a service config, by a channel that is never
// used. A channel that gets one from a resolver would only log what is wrong
// with it, and fail its calls.
func check(serviceConfig string) error {
	cc, err := grpc.NewClient("passthrough:///unused",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		// What follows is about the option of the channel here.
		_, why, found := strings.Cut(err.Error(), "is invalid: ")
		if !found {
			why = err.Error()
		}
		return fmt.Errorf("service config: %w", errors.New(why))
	}
	return cc.Close()
}
