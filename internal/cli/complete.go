package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

const (
	// completionTimeout bounds what one press of TAB may wait for a cluster.
	completionTimeout = 2 * time.Second
	// completionLimit bounds how many objects of a kind are asked for: nobody reads a longer list.
	completionLimit = "500"
)

const noFiles = cobra.ShellCompDirectiveNoFileComp

// kindWords are the kinds of workload that calls can come from, as --client and --from take them; those offered first are the usual ones.
var kindWords = []struct {
	word string
	kind collect.Resource
}{
	{"deploy", collect.Deployments}, {"sts", collect.StatefulSets}, {"ds", collect.DaemonSets},
	{"cj", collect.CronJobs}, {"job", collect.Jobs}, {"pod", collect.Pods},
}

// completeServices completes the Services that a command takes: svc/NAME, svc NAME, and a bare NAME. A command about one Service gets
// no second one. Without a cluster it completes nothing: completion never shows an error.
func (a *app) completeServices(many bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		given := slices.Clone(args)
		bare := len(given) > 0 && isServiceWord(given[0])
		if bare {
			given = given[1:]
		}
		if len(given) > 0 && !many {
			return nil, noFiles
		}
		prefix := "svc/"
		switch kind, _, slash := strings.Cut(typed, "/"); {
		case slash && bare, slash && !isServiceWord(kind):
			return nil, noFiles
		case slash:
			prefix = kind + "/"
		case bare, typed != "" && !strings.HasPrefix("svc/", typed):
			prefix = ""
		}
		for i, g := range given {
			given[i] = g[strings.LastIndexByte(g, '/')+1:]
		}
		names := slices.DeleteFunc(a.serviceNames(cmd), func(n string) bool { return slices.Contains(given, n) })
		return matching(typed, prefix, names), noFiles
	}
}

// serviceNames lists the Services of the namespace, or of the snapshot that --from names.
func (a *app) serviceNames(cmd *cobra.Command) []string {
	if f := cmd.Flags().Lookup("from"); f != nil && f.Changed && cmd.Name() != "probe" {
		snap, err := snapfile.LoadFile(f.Value.String())
		if err != nil {
			return nil
		}
		var out []string
		for _, k := range snap.Targets {
			out = append(out, k.Name)
		}
		return out
	}
	return a.ask(cmd.Context(), collect.Services, a.namespace())
}

// completeWorkloads completes KIND/NAME and NAMESPACE/KIND/NAME of workloads that calls may come from.
func (a *app) completeWorkloads(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	ns, prefix := a.namespace(), ""
	head, rest, slash := strings.Cut(typed, "/")
	if !slash {
		return matching(typed, "", kindPrefixes("")), noFiles | cobra.ShellCompDirectiveNoSpace
	}
	if kind, _, more := strings.Cut(rest, "/"); more || workloadKind(head) == (collect.Resource{}) {
		ns, prefix = head, head+"/"
		if !more {
			return matching(typed, "", kindPrefixes(prefix)), noFiles | cobra.ShellCompDirectiveNoSpace
		}
		head = kind
	}
	r := workloadKind(head)
	if r == (collect.Resource{}) {
		return nil, noFiles
	}
	return matching(typed, prefix+head+"/", a.ask(cmd.Context(), r, ns)), noFiles
}

// workloadKind returns the resource that a word of [collect.ParseClient] means; the zero value when it is none.
func workloadKind(word string) collect.Resource {
	ref, err := collect.ParseClient(word+"/x", "x")
	if err != nil {
		return collect.Resource{}
	}
	for _, k := range kindWords {
		if diagnose.ShortKind(ref.Kind) == k.word {
			return k.kind
		}
	}
	return collect.Resource{}
}

func kindPrefixes(before string) []string {
	var out []string
	for _, k := range kindWords {
		out = append(out, before+k.word+"/")
	}
	return out
}

// completeNamespaces completes -n and its like.
func (a *app) completeNamespaces(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return matching(typed, "", a.ask(cmd.Context(), collect.Namespaces, "")), noFiles
}

// completeKubeconfig completes names that the kubeconfig holds: contexts, clusters or users.
func (a *app) completeKubeconfig(what string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		cfg, err := a.config.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, noFiles
		}
		var names []string
		switch what {
		case "context":
			names = keys(cfg.Contexts)
		case "cluster":
			names = keys(cfg.Clusters)
		case "user":
			names = keys(cfg.AuthInfos)
		}
		return matching(typed, "", names), noFiles
	}
}

