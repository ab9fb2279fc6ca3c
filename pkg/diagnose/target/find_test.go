package target_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

func ref(ns, name string) target.Ref { return target.Ref{Namespace: ns, Name: name} }

// index is a small cluster: only the namespace default is listed completely.
func index() *target.Index {
	return target.NewIndex([]target.Service{
		{Ref: ref("default", "square-service"), IPs: []string{"10.96.1.1"}, Ports: []target.Port{{Name: "grpc", Number: 6565}, {Name: "http", Number: 80}}},
		{Ref: ref("default", "web")}, // headless
		{Ref: ref("default", "redis"), IPs: []string{"10.96.1.3"}},
		{Ref: ref("shop", "cart"), IPs: []string{"10.96.2.1", "fd00::2:1"}},
	}, []target.Pod{
		{Ref: ref("default", "web-0"), IPs: []string{"10.1.0.7"}},
		{Ref: ref("default", "square-1"), IPs: []string{"10.1.0.8"}},
	}, func(ns string) bool { return ns == "default" }, "cluster.local")
}

func TestResolve(t *testing.T) {
	svc := func(ns, name string) string { return "service " + ns + "/" + name }
	for host, want := range map[string]string{
		"square-service":                              svc("default", "square-service"),
		"SQUARE-service":                              svc("default", "square-service"),
		"square-service.default":                      svc("default", "square-service"),
		"square-service.default.svc":                  svc("default", "square-service"),
		"square-service.default.svc.cluster.local":    svc("default", "square-service"),
		"square-service.default.svc.cluster.local.":   svc("default", "square-service"),
		"square-service.default.svc.corp.example":     svc("default", "square-service"),
		"_grpc._tcp.square-service.default.svc":       svc("default", "square-service"),
		"square-service.":                             "", // no search path behind a final dot
		"square-service.default.svc.":                 "",
		"square-service.default.svc.clusterset.local": "", // a multi-cluster Service is another thing
		"cart":                               "missing default/cart",
		"cart.shop":                          svc("shop", "cart"),
		"cart.shop.svc.cluster.local":        svc("shop", "cart"),
		"web-0.web":                          svc("default", "web") + " pod default/web-0",
		"web-0.web.default":                  svc("default", "web") + " pod default/web-0",
		"web-0.web.default.svc":              svc("default", "web") + " pod default/web-0",
		"web-9.web.default.svc":              svc("default", "web") + " pod default/web-9",
		"nope.shop.svc":                      "", // that namespace was not listed
		"nope.default.svc.cluster.local":     "missing default/nope",
		"nope.default.svc.other.example":     "", // may be another cluster's
		"example.com":                        "",
		"a.b.c.example.com":                  "",
		"10.96.1.1":                          "ip default/square-service",
		"fd00::2:1":                          "ip shop/cart",
		"10.1.0.8":                           "ip pod default/square-1",
		"::ffff:10.1.0.8":                    "ip pod default/square-1",
		"10-1-0-8.default.pod.cluster.local": "ip pod default/square-1",
		"10.9.9.9":                           "",
	} {
		m, ok := index().Resolve(host, "default")
		got := ""
		if ok {
			got = m.Kind
			if m.Service.Name != "" {
				got += " " + m.Service.Namespace + "/" + m.Service.Name
			}
			if m.Pod.Name != "" {
				got += " pod " + m.Pod.Namespace + "/" + m.Pod.Name
			}
		}
		if got != want {
			t.Errorf("Resolve(%q) = %q, want %q", host, got, want)
		}
	}
}

// line writes a find in one line: source name[+port name][@configmap] token host:port kind object flags.
func line(f target.Found) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", f.Source, f.Name)
	if f.PortName != "" {
		b.WriteString("+" + f.PortName)
	}
	if f.ConfigMap != "" {
		b.WriteString("@" + f.ConfigMap)
	}
	fmt.Fprintf(&b, " %s %s:%d %s", f.Token, f.Host, f.Port, f.Kind)
	for _, r := range []target.Ref{f.Service, f.Pod} {
		if r.Name != "" {
			b.WriteString(" " + r.Namespace + "/" + r.Name)
		}
	}
	if f.GRPC {
		b.WriteString(" grpc")
	}
	if f.Policy != "" {
		b.WriteString(" " + f.Policy)
	}
	return b.String()
}

