// Package api asks the lab's API server the few things the driver waits for.
//
// It is plain HTTPS and JSON: the driver is compiled by every "go run", and a
// full client would cost a minute of that. It only reads, except for
// [Client.SetPodCIDR]; whatever is richer goes through kubectl.
package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// requestTimeout bounds one request.
const requestTimeout = 5 * time.Second

// maxBody bounds an answer that is read: the lists asked for are short.
const maxBody = 8 << 20

// Client talks to one API server as the cluster's administrator.
type Client struct {
	base string
	http *http.Client
}

// New returns a client for the API server at address (host:port) with the
// keys of a cluster's pki directory.
func New(address, pkiDir string) (*Client, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(pkiDir, "admin.crt"), filepath.Join(pkiDir, "admin.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(pkiDir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the cluster's ca.crt holds no certificate")
	}
	return &Client{
		base: "https://" + address,
		http: &http.Client{
			Timeout:   requestTimeout,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
		},
	}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// StatusError is an answer other than 2xx.
type StatusError struct {
	Path string
	Code int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the API server answered %d %s", e.Path, e.Code, http.StatusText(e.Code))
}

// do sends a request and decodes the JSON answer into out unless that is nil.
func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		return &StatusError{Path: path, Code: resp.StatusCode}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(content, out); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Ready returns nil when the API server is ready.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, "/readyz", "", nil, nil)
}

// condition is a Kubernetes object's condition.
type condition struct {
	Type   string `json:"type"`
	Status string `json:"status"`
	// Heartbeat is when a node last said so; other objects have none.
	Heartbeat time.Time `json:"lastHeartbeatTime"`
}

// find returns the condition of a type, or one that does not hold.
func find(conditions []condition, kind string) condition {
	for _, c := range conditions {
		if c.Type == kind {
			return c
		}
	}
	return condition{Type: kind}
}

func (c condition) holds() bool { return c.Status == "True" }

// Node is what the lab looks at of a node.
type Node struct {
	Name    string
	Zone    string
	PodCIDR string
	Ready   bool
	// Heartbeat is when the kubelet last reported, to the second. A node that
	// was killed counts as ready until that is most of a minute ago.
	Heartbeat time.Time
}

// Nodes lists the registered nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Name   string            `json:"name"`
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
			Spec struct {
				PodCIDR string `json:"podCIDR"`
			} `json:"spec"`
			Status struct {
				Conditions []condition `json:"conditions"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/nodes", "", nil, &list); err != nil {
		return nil, err
	}
	nodes := make([]Node, len(list.Items))
	for i, n := range list.Items {
		ready := find(n.Status.Conditions, "Ready")
		nodes[i] = Node{
			Name: n.Metadata.Name, Zone: n.Metadata.Labels["topology.kubernetes.io/zone"],
			PodCIDR: n.Spec.PodCIDR, Ready: ready.holds(), Heartbeat: ready.Heartbeat,
		}
	}
	return nodes, nil
}

// SetPodCIDR records a node's range of pod addresses in its spec, as the
// controller that hands out ranges does where it runs.
func (c *Client) SetPodCIDR(ctx context.Context, node, cidr string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"podCIDR": cidr, "podCIDRs": []string{cidr}}})
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPatch, "/api/v1/nodes/"+node, "application/merge-patch+json", patch, nil)
}

// Deployment is how many replicas a Deployment wants and has.
type Deployment struct {
	Wanted int `json:"wanted"`
	Ready  int `json:"ready"`
}

// Complete says whether all wanted replicas are ready.
func (d Deployment) Complete() bool { return d.Wanted > 0 && d.Ready >= d.Wanted }

// Deployment reads one Deployment; nothing wanted when it is not there.
func (c *Client) Deployment(ctx context.Context, namespace, name string) (Deployment, error) {
	var d struct {
		Spec struct {
			Replicas int `json:"replicas"`
		} `json:"spec"`
		Status struct {
			ReadyReplicas int `json:"readyReplicas"`
		} `json:"status"`
	}
	err := c.do(ctx, http.MethodGet, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name, "", nil, &d)
	var status *StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return Deployment{}, nil
	}
	return Deployment{Wanted: d.Spec.Replicas, Ready: d.Status.ReadyReplicas}, err
}

// MetricsAvailable says whether the aggregated metrics API answers, which
// metrics-server does from its second look at the kubelets on.
func (c *Client) MetricsAvailable(ctx context.Context) (bool, error) {
	var svc struct {
		Status struct {
			Conditions []condition `json:"conditions"`
		} `json:"status"`
	}
	err := c.do(ctx, http.MethodGet, "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io", "", nil, &svc)
	var status *StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return false, nil
	}
	return find(svc.Status.Conditions, "Available").holds(), err
}
