package kubetest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// change is one entry of the history that watches are served from.
type change struct {
	version  int
	gvr      schema.GroupVersionResource
	old, new runtime.Object // nil when there was or is none
}

// watches is the state that all watches of a server share; the server's mutex guards it.
type watches struct {
	history   []change
	compacted int           // the last version that is forgotten
	turn      int           // counts what watches have to look at beside the history
	changed   chan struct{} // closed and replaced at each change and turn
	orders    []order
	bookmarks time.Duration
	watchList WatchListSupport
	silent    bool
}

// order is what open watches are told to do, at a turn.
type order struct {
	turn     int
	bookmark bool
	status   int
	cut      bool
}

// WatchListSupport says what a server makes of sendInitialEvents (KEP-3157).
type WatchListSupport uint8

// What a server makes of sendInitialEvents.
const (
	WatchListServed  WatchListSupport = iota // as servers since 1.34 do
	WatchListRefused                         // as servers with the feature gate off
	WatchListUnknown                         // as servers before 1.27: the parameter is not looked at
)

// WatchList sets what the server makes of sendInitialEvents.
func (s *Server) WatchList(support WatchListSupport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch.watchList = support
}

// BookmarkEvery makes watches that allow bookmarks get one per interval from now on; real servers send one a minute. 0 means none.
func (s *Server) BookmarkEvery(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch.bookmarks = d
	s.wakeLocked()
}

// Bookmark sends a bookmark on all open watches that allow it.
func (s *Server) Bookmark() { s.order(order{bookmark: true}) }

// CutWatches breaks the connections of all open watches.
func (s *Server) CutWatches() { s.order(order{cut: true}) }

// FailWatches sends an error of that code on all open watches and ends them.
func (s *Server) FailWatches(code int) { s.order(order{status: code}) }

// Compact forgets the history, as etcd does every five minutes: a watch from an earlier version gets 410.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++ // so that no version that a client may know is current
	s.watch.history, s.watch.compacted = nil, s.version
}

// Silence makes open and new watches keep their connections and say nothing (true), or say what they have not said yet (false).
func (s *Server) Silence(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch.silent = on
	s.wakeLocked()
}

// Watching counts the watches that are open.
func (s *Server) Watching() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watchers
}

func (s *Server) order(o order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch.turn++
	o.turn = s.watch.turn
	s.watch.orders = append(s.watch.orders, o)
	s.wakeLocked()
}

func (s *Server) wakeLocked() {
	close(s.watch.changed)
	s.watch.changed = make(chan struct{})
}

// recordLocked adds a change of the store at the current version to the history.
func (s *Server) recordLocked(gvr schema.GroupVersionResource, before, after runtime.Object) {
	s.watch.history = append(s.watch.history, change{s.version, gvr, before, after})
	s.wakeLocked()
}

// stream is one watch.
type stream struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	res      *resourceType
	req      Request
	byLabel  labels.Selector
	info     runtime.SerializerInfo
	bookmark bool // allowed
	version  int  // all up to it has been said
	turn     int
}

// serveWatch serves a watch until somebody ends it.
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, req Request) {
	refuse := func(e *apierrors.StatusError) {
		rec := &response{header: http.Header{}}
		s.status(rec, r, e)
		s.send(w, r, rec, nil)
	}
	q := r.URL.Query()
	res := s.resource(r.URL.Path)
	byLabel, err := labels.Parse(q.Get("labelSelector"))
	switch {
	case res == nil || res.list == nil:
		http.NotFound(w, r)
		return
	case err != nil || q.Get("fieldSelector") != "":
		refuse(apierrors.NewBadRequest("unable to parse requirement"))
		return
	}
	st := &stream{s: s, w: w, r: r, res: res, req: req, byLabel: byLabel, bookmark: q.Get("allowWatchBookmarks") == "true"}
	var initial bool
	if st.version, initial, err = s.watchFrom(q); err != nil {
		errs := field.ErrorList{field.Forbidden(field.NewPath("sendInitialEvents"), err.Error())}
		refuse(apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "ListOptions"}, "", errs))
		return
	}
	mediaType := s.mediaType(r)
	st.info, _ = runtime.SerializerInfoForMediaType(s.lib.codecs.SupportedMediaTypes(), mediaType)
	if mediaType == runtime.ContentTypeProtobuf {
		mediaType += ";stream=watch"
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(http.StatusOK)
	flush(w)
	s.mu.Lock()
	s.watchers++
	st.turn = s.watch.turn
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.watchers--
		s.mu.Unlock()
	}()
	st.run(initial, q.Get("sendInitialEvents") == "true", timeout(q))
}

