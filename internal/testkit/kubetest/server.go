package kubetest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// ServerVersion is what /version says.
const ServerVersion = "v1.36.3"

// Server is a fake API server. All methods are safe for concurrent use.
type Server struct {
	t    testing.TB
	http *httptest.Server
	lib  *library
	quit chan struct{} // closed before the HTTP server, to end hanging answers

	mu       sync.Mutex
	version  int // of the whole store, as etcd's revision
	store    map[schema.GroupVersionResource]map[string]runtime.Object
	faults   []*Fault
	log      []Request
	unserved map[string]bool // groups
	pageSize int
	jsonOnly bool
	mux      *http.ServeMux
	watch    watches
	watchers int
	down     bool
}

// Request is one request as the server understood it.
type Request struct {
	Verb      string // list, watch, get, create, update, patch, delete; the HTTP method in lower case for paths that are no resource
	Group     string
	Resource  string
	Sub       string
	Namespace string
	Name      string
	Path      string
	Labels    string // label selector
	Limit     int
	Continue  bool
	Initial   bool // a watch that wants the state first
	Accept    string
}

// NewServer starts a plaintext server that holds the objects; it is closed with the test.
func NewServer(t testing.TB, objs ...runtime.Object) *Server {
	t.Helper()
	return start(t, (*httptest.Server).Start, objs)
}

// NewTLSServer is NewServer with TLS and HTTP/2, as real API servers have it.
func NewTLSServer(t testing.TB, objs ...runtime.Object) *Server {
	t.Helper()
	return start(t, func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() }, objs)
}

func start(t testing.TB, run func(*httptest.Server), objs []runtime.Object) *Server {
	t.Helper()
	s := unstarted(t, objs)
	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail are what some tests are about
	run(s.http)
	t.Cleanup(func() {
		close(s.quit)
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// unstarted makes a server that listens nowhere.
func unstarted(t testing.TB, objs []runtime.Object) *Server {
	t.Helper()
	lib, err := newLibrary()
	if err != nil {
		t.Fatalf("kubetest: %v", err)
	}
	s := &Server{
		t: t, lib: lib, quit: make(chan struct{}), version: 1000, mux: http.NewServeMux(),
		store: map[schema.GroupVersionResource]map[string]runtime.Object{}, unserved: map[string]bool{},
		watch: watches{changed: make(chan struct{})},
	}
	s.Set(objs...)
	return s
}

// Config returns a client configuration for the server.
func (s *Server) Config() *rest.Config {
	if s.http == nil {
		return s.localConfig()
	}
	cfg := &rest.Config{Host: s.http.URL}
	if cert := s.http.Certificate(); cert != nil {
		cfg.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return cfg
}

// URL returns the server's root.
func (s *Server) URL() string { return s.http.URL }

// Handle lets a handler answer for a pattern of http.ServeMux, before anything else: subresources such as
// "/api/v1/namespaces/{ns}/pods/{name}/log", or whatever a test needs to be different.
func (s *Server) Handle(pattern string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mux.Handle(pattern, h)
}

// Unserve takes groups away, as in a cluster that lacks them ("metrics.k8s.io").
func (s *Server) Unserve(groups ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		s.unserved[g] = true
	}
}

// PageSize makes every page at most n objects long, whatever limit a client sends.
func (s *Server) PageSize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pageSize = n
}

// JSONOnly makes the server answer in JSON whatever is asked for, as servers without protobuf do.
func (s *Server) JSONOnly() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jsonOnly = true
}

// wrapped is implemented by the builders.
type wrapped interface{ Unwrap() []runtime.Object }

// Set creates or replaces objects. Builders may stand for all the objects that they make.
func (s *Server) Set(objs ...runtime.Object) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range flatten(objs) {
		r, err := s.lib.byObject(o)
		if err != nil {
			s.t.Fatalf("kubetest: %v", err)
		}
		s.putLocked(r, o.DeepCopyObject())
	}
}

func flatten(objs []runtime.Object) []runtime.Object {
	var out []runtime.Object
	for _, o := range objs {
		if w, ok := o.(wrapped); ok {
			out = append(out, w.Unwrap()...)
			continue
		}
		out = append(out, o)
	}
	return out
}

