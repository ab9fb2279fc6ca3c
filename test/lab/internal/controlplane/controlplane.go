// Package controlplane writes what the lab's control plane reads: keys and
// certificates, kubeconfigs, the audit policy, and the flags of its programs.
//
// It does what kubeadm's init phases do for a single control-plane machine and
// starts nothing itself.
package controlplane

import (
	"encoding/json"
	"path/filepath"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/pki"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

// auditPolicy records who asked what of which object, without contents.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// Config is what the control plane's binary reads; the fields are described
// there (cluster/kube).
type Config struct {
	EtcdDir           string   `json:"etcdDir"`
	EtcdClientURL     string   `json:"etcdClientURL"`
	EtcdPeerURL       string   `json:"etcdPeerURL"`
	ReadyURL          string   `json:"readyURL"`
	CAFile            string   `json:"caFile"`
	APIServer         []string `json:"apiServer"`
	ControllerManager []string `json:"controllerManager"`
	Scheduler         []string `json:"scheduler"`
}

// ConfigFile is where Prepare writes the Config.
func ConfigFile(dir state.Dir) string { return filepath.Join(dir.Control(), "config.json") }

// Prepare writes all of it for a cluster of the given nodes.
func Prepare(dir state.Dir, nodes []topology.Node) error {
	if err := keys(dir.PKI(), nodes); err != nil {
		return err
	}
	policy := filepath.Join(dir.Control(), "audit-policy.yaml")
	if err := state.WriteFile(policy, []byte(auditPolicy), 0o644); err != nil {
		return err
	}
	b, err := json.MarshalIndent(NewConfig(dir, policy), "", "  ")
	if err != nil {
		return err
	}
	return state.WriteFile(ConfigFile(dir), b, 0o600)
}

// UserKubeconfig returns the kubeconfig of the cluster's administrator, for
// the API server at the given loopback address.
func UserKubeconfig(dir state.Dir, address string) ([]byte, error) {
	p := dir.PKI()
	return pki.Kubeconfig(filepath.Join(p, "ca.crt"), filepath.Join(p, "admin"), state.ContextName, "https://"+address)
}

// keys writes certificates, keys and kubeconfigs.
func keys(dir string, nodes []topology.Node) error {
	ca, err := pki.NewAuthority(dir, "ca")
	if err != nil {
		return err
	}
	front, err := pki.NewAuthority(dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	if err := pki.SigningPair(dir, "sa"); err != nil {
		return err
	}
	// What aggregated API servers see in place of the user.
	if err := front.Issue("front-proxy-client", pki.Subject{CommonName: "front-proxy-client"}); err != nil {
		return err
	}
	subjects := map[string]pki.Subject{
		"apiserver": {
			CommonName: "kube-apiserver",
			DNSNames: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + topology.ClusterDomain,
			},
			IPs: []string{"127.0.0.1", topology.ControlIP, topology.APIServiceIP},
		},
		"apiserver-kubelet-client": {CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}},
		"admin":                    {CommonName: "grpclb-lab-admin", Organizations: []string{"system:masters"}},
	}
	clients := map[string]pki.Subject{
		"controller-manager": {CommonName: "system:kube-controller-manager"},
		"scheduler":          {CommonName: "system:kube-scheduler"},
		"kube-proxy":         {CommonName: "system:kube-proxy"},
	}
	for _, n := range nodes {
		clients["node-"+n.Name] = pki.Subject{CommonName: "system:node:" + n.Name, Organizations: []string{"system:nodes"}}
		subjects["kubelet-"+n.Name] = pki.Subject{
			CommonName: "system:node:" + n.Name, Organizations: []string{"system:nodes"},
			DNSNames: []string{n.Name}, IPs: []string{n.IP},
		}
	}
	for name, s := range subjects {
		if err := ca.Issue(name, s); err != nil {
			return err
		}
	}
	for name, s := range clients {
		if err := ca.Issue(name, s); err != nil {
			return err
		}
		b, err := ca.Kubeconfig("lab", topology.APIURL, name)
		if err != nil {
			return err
		}
		if err := state.WriteFile(filepath.Join(dir, name+".kubeconfig"), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// NewConfig returns the control plane's configuration. Leader election is off
// (there is nobody to elect against) and the clients' rate limits are those
// of a machine that has the API server to itself.
func NewConfig(dir state.Dir, auditPolicyFile string) Config {
	p := func(name string) string { return filepath.Join(dir.PKI(), name) }
	component := func(kubeconfig string) []string {
		return []string{
			"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig,
			"--authorization-kubeconfig=" + kubeconfig, "--bind-address=127.0.0.1", "--leader-elect=false",
			"--kube-api-qps=200", "--kube-api-burst=400", "--profiling=false",
		}
	}
	return Config{
		EtcdDir:       filepath.Join(dir.Control(), "etcd"),
		EtcdClientURL: "http://127.0.0.1:2379",
		EtcdPeerURL:   "http://127.0.0.1:2380",
		ReadyURL:      "https://127.0.0.1:6443/readyz",
		CAFile:        p("ca.crt"),
		APIServer: []string{
			"--etcd-servers=http://127.0.0.1:2379",
			"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address=" + topology.ControlIP,
			"--service-cluster-ip-range=" + topology.ServiceCIDR,
			"--client-ca-file=" + p("ca.crt"),
			"--tls-cert-file=" + p("apiserver.crt"), "--tls-private-key-file=" + p("apiserver.key"),
			"--kubelet-certificate-authority=" + p("ca.crt"),
			"--kubelet-client-certificate=" + p("apiserver-kubelet-client.crt"),
			"--kubelet-client-key=" + p("apiserver-kubelet-client.key"),
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://kubernetes.default.svc." + topology.ClusterDomain,
			"--service-account-key-file=" + p("sa.pub"), "--service-account-signing-key-file=" + p("sa.key"),
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
			// The aggregation layer, for metrics-server. The API server is on no node and so
			// has no kube-proxy: it dials the pods behind a Service itself.
			"--enable-aggregator-routing=true",
			"--requestheader-client-ca-file=" + p("front-proxy-ca.crt"),
			"--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + p("front-proxy-client.crt"), "--proxy-client-key-file=" + p("front-proxy-client.key"),
			"--audit-policy-file=" + auditPolicyFile, "--audit-log-path=" + dir.AuditLog(),
			"--audit-log-maxsize=200", "--audit-log-maxbackup=1",
			"--profiling=false",
		},
		ControllerManager: append(component(p("controller-manager.kubeconfig")),
			"--service-account-private-key-file="+p("sa.key"), "--root-ca-file="+p("ca.crt"),
			"--use-service-account-credentials=true",
			// Pod ranges are fixed by the lab's routes.
			"--allocate-node-cidrs=false",
			// The default is a directory of the machine's, which it would make.
			"--flex-volume-plugin-dir="+filepath.Join(dir.Control(), "volume-plugins")),
		Scheduler: component(p("scheduler.kubeconfig")),
	}
}