func env(kv ...string) target.Container {
	var c target.Container
	for _, e := range kv {
		k, v, _ := strings.Cut(e, "=")
		c.Env = append(c.Env, target.Var{Name: k, Value: v})
	}
	return c
}

func args(a ...string) target.Container { return target.Container{Args: a} }

func file(key, text string) target.Container {
	return target.Container{Files: []target.File{{ConfigMap: "cm", Key: key, Text: text}}}
}

const sq = "default/square-service"

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name string
		in   target.Container
		want []string
	}{
		{"grpc-spring address", env("GRPC_CLIENT_SQUARE_ADDRESS=static://square-service:6565"),
			[]string{"env GRPC_CLIENT_SQUARE_ADDRESS static://square-service:6565 square-service:6565 service " + sq + " grpc"}},
		{"plain host and port, no sign of gRPC", env("SERVER_HOST=square-service:80"),
			[]string{"env SERVER_HOST square-service:80 square-service:80 service " + sq}},
		{"host and port apart", env("SQUARE_HOST=square-service", "SQUARE_PORT=6565"),
			[]string{"env SQUARE_HOST+SQUARE_PORT square-service square-service:6565 service " + sq}},
		{"port added to the name", env("BACKEND_ADDR=square-service", "BACKEND_ADDR_PORT=6565"),
			[]string{"env BACKEND_ADDR+BACKEND_ADDR_PORT square-service square-service:6565 service " + sq}},
		{"references to other variables", env("H=square-service", "P=6565", "TARGET=dns:///$(H):$(P)"),
			[]string{"env TARGET dns:///square-service:6565 square-service:6565 service " + sq + " grpc"}},
		{"parts are not counted beside the whole", env("BASE_HOST=square-service", "BASE_PORT=6565", "GRPC_ADDRESS=static://$(BASE_HOST):$(BASE_PORT)"),
			[]string{"env GRPC_ADDRESS static://square-service:6565 square-service:6565 service " + sq + " grpc"}},
		{"a reference to a later variable is none", env("TARGET=dns:///$(H):80", "H=square-service"), nil},
		{"an escaped reference is none", env("H=square-service", "TARGET=dns:///$$(H):80"), nil},
		{"injected by Kubernetes", env("ADDR=$(SQUARE_SERVICE_SERVICE_HOST):$(SQUARE_SERVICE_SERVICE_PORT)"),
			[]string{"env ADDR $(SQUARE_SERVICE_SERVICE_HOST):$(SQUARE_SERVICE_SERVICE_PORT) 10.96.1.1:6565 ip " + sq}},
		{"injected, named port", env("ADDR=grpc://$(SQUARE_SERVICE_SERVICE_HOST):$(SQUARE_SERVICE_SERVICE_PORT_HTTP)"),
			[]string{"env ADDR grpc://$(SQUARE_SERVICE_SERVICE_HOST):$(SQUARE_SERVICE_SERVICE_PORT_HTTP) 10.96.1.1:80 ip " + sq + " grpc"}},
		{"injected beside something private", env("ADDR=http://u:pw@$(SQUARE_SERVICE_SERVICE_HOST):80/path"),
			[]string{"env ADDR http://10.96.1.1:80 10.96.1.1:80 ip " + sq}},
		{"injected into a shell's words", args("sh", "-c", "exec app --addr=${SQUARE_SERVICE_SERVICE_HOST}:6565"),
			[]string{"arg --addr ${SQUARE_SERVICE_SERVICE_HOST}:6565 10.96.1.1:6565 ip " + sq}},
		{"a headless Service has no injected address", env("ADDR=$(WEB_SERVICE_HOST):80"), nil},
		{"addresses of a Service and a pod", env("A=10.96.1.1:6565", "B=10.1.0.8:50051", "C=10.9.9.9:80"),
			[]string{"env A 10.96.1.1:6565 10.96.1.1:6565 ip " + sq, "env B 10.1.0.8:50051 10.1.0.8:50051 ip default/square-1"}},
		{"one pod of a StatefulSet", env("X=dns:///web-0.web:80"), []string{"env X dns:///web-0.web:80 web-0.web:80 service default/web default/web-0 grpc"}},
		{"another namespace", env("CART_URL=http://cart.shop/api"), []string{"env CART_URL http://cart.shop cart.shop:0 service shop/cart"}},
		{"a later variable of the same name wins", env("T=dns:///web:1", "T=dns:///square-service:2"),
			[]string{"env T dns:///square-service:2 square-service:2 service " + sq + " grpc"}},
		{"a list", env("PEERS=square-service:1,web:2,elsewhere.example.com:3"),
			[]string{"env PEERS square-service:1 square-service:1 service " + sq, "env PEERS web:2 web:2 service default/web"}},
		{"JSON in a variable", env(`CLIENTS={"square":{"address":"dns:///square-service:80","lb":"round_robin"}}`),
			[]string{"env CLIENTS dns:///square-service:80 square-service:80 service " + sq + " grpc round_robin"}},
		{"options of a JVM", env("JAVA_OPTS=-Xmx1g -Dsquare.address=static://square-service:6565"),
			[]string{"env JAVA_OPTS static://square-service:6565 square-service:6565 service " + sq + " grpc"}},

		{"a lone word needs a name that says address", env("APP_NAME=redis", "OTEL_SERVICE_NAME=square-service", "REDIS_HOST=redis", "NAME=web", "CACHE_BACKEND=redis",
			"CONNECT_TIMEOUT=web", "TARGET=web", "HOST_ID=web"),
			[]string{"env REDIS_HOST redis redis:0 service default/redis"}},
		{"a lone word with gRPC in its name", env("GRPC_TARGET=square-service", "SQUARE_HOST_NAME=square-service", "HOST_1=web"),
			[]string{"env GRPC_TARGET square-service square-service:0 service " + sq + " grpc", "env SQUARE_HOST_NAME square-service square-service:0 service " + sq,
				"env HOST_1 web web:0 service default/web"}},
		{"not dialled", env("IMAGE=redis:7", "LISTEN_ADDR=web:80", "NO_PROXY=web,redis", "no_proxy=redis:80", "ALLOWED_HOSTS=web", "TLS_SERVER_NAME=web"), nil},
		{"names of other registries", env("A=consul:///redis", "B=etcd://redis:2379/x", "C=eureka://redis:80"), nil},
		{"itself", env("A=localhost:80", "B=127.0.0.1:80", "GRPC_TARGET=dns:///localhost:80"), nil},

		{"missing: the full form", env("A=dns:///nope.default.svc.cluster.local:80", "B_URL=http://nope.default.svc/x"),
			[]string{"env A dns:///nope.default.svc.cluster.local:80 nope.default.svc.cluster.local:80 missing default/nope grpc",
				"env B_URL http://nope.default.svc nope.default.svc:0 missing default/nope"}},
		{"missing: a gRPC scheme", env("A=dns:///nope:80", "B=static://nope.default:80"),
			[]string{"env A dns:///nope:80 nope:80 missing default/nope grpc", "env B static://nope.default:80 nope.default:80 missing default/nope grpc"}},
		{"missing: an address close to a Service", env("SQUARE_ADDR=sqare-service:80"),
			[]string{"env SQUARE_ADDR sqare-service:80 sqare-service:80 missing default/sqare-service"}},
		{"missing: an address named like a Service", env("CART_TARGET=cart-svc:80"),
			[]string{"env CART_TARGET cart-svc:80 cart-svc:80 missing default/cart-svc"}},
		{"not missing: no sign that a Service is meant", env("A=nope:80", "B_ADDR=nope:80", "C_ADDR=api.example.com:80", "D=dns:///api.example.com:443",
			"E=xds:///nope", "F_HOST=nope-service", "G=nope.default.svc", "H_URL=http://nope-service:80", "I=dns:///x.shop:80", "SECRET_ADDR=a-service:80"), nil},
		{"not missing: the pod's own names", func() target.Container {
			c := env("A=dns:///extra:80")
			c.Aliases = []string{"extra"}
			return c
		}(), nil},
		{"not missing: another DNS", func() target.Container {
			c := env("A=dns:///nope:80", "B=dns:///square-service:80")
			c.OwnDNS = true
			return c
		}(), []string{"env B dns:///square-service:80 square-service:80 service " + sq + " grpc"}},

		{"flags", args("app", "--addr=square-service:80", "--target", "dns:///square-service:81", "-host", "web", "-Dx.address=static://web:1", "redis:6379", "web"),
			[]string{
				"arg --addr square-service:80 square-service:80 service " + sq,
				"arg --target dns:///square-service:81 square-service:81 service " + sq + " grpc",
				"arg -host web web:0 service default/web",
				"arg -Dx.address static://web:1 web:1 service default/web grpc",
				"arg  redis:6379 redis:6379 service default/redis",
			}},
		{"host and port as flags", args("--grpc-host", "square-service", "--grpc-port", "6565"),
			[]string{"arg --grpc-host+--grpc-port square-service square-service:6565 service " + sq + " grpc"}},
		{"a variable in an argument", func() target.Container {
			c := env("H=square-service")
			c.Args = []string{"--addr=$(H):80"}
			return c
		}(), []string{"arg --addr square-service:80 square-service:80 service " + sq}},
		{"a shell's command", args("/bin/sh", "-c", "ADDR=web:1 exec /app --addr square-service:80 2>&1 | tee /log"),
			[]string{"arg ADDR web:1 web:1 service default/web", "arg --addr square-service:80 square-service:80 service " + sq}},

		{"policy: nearest name wins", env("GRPC_CLIENT_A_ADDRESS=dns:///web:1", "GRPC_CLIENT_A_DEFAULT_LOAD_BALANCING_POLICY=round_robin",
			"GRPC_CLIENT_B_ADDRESS=dns:///square-service:1", "GRPC_CLIENT_B_DEFAULT_LOAD_BALANCING_POLICY=pick_first"),
			[]string{"env GRPC_CLIENT_A_ADDRESS dns:///web:1 web:1 service default/web grpc round_robin",
				"env GRPC_CLIENT_B_ADDRESS dns:///square-service:1 square-service:1 service " + sq + " grpc pick_first"}},
		{"policy: a lone flag", args("--addr=square-service:80", "--lb-policy=RoundRobin"),
			[]string{"arg --addr square-service:80 square-service:80 service " + sq + " grpc round_robin"}},
		{"policy: two hosts and one far mention tell nothing", args("--a=square-service:80", "--b=web:80", "--policy=round_robin"),
			[]string{"arg --a square-service:80 square-service:80 service " + sq, "arg --b web:80 web:80 service default/web"}},
		{"policy: a service config", env("GRPC_TARGET=dns:///square-service:80", `GRPC_SERVICE_CONFIG={"loadBalancingConfig":[{"round_robin":{}}]}`),
			[]string{"env GRPC_TARGET dns:///square-service:80 square-service:80 service " + sq + " grpc round_robin"}},
		{"policy: a word elsewhere is none", env("TARGET=dns:///square-service:80", "NOTE=roundrobin"),
			[]string{"env TARGET dns:///square-service:80 square-service:80 service " + sq + " grpc"}},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, c.in, c.want) })
	}
}

