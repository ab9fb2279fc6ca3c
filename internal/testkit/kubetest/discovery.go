package kubetest

import (
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// discovery answers for paths that are no resource: versions, groups, and their resources in both forms.
func (s *Server) discovery(w *response, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	aggregated := strings.Contains(r.Header.Get("Accept"), "as=APIGroupDiscoveryList")
	seg := strings.Split(path, "/")
	switch {
	case path == "version":
		s.json(w, "application/json", version.Info{Major: "1", Minor: "36", GitVersion: ServerVersion, Platform: "linux/amd64"})
	case path == "api" && aggregated:
		s.json(w, aggregatedType, s.aggregated(true))
	case path == "apis" && aggregated:
		s.json(w, aggregatedType, s.aggregated(false))
	case path == "api":
		s.json(w, "application/json", metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
	case path == "apis":
		s.json(w, "application/json", s.groups())
	case len(seg) == 2 && seg[0] == "api":
		s.json(w, "application/json", s.resourceList(schema.GroupVersion{Version: seg[1]}))
	case len(seg) == 3 && seg[0] == "apis":
		s.json(w, "application/json", s.resourceList(schema.GroupVersion{Group: seg[1], Version: seg[2]}))
	case path == "healthz", path == "readyz", path == "livez":
		w.header.Set("Content-Type", "text/plain")
		w.body = []byte("ok")
	default:
		w.status, w.body = http.StatusNotFound, []byte("404 page not found\n")
		w.header.Set("Content-Type", "text/plain; charset=utf-8")
	}
}

// served lists the group versions in order, without those that were taken away.
func (s *Server) served() []schema.GroupVersion {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []schema.GroupVersion
	for _, r := range s.lib.resources {
		if gv := r.gvr.GroupVersion(); !s.unserved[gv.Group] && !slices.Contains(out, gv) {
			out = append(out, gv)
		}
	}
	return out
}

func (s *Server) groups() metav1.APIGroupList {
	out := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, gv := range s.served() {
		if gv.Group == "" {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		out.Groups = append(out.Groups, metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
	}
	return out
}

var (
	allVerbs   = []string{"create", "delete", "get", "list", "patch", "update"}
	createOnly = []string{"create"}
)

func (r *resourceType) verbs() []string {
	if r.list == nil {
		return createOnly
	}
	return allVerbs
}

func (s *Server) resourceList(gv schema.GroupVersion) metav1.APIResourceList {
	out := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, r := range s.lib.resources {
		if r.gvr.GroupVersion() != gv {
			continue
		}
		out.APIResources = append(out.APIResources, metav1.APIResource{
			Name: r.gvr.Resource, SingularName: r.singular, Namespaced: r.namespaced, Kind: r.kind, Verbs: r.verbs(), ShortNames: r.short,
		})
		for _, sub := range r.subs {
			out.APIResources = append(out.APIResources, metav1.APIResource{
				Name: r.gvr.Resource + "/" + sub, Namespaced: r.namespaced, Kind: r.kind, Verbs: []string{"create", "get", "patch"},
			})
		}
	}
	return out
}

func (s *Server) aggregated(legacy bool) apidiscoveryv2.APIGroupDiscoveryList {
	out := apidiscoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"}}
	for _, gv := range s.served() {
		if (gv.Group == "") != legacy {
			continue
		}
		v := apidiscoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
		for _, r := range s.lib.resources {
			if r.gvr.GroupVersion() != gv {
				continue
			}
			scope := apidiscoveryv2.ScopeCluster
			if r.namespaced {
				scope = apidiscoveryv2.ScopeNamespace
			}
			v.Resources = append(v.Resources, apidiscoveryv2.APIResourceDiscovery{
				Resource: r.gvr.Resource, SingularResource: r.singular, Scope: scope, Verbs: r.verbs(), ShortNames: r.short,
				ResponseKind: &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: r.kind},
			})
		}
		out.Items = append(out.Items, apidiscoveryv2.APIGroupDiscovery{
			ObjectMeta: metav1.ObjectMeta{Name: gv.Group}, Versions: []apidiscoveryv2.APIVersionDiscovery{v},
		})
	}
	return out
}
