package kubetest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
)

// client is the standard client: what it can do with the server, others can too.
func client(t *testing.T, srv *kubetest.Server, change func(*rest.Config)) *kubernetes.Clientset {
	t.Helper()
	cfg := srv.Config()
	cfg.QPS = -1
	if change != nil {
		change(cfg)
	}
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func protobuf(c *rest.Config) {
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
}

func TestDiscovery(t *testing.T) {
	srv := kubetest.NewServer(t)
	srv.Unserve("metrics.k8s.io")
	c := client(t, srv, nil)
	check := func(how string, groups []*metav1.APIGroup, lists []*metav1.APIResourceList, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		for _, g := range groups {
			if g.Name == "metrics.k8s.io" {
				t.Errorf("%s: a group that was taken away is listed", how)
			}
		}
		i := slices.IndexFunc(lists, func(l *metav1.APIResourceList) bool { return l.GroupVersion == "apps/v1" })
		if i < 0 || !slices.ContainsFunc(lists[i].APIResources, func(r metav1.APIResource) bool {
			return r.Name == "deployments" && r.Kind == "Deployment" && r.Namespaced && slices.Contains(r.ShortNames, "deploy")
		}) {
			t.Errorf("%s: no deployments in %v", how, lists)
		}
	}
	groups, lists, err := c.Discovery().ServerGroupsAndResources()
	check("aggregated", groups, lists, err)
	for _, r := range srv.Requests() {
		if r.Path != "/api" && r.Path != "/apis" {
			t.Errorf("%s: aggregated discovery asks for two documents", r)
		}
	}
	old := c.DiscoveryClient
	old.UseLegacyDiscovery = true
	groups, lists, err = old.ServerGroupsAndResources()
	check("legacy", groups, lists, err)
	v, err := c.Discovery().ServerVersion()
	if err != nil || v.GitVersion != kubetest.ServerVersion {
		t.Errorf("%v %v", v, err)
	}
}

func TestReads(t *testing.T) {
	for name, change := range map[string]func(*rest.Config){"json": nil, "protobuf": protobuf} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			svc := kubetest.Service("a", "s").Label("l", "1")
			dep := kubetest.Deployment("a", "d").Replicas(25)
			srv := kubetest.NewTLSServer(t, svc, dep, svc.Slice(dep.Pods()...), kubetest.Node("n1"), kubetest.Service("b", "s"))
			c := client(t, srv, change)
			got, err := c.CoreV1().Services("a").Get(ctx, "s", metav1.GetOptions{})
			if err != nil || got.Spec.ClusterIP == "" || got.ResourceVersion == "" || len(got.ManagedFields) == 0 {
				t.Fatalf("%+v, %v", got, err)
			}
			if l, err := c.CoreV1().Services("").List(ctx, metav1.ListOptions{LabelSelector: "l=1"}); err != nil || len(l.Items) != 1 || l.ResourceVersion == "" {
				t.Errorf("by label: %+v, %v", l, err)
			}
			if l, err := c.CoreV1().Services("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=s"}); err != nil || len(l.Items) != 2 {
				t.Errorf("by field: %+v, %v", l, err)
			}
			if _, err := c.CoreV1().Services("a").Get(ctx, "none", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("%v", err)
			}
			slices, err := c.DiscoveryV1().EndpointSlices("a").List(ctx, metav1.ListOptions{})
			if err != nil || len(slices.Items) != 1 || len(slices.Items[0].Endpoints) != 25 || *slices.Items[0].Ports[0].Port != 50051 {
				t.Errorf("%+v, %v", slices, err)
			}
			var names []string
			for opt := (metav1.ListOptions{Limit: 10}); ; {
				l, err := c.CoreV1().Pods("a").List(ctx, opt)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range l.Items {
					names = append(names, p.Name)
				}
				if opt.Continue = l.Continue; opt.Continue == "" {
					break
				}
			}
			if want := 25; len(names) != want || len(unique(names)) != want {
				t.Errorf("%d pods over pages, %d different", len(names), len(unique(names)))
			}
			if n := srv.Count("list", "pods"); n != 3 {
				t.Errorf("%d pages, want 3", n)
			}
		})
	}
}

func unique(s []string) []string { return slices.Compact(slices.Sorted(slices.Values(s))) }

