package security

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/podtest"
)

// mark begins every canary. It is made so that no word, hash or address holds
// it by chance, and survives being part of a host name or a path.
const mark = "zqcanary"

// canaries are the secrets of a test, each with the proof that it was there to
// be found.
type canaries struct {
	t      *testing.T
	proofs map[string]func() bool
}

func newCanaries(t *testing.T) *canaries { return &canaries{t: t, proofs: map[string]func() bool{}} }

// plant makes a canary for a place.
func (c *canaries) plant(place string, proof func() bool) string {
	c.t.Helper()
	if c.proofs[place] != nil {
		c.t.Fatalf("two canaries for %s", place)
	}
	c.proofs[place] = proof
	return mark + "-" + place
}

// proven fails for canaries that nobody could have found.
func (c *canaries) proven() {
	c.t.Helper()
	for place, proof := range c.proofs {
		if !proof() {
			c.t.Errorf("the canary %s was never served: its place is not looked at, or the test does not look there", place)
		}
	}
}

// absent fails for every canary in what a run left behind, but for the
// exceptions. Base64 is decoded by whoever reads it, and so it counts.
func (c *canaries) absent(r result, except ...string) {
	c.t.Helper()
	where := map[string]string{"standard output": r.stdout, "standard error": r.stderr}
	for name, body := range r.files {
		where["the file "+name] = body
	}
	for place := range c.proofs {
		if slices.Contains(except, place) {
			continue
		}
		canary := mark + "-" + place
		for name, body := range where {
			if i := strings.Index(body, canary); i >= 0 && !longer(body[i:], canary, c.proofs) {
				c.t.Errorf("kubectl grpclb %s: the canary %s is in %s:\n%s", strings.Join(r.args, " "), place, name, around(body, i))
			}
			if i := strings.Index(body, base64.StdEncoding.EncodeToString([]byte(canary))); i >= 0 {
				c.t.Errorf("kubectl grpclb %s: the canary %s is in %s, in base64:\n%s", strings.Join(r.args, " "), place, name, around(body, i))
			}
		}
	}
}

// longer reports whether what begins like canary is another one, of which it is the head.
func longer(at, canary string, all map[string]func() bool) bool {
	for place := range all {
		if other := mark + "-" + place; len(other) > len(canary) && strings.HasPrefix(at, other) {
			return true
		}
	}
	return false
}

func around(s string, i int) string { return s[max(0, i-200):min(len(s), i+200)] }

// secretWorld is the cluster of the canaries: a gRPC Service with three pods, a
// client that dials it, and secrets wherever people put them.
func secretWorld(t *testing.T, c *canaries) *world {
	t.Helper()
	var w *world
	served := func(place string) string { return c.plant(place, func() bool { return w.served(mark + "-" + place) }) }

	square := kubetest.Deployment("default", "square-app").Replicas(3)
	fillTemplate(&square.Spec.Template, "server", served)
	square.Annotations = annotations("server-object", served)
	square.ManagedFields = managed("server-object", served)
	client := kubetest.Deployment("default", "aggregator-app").
		Env("GRPC_CLIENT_SQUARE_ADDRESS", "dns:///square-service.default.svc.cluster.local:6565").
		Env("SQUARE_URL", "http://admin:"+served("url-password")+"@square-service:6565/"+served("url-path")+"?token="+served("url-query")).
		EnvFrom("client-config")
	fillTemplate(&client.Spec.Template, "client", served)
	client.Annotations = annotations("client-object", served)
	client.ManagedFields = managed("client-object", served)
	config := kubetest.ConfigMap("default", "client-config", "PASSWORD", served("configmap-value"))
	config.Data["TARGET"] = "square-service:6565"
	config.Data["application.yaml"] = "db:\n  url: postgres://app:" + served("configmap-file") + "@db/x\nsquare: square-service:6565\n"
	config.BinaryData = map[string][]byte{"key.der": []byte(served("configmap-binary"))}

	svc := kubetest.Service("default", "square-service").Selects("app", "square-app").Port("grpc", 6565, intstr.FromInt32(50051))
	svc.Annotations = annotations("service", served)
	svc.ManagedFields = managed("service", served)
	pods := square.Pods()
	for i := range pods {
		pods[i].Status.Message = served(fmt.Sprintf("pod-status-%d", i))
		pods[i].Status.Conditions[0].Message = served(fmt.Sprintf("pod-condition-%d", i))
	}
	node := kubetest.Node("n1")
	node.Annotations = annotations("node", served)
	// Nobody may ask for these. They are served if somebody does: the proof is a read of our own.
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "square-secret"},
		Data: map[string][]byte{"password": []byte(c.plant("secret-object", func() bool { return readable(w, "secrets/square-secret", "password") }))}}
	other := kubetest.ConfigMap("default", "nobody-refers-to-it", "KEY",
		c.plant("configmap-unreferenced", func() bool { return readable(w, "configmaps/nobody-refers-to-it", mark+"-configmap-unreferenced") }))

	w = newWorld(t, svc, square, svc.Slice(pods...), client, config, secret, other, node, kubetest.Node("n2"),
		kubetest.Pod("kube-system", "coredns-a").Label("k8s-app", "kube-dns"), kubetest.Pod("kube-system", "coredns-b").Label("k8s-app", "kube-dns"))
	for _, p := range pods {
		w.srv.Set(p)
	}
	// A secret of the same name in every pod's log, before the agent's own words.
	w.agents(t, "a line of the application: "+served("pod-log"))
	talkingPorts(t, c, w, pods)
	talkingDNS(t, c, w)
	return w
}