func check(t *testing.T, in target.Container, want []string) {
	t.Helper()
	var got []string
	for _, f := range index().Find("default", in) {
		got = append(got, line(f))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFindInFiles(t *testing.T) {
	for _, c := range []struct {
		name, key, text string
		want            []string
	}{
		{"YAML", "application.yaml", `
# grpc: { address: web:80 }
grpc:
  client:
    square:
      address: "static://square-service:6565"   # the square service
      negotiationType: plaintext
      defaultLoadBalancingPolicy: round_robin
    other:
      host: web
      port: 8001
server:
  listen: web:80
  name: redis
`, []string{
			"configmap application.yaml@cm static://square-service:6565 square-service:6565 service " + sq + " grpc round_robin",
			"configmap application.yaml@cm web web:8001 service default/web grpc",
		}},
		{"YAML list", "c.yaml", "backends:\n- square-service:80\n- addr: web:1\n  lb: x\n", []string{
			"configmap c.yaml@cm square-service:80 square-service:80 service " + sq, "configmap c.yaml@cm web:1 web:1 service default/web",
		}},
		{"properties", "app.properties", "square.address=dns:///square-service:6565\nspring.datasource.url=jdbc:redis://redis:6379/0?password=hunter2\n", []string{
			"configmap app.properties@cm dns:///square-service:6565 square-service:6565 service " + sq + " grpc",
			"configmap app.properties@cm jdbc:redis://redis:6379 redis:6379 service default/redis",
		}},
		{"TOML", "app.toml", "[clients.square]\nhost = \"square-service\"\nport = 6565\n\n[clients.web]\naddr = \"web:1\"\n", []string{
			"configmap app.toml@cm square-service square-service:6565 service " + sq, "configmap app.toml@cm web:1 web:1 service default/web",
		}},
		{"JSON", "app.json", `{"clients":[{"target":"dns:///square-service:80","serviceConfig":{"loadBalancingConfig":[{"round_robin":{}}]}}],"n":1}`, []string{
			"configmap app.json@cm dns:///square-service:80 square-service:80 service " + sq + " grpc round_robin",
		}},
		{"JSON host and port", "app.json", `{"square":{"host":"square-service","port":6565}}`, []string{
			"configmap app.json@cm square-service square-service:6565 service " + sq,
		}},
		{"nginx", "nginx.conf", "upstream x {\n  server square-service:6565;\n}\nlocation / { grpc_pass grpc://web:1; }\n", []string{
			"configmap nginx.conf@cm square-service:6565 square-service:6565 service " + sq, "configmap nginx.conf@cm grpc://web:1 web:1 service default/web grpc",
		}},
		{"a single value", "GRPC_ADDRESS", "square-service:6565", []string{
			"configmap GRPC_ADDRESS@cm square-service:6565 square-service:6565 service " + sq + " grpc",
		}},
		{"prose", "README", "The web is at web: see http and redis. Call square-service, or dns:///nope:80 for nothing.\n", nil},
		{"binary", "blob", "\x00\x01\xff web:80\x00", nil},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, file(c.key, c.text), c.want) })
	}
}

