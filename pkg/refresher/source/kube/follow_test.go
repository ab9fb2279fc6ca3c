package kube

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

func TestFollows(t *testing.T) {
	inWorld(t, "square:grpc", func(s *kubetest.Server) {
		s.Set(svc(), es("a", 1, 2), es("b", 3))
	}, func(w *world) {
		set := w.want("10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565")
		if set.Source != "kube" || !set.Authoritative || set.Verified || set.Reason != "" || !set.At.Equal(w.began) {
			t.Errorf("Set %+v", set)
		}
		if e := set.Endpoints[0]; e.UID != "u1" || e.Name != "default/p1" || !e.Serving {
			t.Errorf("endpoint %+v", e)
		}
		if n := w.srv.Count("", ""); n != 1 {
			t.Errorf("%d requests, want the watch alone: %v", n, w.srv.Requests())
		}
		w.after(time.Second)
		w.srv.Set(es("b", 3, 4))
		w.want("10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565", "10.0.0.4:6565")
		w.srv.Set(es("a", 1).is(false, true, true))
		w.after(settle + gap)
		w.want("10.0.0.1:6565 unready terminating", "10.0.0.3:6565", "10.0.0.4:6565")
		w.srv.Set(svc().Label("not", "of interest"), kubetest.Service(ns, "other").Slice(kubetest.Pod(ns, "other-1")))
		w.after(time.Hour)
		w.quiet()
	})
}

// TestSliceGoes: the delete of one slice keeps the others, and slices that go one
// by one with their Service do not leave a Set of the last one behind.
func TestSliceGoes(t *testing.T) {
	inWorld(t, "square:grpc", func(s *kubetest.Server) {
		s.Set(svc(), es("a", 1), es("b", 2), es("c", 3))
	}, func(w *world) {
		w.want("10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565")
		w.srv.Delete(es("b"))
		w.after(settleGone)
		w.want("10.0.0.1:6565", "10.0.0.3:6565")
		w.srv.Delete(svc(), es("a"))
		w.after(settleGone / 2)
		w.srv.Delete(es("c"))
		w.after(settleGone/2 + gap) // the Service is looked at within a second from now
		w.after(time.Second)
		sets, _ := w.take()
		if len(sets) != 2 || len(sets[0].Endpoints)+len(sets[1].Endpoints) != 0 || sets[0].Authoritative || sets[1].Authoritative {
			t.Fatalf("without slices: %+v", sets)
		}
		if a, b := sets[0].Reason, sets[1].Reason; a != "no Service default/square, or none with an EndpointSlice" || b != "no Service default/square" {
			t.Errorf("reasons %q and %q", a, b)
		}
		w.srv.Set(svc(), es("x", 4))
		if set := w.want("10.0.0.4:6565"); !set.Authoritative {
			t.Errorf("made again: %+v", set)
		}
	})
}

// TestMove: the controller writes slices one by one; an endpoint that moves is
// never away.
func TestMove(t *testing.T) {
	inWorld(t, "square:grpc", func(s *kubetest.Server) {
		s.Set(svc(), es("a", 1, 2), es("b", 3))
	}, func(w *world) {
		w.want("10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565")
		w.after(time.Minute / 2)
		w.srv.Set(es("a", 1))
		w.after(settle / 2)
		w.srv.Set(es("b", 2, 3))
		w.after(settle)
		w.quiet()
	})
}

func TestZero(t *testing.T) {
	for _, c := range []struct {
		name   string
		have   func(*kubetest.Server)
		reason string
		auth   bool
		err    any
	}{
		{"scaled to zero", func(s *kubetest.Server) { s.Set(svc(), es("a").port("", 1)) }, "no endpoint in any EndpointSlice", true, nil},
		{"no such Service", func(*kubetest.Server) {}, "no Service default/square", false, nil},
		{"no slices", func(s *kubetest.Server) { s.Set(svc()) }, "Service default/square has no EndpointSlice", false, nil},
		{"no right to know", func(s *kubetest.Server) { s.Fail(kubetest.Fault{Resource: "services", Status: 403}) },
			"no Service default/square, or none with an EndpointSlice", false, nil},
		{"ExternalName", func(s *kubetest.Server) {
			b := svc()
			b.Spec.Type, b.Spec.ExternalName = "ExternalName", "db.example.com"
			s.Set(b)
		}, "", false, new(*ExternalNameError)},
		{"host names", func(s *kubetest.Server) {
			b := es("a", 1)
			b.AddressType = "FQDN"
			b.Endpoints[0].Addresses = []string{"db.example.com"}
			s.Set(svc(), b)
		}, "no usable address in any EndpointSlice", false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, "square:grpc", c.have, func(w *world) {
				if c.err != nil {
					sets, fails := w.take()
					if len(sets) != 0 || len(fails) != 1 || !errors.As(fails[0], c.err) {
						t.Fatalf("told %v %v", sets, fails)
					}
					t.Log(fails[0])
					return
				}
				if set := w.want(); set.Reason != c.reason || set.Authoritative != c.auth {
					t.Errorf("authoritative %t, reason %q; want %t, %q", set.Authoritative, set.Reason, c.auth, c.reason)
				}
				w.after(time.Hour)
				w.quiet()
			})
		})
	}
}