// readable reads an object as anybody with the rights could, without the door.
func readable(w *world, name, want string) bool {
	resp, err := http.Get(w.srv.URL() + "/api/v1/namespaces/default/" + name)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body := make([]byte, 64<<10)
	n, _ := resp.Body.Read(body)
	return resp.StatusCode == http.StatusOK && strings.Contains(string(body[:n]), want)
}

func annotations(where string, served func(string) string) map[string]string {
	return map[string]string{
		"example.com/token": served(where + "-annotation"),
		"kubectl.kubernetes.io/last-applied-configuration": `{"spec":{"password":"` + served(where+"-last-applied") + `"}}`,
	}
}

func managed(where string, served func(string) string) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{{Manager: served(where + "-manager"), Operation: "Update", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:` + served(where+"-managed") + `":{}}`)}}
}

// fillTemplate puts secrets into all of a pod template that may hold one.
func fillTemplate(p *corev1.PodTemplateSpec, where string, served func(string) string) {
	at := func(place string) string { return served(where + "-" + place) }
	p.Annotations = map[string]string{"example.com/token": at("template-annotation")}
	p.Labels["key"] = at("template-label")
	s := &p.Spec
	s.ImagePullSecrets = []corev1.LocalObjectReference{{Name: at("pull-secret")}}
	app := &s.Containers[0]
	app.Command = []string{"/app", "--password=" + at("command")}
	app.Args = []string{"--token", at("arg"), "--dsn=postgres://app:" + at("dsn") + "@db:5432/x"}
	app.Env = append(app.Env,
		corev1.EnvVar{Name: "PASSWORD", Value: at("env")},
		corev1.EnvVar{Name: "API_KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "square-secret"}, Key: "password"}}})
	app.EnvFrom = append(app.EnvFrom, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "square-secret"}}})
	app.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/health?key=" + at("probe-path"), Port: intstr.FromInt32(8080), HTTPHeaders: []corev1.HTTPHeader{{Name: "Authorization", Value: "Bearer " + at("probe-header")}}}}}
	app.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check", at("probe-exec")}}}}
	app.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"stop", at("lifecycle")}}}}
	app.WorkingDir = "/" + at("workdir")
	s.InitContainers = []corev1.Container{{Name: "init", Image: "example.test/init", Env: []corev1.EnvVar{{Name: "TOKEN", Value: at("init-env")}}}}
	s.Volumes = []corev1.Volume{
		{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/" + at("host-path")}}},
		{Name: "csi", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "x", VolumeAttributes: map[string]string{"key": at("volume-attribute")}}}},
	}
	app.VolumeMounts = []corev1.VolumeMount{{Name: "host", MountPath: "/mnt/" + at("mount-path")}}
	s.HostAliases = []corev1.HostAlias{{IP: "10.0.0.1", Hostnames: []string{at("host-alias")}}}
}

