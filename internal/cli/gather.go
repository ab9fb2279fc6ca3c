package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/grpclb/kubectl-grpclb/internal/version"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// gatherFlags are the flags of every command that looks at a cluster or at a saved snapshot.
type gatherFlags struct {
	selector     string
	depth        string
	sockets      bool
	probe        bool
	maxPods      int
	image        string
	interval     time.Duration
	clientsFrom  string
	clients      []string
	assumeGRPC   bool
	domain       string
	dnsNamespace string
	dnsSelector  string
	from         string
	save         string
	redact       bool
	timeout      time.Duration
	probeFrom    string
	via          []string
	channels     int
	calls        int
	fixedDepth   bool                // --depth was given
	only         []diagnose.FactName // set by commands, not by a flag
}

// gatherOptions is where facts come from, understood: a file, or a cluster and what to ask it.
type gatherOptions struct {
	from    string
	save    string
	redact  bool
	timeout time.Duration
	collect collect.Options
	stages  []collect.Stage
	asks    []diagnose.FactName // what the stages are to find out
	probe   *preflight          // nil when nothing is probed
	chosen  selection           // with from: the Services to show; empty means all of the snapshot
}

// gatherFlags declares the flags; each command shows those that mean something to it.
func (a *app) gatherFlags(cmd *cobra.Command, f *gatherFlags) {
	fl := cmd.Flags()
	if cmd.Name() != "probe" {
		fl.StringVar(&f.from, "from", "", "look at a saved snapshot instead of a cluster (- reads standard input)")
	}
	fl.StringVar(&f.save, "save", "", "also save what was collected to this file (mode 0600)")
	fl.BoolVar(&f.redact, "redact", false, "replace names and addresses by stand-ins in what --save writes")
	fl.DurationVar(&f.timeout, "timeout", defaultTimeout, "stop after this time and report what was seen until then")
	fl.StringVar(&f.clientsFrom, "clients-from", "namespace", "where to look for client workloads: namespace (the Service's) or all")
	fl.StringSliceVar(&f.clients, "client", nil, "a workload that calls the Service, also of another namespace: deploy/NAME or NAMESPACE/deploy/NAME")
	fl.BoolVar(&f.assumeGRPC, "assume-grpc", false, "take the Service for gRPC whatever its names and ports say")
	fl.StringVar(&f.domain, "cluster-domain", "", "DNS domain of the cluster (default: where its DNS serves names, else "+collect.DefaultDomain+")")
	completeWords(cmd, "clients-from", "namespace", "all")
	completeFlag(cmd, "client", a.completeWorkloads)
	if cmd.Name() != "fix" {
		fl.StringVar(&f.dnsNamespace, "dns-namespace", "kube-system", "namespace of the cluster's DNS pods")
		fl.StringVar(&f.dnsSelector, "dns-selector", "k8s-app=kube-dns", "label selector of the cluster's DNS pods")
		completeFlag(cmd, "dns-namespace", a.completeNamespaces)
	}
	switch cmd.Name() {
	case "diagnose":
		fl.StringVarP(&f.selector, "selector", "l", "", "diagnose the Services with these labels")
		fl.BoolVar(&f.sockets, "sockets", false, "also read the socket tables of server pods (adds an ephemeral container to each)")
		fl.BoolVar(&f.probe, "probe", false, "also send calls from inside the cluster and count where they land (implies --sockets)")
		fallthrough
	case "spread", "fix":
		fl.StringVar(&f.depth, "depth", collect.DepthObserve, "static reads objects only; observe also asks DNS pods and server pods over port-forward")
		completeWords(cmd, "depth", collect.DepthStatic, collect.DepthObserve)
	}
	if cmd.Name() == "diagnose" || cmd.Name() == "spread" || cmd.Name() == "probe" {
		a.agentFlags(cmd, f)
	}
}