// TestRefusals: what the API server may say instead of a watch.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault kubetest.Fault
		// within an hour: at least, at most so many tries
		least, most int
		says        string
	}{
		{"no right", kubetest.Fault{Resource: "endpointslices", Status: 403}, 10, 30, "no right to watch EndpointSlices in namespace default"},
		{"no such resource", kubetest.Fault{Resource: "endpointslices", Status: 404}, 10, 30, "404"},
		{"token expired", kubetest.Fault{Resource: "endpointslices", Status: 401}, 80, 250, "401"},
		{"broken", kubetest.Fault{Resource: "endpointslices", Status: 500}, 80, 250, "500"},
		{"busy", kubetest.Fault{Resource: "endpointslices", Status: 429, RetryAfter: 600}, 4, 7, "429"},
		{"not Kubernetes", kubetest.Fault{Resource: "endpointslices", Body: "<html>", ContentType: "text/html"}, 80, 250, "no known type"},
		{"a proxy's error", kubetest.Fault{Resource: "endpointslices", Status: 502, Body: "<html>", ContentType: "text/html"}, 80, 250, "502"},
		{"nothing", kubetest.Fault{Resource: "endpointslices", Hang: true}, 60, 250, "silent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, "square:grpc", func(s *kubetest.Server) {
				s.Set(svc(), es("a", 1))
				s.Fail(c.fault)
			}, func(w *world) {
				w.after(time.Hour)
				sets, fails := w.take()
				if len(sets) != 0 || len(fails) < c.least || len(fails) > c.most {
					t.Fatalf("%d Sets, %d failures in an hour, want %d to %d", len(sets), len(fails), c.least, c.most)
				}
				if n := w.srv.Count("", ""); n > len(fails)+2 {
					t.Errorf("%d requests for %d failures", n, len(fails))
				}
				if !strings.Contains(fails[0].Error(), c.says) {
					t.Errorf("%v\ndoes not say %q", fails[0], c.says)
				}
				var denied *DeniedError
				if errors.As(fails[0], &denied) != (c.fault.Status == 403) {
					t.Errorf("%v: is it a denial?", fails[0])
				}
				w.srv.Heal()
				w.after(20 * time.Minute) // a request that hangs still fails
				if sets, _ := w.take(); len(sets) != 1 || len(sets[0].Endpoints) != 1 {
					t.Errorf("told %v when it was over", sets)
				}
			})
		})
	}
}

// TestBreaks: what ends a watch, and what is asked after it.
func TestBreaks(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*world)
		wait  time.Duration
		// whole: the state is asked for again; told: the break is told.
		whole, told bool
	}{
		{"cut", func(w *world) { w.srv.CutWatches() }, firstTry, false, false},
		{"its time is over", func(w *world) { w.after(watchMost * time.Second) }, firstTry, false, false},
		{"history forgotten", func(w *world) { w.srv.Compact(); w.srv.CutWatches() }, 2 * firstTry, true, false},
		{"history forgotten at once", func(w *world) { w.srv.FailWatches(http.StatusGone) }, firstTry, true, false},
		{"trouble in the watch", func(w *world) { w.srv.FailWatches(http.StatusInternalServerError) }, firstTry, false, false},
		{"token expired", func(w *world) {
			w.srv.Fail(kubetest.Fault{Resource: "endpointslices", Status: 401, Times: 1})
			w.srv.CutWatches()
		}, 2 * firstTry, false, false},
		{"server away", func(w *world) { w.srv.Down(true); w.after(10 * time.Second); w.srv.Down(false) }, 20 * time.Second, true, true},
		{"silent", func(w *world) {
			w.srv.Silence(true)
			w.srv.Fail(kubetest.Fault{Verb: "list", Hang: true})
			w.after(staleAfter + 30*time.Second)
			w.srv.Heal()
			w.srv.Silence(false)
		}, time.Minute, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, "square:grpc", func(s *kubetest.Server) {
				s.Set(svc(), es("a", 1))
			}, func(w *world) {
				w.want("10.0.0.1:6565")
				w.after(5 * time.Second)
				before := len(w.srv.Requests())
				c.spoil(w)
				w.srv.Set(es("b", 2))
				w.after(c.wait)
				sets, fails := w.take()
				if len(sets) == 0 || len(sets[len(sets)-1].Endpoints) != 2 || len(sets) > 2 {
					t.Fatalf("told %v %v, want the new pod", sets, fails)
				}
				if told := len(fails) > 0; told != c.told {
					t.Errorf("failures %v; told: want %t", fails, c.told)
				}
				if c.told && len(sets) != 1 {
					t.Errorf("after a failure came %v: an old state?", sets)
				}
				whole := false
				for _, r := range w.srv.Requests()[before:] {
					whole = whole || r.Initial
				}
				if whole != c.whole {
					t.Errorf("asked for the state: %t, want %t: %v", whole, c.whole, w.srv.Requests()[before:])
				}
			})
		})
	}
}

