package podtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
)

// Nodes stands for all nodes of a cluster. Its methods may be called while it serves. Pods are named NAMESPACE/NAME.
type Nodes struct {
	t   testing.TB
	srv *kubetest.Server

	quit chan struct{} // closed at the end, before anything else

	patching sync.Mutex // reading and writing back a pod is one step

	mu          sync.Mutex
	ports       map[string]port // by pod and number
	silent      map[string]bool
	hanging     map[string]bool // by subresource
	noWebSocket bool
	play        func(Agent) Play
	exec        func(Exec) Result
	lose        bool
	dials       []string
	agents      map[string]running // by pod and container
	closers     []io.Closer
	serving     sync.WaitGroup
}

// port is what is behind a port of a pod's loopback.
type port struct {
	addr      string // of a listener
	complaint string // what the runtime says instead of connecting
}

// Agent is a container that was asked for: an ephemeral one, or the one of a pod that was created.
type Agent struct {
	Pod       string // NAMESPACE/NAME
	Container string
	Image     string
	Args      []string
	Ephemeral bool
}

// Play is what becomes of an Agent. The zero value runs and prints nothing.
type Play struct {
	// Waiting is a kubelet's reason why the container never starts; Ended is the reason why it ended at once.
	Waiting, Ended string
	// Vanish deletes the pod instead of starting the container.
	Vanish bool
	// Log writes the container's log and returns at its end; ctx ends with the reader.
	Log func(ctx context.Context, w io.Writer)
}

// Exec is a command that was asked for.
type Exec struct {
	Pod, Container string
	Command        []string
}

// Result is what came of it. Failure is a runtime's message when the program could not be started.
type Result struct {
	Stdout   string
	ExitCode int
	Failure  string
	// Hang leaves the streams open and never answers.
	Hang bool
}

type running struct {
	agent Agent
	play  Play
}

// New adds handlers to srv. Everything ends with the test.
func New(t testing.TB, srv *kubetest.Server) *Nodes {
	t.Helper()
	n := &Nodes{t: t, srv: srv, ports: map[string]port{}, silent: map[string]bool{}, hanging: map[string]bool{}, quit: make(chan struct{}), agents: map[string]running{}}
	const pod = "/api/v1/namespaces/{ns}/pods/{name}"
	srv.Handle(pod+"/portforward", n.unlessHanging("portforward", n.portForward))
	srv.Handle("PATCH "+pod+"/ephemeralcontainers", n.unlessHanging("ephemeralcontainers", n.addContainer))
	srv.Handle("GET "+pod+"/log", n.unlessHanging("log", n.log))
	srv.Handle(pod+"/exec", n.unlessHanging("exec", n.execute))
	srv.Handle("POST /api/v1/namespaces/{ns}/pods", n.unlessHanging("pods", n.create))
	t.Cleanup(n.close)
	return n
}

func (n *Nodes) unlessHanging(what string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		hang := n.hanging[what]
		n.mu.Unlock()
		if !hang {
			h(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // or the server would not notice that the client left
		select {
		case <-r.Context().Done():
		case <-n.quit:
		}
	})
}

func (n *Nodes) close() {
	close(n.quit)
	n.mu.Lock()
	closers := n.closers
	n.closers = nil
	n.mu.Unlock()
	for _, c := range closers {
		_ = c.Close() // the client may have been first
	}
	n.serving.Wait()
}

// keep closes c when the test ends.
func (n *Nodes) keep(c io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closers = append(n.closers, c)
}

// Listen puts a listener behind a port of a pod.
func (n *Nodes) Listen(pod string, number int, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[portKey(pod, number)] = port{addr: addr}
}

// Complain makes the runtime answer with a text instead of connecting.
func (n *Nodes) Complain(pod string, number int, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[portKey(pod, number)] = port{complaint: text}
}

// Silence lets a pod's port-forwards be upgraded and never accepts a stream, as a node that died in between.
func (n *Nodes) Silence(pod string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent[pod] = true
}

// Hang accepts requests for a subresource (portforward, exec, ephemeralcontainers, log) or, as "pods", for new pods, and never answers
// them.
func (n *Nodes) Hang(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hanging[what] = true
}

// NoWebSocket refuses WebSockets as servers before Kubernetes 1.30 do.
func (n *Nodes) NoWebSocket() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noWebSocket = true
}

// Play sets what becomes of agents.
func (n *Nodes) Play(f func(Agent) Play) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.play = f
}

// Exec sets what commands do. Without it no image has any program.
func (n *Nodes) Exec(f func(Exec) Result) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.exec = f
}

// LoseCreates makes pods and breaks the connection instead of answering.
func (n *Nodes) LoseCreates() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose = true
}

// Dials lists the connections asked for so far, as POD:PORT.
func (n *Nodes) Dials() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.dials...)
}

// Agents lists the containers asked for so far, in no order.
func (n *Nodes) Agents() []Agent {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Agent
	for _, r := range n.agents {
		out = append(out, r.agent)
	}
	return out
}

