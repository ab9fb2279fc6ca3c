package kubetest

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Fault makes matching requests go wrong. Of several that match, the one added last counts.
type Fault struct {
	// What matches: an empty field matches everything; the Group "core" matches the one without a name. AllNamespaces matches only requests over all namespaces, Continued only
	// pages after the first.
	Verb, Group, Resource, Sub, Namespace, Name string
	AllNamespaces, Continued                    bool
	// Skip lets that many matching requests pass first; Times ends the fault after so many, 0 means never.
	Skip, Times int

	// Status answers with an error of that code, worded as an API server does. RetryAfter goes with it, in seconds.
	Status     int
	RetryAfter int
	// Body and ContentType answer with something else entirely, with the code Status or 200.
	Body, ContentType string
	// Hang accepts the request and never answers.
	Hang bool
	// Drip sends the true answer one byte per interval.
	Drip time.Duration
	// Half sends half of the true answer and closes the connection.
	Half bool

	seen int
}

// Fail adds faults.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		s.faults = append(s.faults, &f)
	}
}

// Heal removes all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func (s *Server) faultLocked(r Request) *Fault {
	for i := len(s.faults) - 1; i >= 0; i-- {
		f := s.faults[i]
		if !f.matches(r) {
			continue
		}
		f.seen++
		if f.seen <= f.Skip || f.Times > 0 && f.seen > f.Skip+f.Times {
			continue
		}
		return f
	}
	return nil
}

func (f *Fault) matches(r Request) bool {
	fits := func(want, got string) bool { return want == "" || want == got }
	group := r.Group
	if r.Resource != "" && group == "" {
		group = "core"
	}
	return fits(f.Verb, r.Verb) && fits(f.Group, group) && fits(f.Resource, r.Resource) && fits(f.Sub, r.Sub) && fits(f.Namespace, r.Namespace) &&
		fits(f.Name, r.Name) && (!f.AllNamespaces || r.Namespace == "") && (!f.Continued || r.Continue)
}

// answers reports whether the fault replaces the answer, rather than spoiling the true one.
func (f *Fault) answers() bool { return f.Status != 0 || f.Body != "" || f.ContentType != "" }

// refuse writes the fault's own answer.
func (s *Server) refuse(w *response, req Request, f *Fault) {
	if f.RetryAfter > 0 {
		w.header.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	if f.Body != "" || f.ContentType != "" {
		w.header.Set("Content-Type", f.ContentType)
		w.body = []byte(f.Body)
		if f.Status != 0 {
			w.status = f.Status
		}
		return
	}
	gr := schema.GroupResource{Group: req.Group, Resource: req.Resource}
	var e *apierrors.StatusError
	switch f.Status {
	case http.StatusForbidden:
		e = apierrors.NewForbidden(gr, req.Name, nil)
		e.ErrStatus.Message = gr.String() + " is forbidden: User \"canary-user\" cannot " + req.Verb + " resource \"" + req.Resource + "\""
	case http.StatusUnauthorized:
		e = apierrors.NewUnauthorized("Unauthorized")
	case http.StatusGone:
		e = apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result.")
	default:
		e = apierrors.NewGenericServerResponse(f.Status, req.Verb, gr, req.Name, "", f.RetryAfter, true)
	}
	if e.ErrStatus.Kind == "" {
		e.ErrStatus.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	}
	s.json(w, "application/json", e.ErrStatus)
	w.status = f.Status
}

// send writes the answer, spoilt as the fault says.
func (s *Server) send(w http.ResponseWriter, r *http.Request, rec *response, f *Fault) {
	if f != nil && f.Hang {
		select {
		case <-r.Context().Done():
		case <-s.quit:
		}
		return
	}
	for k, v := range rec.header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(rec.body)))
	w.WriteHeader(rec.status)
	switch {
	case f != nil && f.Half:
		_, _ = w.Write(rec.body[:len(rec.body)/2]) // less than announced: the server then closes the connection
	case f != nil && f.Drip > 0:
		s.drip(w, r, rec.body, f.Drip)
	default:
		_, _ = w.Write(rec.body) // a client that left is its own affair
	}
}

func (s *Server) drip(w http.ResponseWriter, r *http.Request, body []byte, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range body {
		if _, err := w.Write(body[i : i+1]); err != nil {
			return
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-s.quit:
			return
		}
	}
}

func mustURL(path string) *url.URL { return &url.URL{Path: path} }
