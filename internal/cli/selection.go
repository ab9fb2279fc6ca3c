package cli

import (
	"slices"
	"strings"
)

// serviceWords are the ways in which kubectl takes the type Service.
var serviceWords = []string{"svc", "service", "services", "services.v1.", "services.v1"}

func isServiceWord(s string) bool { return slices.Contains(serviceWords, strings.ToLower(s)) }

// selection is which Services a command is about: names, or a label selector, or every gRPC-looking one.
type selection struct {
	names    []string
	selector string
}

// parseSelection reads kubectl's forms: svc/NAME..., svc NAME..., svc (all that look like gRPC), svc -l SELECTOR; and a
// bare NAME, since these commands take nothing but Services.
func parseSelection(command string, args []string, selector string) (selection, error) {
	s := selection{selector: selector}
	if len(args) == 0 {
		if selector == "" {
			return s, usage(Name+" "+command+" svc/NAME, or svc for every Service that looks like gRPC", "which Service?")
		}
		return s, nil
	}
	if isServiceWord(args[0]) {
		args = args[1:]
		for _, a := range args {
			if strings.Contains(a, "/") {
				return s, usage("write svc NAME or svc/NAME", "%s names a type twice", shown(a))
			}
		}
	}
	for _, a := range args {
		name := a
		if kind, n, ok := strings.Cut(a, "/"); ok {
			if !isServiceWord(kind) {
				return s, usage("`kubectl get svc -o wide` shows which Service selects its pods", "%s is not a Service: %s takes svc/NAME", unquoted(a), command)
			}
			name = n
		}
		switch {
		case name == "":
			return s, usage("write svc/NAME", "the name of the Service is empty")
		case strings.Contains(name, "/"):
			return s, usage("write svc/NAME, and -n NAMESPACE for another namespace", "%s is not a Service", shown(a))
		}
		if err := checkName("Service", name, true); err != nil {
			return s, err
		}
		if !slices.Contains(s.names, name) {
			s.names = append(s.names, name)
		}
	}
	if len(s.names) > 0 && selector != "" {
		return s, usage("", "a name and a selector (-l) cannot be combined")
	}
	return s, nil
}

// one demands exactly one named Service.
func (s selection) one(command string) (string, error) {
	if len(s.names) != 1 || s.selector != "" {
		return "", usage(Name+" "+command+" svc/NAME", "%s takes one Service", command)
	}
	return s.names[0], nil
}
