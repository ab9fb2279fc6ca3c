package daemon

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/internal/daemon/settings"
)

// EnvPrefix begins the variables that stand for flags: --log-level is
// GRPCLB_REFRESHER_LOG_LEVEL.
const EnvPrefix = "GRPCLB_REFRESHER_"

// Flag is a row of the table of sidecar's flags. Parsing, help and documents are
// made from it.
type Flag struct {
	// Name is without the dashes, Value what stands for its value in help, "" for a
	// switch.
	Name, Value string
	// What says what it does, Why is the reason for its Default.
	What, Why, Default string
	// Env is the variable that stands for it, "" for none: flags that may be
	// repeated have none, and neither have those that allow what is refused.
	Env string
	// path is the field of the file that it is.
	path string
	// withFile is false for what belongs into the file when there is one.
	withFile bool
}

// Flags lists the flags of `sidecar`, in the order in which people read about them.
func Flags() []Flag {
	rows := []Flag{
		{Name: "listen", Value: "ADDRESS", path: "listen[]",
			What: "take calls at `ADDRESS`, IP:PORT; repeated, the n-th belongs to the n-th --target"},
		{Name: "target", Value: "NAME:PORT", path: "target",
			What: "send them to the pods behind `NAME:PORT`, a headless Service and the pods' port; repeated, equal ones share their connections"},
		{Name: "config", Value: "FILE", withFile: true, Env: EnvPrefix + "CONFIG",
			What: "read targets from `FILE` in place of --listen and --target, and again when it changes"},
		{Name: "policy", Value: "NAME", path: "policy.name", Env: EnvPrefix + "POLICY"},
		{Name: "interval", Value: "TIME", path: "policy.refresh.interval", Env: EnvPrefix + "INTERVAL"},
		{Name: "set", Value: "FIELD=VALUE",
			What: "any other field of the file for all targets, `FIELD=VALUE`: policy.slowStart=5s; repeated"},
		{Name: "admin", Value: "ADDRESS", path: "admin.listen", withFile: true, Env: EnvPrefix + "ADMIN"},
		{Name: "debug", Value: "ADDRESS", path: "admin.debug", withFile: true, Env: EnvPrefix + "DEBUG"},
		{Name: "debug-host", Value: "NAME", path: "admin.hosts[]", withFile: true},
		{Name: "drain-delay", Value: "TIME", path: "drainDelay", withFile: true, Env: EnvPrefix + "DRAIN_DELAY"},
		{Name: "drain-timeout", Value: "TIME", path: "drainTimeout", withFile: true, Env: EnvPrefix + "DRAIN_TIMEOUT"},
		{Name: "log-level", Value: "LEVEL", path: "log.level", withFile: true, Env: EnvPrefix + "LOG_LEVEL"},
		{Name: "log-format", Value: "FORMAT", path: "log.format", withFile: true, Env: EnvPrefix + "LOG_FORMAT"},
		{Name: "allow-non-loopback", withFile: true,
			What: "let targets listen on addresses that other machines reach: whoever does may call the pods"},
		{Name: "allow-host-network", withFile: true,
			What: "start although the pod is in the node's network, where every pod of the node may call the targets"},
	}
	for i, r := range rows {
		if f, _, ok := settings.Find(r.path); ok && r.What == "" {
			rows[i].What, rows[i].Why, rows[i].Default = f.What, f.Why, f.Default
		}
	}
	return rows
}

// Options are what `sidecar` was told, checked and ready to run.
type Options struct {
	// File is what to read and to watch, "" for none.
	File string
	// Read is how the file is to be read, also the next time.
	Read settings.Options
	// Settings are the first ones, Warnings what is questionable in them.
	Settings settings.Settings
	Warnings []settings.Problem
	// Strange are variables that stand for nothing.
	Strange []settings.Problem
	// AllowHostNetwork starts where it is refused otherwise.
	AllowHostNetwork bool

	data []byte // of File
}

// usageError is about the command line, and not about a file.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// given is one value with the flag or variable that it came from.
type given struct {
	row  Flag
	text string
	from string
}

// parseFlags reads the command line of `sidecar` and the file that it names.
// environ is os.Environ's. The error is flag.ErrHelp, a usageError, or one about
// the file.
func parseFlags(args, environ []string) (Options, error) {
	rows := Flags()
	var o Options
	values, err := scan(rows, args, &o)
	if err != nil {
		return o, err
	}
	values = append(values, o.variables(rows, values, environ)...)
	for _, v := range values {
		if v.row.Name == "config" {
			o.File = v.text
		}
	}
	if o.File != "" {
		return o, o.withFile(values)
	}
	return o, o.withoutFile(values)
}

