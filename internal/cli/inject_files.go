package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/inject"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// candidate is a workload of the manifests.
type candidate struct {
	object inject.Object
	w      inject.Workload
	facts  inject.Facts
}

// injectFiles edits manifests and writes them out. Nothing is written when anything is refused.
func (a *app) injectFiles(ctx context.Context, o injectOptions) error {
	stream, err := a.readStream(o.changeOptions)
	if err != nil {
		return err
	}
	if all, err := candidates(stream, o.namespace); err != nil || len(all) == 0 {
		return cmp.Or(err, noWorkload(stream))
	}
	came := stream.RemoveTwins()
	if ns := a.namespaceOf(stream); ns != "" {
		o.namespace = ns
		if o.keys, err = parseServices(o.words, ns); err != nil {
			return err
		}
	}
	files := manifestFacts(stream, o.namespace)
	around, err := a.look(ctx, o, &files)
	defer around.close()
	if err != nil {
		return err
	}
	chosen, err := a.choose(ctx, o, stream, around, &files)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(chosen, func(c candidate) bool { return !c.w.Named }) {
		a.note("note: manifests without a namespace are taken to be for %s; -n says otherwise", o.namespace)
	}
	for _, c := range chosen {
		in, err := a.decide(ctx, o, around, c.w, c.facts)
		if err != nil {
			return err
		}
		if err := stream.Add(c.object, in); err != nil {
			return couldNot(fmt.Errorf("%s: %w", c.w.Ref(), err), "write its pod template in plain block style, without merge keys and shared anchors")
		}
	}
	if err := a.twins(o, stream, around, &files, came); err != nil {
		return err
	}
	for _, c := range chosen { // now that nothing is refused any more
		a.note("%s: injected", c.w.Ref())
	}
	_, err = fmt.Fprint(a.Out, stream.String())
	return err
}

// namespaceOf is the namespace that every workload of the manifests names; empty when they do not agree, or when -n was given.
func (a *app) namespaceOf(stream *inject.Stream) string {
	out := ""
	if a.config.Namespace != nil && *a.config.Namespace != "" {
		return out
	}
	for _, o := range stream.Objects() {
		w, ok, err := stream.Workload(o, "")
		switch {
		case err != nil || !ok:
		case !w.Named, out != "" && w.Namespace != out:
			return ""
		default:
			out = w.Namespace
		}
	}
	return out
}

// twins appends the headless Services that are not there yet. Those that came with the manifests stay in them.
func (a *app) twins(o injectOptions, stream *inject.Stream, around *surroundings, files *offlineFacts, came []diagnose.Key) error {
	if o.ports != nil {
		k := o.keys[0]
		a.note("note: the sidecar looks up the headless Service %s of %s: `%s fix svc/%s -n %s --strategy headless` writes it", around.services[0].Dial, k.Namespace, Name, k.Name, k.Namespace)
		return nil
	}
	write := quote.YAML
	if stream.JSON() {
		write = jsonLike(stream.String())
	}
	for _, p := range around.plans {
		for _, n := range p.Notes {
			a.note("note: %s", clause(n))
		}
		if p.Twin == nil {
			continue
		}
		key := diagnose.Key{Namespace: p.Twin.Namespace, Name: p.Service.Dial}
		if meta, ok := p.Twin.Content["metadata"].(map[string]any); ok && files.homeless[p.Service.Key] {
			delete(meta, "namespace") // or `kubectl apply -n` would refuse what stands beside the Service
			key.Namespace = ""
		}
		if o.noTwin && !p.There {
			a.note("note: the sidecar looks up svc/%s, which does not exist yet", key.Name)
		}
		if o.noTwin || p.There && !slices.Contains(came, key) {
			continue
		}
		if err := stream.AddTwin(p.Twin.Content, write, p.Twin.Ref+": DNS answers its name with the address of every ready pod; the sidecar looks it up"); err != nil {
			return couldNot(err, "")
		}
	}
	return nil
}

// clause makes part of a line of a sentence that stands for itself: without its capital, unless that is of an abbreviation, and its dot.
func clause(sentence string) string {
	if len(sentence) > 1 && 'a' <= sentence[1] && sentence[1] <= 'z' {
		sentence = strings.ToLower(sentence[:1]) + sentence[1:]
	}
	return strings.TrimSuffix(sentence, ".")
}

// jsonLike writes JSON as the text does: on one line, or with its indentation.
func jsonLike(text string) func(any) ([]byte, error) {
	for l := range strings.Lines(text) {
		if in := l[:len(l)-len(strings.TrimLeft(l, " \t"))]; in != "" {
			return func(v any) ([]byte, error) { return json.MarshalIndent(v, "", in) }
		}
	}
	return json.Marshal
}

