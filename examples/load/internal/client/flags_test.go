package client

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
)

func environment(serverHost string, args ...string) (app.Env, *bytes.Buffer) {
	var stderr bytes.Buffer
	return app.Env{
		Args: args,
		Getenv: func(name string) string {
			return map[string]string{EnvServerHost: serverHost}[name]
		},
		Stdout: &bytes.Buffer{}, Stderr: &stderr,
	}, &stderr
}

func TestDefaultsAreThoseOfTheTutorial(t *testing.T) {
	env, _ := environment("grpc-server-service")
	o, err := readFlags(env)
	if err != nil {
		t.Fatal(err)
	}
	if o.count != 1_000_000 || o.concurrency != 10 || o.channel.Policy != channel.RoundRobin || o.channel.TLS != nil {
		t.Errorf("defaults %+v", o)
	}
	if want := (target{"dns:///grpc-server-service:80", "grpc-server-service", 80}); o.target != want {
		t.Errorf("target %+v, want %+v", o.target, want)
	}
}

func TestFlagsWin(t *testing.T) {
	env, _ := environment("from-env:1", "--target", "from-flag", "-n", "5", "-c", "2", "--policy=pick_first", "--tls", "--hold")
	o, err := readFlags(env)
	if err != nil {
		t.Fatal(err)
	}
	if o.target.dial != "dns:///from-flag:443" || o.count != 5 || o.concurrency != 2 || o.channel.Policy != channel.PickFirst ||
		o.channel.TLS == nil || !o.hold {
		t.Errorf("options %+v", o)
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	cases := map[string]struct {
		args []string
		says string
	}{
		"no target":        {[]string{"--target", ""}, "SERVER_HOST"},
		"no calls":         {[]string{"--count=0"}, "--count"},
		"no goroutines":    {[]string{"--concurrency=0"}, "--concurrency"},
		"too many":         {[]string{"--concurrency=10001"}, "--concurrency"},
		"policy":           {[]string{"--policy=random"}, "random"},
		"call timeout":     {[]string{"--call-timeout=0s"}, "--call-timeout"},
		"connect timeout":  {[]string{"--connect-timeout=-1s"}, "--connect-timeout"},
		"unknown flag":     {[]string{"--fast"}, "--fast"},
		"not a number":     {[]string{"--count=many"}, "many"},
		"a stray argument": {[]string{"host:80"}, "host:80"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			env, _ := environment("h:80", c.args...)
			_, err := readFlags(env)
			var usage *app.UsageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q: %v, want a usage error that says %s", c.args, err, c.says)
			}
		})
	}
	t.Run("an authority that cannot be read", func(t *testing.T) {
		env, _ := environment("h:80", "--tls-ca="+t.TempDir()+"/none.crt")
		if _, err := readFlags(env); err == nil || !strings.Contains(err.Error(), "none.crt") {
			t.Errorf("error %v, want one that names the file", err)
		}
	})
}

func TestHelp(t *testing.T) {
	env, stderr := environment("", "--help")
	if err := Run(t.Context(), env); err != nil {
		t.Errorf("--help: %v", err)
	}
	if _, err := readFlags(env); !errors.Is(err, pflag.ErrHelp) || !strings.Contains(stderr.String(), "--policy") {
		t.Errorf("--help: %v, printed:\n%s", err, stderr)
	}
}

func TestTheReadmeListsEveryFlag(t *testing.T) {
	env, usage := environment("", "--help")
	if _, err := readFlags(env); !errors.Is(err, pflag.ErrHelp) {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(usage.String(), -1)
	if len(flags) < 9 {
		t.Errorf("the usage shows only %d flags:\n%s", len(flags), usage)
	}
	for _, flag := range flags {
		if !strings.Contains(string(readme), "`"+flag[1]) {
			t.Errorf("the README does not list %s", flag[1])
		}
	}
}

func TestParseTarget(t *testing.T) {
	cases := []struct {
		address string
		tls     bool
		want    target
	}{
		{"s:80", false, target{"dns:///s:80", "s", 80}},
		{"s", false, target{"dns:///s:80", "s", 80}},
		{"s", true, target{"dns:///s:443", "s", 443}},
		{"s.ns.svc.cluster.local:8001", false, target{"dns:///s.ns.svc.cluster.local:8001", "s.ns.svc.cluster.local", 8001}},
		{"dns:///s:8001", false, target{"dns:///s:8001", "s", 8001}},
		{"dns:///s", false, target{"dns:///s:80", "s", 80}},
		{"dns://10.96.0.10/s:1", false, target{"dns://10.96.0.10/s:1", "s", 1}},
		{"passthrough:///s:1", false, target{"passthrough:///s:1", "s", 1}},
		{"[::1]:5", false, target{"dns:///[::1]:5", "::1", 5}},
		{"[::1]", false, target{"dns:///[::1]:80", "::1", 80}},
	}
	for _, c := range cases {
		if got, err := parseTarget(c.address, c.tls); err != nil || got != c.want {
			t.Errorf("parseTarget(%q) = %+v, %v; want %+v", c.address, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "http://s:80", "static://s:80", "dns://s:80", "s:0", "s:http", "s:70000", ":80", "a:1:2"} {
		if got, err := parseTarget(bad, false); err == nil {
			t.Errorf("parseTarget(%q) = %+v, want an error", bad, got)
		}
	}
}