// Delete removes objects by their kind, namespace and name; one that is not there is no error.
func (s *Server) Delete(objs ...runtime.Object) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range flatten(objs) {
		r, err := s.lib.byObject(o)
		if err != nil {
			s.t.Fatalf("kubetest: %v", err)
		}
		s.removeLocked(r, storeKey(accessor(o)))
	}
}

func (s *Server) removeLocked(r *resourceType, key string) {
	s.version++
	if old := s.store[r.gvr][key]; old != nil {
		delete(s.store[r.gvr], key)
		s.recordLocked(r.gvr, old, nil)
	}
}

func (s *Server) putLocked(r *resourceType, o runtime.Object) {
	s.version++
	a := accessor(o)
	a.SetResourceVersion(strconv.Itoa(s.version))
	if s.store[r.gvr] == nil {
		s.store[r.gvr] = map[string]runtime.Object{}
	}
	old := s.store[r.gvr][storeKey(a)]
	s.store[r.gvr][storeKey(a)] = o
	s.recordLocked(r.gvr, old, o)
}

func accessor(o runtime.Object) metav1.Object {
	a, err := meta.Accessor(o)
	if err != nil {
		return &metav1.ObjectMeta{} // every type of the table has metadata
	}
	return a
}

func storeKey(a metav1.Object) string { return a.GetNamespace() + "/" + a.GetName() }

// Requests returns what was asked so far, in the order of arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// Count counts the requests with a verb for a resource; an empty verb or resource counts all.
func (s *Server) Count(verb, resource string) int {
	n := 0
	for _, r := range s.Requests() {
		if (verb == "" || r.Verb == verb) && (resource == "" || r.Resource == resource) {
			n++
		}
	}
	return n
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := understand(r)
	s.mu.Lock()
	s.log = append(s.log, req)
	fault := s.faultLocked(req)
	_, pattern := s.mux.Handler(r)
	s.mu.Unlock()

	rec := &response{header: http.Header{}, status: http.StatusOK}
	switch {
	case fault != nil && fault.answers():
		s.refuse(rec, req, fault)
	case pattern != "":
		s.mux.ServeHTTP(w, r)
		return
	case req.Verb == "watch" && (fault == nil || !fault.Hang):
		s.serveWatch(w, r, req)
		return
	case req.Verb == "watch": // it hangs
	default:
		s.serve(rec, r, req)
	}
	s.send(w, r, rec, fault)
}

// response is an answer before it is sent, so that a fault can spoil it on the way.
type response struct {
	header http.Header
	status int
	body   []byte
}

func understand(r *http.Request) Request {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit")) // 0 when absent, as the API has it
	req := Request{
		Verb: strings.ToLower(r.Method), Path: r.URL.Path, Labels: q.Get("labelSelector"), Limit: limit, Continue: q.Get("continue") != "",
		Accept: r.Header.Get("Accept"), Initial: q.Get("sendInitialEvents") == "true",
	}
	seg := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(seg) >= 3 && seg[0] == "api":
		seg = seg[2:]
	case len(seg) >= 4 && seg[0] == "apis":
		req.Group = seg[1]
		seg = seg[3:]
	default:
		return req
	}
	if len(seg) >= 3 && seg[0] == "namespaces" {
		req.Namespace, seg = seg[1], seg[2:]
	}
	req.Resource = seg[0]
	if len(seg) > 1 {
		req.Name = seg[1]
	}
	if len(seg) > 2 {
		req.Sub = strings.Join(seg[2:], "/")
	}
	req.Verb = map[string]string{"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[r.Method]
	if req.Verb == "get" && req.Name == "" {
		req.Verb = "list"
		if w := q.Get("watch"); w == "true" || w == "1" {
			req.Verb = "watch"
		}
	}
	return req
}

func (s *Server) serve(w *response, r *http.Request, req Request) {
	if req.Resource == "" {
		s.discovery(w, r)
		return
	}
	res := s.resource(r.URL.Path)
	if res == nil {
		w.status, w.body = http.StatusNotFound, []byte("404 page not found\n")
		w.header.Set("Content-Type", "text/plain; charset=utf-8")
		return
	}
	switch req.Verb {
	case "list":
		s.list(w, r, res, req)
	case "get":
		s.get(w, r, res, req)
	default:
		s.write(w, r, res, req)
	}
}