// agentFlags are the flags of commands that may place the agent in the cluster.
func (a *app) agentFlags(cmd *cobra.Command, f *gatherFlags) {
	fl := cmd.Flags()
	fl.IntVar(&f.maxPods, "max-pods", live.DefaultMaxPods, "talk to at most this many pods; at depth observe a quarter of them are DNS pods")
	fl.StringVar(&f.image, "image", defaultImage(), "image that reads sockets and sends calls from inside the cluster: name your copy of it where the nodes cannot pull this one")
	fl.DurationVar(&f.interval, "interval", live.DefaultInterval, "how long the sockets are watched to measure bytes per second")
	if cmd.Name() == "spread" {
		return
	}
	name := "probe-from"
	if cmd.Name() == "probe" {
		name = "from"
	}
	fl.StringVar(&f.probeFrom, name, "", "send the calls from a pod of this workload (deploy/CLIENT) instead of a short-lived pod")
	fl.StringSliceVar(&f.via, "via", nil, "ways of dialling to try: clusterip, headless, pods (default: clusterip and headless, where they exist)")
	fl.IntVar(&f.channels, "channels", 1, "gRPC channels to open for each way of dialling")
	fl.IntVar(&f.calls, "calls", live.DefaultCalls, "calls to make for each way of dialling")
	completeFlag(cmd, name, a.completeWorkloads)
	completeList(cmd, "via", "clusterip", "headless", "pods")
}

func (a *app) gatherOptions(command string, f gatherFlags, args []string) (gatherOptions, error) {
	o := gatherOptions{from: f.from, save: f.save, redact: f.redact, timeout: f.timeout}
	if f.timeout <= 0 {
		return o, usage("", "--timeout must be longer than 0")
	}
	if f.redact && f.save == "" {
		return o, usage("", "--redact changes what --save writes: give both")
	}
	if err := f.checkSave(); err != nil {
		return o, err
	}
	if f.from != "" {
		if command == "diagnose" && (f.sockets || f.probe) || len(f.clients) > 0 {
			return o, usage("", "--from looks at a file: --sockets, --probe and --client need a cluster")
		}
		if len(args) == 0 {
			return o, nil
		}
	}
	sel, err := parseSelection(command, args, f.selector)
	o.chosen = sel
	if err != nil || f.from != "" {
		return o, err
	}
	depth, err := f.depthOf()
	if err != nil {
		return o, err
	}
	if err := f.checkNumbers(command); err != nil {
		return o, err
	}
	if err := f.checkWords(a.namespace()); err != nil {
		return o, err
	}
	lo, err := a.liveOptions(f)
	if err != nil {
		return o, err
	}
	o.stages, o.asks = stages(f, depth, lo)
	if depth == collect.DepthProbe {
		o.probe = &preflight{app: a, via: lo.Via, from: lo.From, must: command == "probe"}
		o.stages = append([]collect.Stage{o.probe.stage}, o.stages...)
	}
	o.collect, err = a.collectOptions(f, sel, depth)
	return o, err
}

func (f gatherFlags) depthOf() (string, error) {
	switch {
	case f.fixedDepth && f.depth == collect.DepthStatic && (f.probe || f.sockets):
		return "", usage("leave --depth out with --sockets and --probe", "--depth static only reads objects")
	case f.probe:
		return collect.DepthProbe, nil
	case f.sockets:
		return collect.DepthSockets, nil
	case f.depth == "" || f.depth == collect.DepthObserve:
		return collect.DepthObserve, nil
	case f.depth == collect.DepthStatic:
		return collect.DepthStatic, nil
	}
	return "", usage("--sockets and --probe look deeper", "--depth is static or observe, not %q", f.depth)
}

