package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
)

// injectFlags mirrors the command line of inject.
type injectFlags struct {
	changeFlags
	services   []string
	mode       string
	native     string
	noTwin     bool
	ports      []int
	targets    []int
	domain     string
	offline    bool
	sockets    bool
	image      string
	pull       string
	requests   string
	limits     string
	adminPort  int
	assumeGRPC bool
}

// changeFlags are those of inject and uninject.
type changeFlags struct {
	files     []string
	recursive bool
	clients   []string
	output    string
	apply     bool
	yes       bool
}

// injectOptions are ready to run.
type injectOptions struct {
	changeOptions
	words     []string       // the Services as they were named
	keys      []diagnose.Key // and as they are meant
	inject    inject.Options // without Services, Domain and Native
	native    string         // auto, true or false
	noTwin    bool
	ports     []inject.Port // from flags; nil when none were given
	domain    string        // empty: to be found out
	offline   bool
	sockets   bool
	assume    bool
	namespace string
}

// changeOptions say what is changed: manifests, or one live object.
type changeOptions struct {
	files     []string
	recursive bool
	clients   []collect.ClientRef
	live      collect.ClientRef
	patch     bool // print a patch, not a manifest
	apply     bool
	yes       bool
}

func (a *app) changeFlags(cmd *cobra.Command, f *changeFlags) {
	fl := cmd.Flags()
	fl.StringSliceVarP(&f.files, "filename", "f", nil, "manifests to read: a file, a folder (its *.yaml, *.yml and *.json), or - for standard input")
	fl.BoolVarP(&f.recursive, "recursive", "R", false, "also read the folders in a folder that -f names")
	fl.StringSliceVar(&f.clients, "client", nil, "workloads of the manifests to change, as KIND/NAME (default: those that call the Services)")
	fl.StringVarP(&f.output, "output", "o", "manifest", "for a live object: manifest (for kubectl apply) or patch (for kubectl patch --type merge)")
	fl.BoolVar(&f.apply, "apply", false, "change the live object: shows the context and what a dry run of the API server changes, and asks")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	completeFlag(cmd, "client", a.completeWorkloads)
	completeWords(cmd, "output", "manifest", "patch")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, noFiles
		}
		return a.completeWorkloads(cmd, args, typed)
	}
}