func TestWrites(t *testing.T) {
	ctx := context.Background()
	pod := kubetest.Pod("a", "p")
	srv := kubetest.NewServer(t, pod)
	c := client(t, srv, nil)
	made, err := c.CoreV1().ConfigMaps("a").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "x-"}}, metav1.CreateOptions{})
	if err != nil || made.Name == "" || made.UID == "" {
		t.Fatalf("%+v, %v", made, err)
	}
	if _, err := c.CoreV1().Pods("a").Create(ctx, pod.Pod, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("%v", err)
	}
	ephemeral := `{"spec":{"ephemeralContainers":[{"name":"probe","image":"i"}]}}`
	got, err := c.CoreV1().Pods("a").Patch(ctx, "p", types.StrategicMergePatchType, []byte(ephemeral), metav1.PatchOptions{}, "ephemeralcontainers")
	if err != nil || len(got.Spec.EphemeralContainers) != 1 || len(got.Spec.Containers) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = c.CoreV1().Pods("a").Patch(ctx, "p", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":null,"new":"x"}}}`), metav1.PatchOptions{})
	if err != nil || got.Labels["new"] != "x" || got.Labels["app"] != "" {
		t.Errorf("%v, %v", got.Labels, err)
	}
	if err := c.CoreV1().Pods("a").Delete(ctx, "p", metav1.DeleteOptions{DryRun: []string{"All"}}); err != nil {
		t.Error(err)
	}
	if _, err := c.CoreV1().Pods("a").Get(ctx, "p", metav1.GetOptions{}); err != nil {
		t.Errorf("gone after a dry run: %v", err)
	}
	if err := c.CoreV1().Pods("a").Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := c.CoreV1().Pods("a").Get(ctx, "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("%v", err)
	}
}

func TestAccessReview(t *testing.T) {
	srv := kubetest.NewServer(t)
	srv.Fail(kubetest.Fault{Verb: "create", Resource: "pods", Sub: "portforward", Namespace: "kube-system", Status: 403})
	c := client(t, srv, nil)
	for ns, want := range map[string]bool{"kube-system": false, "default": true} {
		got, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(context.Background(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: ns, Verb: "create", Resource: "pods", Subresource: "portforward",
			}},
		}, metav1.CreateOptions{})
		if err != nil || got.Status.Allowed != want {
			t.Errorf("%s: %+v, %v", ns, got, err)
		}
	}
}

func TestFaults(t *testing.T) {
	ctx := context.Background()
	srv := kubetest.NewServer(t, kubetest.Node("n1"))
	c := client(t, srv, nil)
	list := func(ctx context.Context) error {
		_, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	}
	for status, is := range map[int]func(error) bool{
		401: apierrors.IsUnauthorized, 403: apierrors.IsForbidden, 404: apierrors.IsNotFound, 410: apierrors.IsResourceExpired,
		429: apierrors.IsTooManyRequests, 500: apierrors.IsInternalError, 503: apierrors.IsServiceUnavailable,
	} {
		srv.Heal()
		srv.Fail(kubetest.Fault{Verb: "list", Resource: "nodes", Status: status})
		if err := list(ctx); !is(err) {
			t.Errorf("%d: %v", status, err)
		}
	}
	srv.Heal()
	srv.Fail(kubetest.Fault{Resource: "nodes", Status: 403, Skip: 1, Times: 1})
	for i, want := range []bool{true, false, true} {
		if err := list(ctx); (err == nil) != want {
			t.Errorf("request %d: %v", i, err)
		}
	}
	for name, f := range map[string]kubetest.Fault{"hang": {Hang: true}, "drip": {Drip: time.Hour}} {
		srv.Heal()
		srv.Fail(f)
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		if err := list(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	srv.Heal()
	srv.Fail(kubetest.Fault{Half: true})
	if err := list(ctx); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half: %v", err)
	}
}

func TestHandle(t *testing.T) {
	srv := kubetest.NewServer(t, kubetest.Pod("a", "p"))
	srv.Handle("GET /api/v1/namespaces/{ns}/pods/{name}/log", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "log of %s", r.PathValue("name"))
	}))
	b, err := client(t, srv, nil).CoreV1().Pods("a").GetLogs("p", &corev1.PodLogOptions{}).DoRaw(context.Background())
	if err != nil || string(b) != "log of p" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestDelete(t *testing.T) {
	d := kubetest.Deployment("a", "d").Replicas(2)
	srv := kubetest.NewServer(t, d)
	srv.Delete(d)
	l, err := client(t, srv, nil).CoreV1().Pods("a").List(context.Background(), metav1.ListOptions{})
	if err != nil || len(l.Items) != 0 {
		t.Errorf("%d pods left, %v", len(l.Items), err)
	}
}