// checkNumbers refuses what no run can mean. Commands without these flags leave them at zero.
func (f gatherFlags) checkNumbers(command string) error {
	asks := command == "diagnose" || command == "probe"
	switch {
	case (asks || command == "spread") && f.maxPods < 1:
		return usage("", "--max-pods must be 1 or more, not %d", f.maxPods)
	case (asks || command == "spread") && f.interval < 500*time.Millisecond:
		return usage("", "--interval must be 500ms or more, not %s", f.interval)
	case asks && f.channels < 1:
		return usage("", "--channels must be 1 or more, not %d", f.channels)
	case asks && f.calls < 1:
		return usage("", "--calls must be 1 or more, not %d", f.calls)
	}
	return nil
}

// stages chooses what is asked beyond the API: everything of a depth, or just the facts that a command shows.
func stages(f gatherFlags, depth string, o live.Options) ([]collect.Stage, []diagnose.FactName) {
	asks := []diagnose.FactName{diagnose.FactDNS, diagnose.FactPorts}
	switch {
	case depth == collect.DepthStatic:
		return nil, nil
	case slices.Contains(f.only, diagnose.FactDNS):
		return []collect.Stage{live.DNS(o)}, asks[:1]
	case slices.Contains(f.only, diagnose.FactPorts):
		return []collect.Stage{live.Ports(o)}, asks[1:]
	case depth == collect.DepthSockets:
		asks = append(asks, diagnose.FactSockets)
	case depth == collect.DepthProbe:
		asks = append(asks, diagnose.FactSockets, diagnose.FactProbes)
	}
	return live.Stages(depth, o), asks
}

func (a *app) liveOptions(f gatherFlags) (live.Options, error) {
	o := live.Options{
		DNSNamespace: f.dnsNamespace, DNSSelector: f.dnsSelector, MaxPods: f.maxPods, Image: f.image, Interval: f.interval,
		Via: slices.Compact(slices.Sorted(slices.Values(f.via))), Channels: f.channels, Calls: f.calls,
		Announce: a.say,
	}
	for _, v := range f.via {
		if !slices.Contains([]string{"clusterip", "headless", "pods"}, v) {
			return o, usage("", "--via is clusterip, headless or pods, not %q", v)
		}
	}
	if f.probeFrom != "" {
		ref, err := parseWorkload(f.probeFrom, a.namespace())
		if err != nil {
			return o, err
		}
		o.From = &ref
	}
	return o, nil
}

func (a *app) collectOptions(f gatherFlags, sel selection, depth string) (collect.Options, error) {
	o := collect.Options{
		Namespace: a.namespace(), Names: sel.names, Selector: sel.selector, AllClients: f.clientsFrom == "all", Depth: depth,
		AssumeGRPC: f.assumeGRPC, Domain: f.domain, Tool: version.Get().Version, NoMetrics: slices.Contains(f.only, diagnose.FactDNS),
	}
	if f.clientsFrom != "all" && f.clientsFrom != "namespace" {
		return o, usage("", "--clients-from is namespace or all, not %q", f.clientsFrom)
	}
	if ref, err := collect.ParseClient(f.probeFrom, o.Namespace); err == nil && ref.Namespace != o.Namespace && ref.Kind != "Pod" {
		o.Clients = append(o.Clients, ref) // else its pods would not be seen
	}
	for _, c := range f.clients {
		ref, err := parseWorkload(c, o.Namespace)
		if err != nil {
			return o, err
		}
		o.Clients = append(o.Clients, ref)
	}
	return o, nil
}