func (a *app) injectCmd() *cobra.Command {
	var f injectFlags
	cmd := &cobra.Command{
		Use:   "inject (-f FILE | KIND/NAME) --service NAME[,NAME…] [--apply]",
		Short: "add the refresher sidecar to a client, which then balances its calls without a change of code",
		Long: `Adds the refresher sidecar to the pod template of a client. Inside of its pods the Service's names then lead to the
sidecar (hostAliases), which keeps a connection to every ready pod and chooses one for each call. The client is not changed.

With -f it edits manifests as text: comments, key order and line ends stay, and what is no workload passes through as it is.
With KIND/NAME it writes what changes the live object, or changes it with --apply. A headless Service beside each Service is
printed, too, unless there is one. Injecting twice is injecting once; uninject gives back the same bytes.

It refuses what would not work, and says what to do instead: host network, Windows nodes, UDP ports, a mesh that balances
already, ports that the pod uses itself, clients that do not read the hosts file (--mode env is for these two). Which ports a
pod uses its containers declare, as a rule; --sockets also looks where its running pods listen: it adds an ephemeral
container that reads their socket tables, and stays in the pod's spec.`,
		Example: `  ` + Name + ` inject -f deployment.yaml --service square-service | kubectl apply -f -
  ` + Name + ` inject deploy/aggregator-app --service square-service --apply`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.injectOptions(f, args)
			if err != nil {
				return err
			}
			if o.files == nil {
				return a.injectLive(cmd.Context(), o)
			}
			return a.injectFiles(cmd.Context(), o)
		},
	}
	a.changeFlags(cmd, &f.changeFlags)
	fl := cmd.Flags()
	r := inject.DefaultResources()
	fl.StringSliceVar(&f.services, "service", nil, "Services whose calls go through the sidecar: NAME, or NAME.NAMESPACE")
	fl.StringVar(&f.mode, "mode", string(inject.ModeAliases), "aliases: the Service's names lead to the sidecar; env: variables and arguments that name the Service name 127.0.0.1 instead")
	fl.StringVar(&f.native, "native", "auto", "native sidecar, an init container that keeps running: true, false, or auto (when the cluster is Kubernetes 1.29 or later)")
	fl.BoolVar(&f.noTwin, "no-twin", false, "write no headless Service")
	fl.IntSliceVar(&f.ports, "port", nil, "TCP ports of the Service, when neither the cluster nor the manifests have it")
	fl.IntSliceVar(&f.targets, "target-port", nil, "the pods' ports behind --port, in the same order (default: the same numbers)")
	fl.StringVar(&f.domain, "cluster-domain", "", "DNS domain of the cluster (default: where its DNS serves names, else "+collect.DefaultDomain+")")
	fl.BoolVar(&f.offline, "offline", false, "ask no cluster: everything is in the manifests and flags")
	fl.BoolVar(&f.sockets, "sockets", false, "also read the socket tables of the client's running pods (adds an ephemeral container to each, to three at most)")
	fl.BoolVar(&f.assumeGRPC, "assume-grpc", false, "take the Service for gRPC whatever its names and ports say")
	fl.StringVar(&f.image, "image", defaultImage(), "image of the sidecar, and of what --sockets adds: name your copy of it where the nodes cannot pull this one")
	fl.StringVar(&f.pull, "image-pull-policy", "IfNotPresent", "IfNotPresent, Always or Never")
	fl.StringVar(&f.requests, "requests", "cpu="+r.CPURequest+",memory="+r.MemoryRequest, "what the sidecar requests")
	fl.StringVar(&f.limits, "limits", "memory="+r.MemoryLimit, "what limits the sidecar; a CPU limit adds latency to every call")
	fl.IntVar(&f.adminPort, "admin-port", diagnose.SidecarAdminPort, "port of the sidecar's health and metrics")
	completeFlag(cmd, "service", a.completeServiceList)
	completeWords(cmd, "mode", inject.Modes()...)
	completeWords(cmd, "native", "auto", "true", "false")
	completeWords(cmd, "image-pull-policy", "IfNotPresent", "Always", "Never")
	return cmd
}

func (a *app) uninjectCmd() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "uninject (-f FILE | KIND/NAME) [--apply]",
		Short: "take the refresher sidecar out of a client again",
		Long: `Takes out what inject put in: the container, its hostAliases, the annotation that records them, and changes of --mode env.
Manifests come out as they went in, byte by byte, when nothing else was changed; of a live object it writes a patch, or
applies it. Headless Services that inject printed into the same manifests are taken out, too; those in the cluster stay.`,
		Example: `  ` + Name + ` uninject -f injected.yaml > deployment.yaml
  ` + Name + ` uninject deploy/aggregator-app --apply`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.changeOptions("uninject", f, args)
			if err != nil {
				return err
			}
			if o.files == nil {
				return a.uninjectLive(cmd.Context(), o)
			}
			return a.uninjectFiles(o)
		},
	}
	a.changeFlags(cmd, &f)
	return cmd
}

