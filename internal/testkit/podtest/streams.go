package podtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	pfnames "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// portForward serves pods/portforward as an API server since Kubernetes 1.30 does: SPDY, or SPDY in a WebSocket (KEP-4006).
func (n *Nodes) portForward(w http.ResponseWriter, r *http.Request) {
	pod := podOf(r)
	if _, ok := n.pod(pod); !ok {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("pods %q not found", r.PathValue("name")), r.PathValue("name"))
		return
	}
	f := &forwards{nodes: n, pod: pod, waiting: map[string]httpstream.Stream{}}
	conn, ok := n.upgrade(w, r, f.accept)
	if ok {
		n.keep(conn)
	}
}

// upgrade makes a connection of streams of a request; it has answered when it is false.
func (n *Nodes) upgrade(w http.ResponseWriter, r *http.Request, accept httpstream.NewStreamHandler) (io.Closer, bool) {
	n.mu.Lock()
	refuseWS := n.noWebSocket
	n.mu.Unlock()
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set(httpstream.HeaderProtocolVersion, r.Header.Get(httpstream.HeaderProtocolVersion))
		conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, accept)
		return conn, conn != nil
	}
	if refuseWS {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "Upgrade request required", "")
		return nil, false
	}
	up := websocket.Upgrader{Subprotocols: []string{pfnames.WebsocketsSPDYTunnelingPortForwardV1}}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil, false // the upgrader has answered
	}
	tunnel := portforward.NewTunnelingConnectionWithLogger(logr.Discard(), ws)
	conn, err := spdy.NewServerConnection(tunnel, accept)
	if err != nil {
		return nil, false
	}
	return both{conn, tunnel}, true
}

// both closes the streams and what they run over.
type both struct {
	httpstream.Connection
	below io.Closer
}

// Close implements io.Closer.
func (b both) Close() error { return errors.Join(b.Connection.Close(), b.below.Close()) }

// forwards pairs the streams of one connection to one pod.
type forwards struct {
	nodes *Nodes
	pod   string

	mu      sync.Mutex
	waiting map[string]httpstream.Stream // error streams whose data stream has not come yet, by request
}

// replier is the part of the library's server streams that its interface leaves out.
type replier interface {
	SendReply(headers http.Header, fin bool) error
}

var errUnpaired = errors.New("a data stream without its error stream, or without a port")

func (f *forwards) accept(s httpstream.Stream, replied <-chan struct{}) error {
	n := f.nodes
	n.mu.Lock()
	silent := n.silent[f.pod]
	n.mu.Unlock()
	if silent {
		<-n.quit // no reply while the test runs
		return nil
	}
	id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
		f.waiting[id] = s // before the reply, upon which the data stream comes
		return reply(s)
	}
	errs := f.waiting[id]
	delete(f.waiting, id)
	number, err := strconv.Atoi(s.Headers().Get(corev1.PortHeader))
	if err != nil || errs == nil {
		return errUnpaired
	}
	if err := reply(s); err != nil {
		return err
	}
	n.mu.Lock()
	n.dials = append(n.dials, portKey(f.pod, number))
	target := n.ports[portKey(f.pod, number)]
	n.serving.Go(func() {
		<-replied
		connect(target, number, s, errs)
	})
	n.mu.Unlock()
	return nil
}

// reply does what the library would do after accept, and says whether it could: closing a stream that had no reply waits for ever.
func reply(s httpstream.Stream) error { return s.(replier).SendReply(http.Header{}, false) }

// connect joins the streams to a listener, and complains on the error stream, as containerd does, when there is none.
func connect(p port, number int, data, errs httpstream.Stream) {
	defer errs.Close()
	defer data.Close()
	complaint := p.complaint
	if complaint == "" && p.addr == "" {
		complaint = fmt.Sprintf("failed to execute portforward in network namespace \"/var/run/netns/cni-1\": failed to connect to localhost:%d inside "+
			"namespace \"canary-netns\", IPv4: dial tcp4 127.0.0.1:%d: connect: connection refused IPv6 dial tcp6 [::1]:%d: connect: connection refused",
			number, number, number)
	}
	if complaint != "" {
		_, _ = io.WriteString(errs, complaint)
		return
	}
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		_, _ = io.WriteString(errs, err.Error())
		return
	}
	defer conn.Close()
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(conn, data); done <- struct{}{} }()
	go func() { _, _ = io.Copy(data, conn); done <- struct{}{} }()
	<-done // either end is the end, as with the runtimes
}

// execute serves pods/exec over SPDY with the fourth version of its protocol, and leaves WebSockets to newer servers.
func (n *Nodes) execute(w http.ResponseWriter, r *http.Request) {
	if websocket.IsWebSocketUpgrade(r) {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "Upgrade request required", "")
		return
	}
	q := r.URL.Query()
	call := Exec{Pod: podOf(r), Container: q.Get("container"), Command: q["command"]}
	n.mu.Lock()
	f := n.exec
	n.mu.Unlock()
	result := Result{Failure: fmt.Sprintf("OCI runtime exec failed: exec failed: unable to start container process: exec: %q: "+
		"executable file not found in $PATH: unknown", strings.Join(call.Command[:1], ""))}
	if f != nil {
		result = f(call)
	}
	streams := make(chan httpstream.Stream, 4)
	w.Header().Set(httpstream.HeaderProtocolVersion, remotecommand.StreamProtocolV4Name)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	})
	if conn == nil {
		return
	}
	n.keep(conn)
	byType := map[string]httpstream.Stream{}
	for len(byType) < 3 {
		select {
		case s := <-streams:
			byType[s.Headers().Get(corev1.StreamType)] = s
		case <-conn.CloseChan():
			return
		}
	}
	if result.Hang {
		<-conn.CloseChan()
		return
	}
	_, _ = io.WriteString(byType[corev1.StreamTypeStdout], result.Stdout)
	_ = json.NewEncoder(byType[corev1.StreamTypeError]).Encode(result.status())
	for _, s := range byType {
		_ = s.Close()
	}
	<-conn.CloseChan()
}

// status is how the protocol tells an exit code, or that there was none.
func (r Result) status() metav1.Status {
	switch {
	case r.Failure != "":
		return metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: "Internal error occurred: " + r.Failure, Code: 500}
	case r.ExitCode != 0:
		return metav1.Status{Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason, Details: &metav1.StatusDetails{
			Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(r.ExitCode)}},
		}}
	}
	return metav1.Status{Status: metav1.StatusSuccess}
}
