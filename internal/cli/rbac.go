package cli

import (
	"fmt"
	"io"
	"strings"
)

// rule is one rule of a Role.
type rule struct {
	group     string
	resources []string
	verbs     []string
	why       string
}

// role is what one depth needs beyond the shallower ones.
type role struct {
	name      string
	cluster   bool   // ClusterRole
	namespace string // "" means the Service's namespace
	about     []string
	rules     []rule
}

// applyRole is the role that changing live objects takes.
const applyRole = "grpclb-inject"

// roles lists the minimal roles of each depth. What `diagnose` asks of the API server is held against this list in the
// end-to-end tests.
func roles(namespace, dnsNamespace string) []role {
	return []role{
		{
			name: "grpclb-diagnose-static", namespace: namespace,
			about: []string{"depth static: what diagnose reads in the Service's namespace. Nothing here can change or run anything.",
				"ConfigMaps are read by name, only those that client workloads reference; leave the rule out and the targets in them stay unseen."},
			rules: []rule{
				{"", []string{"services", "pods"}, []string{"get", "list"}, ""},
				{"discovery.k8s.io", []string{"endpointslices"}, []string{"list"}, ""},
				{"apps", []string{"deployments", "statefulsets", "daemonsets"}, []string{"get", "list"}, "client workloads; get: `fix` writes them out whole"},
				{"batch", []string{"jobs", "cronjobs"}, []string{"get", "list"}, "client workloads"},
				{"", []string{"configmaps"}, []string{"get"}, "client targets kept in ConfigMaps"},
				{"metrics.k8s.io", []string{"pods"}, []string{"list"}, "CPU of each pod"},
			},
		},
		{
			name: "grpclb-diagnose-nodes", cluster: true,
			about: []string{"zones and addresses of nodes; nodes are cluster-wide objects, hence a ClusterRole."},
			rules: []rule{{"", []string{"nodes"}, []string{"list"}, ""}},
		},
		{
			name: "grpclb-diagnose-dns", namespace: dnsNamespace,
			about: []string{"depth observe: ask each DNS pod over a port-forward to TCP 53.",
				"RISK: port-forward reaches every port of every pod in this namespace. Leave it out and the DNS checks are skipped."},
			rules: []rule{
				{"", []string{"pods"}, []string{"list"}, ""},
				{"", []string{"pods/portforward"}, []string{"create", "get"}, "get: clusters that speak WebSocket"},
			},
		},
		{
			name: "grpclb-diagnose-observe", namespace: namespace,
			about: []string{"depth observe: ask server pods what they speak over a port-forward.",
				"RISK: port-forward reaches every port of every pod in this namespace."},
			rules: []rule{{"", []string{"pods/portforward"}, []string{"create", "get"}, ""}},
		},
		{
			name: "grpclb-diagnose-sockets", namespace: namespace,
			about: []string{"--sockets: add an ephemeral container (never removed by Kubernetes) to server pods and read its log.",
				"`inject --sockets` needs the same for the client's pods, in the client's namespace, beside reading its workload and listing pods.",
				"RISK: an ephemeral container runs an image of the caller's choice inside the pod."},
			rules: []rule{
				{"", []string{"pods/ephemeralcontainers"}, []string{"patch"}, ""},
				{"", []string{"pods/log"}, []string{"get"}, ""},
			},
		},
		{
			name: "grpclb-diagnose-probe", namespace: namespace,
			about: []string{"--probe: as --sockets, and a short-lived pod that makes the calls."},
			rules: []rule{{"", []string{"pods"}, []string{"create", "delete"}, "delete: the pod, and those of runs that were killed"}},
		},
		{
			name: applyRole, namespace: namespace,
			about: []string{"inject --apply and uninject --apply: change a client, and make the headless Service. inject reads beside that what depth static reads.",
				"It belongs to the namespace of the client, and to that of the Service when it is another.",
				"RISK: who may patch a workload can run anything that its namespace and its ServiceAccount allow."},
			rules: []rule{
				{"apps", []string{"deployments", "statefulsets", "daemonsets"}, []string{"get", "patch"}, "the clients"},
				{"batch", []string{"cronjobs"}, []string{"get", "patch"}, "the clients"},
				{"", []string{"services"}, []string{"create"}, "the headless Service; not for --no-twin, nor for uninject"},
				{"", []string{"namespaces"}, []string{"get"}, "this namespace's labels: whether a mesh injects its proxy there"},
			},
		},
	}
}

// writeRBAC prints the roles as manifests; binding them is left to the reader, who knows the subject.
func writeRBAC(w io.Writer, namespace, dnsNamespace string) error {
	var b strings.Builder
	b.WriteString("# Minimal roles for kubectl grpclb, one for each depth. Apply the ones you want to allow, and bind them:\n" +
		"# kubectl create rolebinding ROLE --role ROLE --user USER -n NAMESPACE (clusterrolebinding and --clusterrole for the ClusterRole).\n")
	for _, r := range roles(namespace, dnsNamespace) {
		b.WriteString("---\n")
		for _, line := range r.about {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		kind := "Role"
		if r.cluster {
			kind = "ClusterRole"
		}
		fmt.Fprintf(&b, "apiVersion: rbac.authorization.k8s.io/v1\nkind: %s\nmetadata:\n  name: %s\n", kind, r.name)
		if !r.cluster {
			fmt.Fprintf(&b, "  namespace: %s\n", r.namespace)
		}
		b.WriteString("rules:\n")
		for _, u := range r.rules {
			if u.why != "" {
				fmt.Fprintf(&b, "  # %s\n", u.why)
			}
			fmt.Fprintf(&b, "  - apiGroups: [%q]\n    resources: [%s]\n    verbs: [%s]\n", u.group, strings.Join(u.resources, ", "), strings.Join(u.verbs, ", "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
