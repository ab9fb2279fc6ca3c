package pki

import (
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// kubeconfig is the part of client-go's Config (v1) that the lab uses. Data
// is inlined, so that the file can be copied anywhere.
type kubeconfig struct {
	APIVersion     string  `json:"apiVersion"`
	Kind           string  `json:"kind"`
	CurrentContext string  `json:"current-context"`
	Clusters       []named `json:"clusters"`
	Contexts       []named `json:"contexts"`
	Users          []named `json:"users"`
}

type named struct {
	Name    string       `json:"name"`
	Cluster *clusterInfo `json:"cluster,omitempty"`
	Context *contextInfo `json:"context,omitempty"`
	User    *userInfo    `json:"user,omitempty"`
}

type clusterInfo struct {
	Server                   string `json:"server"`
	CertificateAuthorityData []byte `json:"certificate-authority-data"`
}

type contextInfo struct {
	Cluster string `json:"cluster"`
	User    string `json:"user"`
}

type userInfo struct {
	ClientCertificateData []byte `json:"client-certificate-data"`
	ClientKeyData         []byte `json:"client-key-data"`
}

// Kubeconfig returns a kubeconfig whose context, cluster and user are called
// name. It reaches server with the certificate DIR/CERT.crt of a.
func (a *Authority) Kubeconfig(name, server, cert string) ([]byte, error) {
	return Kubeconfig(a.CertFile(), filepath.Join(a.dir, cert), name, server)
}

// Kubeconfig returns a kubeconfig from files: the authority's certificate and
// a client's, the latter named without its .crt and .key.
func Kubeconfig(caFile, pair, name, server string) ([]byte, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	crt, err := os.ReadFile(pair + ".crt")
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(pair + ".key")
	if err != nil {
		return nil, err
	}
	return yaml.Marshal(kubeconfig{
		APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters: []named{{Name: name, Cluster: &clusterInfo{Server: server, CertificateAuthorityData: ca}}},
		Contexts: []named{{Name: name, Context: &contextInfo{Cluster: name, User: name}}},
		Users:    []named{{Name: name, User: &userInfo{ClientCertificateData: crt, ClientKeyData: key}}},
	})
}