func timeout(q url.Values) <-chan time.Time {
	seconds, _ := strconv.Atoi(q.Get("timeoutSeconds")) // the API ignores what is no number, too
	if seconds <= 0 {
		return nil
	}
	return time.After(time.Duration(seconds) * time.Second)
}

// watchFrom says after which version events are wanted, and whether the state comes first.
func (s *Server) watchFrom(q url.Values) (version int, initial bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := q.Get("resourceVersion")
	sendInitial := q.Get("sendInitialEvents")
	if s.watch.watchList == WatchListUnknown {
		sendInitial = ""
	}
	if sendInitial != "" {
		if s.watch.watchList == WatchListRefused {
			return 0, false, fmt.Errorf("sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
		}
		if q.Get("resourceVersionMatch") != string(metav1.ResourceVersionMatchNotOlderThan) {
			return 0, false, fmt.Errorf("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
		}
	}
	if from == "" || from == "0" || sendInitial == "true" {
		return s.version, sendInitial != "false", nil
	}
	version, err = strconv.Atoi(from)
	return version, false, err
}

func (st *stream) run(initial, endMark bool, expired <-chan time.Time) {
	if initial && !st.initial(endMark) {
		return
	}
	for {
		ok, every, changed := st.catchUp()
		if !ok {
			return
		}
		var tick <-chan time.Time
		if every > 0 {
			tick = time.After(every)
		}
		select {
		case <-changed:
		case <-tick:
			st.sendBookmark(nil)
		case <-expired:
			st.sendBookmark(nil) // servers say where they are before they hang up
			return
		case <-st.r.Context().Done():
			return
		case <-st.s.quit:
			return
		}
	}
}

// initial sends the state, and the bookmark that ends it.
func (st *stream) initial(endMark bool) bool {
	s := st.s
	s.mu.Lock()
	var keys []string
	for k := range s.store[st.res.gvr] {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var objs []runtime.Object
	for _, k := range keys {
		if o := s.store[st.res.gvr][k]; st.wants(o) {
			objs = append(objs, o.DeepCopyObject())
		}
	}
	st.version = s.version
	endMark = endMark && s.watch.watchList == WatchListServed
	silent := s.watch.silent
	s.mu.Unlock()
	if silent {
		return true
	}
	for _, o := range objs {
		if !st.send(apiwatch.Added, o) {
			return false
		}
	}
	return !endMark || st.sendBookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
}

func (st *stream) wants(o runtime.Object) bool {
	if o == nil {
		return false
	}
	a := accessor(o)
	return (st.req.Namespace == "" || a.GetNamespace() == st.req.Namespace) && st.byLabel.Matches(labels.Set(a.GetLabels()))
}

// catchUp sends what happened since; ok is false when the watch has ended.
func (st *stream) catchUp() (ok bool, bookmarks time.Duration, changed <-chan struct{}) {
	s := st.s
	s.mu.Lock()
	changed = s.watch.changed
	if s.watch.silent {
		s.mu.Unlock()
		return true, 0, changed
	}
	tooOld := st.version < s.watch.compacted
	// Both are in order, and what is new is at the end.
	var news []change
	since := sort.Search(len(s.watch.history), func(i int) bool { return s.watch.history[i].version > st.version })
	for _, c := range s.watch.history[since:] {
		if c.gvr == st.res.gvr {
			news = append(news, c)
		}
	}
	since = sort.Search(len(s.watch.orders), func(i int) bool { return s.watch.orders[i].turn > st.turn })
	orders := slices.Clone(s.watch.orders[since:])
	st.turn = s.watch.turn
	version := s.version
	if st.bookmark {
		bookmarks = s.watch.bookmarks
	}
	s.mu.Unlock()
	if tooOld {
		st.fail(apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d", st.version)))
		return false, 0, nil
	}
	if !st.end(orders) {
		return false, 0, nil
	}
	for _, c := range news {
		if !st.tell(c) {
			return false, 0, nil
		}
	}
	st.version = version
	if slices.ContainsFunc(orders, func(o order) bool { return o.bookmark }) && !st.sendBookmark(nil) {
		return false, 0, nil
	}
	return true, bookmarks, changed
}

// end obeys orders that end the watch, before anything else is said on it.
func (st *stream) end(orders []order) (goesOn bool) {
	for _, o := range orders {
		switch {
		case o.cut:
			panic(http.ErrAbortHandler) // the one way to break a connection that a handler has
		case o.status == http.StatusGone:
			st.fail(apierrors.NewResourceExpired("too old resource version"))
			return false
		case o.status != 0:
			st.fail(apierrors.NewGenericServerResponse(o.status, "watch", st.res.gvr.GroupResource(), "", "", 0, true))
			return false
		}
	}
	return true
}

// tell sends a change as those see it who watch with the selector.
func (st *stream) tell(c change) bool {
	before, after := st.wants(c.old), st.wants(c.new)
	switch {
	case after && before:
		return st.send(apiwatch.Modified, c.new.DeepCopyObject())
	case after:
		return st.send(apiwatch.Added, c.new.DeepCopyObject())
	case before:
		gone := c.old.DeepCopyObject()
		accessor(gone).SetResourceVersion(strconv.Itoa(c.version))
		return st.send(apiwatch.Deleted, gone)
	}
	return true
}

func (st *stream) sendBookmark(annotations map[string]string) bool {
	if !st.bookmark {
		return true
	}
	o := st.res.object()
	accessor(o).SetResourceVersion(strconv.Itoa(st.version))
	accessor(o).SetAnnotations(annotations)
	return st.send(apiwatch.Bookmark, o)
}

func (st *stream) fail(e *apierrors.StatusError) {
	status := e.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	st.sendAs(apiwatch.Error, &status, schema.GroupVersion{Version: "v1"})
}

func (st *stream) send(kind apiwatch.EventType, o runtime.Object) bool {
	return st.sendAs(kind, o, st.res.gvr.GroupVersion())
}

func (st *stream) sendAs(kind apiwatch.EventType, o runtime.Object, gv schema.GroupVersion) bool {
	raw, err := runtime.Encode(st.s.lib.codecs.EncoderForVersion(st.info.Serializer, gv), o)
	if err != nil {
		st.s.t.Errorf("kubetest: encode an event: %v", err)
		return false
	}
	event := &metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: raw}}
	frame := st.info.StreamSerializer.Framer.NewFrameWriter(st.w)
	if err := st.info.StreamSerializer.Encode(event, frame); err != nil {
		return false // the client left
	}
	flush(st.w)
	return true
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// mediaType is the first one of Accept that the server has.
func (s *Server) mediaType(r *http.Request) string {
	s.mu.Lock()
	plain := s.jsonOnly
	s.mu.Unlock()
	for a := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		a, _, _ = strings.Cut(strings.TrimSpace(a), ";")
		if a == runtime.ContentTypeProtobuf && !plain || a == runtime.ContentTypeJSON {
			return a
		}
	}
	return runtime.ContentTypeJSON
}
