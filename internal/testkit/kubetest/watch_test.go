package kubetest_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
)

// next is the next event, as "TYPE name".
func next(t *testing.T, w apiwatch.Interface) string {
	t.Helper()
	e, ok := <-w.ResultChan()
	if !ok {
		return "end"
	}
	if e.Type == apiwatch.Error {
		return apierrors.FromObject(e.Object).Error()
	}
	a, err := meta.Accessor(e.Object)
	if err != nil {
		t.Fatalf("%s with a %T", e.Type, e.Object)
	}
	if a.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
		return string(e.Type) + " end of the initial events"
	}
	return string(e.Type) + " " + a.GetName()
}

// TestWatch: what a client sees of changes through a label selector.
func TestWatch(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*rest.Config)
		server func(testing.TB) *kubetest.Server
	}{
		{"JSON", nil, func(t testing.TB) *kubetest.Server { return kubetest.NewServer(t) }},
		{"protobuf, TLS", protobuf, func(t testing.TB) *kubetest.Server { return kubetest.NewTLSServer(t) }},
		{"local", protobuf, func(t testing.TB) *kubetest.Server { return kubetest.NewLocal(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := c.server(t)
			config := func(name, app string) *corev1.ConfigMap {
				o := kubetest.ConfigMap("default", name, "k", "v")
				o.Labels = map[string]string{"app": app}
				return o
			}
			srv.Set(config("a", "x"), config("b", "y"), kubetest.Service("default", "s"))
			list := metav1.ListOptions{LabelSelector: "app=x", AllowWatchBookmarks: true, SendInitialEvents: new(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}
			maps := client(t, srv, c.change).CoreV1().ConfigMaps("default")
			w, err := maps.Watch(t.Context(), list)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			want := func(events ...string) {
				t.Helper()
				got = nil
				for range events {
					got = append(got, next(t, w))
				}
				if !slices.Equal(got, events) {
					t.Fatalf("events %q, want %q", got, events)
				}
			}
			want("ADDED a", "BOOKMARK end of the initial events")
			srv.Set(config("b", "x"), config("a", "x"), config("c", "y"), config("a", "z"))
			want("ADDED b", "MODIFIED a", "DELETED a")
			srv.Delete(config("b", "x"))
			srv.Bookmark()
			want("DELETED b", "BOOKMARK ")
			srv.FailWatches(500)
			if got := next(t, w); got == "end" {
				t.Errorf("a failure looks like an end")
			}
			want("end")

			srv.Set(config("d", "x"))
			list.SendInitialEvents, list.ResourceVersionMatch, list.ResourceVersion = nil, "", "1"
			if w, err = maps.Watch(t.Context(), list); err != nil {
				t.Fatal(err)
			}
			want("ADDED a", "ADDED b", "MODIFIED a", "DELETED a") // from the beginning of the history
			srv.CutWatches()
			for next(t, w) != "end" { // the rest of the history comes first, if it does
			}
			srv.Compact()
			if w, err = maps.Watch(t.Context(), list); err != nil {
				t.Fatal(err)
			}
			want("too old resource version: 1", "end")

			srv.WatchList(kubetest.WatchListRefused)
			list.SendInitialEvents, list.ResourceVersionMatch, list.ResourceVersion = new(true), metav1.ResourceVersionMatchNotOlderThan, ""
			if _, err = maps.Watch(t.Context(), list); !apierrors.IsInvalid(err) {
				t.Errorf("watch-list refused: %v", err)
			}
			srv.WatchList(kubetest.WatchListUnknown)
			if w, err = maps.Watch(t.Context(), list); err != nil {
				t.Fatal(err)
			}
			want("ADDED d")
			w.Stop()
		})
	}
}

// TestSilenceAndOutage: in a bubble the clock runs, whatever the server is told to do.
func TestSilenceAndOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := kubetest.NewLocal(t, kubetest.Service("default", "a"))
		services := client(t, srv, nil).CoreV1().Services("default")
		w, err := services.Watch(t.Context(), metav1.ListOptions{AllowWatchBookmarks: true, TimeoutSeconds: new(int64(600))})
		if err != nil {
			t.Fatal(err)
		}
		if got := next(t, w); got != "ADDED a" {
			t.Errorf("at first %s", got)
		}
		srv.BookmarkEvery(time.Minute)
		began := time.Now()
		if got := next(t, w); got != "BOOKMARK " || time.Since(began) != time.Minute {
			t.Errorf("%s after %s", got, time.Since(began))
		}
		srv.Silence(true)
		srv.Set(kubetest.Service("default", "b"))
		select {
		case e := <-w.ResultChan():
			t.Errorf("in the silence %v", e)
		case <-time.After(5 * time.Minute):
		}
		srv.Silence(false)
		if got := next(t, w); got != "ADDED b" {
			t.Errorf("after the silence %s", got)
		}
		for next(t, w) != "end" { // bookmarks, until its time is over
		}
		if took := time.Since(began); took != 10*time.Minute {
			t.Errorf("the watch took %s", took)
		}
		srv.Down(true)
		if _, err := services.Watch(t.Context(), metav1.ListOptions{}); err == nil {
			t.Error("a server that is down serves a watch")
		}
		srv.Down(false)
		if w, err = services.Watch(t.Context(), metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := next(t, w); got != "ADDED a" || srv.Watching() != 1 {
			t.Errorf("after the outage %s, %d watches", got, srv.Watching())
		}
		w.Stop()
		synctest.Wait()
		if n := srv.Watching(); n != 0 {
			t.Errorf("%d watches are left", n)
		}
	})
}
