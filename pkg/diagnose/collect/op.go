package collect

import "strings"

// Resource is a kind of object as the API server's paths name it.
type Resource struct {
	Group, Version, Name string
	// Cluster is true for kinds outside namespaces.
	Cluster bool
}

// The resources that a run reads.
var (
	Services     = Resource{Version: "v1", Name: "services"}
	Pods         = Resource{Version: "v1", Name: "pods"}
	Nodes        = Resource{Version: "v1", Name: "nodes", Cluster: true}
	Namespaces   = Resource{Version: "v1", Name: "namespaces", Cluster: true}
	ConfigMaps   = Resource{Version: "v1", Name: "configmaps"}
	Slices       = Resource{Group: "discovery.k8s.io", Version: "v1", Name: "endpointslices"}
	Deployments  = Resource{Group: "apps", Version: "v1", Name: "deployments"}
	StatefulSets = Resource{Group: "apps", Version: "v1", Name: "statefulsets"}
	DaemonSets   = Resource{Group: "apps", Version: "v1", Name: "daemonsets"}
	CronJobs     = Resource{Group: "batch", Version: "v1", Name: "cronjobs"}
	Jobs         = Resource{Group: "batch", Version: "v1", Name: "jobs"}
	PodMetrics   = Resource{Group: "metrics.k8s.io", Version: "v1beta1", Name: "pods"}
)

// Op is one request to the API server, as RBAC sees it.
type Op struct {
	Verb string // list, get, create, patch, ...
	Resource
	Sub       string // portforward, ephemeralcontainers, log; usually empty
	Namespace string // empty: all namespaces, or a kind outside namespaces
	Object    string // name of one object; empty for a list
}

// String words the operation: "list pods in default", "get configmap app in default".
func (o Op) String() string {
	var b strings.Builder
	b.WriteString(o.Verb + " ")
	b.WriteString(o.what())
	switch {
	case o.Cluster:
	case o.Namespace == "":
		b.WriteString(" in all namespaces")
	default:
		b.WriteString(" in " + o.Namespace)
	}
	return b.String()
}

// what is the resource as RBAC writes it, or one object of it. For subresources the object is left out: rights to them are
// rarely given by name, and one refusal stands for all.
func (o Op) what() string {
	switch {
	case o.Sub != "":
		return o.Name + "/" + o.Sub
	case o.Object != "":
		return singular(o.Name) + " " + o.Object
	case o.Group != "" && o.Name == Pods.Name:
		return o.Name + "." + o.Group // two groups have a resource called pods
	}
	return o.Name
}

func singular(resource string) string { return strings.TrimSuffix(resource, "s") }

// path is the URL's segments below the server's root.
func (o Op) path() []string {
	p := []string{"apis", o.Group, o.Version}
	if o.Group == "" {
		p = []string{"api", o.Version}
	}
	if o.Namespace != "" && !o.Cluster {
		p = append(p, "namespaces", o.Namespace)
	}
	p = append(p, o.Name)
	if o.Object != "" {
		p = append(p, o.Object)
	}
	if o.Sub != "" {
		p = append(p, o.Sub)
	}
	return p
}