func (a *app) changeOptions(command string, f changeFlags, args []string) (changeOptions, error) {
	o := changeOptions{files: f.files, recursive: f.recursive, apply: f.apply, yes: f.yes, patch: f.output == "patch"}
	if f.output != "manifest" && f.output != "patch" {
		return o, badOutput(f.output, "manifest", "patch")
	}
	if len(args) >= 2 && !strings.Contains(args[0], "/") {
		args = append([]string{args[0] + "/" + args[1]}, args[2:]...)
	}
	switch {
	case len(args) > 1:
		return o, usage("run it once for each, or give manifests with -f", "%s takes one workload, got %s as well", command, unquoted(args[1]))
	case len(args) == 0 && len(f.files) == 0:
		return o, usage(Name+" "+command+" -f FILE, or KIND/NAME for a live object", "which manifests, or which workload?")
	case len(args) > 0 && len(f.files) > 0:
		return o, usage("-f is for manifests, KIND/NAME for a live object; several files are -f FILE,FILE", "give -f FILE or %s, not both", unquoted(args[0]))
	case len(f.files) > 0 && f.apply:
		return o, usage(Name+" "+command+" -f FILE … | kubectl apply -f -", "--apply changes a live object, and -f reads manifests")
	case len(f.files) > 0 && f.output == "patch":
		return o, usage("leave -o out: what -f reads comes out as manifests", "-o patch is for a live object, and -f reads manifests")
	case len(args) == 0:
		for _, c := range f.clients {
			ref, err := parseWorkload(c, a.namespace())
			if err != nil {
				return o, err
			}
			o.clients = append(o.clients, ref)
		}
		return o, nil
	case len(f.clients) > 0:
		return o, usage("leave --client out: "+unquoted(args[0])+" is what is changed", "--client chooses among manifests (-f)")
	}
	ref, err := parseWorkload(args[0], a.namespace())
	if err != nil {
		if _, statErr := os.Stat(args[0]); statErr == nil || args[0] == "-" || slices.Contains(manifestEndings, filepath.Ext(args[0])) {
			return o, usage(Name+" "+command+" -f "+args[0], "%s is no workload, and manifests are named with -f", unquoted(args[0]))
		}
		return o, err
	}
	o.live = ref
	if _, ok := workloadKinds[ref.Kind]; !ok {
		return o, usage("`"+Name+" "+command+" -f FILE` changes its manifest, from which it can be made anew",
			"%s/%s: a %s that exists cannot be changed", diagnose.ShortKind(ref.Kind), ref.Name, ref.Kind)
	}
	return o, nil
}

func (a *app) injectOptions(f injectFlags, args []string) (injectOptions, error) {
	o := injectOptions{noTwin: f.noTwin, native: f.native, domain: strings.TrimSuffix(f.domain, "."), offline: f.offline, sockets: f.sockets, assume: f.assumeGRPC, namespace: a.namespace()}
	var err error
	if o.changeOptions, err = a.changeOptions("inject", f.changeFlags, args); err != nil {
		return o, err
	}
	if o.keys, err = parseServices(f.services, o.namespace); err != nil {
		return o, err
	}
	o.words = f.services
	if o.ports, err = f.givenPorts(); err != nil {
		return o, err
	}
	o.inject = inject.Options{Mode: inject.Mode(f.mode), Image: f.image, PullPolicy: f.pull, AdminPort: int32(f.adminPort)}
	if o.inject.Resources, err = f.resources(); err != nil {
		return o, err
	}
	switch {
	case !slices.Contains(inject.Modes(), f.mode):
		return o, usage("", "--mode is %s, not %q", strings.Join(inject.Modes(), " or "), f.mode)
	case !slices.Contains([]string{"auto", "true", "false"}, f.native):
		return o, usage("", "--native is auto, true or false, not %q", f.native)
	case !slices.Contains([]string{"IfNotPresent", "Always", "Never"}, f.pull):
		return o, usage("", "--image-pull-policy is IfNotPresent, Always or Never, not %q", f.pull)
	case f.adminPort < 1 || f.adminPort > 65535 || f.adminPort == diagnose.SidecarDebugPort:
		return o, usage("", "--admin-port is a port, and not %d", diagnose.SidecarDebugPort)
	case o.ports != nil && len(o.keys) > 1:
		return o, usage("give the Services' manifests with -f, or leave --offline and --port out: the cluster has their ports", "--port says the ports of one Service, and these are %d", len(o.keys))
	case o.files == nil && (f.offline || o.ports != nil):
		return o, usage("leave them out: what a live object calls is asked of its cluster", "--offline and --port are for manifests (-f)")
	case f.offline && f.sockets:
		return o, usage("leave --offline out to look into the pods, or --sockets out: the ports that containers declare are looked at anyway",
			"--sockets looks at running pods, and --offline asks no cluster")
	case o.domain != "" && len(validation.IsDNS1123Subdomain(o.domain)) > 0:
		return o, usage("cluster.local is the usual one", "--cluster-domain: %s cannot be a DNS domain", shown(f.domain))
	case f.image == "" || strings.ContainsFunc(f.image, func(r rune) bool { return r <= ' ' || r > '~' }):
		return o, usage("", "--image: %s cannot be the name of an image", shown(f.image))
	}
	return o, nil
}