// choose finds the workloads to inject: those that were named, else the only one, else those that name a Service.
func (a *app) choose(ctx context.Context, o injectOptions, stream *inject.Stream, around *surroundings, files *offlineFacts) ([]candidate, error) {
	all, err := candidates(stream, o.namespace)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].facts = around.around(ctx, all[i].w, files)
	}
	if len(o.clients) > 0 {
		return named(all, o.clients)
	}
	var clients, naming []candidate
	for _, c := range all {
		if len(c.facts.Selected) > 0 {
			a.note("%s: left as it is, since it runs the pods of svc/%s", c.w.Ref(), c.facts.Selected[0].Name)
			continue
		}
		clients = append(clients, c)
		if c.w.Injected || inject.Names(c.w, around.services, around.domain) {
			naming = append(naming, c)
		}
	}
	switch {
	case len(all) == 0:
		return nil, noWorkload(stream)
	case len(clients) == 0:
		return nil, couldNot(fmt.Errorf("the manifests hold only the Service's own pods"), "inject the workloads that call it")
	case len(clients) > 1 && len(naming) == 0:
		return nil, couldNot(fmt.Errorf("%d workloads, and none of their variables and arguments names %s", len(clients), serviceList(o.keys)),
			"say which are to be injected: --client "+refs(clients))
	case len(clients) > 1:
		for _, c := range clients {
			if !slices.ContainsFunc(naming, func(n candidate) bool { return n.w.Ref() == c.w.Ref() }) {
				a.note("%s: left as it is, since it does not name %s (--client injects it)", c.w.Ref(), serviceList(o.keys))
			}
		}
		clients = naming
	}
	return clients, nil
}

// noWorkload says what the manifests hold instead, each kind as kubectl writes it: Rollout.argoproj.io.
func noWorkload(stream *inject.Stream) error {
	var kinds []string
	for _, o := range stream.Objects() {
		kind, _ := o.Content()["kind"].(string)
		version, _ := o.Content()["apiVersion"].(string)
		if group, _, ok := strings.Cut(version, "/"); ok && kind != "" {
			kind += "." + group
		}
		if kind != "" && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	err := errors.New("the manifests hold no workload")
	if len(kinds) > 0 {
		err = fmt.Errorf("%w, only %s", err, strings.Join(kinds[:min(len(kinds), mostKinds)], ", "))
	}
	return couldNot(err, "inject a Deployment, StatefulSet, DaemonSet, ReplicaSet, CronJob, Job or Pod")
}

// mostKinds is how many of the kinds that are of no use are named.
const mostKinds = 5

func candidates(stream *inject.Stream, namespace string) ([]candidate, error) {
	var out []candidate
	for _, obj := range stream.Objects() {
		w, ok, err := stream.Workload(obj, namespace)
		if err != nil {
			return nil, couldNot(err, "manifests are read whole: what only changes others, such as a patch of kustomize, is rendered first")
		}
		if ok {
			out = append(out, candidate{object: obj, w: w})
		}
	}
	return out, nil
}

func named(all []candidate, want []collect.ClientRef) ([]candidate, error) {
	var out []candidate
	for _, r := range want {
		i := slices.IndexFunc(all, func(c candidate) bool { return c.w.Kind == r.Kind && c.w.Name == r.Name })
		if i < 0 {
			return nil, couldNot(fmt.Errorf("the manifests hold no %s/%s", diagnose.ShortKind(r.Kind), r.Name), "they hold "+refs(all))
		}
		out = append(out, all[i])
	}
	return out, nil
}

func refs(cs []candidate) string {
	var out []string
	for _, c := range cs {
		out = append(out, c.w.Ref())
	}
	return strings.Join(out, ",")
}

func serviceList(keys []diagnose.Key) string {
	var out []string
	for _, k := range keys {
		out = append(out, "svc/"+k.Name)
	}
	return strings.Join(out, " or ")
}

// uninjectFiles takes the injections out of manifests.
func (a *app) uninjectFiles(o changeOptions) error {
	stream, err := a.readStream(o)
	if err != nil {
		return err
	}
	all, err := candidates(stream, "default")
	if err != nil {
		return err
	}
	var notes []string // for the end, when nothing is refused any more
	if len(o.clients) > 0 {
		if all, err = named(all, o.clients); err != nil {
			return err
		}
	} else {
		for _, k := range stream.RemoveTwins() {
			in := ""
			if k.Namespace != "" {
				in = " -n " + k.Namespace
			}
			notes = append(notes, fmt.Sprintf("svc/%s: taken out of the manifests; one in the cluster stays (kubectl delete svc %s%s)", k.Name, k.Name, in))
		}
	}
	for _, c := range all {
		had, err := stream.Remove(c.object)
		if err != nil {
			return couldNot(fmt.Errorf("%s: %w", c.w.Ref(), err), "")
		}
		if had {
			notes = append(notes, c.w.Ref()+": taken out")
		}
	}
	if notes == nil {
		notes = []string{"no sidecar is in the manifests: they are written as they are"}
	}
	for _, n := range notes {
		a.note("%s", n)
	}
	_, err = fmt.Fprint(a.Out, stream.String())
	return err
}
