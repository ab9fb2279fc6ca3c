package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// tell hands the present slices to the sink as a Set, unless they are what it has
// (again makes that no reason). It returns a word for what came of it.
func (f *follower) tell(ctx context.Context, again bool) string {
	began := time.Now()
	f.due = time.Time{}
	set, err := f.set(ctx)
	f.gap = min(max(gap, gapShare*time.Since(began)), gapMost)
	if err != nil {
		if f.trouble != err.Error() || again {
			f.trouble = err.Error()
			f.sink.Fail(err)
		}
		return "unusable"
	}
	again = again || f.trouble != ""
	f.trouble = ""
	verify := f.verify && again
	same := !f.sent.IsZero() && set.Reason == f.last.Reason && set.Authoritative == f.last.Authoritative &&
		slices.EqualFunc(set.Endpoints, f.last.Endpoints, endpoint.Endpoint.Equal)
	if same && !again {
		f.changed = time.Time{}
		return "unchanged"
	}
	set.At = time.Now()
	if verify {
		set.Verified, f.verify = true, false
	}
	if same {
		set.Changed = f.last.Changed
	}
	f.last, f.sent, f.changed = set, set.At, time.Time{}
	f.sink.Update(set)
	switch {
	case len(set.Endpoints) == 0:
		return "empty"
	case same:
		return "unchanged"
	}
	return "ok"
}

// set makes the Set of the present slices. The error is about the Service, not
// about the server.
func (f *follower) set(ctx context.Context) (endpoint.Set, error) {
	set := endpoint.Set{Source: SourceName, Changed: f.changed}
	listed, usable := 0, 0
	for _, s := range f.slices {
		listed += s.listed
		usable += len(s.entries)
		if s.fqdn {
			f.warn(fmt.Sprintf("EndpointSlice %s/%s has host names (addressType FQDN), which are not resolved: it is left out", f.namespace, s.name))
		}
	}
	switch {
	case len(f.slices) == 0:
		return f.nothing(set)
	case listed == 0:
		set.Authoritative, set.Reason = true, "no endpoint in any EndpointSlice"
		return set, nil
	case usable == 0:
		set.Reason = "no usable address in any EndpointSlice"
		return set, nil
	}
	if ports := offers(f.slices); !slices.Equal(ports, f.offer) {
		f.offer, f.svc = ports, service{} // a Service whose ports changed
	}
	r := rule(f.id(), f.port, f.slices, f.svc)
	if r.ask {
		f.readService(ctx)
		r = rule(f.id(), f.port, f.slices, f.svc)
	}
	if r.err != nil {
		return set, r.err
	}
	if r.warning != "" {
		f.warn(r.warning)
	}
	set.Authoritative = true
	set.Endpoints = merge(f.slices, r.choice, f.prefer6)
	return set, nil
}

// nothing is the Set when there is no slice: the Service is gone, or being
// replaced, or was never there. That is no statement about its pods.
func (f *follower) nothing(set endpoint.Set) (endpoint.Set, error) {
	if f.offer != nil { // what is known is from before
		f.offer, f.svc = nil, service{}
	}
	switch f.svc.known {
	case present:
		if f.svc.externalName != "" {
			return set, &ExternalNameError{Service: f.id(), ExternalName: f.svc.externalName}
		}
		set.Reason = fmt.Sprintf("Service %s has no EndpointSlice", f.id())
	case missing:
		set.Reason = fmt.Sprintf("no Service %s", f.id())
	case notAsked:
		// Everybody who watched it comes here in the same moment.
		f.look = time.Now().Add(between(0, time.Second))
		fallthrough
	default:
		set.Reason = fmt.Sprintf("no Service %s, or none with an EndpointSlice", f.id())
	}
	return set, nil
}

// readService asks for the Service object.
func (f *follower) readService(ctx context.Context) {
	limited, cancel := context.WithTimeoutCause(ctx, serviceLimit, errSilent)
	defer cancel()
	svc, err := f.api.service(limited, f.namespace, f.name)
	switch {
	case err == nil:
		f.svc = projectService(svc)
	case apierrors.IsNotFound(err):
		f.svc = service{known: missing}
	default:
		f.svc = service{known: unreadable}
		if !apierrors.IsForbidden(err) && ctx.Err() == nil {
			f.look = time.Now().Add(between(serviceRetry, 2*serviceRetry))
			f.warn(fmt.Sprintf("Service %s could not be read, and is tried again: %v", f.id(), err))
		}
	}
}

// warn tells a warning once.
func (f *follower) warn(text string) {
	if !f.warned[text] && len(f.warned) < 100 {
		f.warned[text] = true
		f.sink.Note(endpoint.Warning{Text: text})
	}
}