// TestAfterFailure: the same state as before is told after a failure, since it is
// news that it still is.
func TestAfterFailure(t *testing.T) {
	inWorld(t, "square:grpc", func(s *kubetest.Server) { s.Set(svc(), es("a", 1)) }, func(w *world) {
		w.want("10.0.0.1:6565")
		w.srv.Down(true)
		w.after(time.Minute)
		_, fails := w.take()
		if len(fails) < 3 || len(fails) > 10 {
			t.Errorf("%d failures in a minute", len(fails))
		}
		for _, err := range fails {
			if err.Error() != "watch the EndpointSlices of Service default/square: ask the API server: dial tcp: connection refused" {
				t.Errorf("failure %v", err)
			}
		}
		w.srv.Down(false)
		w.after(time.Minute)
		w.want("10.0.0.1:6565")
	})
}

func TestEndsAtOnce(t *testing.T) {
	inWorld(t, "square:grpc", func(s *kubetest.Server) { s.Set(svc(), es("a", 1)) }, func(w *world) {
		w.want("10.0.0.1:6565")
		before := w.srv.Count("watch", "")
		for range 20 * 60 * 10 {
			w.srv.CutWatches()
			w.after(time.Second / 10)
		}
		_, fails := w.take()
		if n := w.srv.Count("watch", "") - before; len(fails) < 20 || n > 150 {
			t.Errorf("%d watches and %d failures in twenty minutes of breaks", n, len(fails))
		}
	})
}

// TestServers: with and without watch-list, in protobuf and JSON.
func TestServers(t *testing.T) {
	for _, c := range []struct {
		name    string
		support kubetest.WatchListSupport
		json    bool
		empty   bool
		within  time.Duration
		lists   int
		marks   time.Duration // a bookmark in that time
	}{
		{name: "watch-list"},
		{name: "watch-list, JSON", json: true},
		{name: "refused", support: kubetest.WatchListRefused, lists: 1},
		{name: "refused, JSON", support: kubetest.WatchListRefused, json: true, lists: 1},
		{name: "unknown", support: kubetest.WatchListUnknown, within: syncLimit + 2*time.Second, lists: 1},
		{name: "unknown, with bookmarks", support: kubetest.WatchListUnknown, marks: time.Second, within: 2 * time.Second, lists: 1},
		{name: "unknown and empty", support: kubetest.WatchListUnknown, empty: true, within: syncLimit + 2*time.Second, lists: 1},
		{name: "refused and empty", support: kubetest.WatchListRefused, empty: true, lists: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, "square:grpc", func(s *kubetest.Server) {
				if c.json {
					s.JSONOnly()
				}
				s.WatchList(c.support)
				if c.marks > 0 {
					s.BookmarkEvery(c.marks)
				}
				if !c.empty {
					s.Set(svc(), es("a", 1))
				}
			}, func(w *world) {
				w.after(c.within)
				sets, _ := w.take()
				if len(sets) != 1 || len(sets[0].Endpoints) == 0 != c.empty {
					t.Fatalf("told %v", sets)
				}
				w.srv.Set(es("b", 2))
				w.after(gap)
				if sets, _ = w.take(); len(sets) != 1 {
					t.Errorf("no news: %v", sets)
				}
				if n := w.srv.Count("list", ""); n != c.lists {
					t.Errorf("%d lists, want %d", n, c.lists)
				}
				w.srv.Down(true)
				w.after(5 * time.Second)
				w.srv.Down(false)
				w.after(time.Minute)
				if n := w.srv.Count("list", ""); n != 2*c.lists {
					t.Errorf("%d lists after an outage, want %d", n, 2*c.lists)
				}
				if n := w.srv.Watching(); n != 1 {
					t.Errorf("%d watches are open", n)
				}
			})
		})
	}
}

