package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// pod is what the table needs of one.
type pod struct {
	name, uid, app, ip, node string
	// readyAt is when the API server told that it is ready, on the clock that the clients have as well; zero before.
	readyAt        time.Time
	ready, leaving bool
}

// podWatch follows all pods of a namespace. Times of the API have whole seconds only, so it takes its own.
type podWatch struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu   sync.Mutex
	pods map[string]pod // by UID, those that are gone included; guarded by mu
}

func watchPods(ctx context.Context, api kubernetes.Interface, namespace string) (*podWatch, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &podWatch{cancel: cancel, pods: map[string]pod{}}
	factory := informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.see(o, false) },
		UpdateFunc: func(_, o any) { w.see(o, false) },
		DeleteFunc: func(o any) { w.see(o, true) },
	})
	if err != nil {
		cancel()
		return nil, err
	}
	w.ended.Go(func() { informer.Run(life.Done()) })
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		w.stop()
		return nil, errors.New("watch pods: no answer")
	}
	return w, nil
}

func (w *podWatch) stop() {
	w.cancel()
	w.ended.Wait()
}

func (w *podWatch) see(o any, gone bool) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	p, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.pods[string(p.UID)]
	known.name, known.uid, known.app, known.node = p.Name, string(p.UID), p.Labels["app"], p.Spec.NodeName
	if p.Status.PodIP != "" {
		known.ip = p.Status.PodIP
	}
	known.leaving = gone || p.DeletionTimestamp != nil
	known.ready = !known.leaving && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	if known.ready && known.readyAt.IsZero() {
		known.readyAt = time.Now()
	}
	w.pods[string(p.UID)] = known
}

// where lists pods in the order of their names.
func (w *podWatch) where(keep func(pod) bool) []pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []pod
	for _, p := range w.pods {
		if keep(p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b pod) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out
}

// ready lists the pods of an app that are ready now.
func (w *podWatch) ready(app string) []pod {
	return w.where(func(p pod) bool { return p.app == app && p.ready })
}

// there lists the pods of an app that have not been told to end.
func (w *podWatch) there(app string) []pod {
	return w.where(func(p pod) bool { return p.app == app && !p.leaving })
}

// since lists the pods of an app that became ready after a moment.
func (w *podWatch) since(app string, t time.Time) []pod {
	return w.where(func(p pod) bool { return p.app == app && p.readyAt.After(t) })
}