func TestFromConfigMapVariable(t *testing.T) {
	check(t, target.Container{Env: []target.Var{{Name: "SQUARE_ADDR", Value: "square-service:6565", ConfigMap: "app"}}},
		[]string{"env SQUARE_ADDR@app square-service:6565 square-service:6565 service " + sq})
}

func TestNearest(t *testing.T) {
	names := []string{"square-service", "square-service-headless", "cube-service", "redis", "web", "squares"}
	for in, want := range map[string][]string{
		"squrae-service":  {"square-service"},
		"square-servcie":  {"square-service"},
		"square":          {"squares", "square-service", "square-service-headless"},
		"redsi":           {"redis"},
		"nothing-like-it": nil,
		"we":              {"web"},
	} {
		if diff := cmp.Diff(want, target.Nearest(in, names)); diff != "" {
			t.Errorf("Nearest(%q) (-want +got):\n%s", in, diff)
		}
	}
}

// FuzzFind: no text makes it fail, and nothing comes out but tokens that name something of the index or something missing.
func FuzzFind(f *testing.F) {
	f.Add("A=dns:///square-service:80", "--x=web:1", "a:\n  b: square-service:80\n")
	f.Add("A=$(SQUARE_SERVICE_SERVICE_HOST):$(X", "sh -c 'a b=web:1'", "{\"a\":[{\"b\":\"redis:1\"}]}")
	f.Add("A={\"x\":\"dns:///web\"}", "-D=x", "[x]\ny = \"web:1\"\n- - - a: b")
	x := index()
	f.Fuzz(func(t *testing.T, e, a, text string) {
		c := env(e)
		c.Args = []string{a, a}
		c.Files = []target.File{{ConfigMap: "cm", Key: "k", Text: text}}
		for _, got := range x.Find("default", c) {
			if got.Kind == "" || got.Token == "" || strings.ContainsAny(got.Token, "@?# \n\"'") {
				t.Fatalf("%+v", got)
			}
			if got.Kind == target.KindMissing && strings.Contains(got.Host, "square-service.default") {
				t.Fatalf("missing, and there: %+v", got)
			}
		}
	})
}