// talkingPorts puts servers behind the pods that answer with secrets: a gRPC
// server in its status messages and headers, an HTTP server in its headers and
// body, and a program in a line of text.
func talkingPorts(t *testing.T, c *canaries, w *world, pods []kubetest.PodBuilder) {
	t.Helper()
	var asked, fetched, spoken flag
	w.nodes.Listen("default/"+pods[0].Name, 50051, grpcServer(t, c, &asked))
	w.nodes.Listen("default/"+pods[1].Name, 50051, talker(t, &fetched, "HTTP/1.1 400 Bad Request\r\nServer: "+c.plant("http-server", fetched.is)+
		"\r\nSet-Cookie: session="+c.plant("http-header", fetched.is)+"\r\nContent-Type: text/plain\r\n\r\n"+c.plant("http-body", fetched.is)))
	w.nodes.Listen("default/"+pods[2].Name, 50051, talker(t, &spoken, "220 "+c.plant("banner", spoken.is)+" ready\r\n"))
}

// flag is set by servers and read by the test.
type flag struct{ v atomic.Bool }

func (f *flag) set()     { f.v.Store(true) }
func (f *flag) is() bool { return f.v.Load() }

// grpcServer answers every call with a status, headers and trailers that hold canaries.
func grpcServer(t *testing.T, c *canaries, asked *flag) string {
	t.Helper()
	header, trailer := c.plant("grpc-header", asked.is), c.plant("grpc-trailer", asked.is)
	message := c.plant("grpc-message", asked.is)
	answer := func(ctx context.Context) error {
		asked.set()
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-token", header)) // a call that was given up needs none
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-token", trailer))
		return status.Error(codes.PermissionDenied, "password "+message+" was refused")
	}
	s := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			return nil, answer(ctx)
		}),
		grpc.UnknownServiceHandler(func(_ any, st grpc.ServerStream) error { return answer(st.Context()) }))
	healthpb.RegisterHealthServer(s, healthpb.UnimplementedHealthServer{})
	l := listen(t)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }() // it ends with Stop
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// talker sends a text to whoever connects.
func talker(t *testing.T, sent *flag, text string) string {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if _, err := io.WriteString(conn, text); err == nil {
					sent.set()
				}
				_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // closing with unread data would take the text back
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// talkingDNS lets both DNS servers add records that nobody asked for.
func talkingDNS(t *testing.T, c *canaries, w *world) {
	t.Helper()
	var asked flag
	txt, extra := c.plant("dns-txt", asked.is), c.plant("dns-name", asked.is)
	for _, pod := range []string{"kube-system/coredns-a", "kube-system/coredns-b"} {
		s := dnstest.Attack(t, func(p *dnstest.Peer) {
			asked.set()
			m := p.Reply()
			q := m.Question[0].Name
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 30}, Txt: []string{txt}})
			m.Extra = append(m.Extra, &dns.TXT{Hdr: dns.RR_Header{Name: extra + ".example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 30}, Txt: []string{txt}})
			p.Send(m)
		})
		w.nodes.Listen(pod, 53, s.Addr())
	}
}

// plainUser is a user whose credentials are no secret.
const plainUser = "{token: unimportant}"

// TestNoSecretComesThrough runs every command over the cluster of the canaries.
func TestNoSecretComesThrough(t *testing.T) {
	c := newCanaries(t)
	w := secretWorld(t, c)
	config := w.kubeconfig(plainUser)
	const svc = "svc/square-service"
	runs := [][]string{
		{"diagnose", svc, "--depth", "static", "-v", "2"},
		{"diagnose", svc, "--save", "plain.yaml", "-v", "9"},
		{"diagnose", svc, "--save", "redacted.yaml", "--redact", "-o", "wide"},
		{"diagnose", svc, "--probe", "--interval", "500ms", "-o", "json"},
		{"diagnose", svc, "--sockets", "--interval", "500ms", "-o", "yaml", "--clients-from", "all"},
		{"diagnose", "svc", "-o", "name"},
		{"diagnose", svc, "--client", "deploy/aggregator-app", "--depth", "static", "-o", "json"},
		{"spread", svc, "--interval", "500ms"},
		{"spread", svc, "--interval", "500ms", "-o", "json"},
		{"dns", svc}, {"dns", svc, "-o", "json"}, {"dns", svc, "-o", "yaml"},
		{"probe", svc, "--interval", "500ms"},
		{"probe", svc, "--interval", "500ms", "-o", "json", "--from", "deploy/aggregator-app"},
		{"fix", svc, "--strategy", "max-age"},
		{"fix", svc, "--strategy", "mesh", "--mesh", "istio"},
		{"__complete", "diagnose", "svc/"},
	}
	for _, args := range runs {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			r := plugin(t, config, args...)
			if r.stdout+r.stderr == "" || r.code == 2 {
				t.Fatalf("it did nothing:\n%s", r)
			}
			at := *c
			at.t = t
			at.absent(r)
			for name, body := range r.files {
				replay := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(replay, []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
				for _, output := range []string{"text", "json"} {
					at.absent(plugin(t, config, "diagnose", "--from", replay, "-o", output))
				}
			}
		})
	}
	for _, r := range w.srv.Requests() {
		if r.Resource == "secrets" {
			t.Errorf("%s of secrets %s/%s: nothing may ask for one", r.Verb, r.Namespace, r.Name)
		}
	}
	c.proven()
}