// Text is a log of just that text.
func Text(s string) func(context.Context, io.Writer) {
	return func(_ context.Context, w io.Writer) { _, _ = io.WriteString(w, s) }
}

// Endless is a log of that text which does not end before its reader leaves.
func Endless(s string) func(context.Context, io.Writer) {
	return func(ctx context.Context, w io.Writer) {
		_, _ = io.WriteString(w, s)
		<-ctx.Done()
	}
}

func portKey(pod string, number int) string { return fmt.Sprintf("%s:%d", pod, number) }

func podOf(r *http.Request) string { return r.PathValue("ns") + "/" + r.PathValue("name") }

// start decides what becomes of a container and remembers it for its log.
func (n *Nodes) start(a Agent) Play {
	n.mu.Lock()
	f := n.play
	n.mu.Unlock()
	var p Play
	if f != nil {
		p = f(a)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.agents[a.Pod+" "+a.Container] = running{a, p}
	return p
}

func (p Play) state() corev1.ContainerState {
	switch {
	case p.Waiting != "":
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: p.Waiting}}
	case p.Ended != "":
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: p.Ended, ExitCode: 128}}
	}
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func (n *Nodes) addContainer(w http.ResponseWriter, r *http.Request) {
	var patch struct {
		Spec struct {
			EphemeralContainers []corev1.EphemeralContainer `json:"ephemeralContainers"`
		} `json:"spec"`
	}
	if err := json.NewDecoder(r.Body).Decode(&patch); err != nil || len(patch.Spec.EphemeralContainers) != 1 {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "not a patch of one ephemeral container", "")
		return
	}
	c := patch.Spec.EphemeralContainers[0]
	n.patching.Lock()
	defer n.patching.Unlock()
	pod, ok := n.pod(podOf(r))
	if !ok {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("pods %q not found", r.PathValue("name")), r.PathValue("name"))
		return
	}
	play := n.start(Agent{Pod: podOf(r), Container: c.Name, Image: c.Image, Args: c.Args, Ephemeral: true})
	pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, c)
	pod.Status.EphemeralContainerStatuses = append(pod.Status.EphemeralContainerStatuses,
		corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: play.state()})
	if play.Vanish {
		n.srv.Delete(pod)
	} else {
		n.srv.Set(pod)
	}
	answer(w, http.StatusOK, pod)
}

// pod reads a pod as any client does.
func (n *Nodes) pod(key string) (*corev1.Pod, bool) {
	ns, name, _ := strings.Cut(key, "/")
	resp, err := http.Get(n.srv.URL() + "/api/v1/namespaces/" + ns + "/pods/" + name)
	if err != nil {
		select {
		case <-n.quit: // the server has ended under a request whose client left
		default:
			n.t.Errorf("podtest: %v", err)
		}
		return nil, false
	}
	defer resp.Body.Close()
	pod := &corev1.Pod{}
	err = json.NewDecoder(resp.Body).Decode(pod)
	return pod, err == nil && resp.StatusCode == http.StatusOK
}

func (n *Nodes) create(w http.ResponseWriter, r *http.Request) {
	pod := &corev1.Pod{}
	if err := json.NewDecoder(r.Body).Decode(pod); err != nil || len(pod.Spec.Containers) != 1 || pod.Name == "" {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "not a pod with a name and one container", "")
		return
	}
	pod.Namespace = r.PathValue("ns")
	c := pod.Spec.Containers[0]
	play := n.start(Agent{Pod: pod.Namespace + "/" + pod.Name, Container: c.Name, Image: c.Image, Args: c.Args})
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.9.9.9",
		ContainerStatuses: []corev1.ContainerStatus{{Name: c.Name, Image: c.Image, State: play.state()}}}
	if !play.Vanish {
		n.srv.Set(pod)
	}
	n.mu.Lock()
	lose := n.lose
	n.mu.Unlock()
	if lose {
		panic(http.ErrAbortHandler)
	}
	answer(w, http.StatusCreated, pod)
}

func (n *Nodes) log(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	run, ok := n.agents[podOf(r)+" "+r.URL.Query().Get("container")]
	n.mu.Unlock()
	if !ok {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "container is not valid for pod", "")
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	flush(w)
	if run.play.Log != nil {
		run.play.Log(r.Context(), flusher{w})
	}
}

// flusher sends each write at once, as a followed log does.
type flusher struct{ http.ResponseWriter }

// Write implements io.Writer.
func (f flusher) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	flush(f.ResponseWriter)
	return n, err
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // a client that left is its own affair
}

// refuse answers with a Status as API servers do.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message, name string) {
	answer(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
		Details: &metav1.StatusDetails{Kind: "pods", Name: name},
	})
}

// Refuse is a handler that answers every request with a Status, for texts that matter: those of admission plugins.
func Refuse(code int, reason metav1.StatusReason, message string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { refuse(w, code, reason, message, "") })
}