// gather returns what is known. The snapshot may come with an error that says why it is not everything; it is nil when
// nothing can be said at all.
func (a *app) gather(ctx context.Context, o gatherOptions) (*diagnose.Snapshot, error) {
	if o.from != "" {
		snap, err := a.load(o)
		if err == nil && o.save != "" {
			err = a.save(o, snap)
		}
		return snap, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	p := a.newProgress()
	defer p.stop()
	s, err := a.session(p)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	snap, err := collect.Run(ctx, s, o.collect, o.stages...)
	err = o.stopped(snap, err)
	if useless(snap, err) {
		return nil, err
	}
	if o.probe != nil {
		o.probe.note(snap)
	}
	if o.save != "" {
		if saveErr := a.save(o, snap); saveErr != nil && err == nil {
			return snap, saveErr // what was seen is still reported
		} else if saveErr != nil {
			a.say("error: " + saveErr.Error())
		}
	}
	return snap, err
}

// stopped words the end of a run that was cut short: the limit as it was asked for, and of the groups of facts whose turn had not come yet
// that they were cut off, not that nobody wanted them.
func (o gatherOptions) stopped(snap *diagnose.Snapshot, err error) error {
	var s *collect.StoppedError
	if !errors.As(err, &s) {
		return err
	}
	why, hint := "interrupted before this was asked", "run again"
	if s.Timeout {
		why, hint = "time was up before this was asked", "--timeout gives more time"
		err = &timeUp{s, o.timeout}
	}
	of := map[diagnose.FactName]*diagnose.Status{
		diagnose.FactDNS: &snap.DNS.Status, diagnose.FactPorts: &snap.Ports.Status,
		diagnose.FactSockets: &snap.Sockets.Status, diagnose.FactProbes: &snap.Probes.Status,
	}
	for _, fact := range o.asks {
		// A stage leaves a reason of its own; collect's first word about each group ends like this.
		if st := of[fact]; st.State == diagnose.NotAsked && strings.HasSuffix(st.Reason, " at depth "+snap.Depth) {
			*st = diagnose.Status{State: diagnose.Failed, Reason: why, Hint: hint}
		}
	}
	return err
}

// timeUp is the end of a run whose time was up, with the limit as it was given: how long it took in the end is nothing to act on.
type timeUp struct {
	*collect.StoppedError
	limit time.Duration
}

func (e *timeUp) Error() string { return "time was up after " + e.limit.String() }
func (e *timeUp) Unwrap() error { return e.StoppedError }

// useless tells errors after which nothing is worth reporting from those beside which the facts still count.
func useless(snap *diagnose.Snapshot, err error) bool {
	if err == nil {
		return false
	}
	var stopped *collect.StoppedError
	var deleted *collect.DeletedError
	if errors.As(err, &deleted) {
		return false
	}
	return !errors.As(err, &stopped) || !snap.Services.Known()
}

func (a *app) save(o gatherOptions, snap *diagnose.Snapshot) error {
	out := snap
	if o.redact {
		var err error
		if out, err = snapfile.Redact(snap, nil); err != nil {
			return couldNot(err, "")
		}
	}
	if err := saveTo(o.save, out); err != nil {
		return couldNot(err, "")
	}
	a.note("saved what was collected to %s", o.save)
	return nil
}

// saveTo writes a file as a whole or not at all, but a device or a pipe as it comes: those must not be replaced by a file.
func saveTo(path string, snap *diagnose.Snapshot) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().IsRegular() {
		return snapfile.SaveFile(path, snap)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return errors.Join(snapfile.Save(f, snap), f.Close())
}

// checkSave refuses before a long run what could not be saved after it.
func (f gatherFlags) checkSave() error {
	switch info, err := os.Stat(f.save); {
	case f.save == "":
		return nil
	case f.save == "-":
		return usage("standard output carries the report; --save FILE, then read that", "--save takes the name of a file")
	case err == nil && info.IsDir():
		return usage("name a file in it", "--save: %s is a folder", f.save)
	}
	if info, err := os.Stat(filepath.Dir(f.save)); err != nil {
		return couldNot(fmt.Errorf("--save: %w", err), "make the folder first")
	} else if !info.IsDir() {
		return usage("", "--save: %s is not a folder", filepath.Dir(f.save))
	}
	return nil
}

// load reads a saved snapshot; names on the command line choose among its Services.
func (a *app) load(o gatherOptions) (*diagnose.Snapshot, error) {
	var snap *diagnose.Snapshot
	var err error
	if o.from == "-" {
		snap, err = snapfile.Load(a.stdin)
	} else {
		snap, err = snapfile.LoadFile(o.from)
	}
	if err != nil {
		hint := ""
		if fe, ok := errors.AsType[*snapfile.FormatError](err); ok {
			hint = fe.Hint
		}
		return nil, couldNot(fmt.Errorf("--from %s: %w", o.from, err), hint)
	}
	if len(o.chosen.names) == 0 {
		return snap, nil
	}
	var keep []diagnose.Key
	for _, n := range o.chosen.names {
		i := slices.IndexFunc(snap.Targets, func(k diagnose.Key) bool { return k.Name == n })
		if i < 0 {
			return nil, couldNot(fmt.Errorf("the snapshot was not taken of svc/%s", n), "it holds "+targets(snap))
		}
		keep = append(keep, snap.Targets[i])
	}
	snap.Targets = keep
	return snap, nil
}

func targets(snap *diagnose.Snapshot) string {
	var out []string
	for _, k := range snap.Targets {
		out = append(out, "svc/"+k.Name+" of "+k.Namespace)
	}
	return strings.Join(out, ", ")
}

// gatherOne gathers for a command about exactly one Service. Beside an error the view may be nil.
func (a *app) gatherOne(ctx context.Context, command string, o gatherOptions) (*diagnose.Snapshot, *diagnose.View, error) {
	if o.from == "" {
		if _, err := o.chosen.one(command); err != nil {
			return nil, nil, err
		}
	}
	snap, cause := a.gather(ctx, o)
	if snap == nil {
		return nil, nil, cause
	}
	if len(snap.Targets) != 1 {
		return nil, nil, usage(Name+" "+command+" svc/NAME --from FILE", "the snapshot holds %d Services: %s", len(snap.Targets), targets(snap))
	}
	v, ok := snap.View(snap.Targets[0])
	if !ok {
		return snap, nil, couldNot(fmt.Errorf("svc/%s could not be read: %s", snap.Targets[0].Name, snap.Services.Reason), snap.Services.Hint)
	}
	return snap, v, cause
}

// session opens the cluster that the kubeconfig and the connection flags name.
func (a *app) session(p *progress) (*collect.Session, error) {
	cfg, err := a.config.ToRESTConfig()
	if err != nil {
		return nil, configError(err)
	}
	raw, err := a.config.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, configError(err)
	}
	if len(raw.Clusters) == 0 && strings.HasSuffix(cfg.Host, "localhost:8080") && *a.config.APIServer == "" {
		return nil, configError(errNoConfig) // client-go's default of last resort, which nobody means
	}
	name := raw.CurrentContext
	if a.config.Context != nil && *a.config.Context != "" {
		name = *a.config.Context
	}
	return collect.NewSession(cfg, collect.SessionOptions{Context: name, Progress: onEvent(p)})
}

// namespace is the one that -n or the kubeconfig's context names.
func (a *app) namespace() string {
	ns, _, err := a.config.ToRawKubeConfigLoader().Namespace()
	if err != nil || ns == "" {
		return "default" // a broken kubeconfig is reported when it is used
	}
	return ns
}

var errNoConfig = errors.New("no kubeconfig found: there is no cluster to look at")

func configError(err error) error {
	hint := "name a cluster with --kubeconfig, KUBECONFIG or --context; `kubectl config get-contexts` lists them"
	if _, statErr := os.Stat(os.Getenv("KUBECONFIG")); os.Getenv("KUBECONFIG") != "" && statErr != nil {
		return couldNot(fmt.Errorf("KUBECONFIG: %w", statErr), hint)
	}
	if clientcmd.IsEmptyConfig(err) || errors.Is(err, errNoConfig) {
		return couldNot(errNoConfig, hint)
	}
	msg := err.Error()
	msg, _, _ = strings.Cut(msg, "\n")
	return couldNot(fmt.Errorf("kubeconfig: %s", msg), hint)
}