// TestPart: which variables may be set to another target as they are.
func TestPart(t *testing.T) {
	tests := map[string]struct {
		c    target.Container
		want []string // the variables that hold a target; those that must not be overwritten have a star
	}{
		"whole":                        {env("A_ADDR=dns:///square-service:6565"), []string{"A_ADDR"}},
		"blanks around it":             {env("A_ADDR= square-service:6565"), []string{"A_ADDR*"}},
		"path behind it":               {env("A_URL=http://square-service:80/healthz"), []string{"A_URL*"}},
		"user before it":               {env("A_URL=grpc://me@square-service:6565"), []string{"A_URL*"}},
		"list":                         {env("A_ADDRS=square-service:6565,cart.shop:80"), []string{"A_ADDRS*", "A_ADDRS*"}},
		"flags":                        {env("JAVA_OPTS=-Xmx1g -Dsquare.addr=square-service:6565"), []string{"JAVA_OPTS*"}},
		"injected":                     {env("A_ADDR=$(SQUARE_SERVICE_SERVICE_HOST):6565"), []string{"A_ADDR"}},
		"composed of parts":            {env("H=square-service", "P=6565", "A_ADDR=$(H):$(P)"), []string{"A_ADDR*"}},
		"part of another":              {env("BASE_ADDR=square-service:6565", "A_ADDR=static://$(BASE_ADDR)"), []string{"BASE_ADDR*", "A_ADDR*"}},
		"part of an argument":          {target.Container{Env: env("A_ADDR=square-service:6565").Env, Args: []string{"--x=$(A_ADDR)"}}, []string{"A_ADDR*", "--x"}},
		"apart":                        {env("A_HOST=square-service", "A_PORT=6565"), []string{"A_HOST"}},
		"apart, port used elsewhere":   {env("A_HOST=square-service", "A_PORT=6565", "LISTEN=:$(A_PORT)"), []string{"A_HOST*"}},
		"apart, port composed":         {env("N=6565", "A_HOST=square-service", "A_PORT=$(N)"), []string{"A_HOST*"}},
		"apart, one from a ConfigMap":  {target.Container{Env: []target.Var{{Name: "A_HOST", Value: "square-service"}, {Name: "A_PORT", Value: "6565", ConfigMap: "m", Key: "p"}}}, []string{"A_HOST*"}},
		"apart, both from a ConfigMap": {target.Container{Env: []target.Var{{Name: "A_HOST", Value: "square-service", ConfigMap: "m", Key: "h"}, {Name: "A_PORT", Value: "6565", ConfigMap: "m", Key: "p"}}}, []string{"A_HOST"}},
	}
	for name, tc := range tests {
		var got []string
		for _, f := range index().Find("default", tc.c) {
			n := f.Name
			if f.Part {
				n += "*"
			}
			got = append(got, n)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
