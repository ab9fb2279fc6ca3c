package collect

import (
	"cmp"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// rawWorkload is a workload before its template was searched.
type rawWorkload struct {
	diagnose.Workload
	tmpl  template
	owner diagnose.Owner
	done  bool // a Job that has ended: it dials nothing any more
}

func newWorkload(kind string, meta *metav1.ObjectMeta, replicas int32, t *corev1.PodTemplateSpec) rawWorkload {
	return rawWorkload{
		Workload: diagnose.Workload{Kind: kind, Key: keyOf(meta), Replicas: replicas},
		tmpl:     newTemplate(&t.ObjectMeta, &t.Spec), owner: controller(meta.OwnerReferences),
	}
}

func replicas(p *int32) int32 {
	if p == nil {
		return 1
	}
	return *p
}

func projectDeployment(d *appsv1.Deployment) rawWorkload {
	return newWorkload("Deployment", &d.ObjectMeta, replicas(d.Spec.Replicas), &d.Spec.Template)
}

func projectStatefulSet(s *appsv1.StatefulSet) rawWorkload {
	return newWorkload("StatefulSet", &s.ObjectMeta, replicas(s.Spec.Replicas), &s.Spec.Template)
}

func projectDaemonSet(d *appsv1.DaemonSet) rawWorkload {
	return newWorkload("DaemonSet", &d.ObjectMeta, d.Status.DesiredNumberScheduled, &d.Spec.Template)
}

func projectCronJob(j *batchv1.CronJob) rawWorkload {
	return newWorkload("CronJob", &j.ObjectMeta, int32(min(len(j.Status.Active), 1<<30)), &j.Spec.JobTemplate.Spec.Template)
}

func projectJob(j *batchv1.Job) rawWorkload {
	w := newWorkload("Job", &j.ObjectMeta, j.Status.Active, &j.Spec.Template)
	w.done = slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
	return w
}

type ownerKey struct {
	diagnose.Owner
	namespace string
}

// settleOwners resolves each pod's owner to what a person would name: a ReplicaSet's pod belongs to the Deployment, a Job's to the
// CronJob. No ReplicaSet is listed for it: its name is the Deployment's and the pods' template hash.
func (c *collector) settleOwners() {
	known := map[ownerKey]*rawWorkload{}
	for i := range c.workloads {
		w := &c.workloads[i]
		known[ownerKey{diagnose.Owner{Kind: w.Kind, Name: w.Name}, w.Namespace}] = w
	}
	for i := range c.pods {
		p := &c.pods[i]
		switch p.Owner.Kind {
		case "ReplicaSet":
			name, ok := deploymentOf(p.Owner.Name, p.labels)
			o := diagnose.Owner{Kind: "Deployment", Name: name}
			if ok && (!c.served["Deployment"] || known[ownerKey{o, p.Namespace}] != nil) {
				p.Owner = o
			}
		case "Job":
			if w := known[ownerKey{p.Owner, p.Namespace}]; w != nil && w.owner.Kind == "CronJob" {
				p.Owner = w.owner
			}
		}
	}
}

// settleWorkloads drops Jobs that a CronJob stands for or that have ended, adds what only pods tell of, and takes each workload's
// mesh from its pods, which know better than its template.
func (c *collector) settleWorkloads() {
	c.workloads = slices.DeleteFunc(c.workloads, func(w rawWorkload) bool { return w.Kind == "Job" && (w.done || w.owner.Kind == "CronJob") })
	c.addFromPods()
	if !c.opt.AllClients && !c.opt.AllNamespaces {
		c.workloads = slices.DeleteFunc(c.workloads, func(w rawWorkload) bool {
			return w.Namespace != c.opt.Namespace && !c.namedClient(w.Kind, w.Key)
		})
		c.pods = slices.DeleteFunc(c.pods, func(p rawPod) bool {
			return p.Namespace != c.opt.Namespace && !c.namedClient(p.Owner.Kind, diagnose.Key{Namespace: p.Namespace, Name: p.Owner.Name})
		})
	}
	mesh := map[ownerKey]diagnose.Mesh{}
	for _, p := range slices.SortedFunc(slices.Values(c.pods), func(a, b rawPod) int { return a.Created.Compare(b.Created) }) {
		mesh[ownerKey{p.Owner, p.Namespace}] = p.Mesh // the newest says how it is now
	}
	for i := range c.workloads {
		w := &c.workloads[i]
		m, ok := mesh[ownerKey{diagnose.Owner{Kind: w.Kind, Name: w.Name}, w.Namespace}]
		if !ok {
			m = w.tmpl.mesh
		}
		w.Mesh = m
	}
	c.checkNamedClients()
}

func (c *collector) namedClient(kind string, k diagnose.Key) bool {
	return slices.Contains(c.opt.Clients, ClientRef{Kind: kind, Key: k})
}

// checkNamedClients says which of the clients that were asked for are not there.
func (c *collector) checkNamedClients() {
	for _, cl := range c.opt.Clients {
		there := slices.ContainsFunc(c.workloads, func(w rawWorkload) bool { return w.Kind == cl.Kind && w.Key == cl.Key })
		if there || cl.Kind != "Pod" && !c.served[cl.Kind] {
			continue
		}
		ref := diagnose.ShortKind(cl.Kind) + "/" + cl.Name
		c.gap(diagnose.FactWorkloads, "client "+ref, diagnose.Status{State: diagnose.Failed, Reason: "there is no " + ref + " in " + cl.Namespace})
	}
}

// addFromPods makes workloads of pods without an owner, and of pods whose owners are of kinds that are not listed (a bare ReplicaSet, a
// custom resource): one workload per owner, described by its newest pod.
func (c *collector) addFromPods() {
	found := map[ownerKey]*rawWorkload{}
	newest := map[ownerKey]rawPod{}
	for _, p := range c.pods {
		if p.tmpl == nil || p.Phase == "Succeeded" || p.Phase == "Failed" {
			continue
		}
		k := ownerKey{p.Owner, p.Namespace}
		w := found[k]
		if w == nil {
			key := diagnose.Key{Namespace: p.Namespace, Name: p.Owner.Name}
			w = &rawWorkload{Workload: diagnose.Workload{Kind: p.Owner.Kind, Key: key}}
			found[k] = w
		}
		w.Replicas++
		last, ok := newest[k]
		if !ok || cmp.Or(p.Created.Compare(last.Created), p.Key.Compare(last.Key)) > 0 {
			newest[k] = p
			w.tmpl = *p.tmpl
		}
	}
	for _, w := range found {
		c.workloads = append(c.workloads, *w)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