// TestNoBookmarks: a server that sends none is asked less and less.
func TestNoBookmarks(t *testing.T) {
	inWorld(t, "square:grpc", func(s *kubetest.Server) {
		s.BookmarkEvery(0)
		s.Set(svc(), es("a", 1))
	}, func(w *world) {
		w.want("10.0.0.1:6565")
		w.after(2 * time.Hour)
		if n := w.srv.Count("", ""); n < 12 || n > 20 {
			t.Errorf("%d requests in two hours", n)
		}
		if _, fails := w.take(); len(fails) != 0 {
			t.Errorf("failures %v", fails)
		}
	})
}

// TestLoad: what one client asks of an API server while nothing happens.
func TestLoad(t *testing.T) {
	inWorld(t, "square:6565", func(s *kubetest.Server) { s.Set(svc(), es("a", 1)) }, func(w *world) {
		w.after(24 * time.Hour)
		if n := w.srv.Count("", ""); n < 40 || n > 120 {
			t.Errorf("%d requests in a day", n)
		}
		if sets, fails := w.take(); len(sets) != 1 || len(fails) != 0 {
			t.Errorf("told %d Sets and %d failures", len(sets), len(fails))
		}
	})
}

func TestAsk(t *testing.T) {
	inWorld(t, "square:grpc", func(s *kubetest.Server) { s.Set(svc(), es("a", 1)) }, func(w *world) {
		w.want("10.0.0.1:6565")
		ask := w.src.(endpoint.Asker).Ask
		before := w.srv.Count("", "")
		ask(endpoint.Question{})
		if set := w.want("10.0.0.1:6565"); set.Verified {
			t.Error("verified by memory")
		}
		if n := w.srv.Count("", ""); n != before {
			t.Errorf("%d requests for a question that the watch answers", n-before)
		}
		for range 100 {
			ask(endpoint.Question{Verify: true})
		}
		w.after(verifyEvery)
		if set := w.want("10.0.0.1:6565"); !set.Verified {
			t.Error("not verified")
		}
		for range 600 {
			ask(endpoint.Question{Verify: true})
			w.after(time.Second / 10)
		}
		sets, _ := w.take()
		if n := w.srv.Count("", "") - before; n < 10 || n > 14 || len(sets) < 10 {
			t.Errorf("%d requests, %d Sets in a minute of questions", n, len(sets))
		}
		w.srv.Down(true)
		w.after(time.Minute)
		w.take()
		w.srv.Down(false)
		ask(endpoint.Question{})
		w.after(3 * time.Second / 2)
		w.want("10.0.0.1:6565")
	})
}

func TestChanged(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	inWorld(t, "square:grpc", func(s *kubetest.Server) {
		s.Set(svc(), es("a", 1).trigger(at), es("b", 2).trigger(at.Add(-time.Hour)))
	}, func(w *world) {
		if set := w.want("10.0.0.1:6565", "10.0.0.2:6565"); !set.Changed.Equal(at) {
			t.Errorf("Changed %v, want %v", set.Changed, at)
		}
		w.after(time.Second)
		w.srv.Set(es("b", 2, 3).trigger(at.Add(time.Minute)))
		if set := w.want("10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565"); !set.Changed.Equal(at.Add(time.Minute)) {
			t.Errorf("Changed %v, want the new slice's", set.Changed)
		}
		w.after(time.Second)
		w.srv.Set(es("a", 1, 4))
		if set := w.want("10.0.0.1:6565", "10.0.0.2:6565", "10.0.0.3:6565", "10.0.0.4:6565"); !set.Changed.IsZero() {
			t.Errorf("Changed %v though nobody said", set.Changed)
		}
	})
}

// TestBurst: a large Service in a rollout is told a few times a second, and a
// burst's first news at once.
func TestBurst(t *testing.T) {
	inWorld(t, "square:grpc", func(s *kubetest.Server) { s.Set(svc(), es("a", 1)) }, func(w *world) {
		w.after(time.Second)
		w.take()
		pods := []int{1}
		for i := range 300 {
			pods = append(pods, i+2)
			w.srv.Set(es("a", pods...))
			w.after(time.Millisecond)
			if sets, _ := w.take(); i == 0 && len(sets) != 1 {
				t.Errorf("the first of a burst is not told at once")
			} else {
				w.sets = append(w.sets, sets...)
			}
		}
		w.after(settle)
		sets, _ := w.take()
		if len(sets) > 10 || len(sets[len(sets)-1].Endpoints) != 301 {
			t.Errorf("told %d times, at last %d endpoints", len(sets), len(sets[len(sets)-1].Endpoints))
		}
	})
}
