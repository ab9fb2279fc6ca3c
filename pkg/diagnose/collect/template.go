package collect

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// template is what a pod template (or a pod) says about where its containers dial. It never leaves this package.
type template struct {
	mesh       diagnose.Mesh
	containers []containerSpec
	aliases    []string
	ownDNS     bool
	sidecar    *rawSidecar
}

type containerSpec struct {
	name  string
	env   []envVar
	from  []envFrom
	args  []string
	files []mountedMap
}

type envVar struct {
	name, value    string
	configMap, key string // set when the value comes from there
}

type envFrom struct{ prefix, configMap string }

// mountedMap is a ConfigMap that a container mounts; keys restricts it, nil means all.
type mountedMap struct {
	configMap string
	keys      []string
}

func newTemplate(meta *metav1.ObjectMeta, spec *corev1.PodSpec) template {
	t := template{mesh: meshOfTemplate(meta, spec), sidecar: sidecarOf(meta, spec)}
	for _, a := range spec.HostAliases {
		t.aliases = append(t.aliases, a.Hostnames...)
	}
	switch spec.DNSPolicy {
	case corev1.DNSDefault, corev1.DNSNone:
		t.ownDNS = true
	case corev1.DNSClusterFirst, "":
		t.ownDNS = spec.HostNetwork // ClusterFirst does nothing on the host's network
	}
	if spec.DNSConfig != nil && len(spec.DNSConfig.Searches)+len(spec.DNSConfig.Nameservers) > 0 {
		t.ownDNS = true
	}
	volumes := configMapVolumes(spec)
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if !slices.Contains(meshProxies, list[i].Name) && !isRefresher(&list[i]) {
				t.containers = append(t.containers, newContainerSpec(&list[i], volumes))
			}
		}
	}
	return t
}

func configMapVolumes(spec *corev1.PodSpec) map[string][]mountedMap {
	out := map[string][]mountedMap{}
	add := func(volume, name string, items []corev1.KeyToPath) {
		m := mountedMap{configMap: name}
		for _, it := range items {
			m.keys = append(m.keys, it.Key)
		}
		out[volume] = append(out[volume], m)
	}
	for _, v := range spec.Volumes {
		if v.ConfigMap != nil {
			add(v.Name, v.ConfigMap.Name, v.ConfigMap.Items)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add(v.Name, s.ConfigMap.Name, s.ConfigMap.Items)
			}
		}
	}
	return out
}

func newContainerSpec(c *corev1.Container, volumes map[string][]mountedMap) containerSpec {
	out := containerSpec{name: c.Name, args: slices.Concat(c.Command, c.Args)}
	for _, f := range c.EnvFrom {
		if f.ConfigMapRef != nil {
			out.from = append(out.from, envFrom{prefix: f.Prefix, configMap: f.ConfigMapRef.Name})
		}
	}
	for _, e := range c.Env {
		v := envVar{name: e.Name, value: e.Value}
		if e.ValueFrom != nil {
			if e.ValueFrom.ConfigMapKeyRef == nil {
				continue // a Secret, or a field of the pod
			}
			v = envVar{name: e.Name, configMap: e.ValueFrom.ConfigMapKeyRef.Name, key: e.ValueFrom.ConfigMapKeyRef.Key}
		}
		out.env = append(out.env, v)
	}
	for _, m := range c.VolumeMounts {
		for _, f := range volumes[m.Name] {
			if m.SubPath != "" && f.keys == nil {
				f.keys = []string{m.SubPath}
			}
			out.files = append(out.files, f)
		}
	}
	return out
}

// configMaps lists the names that a template refers to.
func (t *template) configMaps() []string {
	var out []string
	for _, c := range t.containers {
		for _, f := range c.from {
			out = append(out, f.configMap)
		}
		for _, e := range c.env {
			if e.configMap != "" {
				out = append(out, e.configMap)
			}
		}
		for _, f := range c.files {
			out = append(out, f.configMap)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// resolve puts the ConfigMaps' values where the kubelet puts them: envFrom first, then env, which wins.
func (t *template) resolve(c containerSpec, data map[string]map[string]string) target.Container {
	out := target.Container{Args: c.args, Aliases: t.aliases, OwnDNS: t.ownDNS}
	for _, f := range c.from {
		for _, key := range sortedKeys(data[f.configMap]) {
			out.Env = append(out.Env, target.Var{Name: f.prefix + key, Value: data[f.configMap][key], ConfigMap: f.configMap, Key: key})
		}
	}
	for _, e := range c.env {
		if e.configMap == "" {
			out.Env = append(out.Env, target.Var{Name: e.name, Value: e.value})
		} else if v, ok := data[e.configMap][e.key]; ok {
			out.Env = append(out.Env, target.Var{Name: e.name, Value: v, ConfigMap: e.configMap, Key: e.key})
		}
	}
	for _, f := range c.files {
		for _, key := range sortedKeys(data[f.configMap]) {
			if f.keys == nil || slices.Contains(f.keys, key) {
				out.Files = append(out.Files, target.File{ConfigMap: f.configMap, Key: key, Text: data[f.configMap][key]})
			}
		}
	}
	return out
}