// scan has the flag package take the arguments apart.
func scan(rows []Flag, args []string, o *Options) ([]given, error) {
	fs := flag.NewFlagSet("sidecar", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var values []given
	for _, r := range rows {
		switch {
		case r.Name == "allow-non-loopback":
			fs.BoolVar(&o.Read.AllowNonLoopback, r.Name, false, "")
		case r.Name == "allow-host-network":
			fs.BoolVar(&o.AllowHostNetwork, r.Name, false, "")
		default:
			fs.Func(r.Name, "", func(text string) error {
				values = append(values, given{r, text, "--" + r.Name})
				return nil
			})
		}
	}
	err := fs.Parse(args)
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, usageError{badFlag(rows, err)}
	}
	return values, nil
}

// badFlag names the flag that was probably meant.
func badFlag(rows []Flag, err error) error {
	const unknown = "flag provided but not defined: -"
	name, ok := strings.CutPrefix(err.Error(), unknown)
	if !ok {
		return err
	}
	name = strings.TrimPrefix(name, "-")
	var all []string
	for _, r := range rows {
		all = append(all, r.Name)
	}
	if near, ok := settings.Nearest(name, all); ok {
		return fmt.Errorf("unknown flag --%s; did you mean --%s?", name, near)
	}
	return fmt.Errorf("unknown flag --%s", name)
}

// otherVariables have the prefix and another reader.
var otherVariables = []string{EnvPrefix + "DISABLE"}

// serviceLink reports whether a variable is one that the kubelet puts into every
// container of a namespace that has a Service called grpclb-refresher, or something
// longer.
func serviceLink(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}

// variables takes what the environment says and the command line does not. One
// that stands for nothing is only warned about: others write there, too.
func (o *Options) variables(rows []Flag, values []given, environ []string) []given {
	var out []given
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, EnvPrefix) || text == "" || slices.Contains(otherVariables, name) || serviceLink(name) {
			continue
		}
		i := slices.IndexFunc(rows, func(r Flag) bool { return r.Env == name })
		if i < 0 {
			var all []string
			for _, r := range rows {
				if r.Env != "" {
					all = append(all, r.Env)
				}
			}
			problem := settings.Problem{Path: name, Text: "this variable stands for no flag"}
			if near, ok := settings.Nearest(name, all); ok {
				problem.Text += "; did you mean " + near + "?"
			}
			o.Strange = append(o.Strange, problem)
			continue
		}
		if !slices.ContainsFunc(values, func(v given) bool { return v.row.Name == rows[i].Name }) {
			out = append(out, given{rows[i], text, name})
		}
	}
	return out
}

// withFile reads the file. Flags about the daemon itself count more than it.
func (o *Options) withFile(values []given) error {
	for _, v := range values {
		switch {
		case !v.row.withFile:
			return usageError{fmt.Errorf("%s and --config exclude each other: it belongs into %s, at targets", v.from, o.File)}
		case v.row.path != "":
			o.Read.Override = append(o.Read.Override, settings.Assignment{Path: v.row.path, Text: v.text, From: v.from})
		}
	}
	var err error
	if o.data, err = readFile(o.File); err != nil {
		return err
	}
	o.Settings, o.Warnings, err = settings.Parse(o.File, o.data, o.Read)
	return err
}

// withoutFile makes settings of the flags alone.
func (o *Options) withoutFile(values []given) error {
	var listen, target []string
	var set []settings.Assignment
	for _, v := range values {
		switch v.row.Name {
		case "listen":
			listen = append(listen, v.text)
		case "target":
			target = append(target, v.text)
		case "set":
			path, text, ok := strings.Cut(v.text, "=")
			if !ok {
				return usageError{fmt.Errorf("--set %s: FIELD=VALUE is wanted, such as policy.slowStart=5s", v.text)}
			}
			path = strings.TrimPrefix(path, "targets[].")
			if _, near, ok := settings.Find(path); !ok {
				return usageError{unknownField(path, near)}
			}
			set = append(set, settings.Assignment{Path: path, Text: text, From: "--set " + path})
		default:
			set = append(set, settings.Assignment{Path: v.row.path, Text: v.text, From: v.from})
		}
	}
	switch {
	case len(listen)+len(target) == 0:
		return usageError{errors.New("nothing to serve: give --listen IP:PORT and --target NAME:PORT, or --config FILE")}
	case len(listen) != len(target):
		return usageError{fmt.Errorf("%d times --listen and %d times --target: they belong together in pairs", len(listen), len(target))}
	}
	pairs := make([]settings.Pair, len(listen))
	for i := range listen {
		pairs[i] = settings.Pair{Listen: listen[i], Target: target[i]}
	}
	var err error
	if o.Settings, o.Warnings, err = settings.FromFlags(pairs, set, o.Read); err != nil {
		return usageError{err}
	}
	return nil
}

func unknownField(path, near string) error {
	if near != "" {
		return fmt.Errorf("--set %s: no such field; did you mean %s?", path, near)
	}
	return fmt.Errorf("--set %s: no such field; docs/sidecar.md lists them", path)
}

// readFile reads a configuration, and never more than one byte too much of it.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, settings.MaxSize+1))
	if err != nil {
		return nil, err // which names the file
	}
	return data, nil
}
