package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

const maxBody = 8 << 20

// write serves create, update, patch and delete.
func (s *Server) write(w *response, r *http.Request, res *resourceType, req Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		s.status(w, r, apierrors.NewBadRequest(err.Error()))
		return
	}
	if res.list == nil {
		s.review(w, r, res, body)
		return
	}
	dryRun := r.URL.Query().Get("dryRun") != "" || req.Verb == "delete" && s.deletesNothing(body)
	s.mu.Lock()
	old := s.store[res.gvr][req.Namespace+"/"+req.Name]
	s.mu.Unlock()
	if req.Verb != "create" && old == nil {
		s.status(w, r, apierrors.NewNotFound(res.gvr.GroupResource(), req.Name))
		return
	}
	obj, status, failed := old, http.StatusOK, (*apierrors.StatusError)(nil)
	switch req.Verb {
	case "create":
		status = http.StatusCreated
		obj, failed = s.create(res, req, body)
	case "update":
		obj, failed = s.decode(res, body)
	case "patch":
		obj, failed = s.patch(res, old, r.Header.Get("Content-Type"), body)
	}
	if failed != nil {
		s.status(w, r, failed)
		return
	}
	if !dryRun {
		s.mu.Lock()
		if req.Verb == "delete" {
			s.removeLocked(res, req.Namespace+"/"+req.Name)
		} else {
			s.putLocked(res, obj)
		}
		s.mu.Unlock()
	}
	s.object(w, r, res, obj.DeepCopyObject())
	w.status = status
}

// deletesNothing reports whether a delete's options, which travel in its body, ask for a dry run.
func (s *Server) deletesNothing(body []byte) bool {
	opt := &metav1.DeleteOptions{}
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
	_, _, err := s.lib.codecs.UniversalDeserializer().Decode(body, &gvk, opt)
	return err == nil && len(opt.DryRun) > 0
}

func (s *Server) decode(res *resourceType, body []byte) (runtime.Object, *apierrors.StatusError) {
	obj := res.object()
	gvk := res.gvr.GroupVersion().WithKind(res.kind)
	got, _, err := s.lib.codecs.UniversalDeserializer().Decode(body, &gvk, obj)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return got, nil
}

func (s *Server) create(res *resourceType, req Request, body []byte) (runtime.Object, *apierrors.StatusError) {
	obj, failed := s.decode(res, body)
	if failed != nil {
		return nil, failed
	}
	a := accessor(obj)
	a.SetNamespace(req.Namespace)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.GetName() == "" {
		s.version++
		a.SetName(fmt.Sprintf("%s%05d", a.GetGenerateName(), s.version))
	}
	if s.store[res.gvr][storeKey(a)] != nil {
		return nil, apierrors.NewAlreadyExists(res.gvr.GroupResource(), a.GetName())
	}
	a.SetUID(types.UID("uid-" + storeKey(a) + fmt.Sprint(s.version)))
	return obj, nil
}

func (s *Server) patch(res *resourceType, old runtime.Object, contentType string, patch []byte) (runtime.Object, *apierrors.StatusError) {
	before, err := json.Marshal(old)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	var after []byte
	switch t, _, _ := strings.Cut(contentType, ";"); types.PatchType(t) {
	case types.StrategicMergePatchType:
		after, err = strategicpatch.StrategicMergePatch(before, patch, res.object())
	case types.MergePatchType:
		after, err = mergePatch(before, patch)
	default:
		return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", res.gvr.GroupResource(), "", "", 0, true)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return s.decode(res, after)
}

// mergePatch applies a JSON merge patch (RFC 7396).
func mergePatch(doc, patch []byte) ([]byte, error) {
	var d, p any
	if err := json.Unmarshal(doc, &d); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(patch, &p); err != nil {
		return nil, err
	}
	return json.Marshal(merge(d, p))
}

func merge(doc, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	d, ok := doc.(map[string]any)
	if !ok {
		d = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(d, k)
			continue
		}
		d[k] = merge(d[k], v)
	}
	return d
}

// review allows everything that no Fault for the reviewed verb and resource refuses with 403.
func (s *Server) review(w *response, r *http.Request, res *resourceType, body []byte) {
	obj, failed := s.decode(res, body)
	review, ok := obj.(*authorizationv1.SelfSubjectAccessReview)
	if failed != nil || !ok {
		s.status(w, r, apierrors.NewBadRequest("not a review"))
		return
	}
	review.Status.Allowed = true
	if a := review.Spec.ResourceAttributes; a != nil {
		asked := Request{Verb: a.Verb, Group: a.Group, Resource: a.Resource, Sub: a.Subresource, Namespace: a.Namespace, Name: a.Name}
		s.mu.Lock()
		for _, f := range s.faults {
			if f.Status == http.StatusForbidden && f.matches(asked) {
				review.Status.Allowed = false
			}
		}
		s.mu.Unlock()
	}
	s.object(w, r, res, review)
	w.status = http.StatusCreated
}