func keys[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// matching puts the prefix before each name and keeps those that continue what was typed: not every shell does that by itself. Names
// that a shell could take for more than one word are left out, whoever made them up.
func matching(typed, prefix string, names []string) []string {
	var out []string
	for _, n := range names {
		odd := strings.ContainsFunc(n, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
		if w := prefix + n; !odd && strings.HasPrefix(w, typed) {
			out = append(out, w)
		}
	}
	return out
}

// ask lists the names of one kind of object. It takes no longer than completionTimeout, and a refusal is an empty list.
func (a *app) ask(ctx context.Context, r collect.Resource, namespace string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	found := make(chan []string, 1)
	// Nothing waits for this goroutine once the time is up: a credential plugin of the kubeconfig takes no context. What still runs ends
	// with the process, which has nothing else to do.
	go func() { found <- a.list(ctx, r, namespace) }()
	select {
	case names := <-found:
		return names
	case <-ctx.Done():
		return nil
	}
}

func (a *app) list(ctx context.Context, r collect.Resource, namespace string) []string {
	cfg, err := a.config.ToRESTConfig()
	if err != nil {
		return nil
	}
	if p := cfg.ExecProvider; p != nil { // a question cannot be answered in the middle of a command line
		p.StdinUnavailable, p.StdinUnavailableMessage = true, "the shell is completing a command line"
	}
	s, err := collect.NewSession(cfg, collect.SessionOptions{})
	if err != nil {
		return nil
	}
	defer s.Close()
	path := []string{"apis", r.Group, r.Version}
	if r.Group == "" {
		path = []string{"api", r.Version}
	}
	if !r.Cluster {
		path = append(path, "namespaces", namespace)
	}
	// Names alone are asked for; an API server that cannot leave the rest out sends it.
	raw, err := s.REST().Get().AbsPath(append(path, r.Name)...).Param("limit", completionLimit).
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json").Do(ctx).Raw()
	if err != nil {
		return nil
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"items"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	out := make([]string, 0, len(list.Items))
	for _, i := range list.Items {
		out = append(out, i.Metadata.Name)
	}
	return out
}

// completeWords completes a flag from a fixed list.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	completeFlag(cmd, flag, cobra.FixedCompletions(words, noFiles))
}

// completeList completes a flag that takes several words with commas between them.
func completeList(cmd *cobra.Command, flag string, words ...string) {
	completeFlag(cmd, flag, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		used := strings.Split(before, ",")
		rest := slices.DeleteFunc(slices.Clone(words), func(w string) bool {
			name, _, _ := strings.Cut(w, "\t")
			return slices.Contains(used, name)
		})
		var out []string
		for _, w := range rest {
			if strings.HasPrefix(before+w, typed) {
				out = append(out, before+w)
			}
		}
		return out, noFiles
	})
}

func completeFlag(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	// The only error is a flag that does not exist, or one completed twice: a mistake that the completion test finds.
	_ = cmd.RegisterFlagCompletionFunc(flag, complete)
}

// fileFlags take the name of a file or folder: for them the shell's own completion is right.
var fileFlags = []string{"filename", "from", "save", "dir", "kubeconfig", "cache-dir", "certificate-authority", "client-certificate", "client-key"}

// completeOthers ends the completion of a command tree: connection flags, and no file names for values that are no files.
func (a *app) completeOthers(root *cobra.Command) {
	completeFlag(root, "namespace", a.completeNamespaces)
	completeWords(root, "color", "auto", "always", "never")
	completeWords(root, "verbosity", "0\tonly the answer", "1\twhat was asked of the API server", "2\talso how each group of facts ended")
	for _, what := range []string{"context", "cluster", "user"} {
		completeFlag(root, what, a.completeKubeconfig(what))
	}
	eachCommand(root, func(c *cobra.Command) {
		nothing := func(f *pflag.Flag) {
			if _, has := c.GetFlagCompletionFunc(f.Name); !has && !slices.Contains(fileFlags, f.Name) && f.Value.Type() != "bool" {
				completeFlag(c, f.Name, cobra.NoFileCompletions)
			}
		}
		c.LocalFlags().VisitAll(nothing)
		if c.ValidArgsFunction == nil && c.ValidArgs == nil && !c.HasSubCommands() {
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
	})
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, do)
	}
}