// TestFixPrintsOnlyWhatIsApplied: the manifest of a client that is to be changed
// has to hold the values of its own fields, or applying it would take them away.
// What the API server adds it must not hold, nor anything of other objects.
func TestFixPrintsOnlyWhatIsApplied(t *testing.T) {
	c := newCanaries(t)
	w := secretWorld(t, c)
	r := plugin(t, w.kubeconfig(plainUser), "fix", "svc/square-service", "--strategy", "headless")
	if r.code != 0 || !strings.Contains(r.stdout, "clusterIP: None") {
		t.Fatalf("it wrote no fix:\n%s", r)
	}
	var own []string
	for place := range c.proofs {
		if strings.HasPrefix(place, "client-") && !strings.Contains(place, "managed") && !strings.Contains(place, "manager") &&
			!strings.Contains(place, "last-applied") || strings.HasPrefix(place, "url-") {
			own = append(own, place)
		}
	}
	c.absent(r, own...)
	quiet := r
	quiet.stdout = ""
	c.absent(quiet)
}

// TestNoCredentialComesThrough has secrets on the operator's own side: in the
// kubeconfig, on the command line and from a credential plugin. Some of these
// servers refuse, and repeat what they were sent, as some proxies do.
func TestNoCredentialComesThrough(t *testing.T) {
	const cluster = "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters: [{name: c, cluster: {%s}}]\n" +
		"users: [{name: u, user: %s}]\ncontexts: [{name: test, context: {cluster: c, user: u}}]\n"
	secret := func(place string) string { return mark + "-" + place }
	tests := []struct {
		place   string
		cluster string // server: the door when empty
		user    string
		args    []string
		// sent is what the server has to have seen for the case to prove anything; empty where nothing gets that far
		sent string
	}{
		{place: "token", user: "{token: " + secret("token") + "}", sent: "Bearer " + secret("token")},
		{place: "flag", user: "{}", args: []string{"--token", secret("flag")}, sent: "Bearer " + secret("flag")},
		{place: "basic", user: "{username: admin, password: " + secret("basic") + "}",
			sent: "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+secret("basic")))},
		{place: "server-url", cluster: `server: "http://admin:` + secret("server-url") + `@127.0.0.1:1"`, user: "{}"},
		{place: "proxy-url", cluster: `server: "http://192.0.2.1", proxy-url: "http://admin:` + secret("proxy-url") + `@127.0.0.1:1"`, user: "{}"},
		{place: "key-data", cluster: `server: "https://127.0.0.1:1"`,
			user: "{client-certificate-data: bm9uZQ==, client-key-data: " + base64.StdEncoding.EncodeToString([]byte(secret("key-data"))) + "}"},
		{place: "exec-token", user: execPlugin(`echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"` + secret("exec-token") + `"}}'`),
			sent: "Bearer " + secret("exec-token")},
		{place: "exec-garbage", user: execPlugin(`echo 'token ` + secret("exec-garbage") + `'`)},
		{place: "exec-failure", user: execPlugin(`echo '{"token":"` + secret("exec-failure") + `"}'; exit 3`)},
		{place: "exec-env", user: "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: [-c, \"exit 4\"], env: [{name: PASSWORD, value: " +
			secret("exec-env") + "}]}}"},
		{place: "exec-arg", user: "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: [-c, \"exit 5\", --password=" + secret("exec-arg") + "]}}"},
	}
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusInternalServerError, http.StatusOK} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s %d", tt.place, code), func(t *testing.T) {
				door := newEcho(t, code)
				if tt.cluster == "" {
					tt.cluster = fmt.Sprintf("server: %q, insecure-skip-tls-verify: true", door.URL)
				} else if code != http.StatusOK {
					t.Skip("no server is reached: once is enough")
				}
				c := newCanaries(t)
				c.plant(tt.place, func() bool { return tt.sent == "" || door.got(tt.sent) })
				args := append([]string{"diagnose", "svc/square-service", "--depth", "static", "--save", "s.yaml", "-v", "9", "--timeout", "20s"}, tt.args...)
				r := plugin(t, fmt.Sprintf(cluster, tt.cluster, tt.user), args...)
				if r.code == 0 {
					t.Errorf("it found nothing wrong:\n%s", r)
				}
				r.args = r.args[:9] // what was typed is not what was printed
				c.absent(r)
				c.proven()
			})
		}
	}
}

