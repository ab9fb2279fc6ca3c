package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// backends are where the echo servers listen: as pods, each has an address of its own and all have one port.
var backends = []string{"127.0.0.11", "127.0.0.12", "127.0.0.13"}

// The contestants' names. Ratios are taken against the reference.
const (
	direct    = "direct"
	ours      = "grpclb-refresher"
	reference = "HAProxy"
)

// field is where all of them run.
type field struct {
	dir, root string
	port      string // of the backends
	resolver  string // a DNS server that knows the backends
	envoy     string // its program, empty for the wheel
	built     string // grpclb-refresher
}

// contestant is one way from the client to the backends.
type contestant struct {
	name string
	// version prints what it is; empty for what is built here.
	version []string
	matches *regexp.Regexp
	// prepare makes sure that it can be run, and writes its configuration; addr is where it is to listen.
	prepare func(ctx context.Context, f *field, addr string) (argv []string, err error)
}

func contestants() []contestant {
	return []contestant{
		{name: ours, prepare: prepareOurs},
		{name: reference, version: []string{"haproxy", "-v"}, matches: regexp.MustCompile(`HAProxy version (\S+)`), prepare: prepareHAProxy},
		{name: "nginx", version: []string{"nginx", "-v"}, matches: regexp.MustCompile(`nginx/(\S+)`), prepare: prepareNginx},
		{name: "Envoy", matches: regexp.MustCompile(`/(\d+\.\d+\.\d+)/`), prepare: prepareEnvoy},
	}
}

// debian makes sure of a program that a Debian package of the same name brings.
func debian(ctx context.Context, program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", fmt.Errorf("it is not installed: apt-get install %s (Debian)", program)
	}
	for _, argv := range [][]string{{"-q", "update"}, {"-q", "install", "-y", "--no-install-recommends", program}} {
		cmd := exec.CommandContext(ctx, "apt-get", argv...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get install %s: %w: %s", program, err, out[max(0, len(out)-300):])
		}
	}
	return exec.LookPath(program)
}

func (f *field) write(name, text string) (string, error) {
	path := filepath.Join(f.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// lines writes a line per backend.
func (f *field) lines(format string) string {
	var b strings.Builder
	for i, ip := range backends {
		b.WriteString(strings.NewReplacer("{n}", strconv.Itoa(i+1), "{ip}", ip, "{port}", f.port).Replace(format) + "\n")
	}
	return b.String()
}

// prepareOurs starts the program as it is injected: the target is a name, and a DNS server says who is behind it.
func prepareOurs(ctx context.Context, f *field, addr string) ([]string, error) {
	if f.built == "" {
		f.built = filepath.Join(f.dir, "grpclb-refresher")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", f.built, "./cmd/grpclb-refresher")
		build.Dir, build.Env = f.root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build it: %w: %s", err, out)
		}
	}
	admin, err := freePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	return []string{
		f.built, "sidecar", "--listen", addr, "--target", "dns://" + f.resolver + "/" + backendName + ".:" + f.port,
		"--admin", "127.0.0.1:" + admin, "--debug", "off", "--log-level", "warn", "--drain-timeout", "1s",
	}, nil
}

func prepareHAProxy(ctx context.Context, f *field, addr string) ([]string, error) {
	program, err := debian(ctx, "haproxy")
	if err != nil {
		return nil, err
	}
	config, err := f.write("haproxy.cfg", `global
  nbthread 1
  maxconn 4000
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
frontend calls
  bind `+addr+` proto h2
  default_backend pods
backend pods
  balance random(2)
  http-reuse always
`+f.lines("  server pod{n} {ip}:{port} proto h2"))
	return []string{program, "-db", "-f", config}, err
}

func prepareNginx(ctx context.Context, f *field, addr string) ([]string, error) {
	program, err := debian(ctx, "nginx")
	if err != nil {
		return nil, err
	}
	config, err := f.write("nginx.conf", `daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  http2_max_requests 1000000000;
  http2_max_concurrent_streams 1000;
  client_max_body_size 0;
  client_body_buffer_size 128k;
  grpc_buffer_size 16k;
  client_body_temp_path temp-body;
  proxy_temp_path temp-proxy;
  fastcgi_temp_path temp-fastcgi;
  uwsgi_temp_path temp-uwsgi;
  scgi_temp_path temp-scgi;
  upstream pods {
    random two least_conn;
    keepalive 256;
    keepalive_requests 1000000000;
`+f.lines("    server {ip}:{port};")+`  }
  server {
    listen `+addr+` http2;
    location / {
      grpc_pass grpc://pods;
      grpc_read_timeout 1h;
      grpc_send_timeout 1h;
    }
  }
}
`)
	return []string{program, "-p", f.dir, "-e", "stderr", "-c", config}, err
}

func prepareEnvoy(ctx context.Context, f *field, addr string) ([]string, error) {
	program, err := envoyProgram(ctx, f)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	config, err := f.write("envoy.yaml", `static_resources:
  listeners:
  - name: calls
    address: {socket_address: {address: `+host+`, port_value: `+port+`}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: calls
          codec_type: HTTP2
          stream_idle_timeout: 0s
          http2_protocol_options: {max_concurrent_streams: 1000}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: "/"}
                route: {cluster: pods, timeout: 0s}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: pods
    type: STATIC
    lb_policy: LEAST_REQUEST
    circuit_breakers: {thresholds: [{max_requests: 100000, max_pending_requests: 100000}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: pods
      endpoints:
      - lb_endpoints:
`+f.lines("        - endpoint: {address: {socket_address: {address: {ip}, port_value: {port}}}}"))
	return []string{program, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"}, err
}

// version asks a contestant's program what it is.
func (c contestant) ask(ctx context.Context, program string) string {
	argv := c.version
	if argv == nil {
		argv = []string{program, "--version"}
	}
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil || c.matches == nil {
		return ""
	}
	if m := c.matches.FindSubmatch(out); m != nil {
		return string(m[1])
	}
	return ""
}

// freePort finds a port that nobody uses on any of the addresses.
func freePort(ips ...string) (string, error) {
	for range 50 {
		first, err := net.Listen("tcp", net.JoinHostPort(ips[0], "0"))
		if err != nil {
			return "", err
		}
		_, port, _ := net.SplitHostPort(first.Addr().String())
		held, taken := []net.Listener{first}, false
		for _, ip := range ips[1:] {
			l, err := net.Listen("tcp", net.JoinHostPort(ip, port))
			if err != nil {
				taken = true
				break
			}
			held = append(held, l)
		}
		for _, l := range held {
			_ = l.Close() // it only kept the port
		}
		if !taken {
			return port, nil
		}
	}
	return "", errors.New("no port is free on all of " + strings.Join(ips, ", "))
}