func (s *Server) resource(path string) *resourceType {
	seg := strings.Split(strings.Trim(path, "/"), "/")
	group, version := "", seg[1]
	if seg[0] == "apis" {
		group, version = seg[1], seg[2]
	}
	req := understand(&http.Request{Method: http.MethodGet, URL: mustURL(path)})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unserved[group] {
		return nil
	}
	return s.lib.find(group, version, req.Resource)
}

func (s *Server) get(w *response, r *http.Request, res *resourceType, req Request) {
	s.mu.Lock()
	obj := s.store[res.gvr][req.Namespace+"/"+req.Name]
	if obj != nil {
		obj = obj.DeepCopyObject() // encoding writes the kind into it
	}
	s.mu.Unlock()
	if obj == nil {
		s.status(w, r, apierrors.NewNotFound(res.gvr.GroupResource(), req.Name))
		return
	}
	s.object(w, r, res, obj)
}

func (s *Server) list(w *response, r *http.Request, res *resourceType, req Request) {
	q := r.URL.Query()
	byLabel, err1 := labels.Parse(q.Get("labelSelector"))
	byField, err2 := fields.ParseSelector(q.Get("fieldSelector"))
	if err1 != nil || err2 != nil || res.list == nil {
		s.status(w, r, apierrors.NewBadRequest("unable to parse requirement"))
		return
	}
	s.mu.Lock()
	var keys []string
	for k, o := range s.store[res.gvr] {
		a := accessor(o)
		set := fields.Set{"metadata.name": a.GetName(), "metadata.namespace": a.GetNamespace()}
		if (req.Namespace == "" || a.GetNamespace() == req.Namespace) && byLabel.Matches(labels.Set(a.GetLabels())) && byField.Matches(set) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	limit := req.Limit
	if s.pageSize > 0 && (limit == 0 || limit > s.pageSize) {
		limit = s.pageSize
	}
	page, next := cut(keys, q.Get("continue"), limit)
	objs := make([]runtime.Object, 0, len(page))
	for _, k := range page {
		objs = append(objs, s.store[res.gvr][k])
	}
	list := res.list()
	err := meta.SetList(list, objs)
	version := strconv.Itoa(s.version)
	s.mu.Unlock()
	if err != nil {
		s.t.Errorf("kubetest: list of %s: %v", res.gvr, err)
	}
	if a, err := meta.ListAccessor(list); err == nil && res.gvr.Group != "metrics.k8s.io" { // metrics-server leaves both out
		a.SetResourceVersion(version)
		a.SetContinue(next)
	}
	s.object(w, r, res, list)
}

// cut takes one page: the keys after the token's.
func cut(keys []string, token string, limit int) (page []string, next string) {
	if after, err := base64.RawURLEncoding.DecodeString(token); err == nil && token != "" {
		i, found := slices.BinarySearch(keys, string(after))
		if found {
			i++
		}
		keys = keys[i:]
	}
	if limit > 0 && len(keys) > limit {
		return keys[:limit], base64.RawURLEncoding.EncodeToString([]byte(keys[limit-1]))
	}
	return keys, ""
}

// object answers in the first media type of Accept that the server has.
func (s *Server) object(w *response, r *http.Request, res *resourceType, obj runtime.Object) {
	mediaType := s.mediaType(r)
	b, err := s.lib.encode(obj, res.gvr.GroupVersion(), mediaType)
	if err != nil {
		s.t.Errorf("kubetest: encode %s: %v", res.gvr, err)
	}
	w.header.Set("Content-Type", mediaType)
	w.body = b
}

// status answers with an error as API servers word it.
func (s *Server) status(w *response, r *http.Request, e *apierrors.StatusError) {
	st := e.Status()
	s.object(w, r, &resourceType{gvr: schema.GroupVersionResource{Version: "v1"}}, &st)
	w.status = int(st.Code)
}

func (s *Server) json(w *response, contentType string, v any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		s.t.Errorf("kubetest: %v", err)
	}
	w.header.Set("Content-Type", contentType)
	w.body = b.Bytes()
}

// String describes a request in one line, for test failures.
func (r Request) String() string {
	return fmt.Sprintf("%s %s", r.Verb, r.Path)
}