// parseServices reads NAME and NAME.NAMESPACE.
func parseServices(words []string, namespace string) ([]diagnose.Key, error) {
	var out []diagnose.Key
	for _, w := range words {
		if kind, name, ok := strings.Cut(w, "/"); ok {
			if !isServiceWord(kind) {
				return nil, usage("--service NAME, or NAME.NAMESPACE: `kubectl get svc -A` lists them", "%s is not a Service", shown(w))
			}
			w = name
		}
		if name, _, ok := strings.Cut(w, ":"); ok {
			return nil, usage("--service "+name+": all of its ports are led through the sidecar", "%s: a Service is named without a port", shown(w))
		}
		k := diagnose.Key{Namespace: namespace, Name: w}
		if name, ns, ok := strings.Cut(w, "."); ok {
			ns, _, _ = strings.Cut(ns, ".svc")
			k = diagnose.Key{Namespace: ns, Name: name}
		}
		if err := checkName("Service", k.Name, true); err != nil {
			return nil, err
		}
		if err := checkName("namespace", k.Namespace, true); err != nil {
			return nil, err
		}
		if !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, usage("--service NAME, or several with commas", "which Service's calls are to go through the sidecar?")
	}
	return out, nil
}

func (f injectFlags) givenPorts() ([]inject.Port, error) {
	if len(f.targets) > len(f.ports) {
		return nil, usage("--port 80 --target-port 6565 is an example", "--target-port says the pods' port behind a --port: give both")
	}
	var out []inject.Port
	for i, p := range f.ports {
		t := p
		if i < len(f.targets) {
			t = f.targets[i]
		}
		if p < 1 || p > 65535 || t < 1 || t > 65535 {
			return nil, usage("", "--port %d --target-port %d: a port is a number from 1 to 65535", p, t)
		}
		out = append(out, inject.Port{Number: int32(p), Target: int32(t)})
	}
	return out, nil
}

func (f injectFlags) resources() (inject.Resources, error) {
	var r inject.Resources
	for _, x := range []struct {
		flag, value string
		cpu, memory *string
	}{{"requests", f.requests, &r.CPURequest, &r.MemoryRequest}, {"limits", f.limits, &r.CPULimit, &r.MemoryLimit}} {
		for part := range strings.SplitSeq(x.value, ",") {
			if part == "" {
				continue
			}
			name, value, _ := strings.Cut(part, "=")
			to := map[string]*string{"cpu": x.cpu, "memory": x.memory}[name]
			if _, err := resource.ParseQuantity(value); err != nil || to == nil {
				return r, usage("cpu=10m,memory=16Mi is an example", "--%s: %s cannot be read", x.flag, shown(part))
			}
			*to = value
		}
	}
	return r, nil
}

// completeServiceList completes Services with commas between them.
func (a *app) completeServiceList(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	before := typed[:strings.LastIndexByte(typed, ',')+1]
	used := strings.Split(before, ",")
	names := slices.DeleteFunc(a.ask(cmd.Context(), collect.Services, a.namespace()), func(n string) bool { return slices.Contains(used, n) })
	return matching(typed, before, names), noFiles
}

// remarks prints what was found on the way, and returns the error of what is refused.
func (a *app) remarks(ref string, rs []inject.Remark) error {
	var refused []inject.Remark
	for _, r := range rs {
		switch r.Level {
		case inject.Refusal:
			refused = append(refused, r)
			continue
		case inject.Warning:
			a.say("warning: " + r.Text)
		default:
			a.note("note: %s", r.Text)
			continue
		}
		if r.Instead != "" {
			a.say("         " + r.Instead)
		}
	}
	if len(refused) == 0 {
		return nil
	}
	for _, r := range refused[1:] {
		a.say("error: " + r.Text)
		a.say("hint:  " + r.Instead)
	}
	why := refused[0].Text
	if rest, ok := strings.CutPrefix(why, ref+" "); ok {
		why = "it " + rest
	}
	return couldNot(fmt.Errorf("%s is not injected: %s", ref, why), refused[0].Instead)
}

// isNative settles --native.
func (o injectOptions) isNative(ctx context.Context, detect func(context.Context) (bool, string)) (bool, string) {
	if o.native != "auto" {
		b, err := strconv.ParseBool(o.native)
		return b && err == nil, ""
	}
	return detect(ctx)
}
