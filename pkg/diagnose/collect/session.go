package collect

import (
	"cmp"
	"errors"
	"net/http"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Limits of a session.
const (
	// DefaultCallTimeout is the time one request may take, its answer read to the end, when the configuration sets none.
	DefaultCallTimeout = 10 * time.Second
	// MaxConcurrent is how many requests Run has under way at once.
	MaxConcurrent = 10
)

// SessionOptions are the parts of a Session that are not in a rest.Config. The zero value is usable.
type SessionOptions struct {
	// Context is the kubeconfig context's name, for messages and the snapshot.
	Context string
	// CallTimeout limits each request; zero means the config's Timeout, or DefaultCallTimeout when that is zero too.
	CallTimeout time.Duration
	// Progress is told what goes on. It is called from several goroutines at once and must not block.
	Progress func(Event)
}

// Session is a connection to one cluster's API server, shared by Run and its stages. It is safe for concurrent use.
type Session struct {
	config      *rest.Config
	http        *http.Client
	rest        rest.Interface
	context     string
	callTimeout time.Duration
	progress    func(Event)
	slots       chan struct{}

	mu   sync.Mutex
	cost diagnose.Cost
	gaps []diagnose.Gap
}

// NewSession prepares a session; it sends nothing. cfg is copied, not kept. The config's Timeout becomes the limit of each call
// and is taken off the HTTP client, where it would also cut port-forwards and logs.
func NewSession(cfg *rest.Config, opt SessionOptions) (*Session, error) {
	if cfg == nil {
		return nil, errors.New("open a session: no client configuration")
	}
	codecs, err := newCodecs()
	if err != nil {
		return nil, err
	}
	s := &Session{
		config: rest.CopyConfig(cfg), context: opt.Context, progress: opt.Progress, slots: make(chan struct{}, MaxConcurrent),
		callTimeout: cmp.Or(opt.CallTimeout, cfg.Timeout, DefaultCallTimeout),
	}
	c := s.config
	c.Timeout = 0
	c.QPS, c.Burst, c.RateLimiter = -1, 0, nil
	c.WarningHandler, c.WarningHandlerWithContext = rest.NoWarnings{}, nil
	c.UserAgent = cmp.Or(c.UserAgent, "kubectl-grpclb")
	c.Wrap(func(rt http.RoundTripper) http.RoundTripper { return &counter{session: s, next: rt} })
	if s.http, err = rest.HTTPClientFor(c); err != nil {
		return nil, err
	}
	own := rest.CopyConfig(c)
	own.ContentConfig = rest.ContentConfig{
		AcceptContentTypes:   runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		ContentType:          runtime.ContentTypeJSON,
		NegotiatedSerializer: codecs.WithoutConversion(),
	}
	if s.rest, err = rest.UnversionedRESTClientForConfigAndClient(own, s.http); err != nil {
		return nil, err
	}
	return s, nil
}

// newCodecs knows just the groups that a diagnosis reads: the full client-go scheme has fifty.
func newCodecs() (serializer.CodecFactory, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, metricsv1beta1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return serializer.CodecFactory{}, err
		}
	}
	return serializer.NewCodecFactory(scheme), nil
}

// REST returns a client for any path of the API server (AbsPath); it decodes the groups that Run reads, and Status.
func (s *Session) REST() rest.Interface { return s.rest }

// HTTPClient returns the client below REST: credentials, TLS and the request counter included. It has no overall time-out.
func (s *Session) HTTPClient() *http.Client { return s.http }

// RESTConfig returns a copy of the configuration, for clients of other kinds (SPDY, typed): what is made from it is counted too.
// It has no overall time-out and no rate limit.
func (s *Session) RESTConfig() *rest.Config { return rest.CopyConfig(s.config) }

func (s *Session) host() string {
	if u, _, err := rest.DefaultServerURL(s.config.Host, "", schema.GroupVersion{}, false); err == nil {
		return u.Host // without a user or a path that the URL may hold
	}
	return "of the kubeconfig"
}

// Context returns the kubeconfig context's name; it may be empty.
func (s *Session) Context() string { return s.context }

// CallTimeout returns how long one request may take.
func (s *Session) CallTimeout() time.Duration { return s.callTimeout }

// Cost returns what the session asked of the API server so far.
func (s *Session) Cost() diagnose.Cost {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cost
}

// Gap notes something that could not be seen inside a group of facts that is otherwise known; Run puts it into the snapshot.
// Stages that run side by side use it instead of Snapshot.Gaps.
func (s *Session) Gap(g diagnose.Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gaps = append(s.gaps, g)
}

func (s *Session) takeGaps() []diagnose.Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gaps
	s.gaps = nil
	return g
}

// Close drops idle connections.
func (s *Session) Close() { utilnet.CloseIdleConnectionsFor(s.http.Transport) }

// Event is one step of a run, for a progress line.
type Event struct {
	Fact diagnose.FactName
	Step Step
	// Subject is what the step is about when a group has several: "pods", "coredns-1", "page 3". May be empty.
	Subject string
	// Done and Total count things of the group (objects, pods, questions); Total is 0 when not known beforehand.
	Done, Total int
	// Status is set with StepEnd.
	Status diagnose.Status
}

// Step says what an Event reports.
type Step string

// The steps of a group of facts.
const (
	StepStart    Step = "start"
	StepProgress Step = "progress"
	StepEnd      Step = "end"
)

// Emit tells the session's Progress function; without one it does nothing.
func (s *Session) Emit(e Event) {
	if s.progress != nil {
		s.progress(e)
	}
}