// execPlugin is a user entry whose credentials come from a shell script.
func execPlugin(script string) string {
	return "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: [-c, " + strconv.Quote(script) + "]}}"
}

// echo is a server that answers everything with the credentials that it was
// sent. It speaks TLS: without it client-go sends none.
type echo struct {
	*httptest.Server
	mu   sync.Mutex
	seen strings.Builder
}

func newEcho(t *testing.T, code int) *echo {
	t.Helper()
	e := &echo{}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		sent := r.Header.Get("Authorization")
		e.seen.WriteString(sent + "\n")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Warning", `299 - "you sent `+sent+`"`)
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"message":%q}`, code, "you sent "+sent) // a client that left
	}))
	e.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that ends in a handshake is none of our business
	e.StartTLS()
	t.Cleanup(e.Close)
	return e
}

func (e *echo) got(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Contains(e.seen.String(), text)
}

// TestNoErrorBodyComesThrough: what a server or a webhook says when it refuses may hold anything, and is reworded.
func TestNoErrorBodyComesThrough(t *testing.T) {
	status := func(code int, message string) string {
		return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":%d,"message":%q}`, code, message)
	}
	tests := []struct {
		name  string
		fault kubetest.Fault
		args  []string
	}{
		{"a refusal", kubetest.Fault{Resource: "services", Status: 403, ContentType: "application/json", Body: status(403, "no: "+mark+"-body")}, nil},
		{"an error page", kubetest.Fault{Resource: "services", Status: 502, ContentType: "text/html", Body: "<html>" + mark + "-body</html>"}, nil},
		{"another answer", kubetest.Fault{Resource: "services", Status: 200, ContentType: "text/plain", Body: mark + "-body"}, nil},
		{"an object of another kind", kubetest.Fault{Resource: "services", Status: 200, ContentType: "application/json", Body: `{"kind":"` + mark + `-body","apiVersion":"v1"}`}, nil},
		{"pods refused", kubetest.Fault{Resource: "pods", Status: 403, ContentType: "application/json", Body: status(403, "no: "+mark+"-body")}, nil},
		{"a workload refused to fix", kubetest.Fault{Resource: "deployments", Verb: "get", Status: 500, ContentType: "application/json", Body: status(500, "no: "+mark+"-body")},
			[]string{"fix", "svc/square-service", "--strategy", "headless"}},
		{"metrics refused", kubetest.Fault{Group: "metrics.k8s.io", Status: 503, ContentType: "text/plain", Body: mark + "-body"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := secretWorld(t, newCanaries(t))
			w.srv.Fail(tt.fault)
			c := newCanaries(t)
			c.plant("body", func() bool { return w.served(mark + "-body") })
			if tt.args == nil {
				tt.args = []string{"diagnose", "svc/square-service", "--save", "s.yaml", "-o", "wide"}
			}
			c.absent(plugin(t, w.kubeconfig(plainUser), append(tt.args, "-v", "9")...))
			c.proven()
		})
	}
	for name, refuse := range map[string][]string{
		"ephemeralcontainers": {"diagnose", "svc/square-service", "--sockets", "-o", "wide"},
		"pods":                {"probe", "svc/square-service"},
	} {
		t.Run("a webhook refuses "+name, func(t *testing.T) {
			w := secretWorld(t, newCanaries(t))
			c := newCanaries(t)
			c.plant("body", func() bool { return w.served(mark + "-body") })
			pattern := "PATCH /api/v1/namespaces/default/pods/{name}/ephemeralcontainers"
			if name == "pods" {
				pattern = "POST /api/v1/namespaces/default/pods"
			}
			w.srv.Handle(pattern, podtest.Refuse(403, metav1.StatusReasonForbidden, `admission webhook "policy.example.com" denied the request: the token `+mark+`-body is wrong`))
			r := plugin(t, w.kubeconfig(plainUser), append(refuse, "-v", "9")...)
			c.absent(r)
			if !strings.Contains(r.stdout+r.stderr, "policy.example.com") {
				t.Errorf("the webhook is not named:\n%s", r)
			}
			c.proven()
		})
	}
}
