package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/klog/v2"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controlleroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// Config says how to run the control plane. The driver writes it as JSON.
type Config struct {
	// EtcdDir is where etcd keeps its data; made when missing.
	EtcdDir string `json:"etcdDir"`
	// EtcdClientURL and EtcdPeerURL are what etcd listens on.
	EtcdClientURL string `json:"etcdClientURL"`
	EtcdPeerURL   string `json:"etcdPeerURL"`
	// ReadyURL is polled, trusting CAFile, before the controllers start.
	ReadyURL string `json:"readyURL"`
	CAFile   string `json:"caFile"`
	// APIServer, ControllerManager and Scheduler are the flags of the stock
	// programs, one "--name=value" each.
	APIServer         []string `json:"apiServer"`
	ControllerManager []string `json:"controllerManager"`
	Scheduler         []string `json:"scheduler"`
}

// readyPoll is the pause between two looks at the API server's readiness.
const readyPoll = 25 * time.Millisecond

// LoadConfig reads a Config from a JSON file. A field it does not know is an
// error: driver and binary are built from the same tree.
func LoadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	cfg := new(Config)
	if err := dec.Decode(cfg); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return cfg, nil
}

// Run starts the four components in the order they need each other and waits.
// It returns nil when ctx ends, else the error of the first component to stop.
func Run(ctx context.Context, cfg *Config) error {
	defer klog.Flush()
	start := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	etcd, err := startEtcd(ctx, cfg)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()
	step(start, "etcd ready")

	stopped := make(chan error, 4)
	go func() { stopped <- named("etcd", <-etcd.Err()) }()
	if err := startAPIServer(ctx, cfg.APIServer, stopped); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	// The controllers read a config map while they are being configured, which
	// RBAC allows only once the API server's own bootstrap has run.
	if err := waitReady(ctx, cfg, stopped); err != nil {
		return err
	}
	step(start, "kube-apiserver ready")
	if err := startControllers(ctx, cfg.ControllerManager, stopped); err != nil {
		return fmt.Errorf("kube-controller-manager: %w", err)
	}
	if err := startScheduler(ctx, cfg.Scheduler, stopped); err != nil {
		return fmt.Errorf("kube-scheduler: %w", err)
	}
	step(start, "controllers and scheduler started")
	select {
	case <-ctx.Done():
		return nil
	case err := <-stopped:
		return err
	}
}

func step(start time.Time, what string) {
	fmt.Fprintf(os.Stderr, "%8s %s\n", time.Since(start).Round(time.Millisecond), what)
}

// named says which component ended; a component of a control plane has no
// business to end, so a nil error is one too.
func named(component string, err error) error {
	if err == nil {
		err = errors.New("stopped on its own")
	}
	return fmt.Errorf("%s: %w", component, err)
}

func startEtcd(ctx context.Context, cfg *Config) (*embed.Etcd, error) {
	client, err := url.Parse(cfg.EtcdClientURL)
	if err != nil {
		return nil, err
	}
	peer, err := url.Parse(cfg.EtcdPeerURL)
	if err != nil {
		return nil, err
	}
	c := embed.NewConfig()
	c.Dir = cfg.EtcdDir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	// The data does not outlive the lab, so nothing is gained by waiting for the disk.
	c.UnsafeNoFsync = true
	c.LogLevel = "error"
	// On two busy cores the default of 100 ms would fill the log.
	c.WarningUnaryRequestDuration = time.Second
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err := <-e.Err():
		e.Close()
		return nil, err
	case <-ctx.Done():
		e.Close()
		return nil, ctx.Err()
	}
}

// parse applies flags to a stock component's flag sets.
func parse(sets cliflag.NamedFlagSets, flags []string) error {
	all := pflag.NewFlagSet("component", pflag.ContinueOnError)
	for _, fs := range sets.FlagSets {
		all.AddFlagSet(fs)
	}
	return all.Parse(flags)
}

func startAPIServer(ctx context.Context, flags []string, stopped chan<- error) error {
	opts := apiserveroptions.NewServerRunOptions()
	if err := parse(opts.Flags(), flags); err != nil {
		return err
	}
	if err := opts.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := opts.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return errors.Join(errs...)
	}
	go func() { stopped <- named("kube-apiserver", apiserver.Run(ctx, completed)) }()
	return nil
}

// waitReady returns once ReadyURL answers 200, or with what ended first.
func waitReady(ctx context.Context, cfg *Config, stopped <-chan error) error {
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", cfg.CAFile)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if isReady(ctx, client, cfg.ReadyURL) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-stopped:
			return err
		case <-tick.C:
		}
	}
}

func isReady(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func startControllers(ctx context.Context, flags []string, stopped chan<- error) error {
	opts, err := controlleroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	all, off, aliases := controllers.KnownControllers(), controllers.ControllersDisabledByDefault(), controllers.ControllerAliases()
	if err := parse(opts.Flags(all, off, aliases), flags); err != nil {
		return err
	}
	cfg, err := opts.Config(ctx, all, off, aliases)
	if err != nil {
		return err
	}
	go func() { stopped <- named("kube-controller-manager", controllers.Run(ctx, cfg.Complete())) }()
	return nil
}

func startScheduler(ctx context.Context, flags []string, stopped chan<- error) error {
	opts := scheduleroptions.NewOptions()
	if err := parse(*opts.Flags, flags); err != nil {
		return err
	}
	cfg, sched, err := scheduler.Setup(ctx, opts)
	if err != nil {
		return err
	}
	go func() { stopped <- named("kube-scheduler", scheduler.Run(ctx, cfg, sched)) }()
	return nil
}
