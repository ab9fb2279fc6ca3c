package cli

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// badFlag words what the flag parser did not like, in one sentence without the names of Go's functions.
func badFlag(cmd *cobra.Command, err error) error {
	help := cmd.CommandPath() + " --help lists the flags"
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	var none *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			return usage(help, "unknown flag -%s", name)
		}
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				known = append(known, f.Name)
			}
		})
		if near := target.Nearest(name, known); len(near) > 0 {
			help += "; did you mean --" + strings.Join(near, " or --") + "?"
		}
		return usage(help, "unknown flag --%s", name)
	case errors.As(err, &value):
		f := value.GetFlag()
		want, hint := "a "+f.Value.Type(), help
		switch f.Value.Type() {
		case "duration":
			want, hint = "a time with its unit", "500ms, 30s and 2m are such times"
		case "int":
			want = "a whole number within reach"
		case "bool":
			want = "true or false"
		case "intSlice":
			want, hint = "whole numbers with commas between them", "80,443 are such numbers"
		case "stringSlice":
			want, hint = "values with commas between them", "a quotation mark stands around a whole value or not at all: '\"a,b\",c'"
		}
		return usage(hint, "--%s takes %s, not %q", f.Name, want, value.GetValue())
	case errors.As(err, &none):
		return usage(help, "--%s needs a value", none.GetFlag().Name)
	}
	return usage(help, "%w", err)
}

// longest is how much of something mistyped is repeated.
const longest = 63

// shown cuts and quotes what was typed.
func shown(s string) string {
	if utf8.RuneCountInString(s) > longest {
		s = string([]rune(s)[:longest]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// unquoted repeats what was typed without quotes where it is plain.
func unquoted(s string) string {
	if q := shown(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// checkName refuses what no API server accepts as a name, before one is asked: a single DNS label (RFC 1123) for a Service or a namespace,
// several with dots between them for other objects.
func checkName(what, name string, single bool) error {
	bad := validation.IsDNS1123Subdomain(name)
	most := validation.DNS1123SubdomainMaxLength
	if single {
		bad, most = validation.IsDNS1123Label(name), validation.DNS1123LabelMaxLength
	}
	if len(bad) == 0 {
		return nil
	}
	hint := fmt.Sprintf("names are at most %d lower-case letters, digits and dashes", most)
	if low := strings.ToLower(name); low != name && checkName(what, low, single) == nil {
		hint = "names are lower case: " + low
	}
	return usage(hint, "%s cannot be the name of a %s", shown(name), what)
}

// checkWords refuses values of the common flags that no run can mean.
func (f gatherFlags) checkWords(namespace string) error {
	if err := checkName("namespace", namespace, true); err != nil {
		return err
	}
	for _, s := range []struct{ flag, selector string }{{"-l", f.selector}, {"--dns-selector", f.dnsSelector}} {
		if _, err := labels.Parse(s.selector); err != nil {
			return usage("a selector looks like app=square or 'tier in (a, b)'", "%s: the selector %s cannot be read", s.flag, shown(s.selector))
		}
	}
	if f.dnsNamespace != "" {
		if err := checkName("namespace", f.dnsNamespace, true); err != nil {
			return err
		}
	}
	if f.domain != "" && len(validation.IsDNS1123Subdomain(strings.TrimSuffix(f.domain, "."))) > 0 {
		return usage("cluster.local is the usual one", "--cluster-domain: %s cannot be a DNS domain", shown(f.domain))
	}
	if strings.ContainsFunc(f.image, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return usage("", "--image: %s cannot be the name of an image", shown(f.image))
	}
	return nil
}

// parseWorkload reads the workload of --client or --from.
func parseWorkload(s, namespace string) (collect.ClientRef, error) {
	ref, err := collect.ParseClient(s, namespace)
	if err != nil {
		return ref, usage("", "%w", err)
	}
	if err := checkName("namespace", ref.Namespace, true); err != nil {
		return ref, err
	}
	return ref, checkName("workload", ref.Name, false)
}
