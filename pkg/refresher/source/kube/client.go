package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	restwatch "k8s.io/client-go/rest/watch"
)

// api is the little of a Kubernetes client that one Service needs. It is made of
// client-go's transport (certificates, tokens that are read again, plugins,
// connections shared by all sources) without its request type: that one retries
// by its own rules, takes a broken watch for one that ended, and comes with all
// API groups.
type api struct {
	http *http.Client
	base *url.URL
	neg  runtime.ClientNegotiator
}

// accept asks for protobuf first: a slice is a quarter of its size in JSON, and
// its decoding cheaper still.
const accept = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON

// maxError bounds the body of an error that is read.
const maxError = 64 << 10

func newAPI(cfg *rest.Config) (*api, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = 0
	if cfg.UserAgent == "" {
		cfg.UserAgent = rest.DefaultKubernetesUserAgent() + " grpclb-refresher"
	}
	scheme := runtime.NewScheme()
	if err := discoveryv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	// corev1.AddToScheme would link every kind of the core group.
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Service{})
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	return &api{http: client, base: base, neg: runtime.NewClientNegotiator(codecs, discoveryv1.SchemeGroupVersion)}, nil
}

// close gives back connections that nobody uses. Those of another source of the
// same configuration, which are the same ones, are in use.
func (a *api) close() {
	rt := a.http.Transport
	for {
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
			return
		}
		w, ok := rt.(utilnet.RoundTripperWrapper)
		if !ok {
			return
		}
		rt = w.WrappedRoundTripper()
	}
}

// get asks for a path; the answer's status is 200. An answer of another status is
// a [refusal].
func (a *api) get(ctx context.Context, query url.Values, path ...string) (*http.Response, error) {
	u := a.base.JoinPath(path...)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := a.http.Do(req)
	if err != nil {
		if why := context.Cause(ctx); why != nil {
			return nil, why
		}
		// The URL has a random number in it, which would make the same trouble
		// another text each time.
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = fmt.Errorf("ask the API server: %w", e.Err)
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // the answer is had
	return nil, a.refusal(resp)
}

// refusal is an answer of the server that is an error.
type refusal struct {
	err *apierrors.StatusError
	// after is the answer's Retry-After, 0 without one.
	after time.Duration
}

// Error implements error.
func (r *refusal) Error() string { return fmt.Sprintf("%s (%d)", r.err.Error(), r.err.ErrStatus.Code) }

// Unwrap returns the API's own error.
func (r *refusal) Unwrap() error { return r.err }

func (a *api) refusal(resp *http.Response) error {
	r := &refusal{}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		r.after = time.Duration(seconds) * time.Second
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // what came is enough
	if obj, err := a.decode(resp.Header.Get("Content-Type"), body); err == nil {
		if s, ok := obj.(*metav1.Status); ok && s.Status == metav1.StatusFailure {
			s.Code = int32(resp.StatusCode)
			r.err = &apierrors.StatusError{ErrStatus: *s}
			return r
		}
	}
	gr := schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}
	r.err = apierrors.NewGenericServerResponse(resp.StatusCode, "get", gr, "", "", int(r.after/time.Second), true)
	return r
}

func (a *api) decode(contentType string, body []byte) (runtime.Object, error) {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	dec, err := a.neg.Decoder(media, params)
	if err != nil {
		return nil, err
	}
	return runtime.Decode(dec, body)
}

// object asks for one object or list.
func (a *api) object(ctx context.Context, query url.Values, path ...string) (runtime.Object, error) {
	resp, err := a.get(ctx, query, path...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // all of it is read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return a.decode(resp.Header.Get("Content-Type"), body)
}

func (a *api) service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	obj, err := a.object(ctx, nil, "api", "v1", "namespaces", namespace, "services", name)
	if err != nil {
		return nil, err
	}
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, fmt.Errorf("the server sent a %T for a Service", obj)
	}
	return svc, nil
}

func (a *api) list(ctx context.Context, namespace string, query url.Values) (*discoveryv1.EndpointSliceList, error) {
	obj, err := a.object(ctx, query, slicesPath(namespace)...)
	if err != nil {
		return nil, err
	}
	list, ok := obj.(*discoveryv1.EndpointSliceList)
	if !ok {
		return nil, fmt.Errorf("the server sent a %T for EndpointSlices", obj)
	}
	return list, nil
}

func slicesPath(namespace string) []string {
	return []string{"apis", discoveryv1.GroupName, "v1", "namespaces", namespace, "endpointslices"}
}

// stream is an open watch.
type stream struct {
	// events is closed when the watch has ended; end then says how.
	events <-chan event
	end    error // nil when the server ended it in order
	stop   func()
}

type event struct {
	kind  apiwatch.EventType
	slice *discoveryv1.EndpointSlice // Added, Modified, Deleted
	// version and initialEnd are a bookmark's.
	version    string
	initialEnd bool
}

// watch opens a watch. The server must begin to answer within the limit.
func (a *api) watch(ctx context.Context, limit time.Duration, namespace string, query url.Values) (*stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(limit, func() { cancel(errSilent) })
	resp, err := a.get(ctx, query, slicesPath(namespace)...)
	if !late.Stop() && err == nil {
		_ = resp.Body.Close() // it came too late to be used
		err = errSilent
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	dec, err := a.decoder(resp)
	if err != nil {
		_ = resp.Body.Close() // nobody can read it
		cancel(nil)
		return nil, err
	}
	events, done := make(chan event), make(chan struct{})
	st := &stream{events: events, stop: func() {
		cancel(nil)
		dec.Close()
		<-done
	}}
	go func() {
		defer close(done)
		defer close(events)
		st.end = pump(ctx, dec, events)
	}()
	return st, nil
}

func (a *api) decoder(resp *http.Response) (*restwatch.Decoder, error) {
	media, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return nil, fmt.Errorf("the watch is of no known type: %w", err)
	}
	objects, frames, framer, err := a.neg.StreamDecoder(media, params)
	if err != nil {
		return nil, fmt.Errorf("the watch is of no known type: %w", err)
	}
	return restwatch.NewDecoder(streaming.NewDecoder(framer.NewFrameReader(resp.Body), frames), objects), nil
}

// pump hands on events until the watch ends, and returns how.
func pump(ctx context.Context, dec *restwatch.Decoder, events chan<- event) error {
	for {
		kind, obj, err := dec.Decode()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the watch broke: %w", err)
		}
		e := event{kind: kind}
		switch obj := obj.(type) {
		case *discoveryv1.EndpointSlice:
			if kind == apiwatch.Bookmark {
				e.version, e.initialEnd = obj.ResourceVersion, obj.Annotations[metav1.InitialEventsAnnotationKey] == "true"
				break
			}
			e.slice = obj
		case *metav1.Status:
			return &refusal{err: &apierrors.StatusError{ErrStatus: *obj}}
		default:
			if a, err := meta.Accessor(obj); err == nil {
				return fmt.Errorf("the watch has a %T %s", obj, a.GetName())
			}
			return fmt.Errorf("the watch has a %T", obj)
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
