package addons

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		ClusterIP string
		Template  struct {
			Spec struct {
				Containers []struct {
					Image string
					Args  []string
				}
			}
		}
	}
}

func objects(t *testing.T) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, doc := range strings.Split(Manifest(), "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		key := fmt.Sprintf("%s/%s", o.Kind, o.Metadata.Name)
		if _, dup := all[key]; dup || o.Kind == "" || o.Metadata.Name == "" {
			t.Errorf("unnamed or doubled object %q", key)
		}
		all[key] = o
	}
	return all
}

func TestManifestsAgreeWithTheRestOfTheLab(t *testing.T) {
	all := objects(t)
	if ip := all["Service/kube-dns"].Spec.ClusterIP; ip != topology.DNSIP {
		t.Errorf("kube-dns is at %q, the kubelets send pods to %s", ip, topology.DNSIP)
	}
	for name, image := range map[string]string{"coredns": CoreDNSImage, "metrics-server": MetricsServerImage} {
		c := all["Deployment/"+name].Spec.Template.Spec.Containers
		if len(c) != 1 || c[0].Image != image {
			t.Errorf("%s runs %v, the lab loads %s", name, c, image)
		}
	}
}

func TestCorefileIsKubeadms(t *testing.T) {
	corefile := objects(t)["ConfigMap/coredns"].Data["Corefile"]
	for _, want := range []string{
		"kubernetes " + topology.ClusterDomain + " in-addr.arpa", "ttl 30", "pods insecure", "loadbalance",
		"disable success " + topology.ClusterDomain, "disable denial " + topology.ClusterDomain,
	} {
		if !strings.Contains(corefile, want) {
			t.Errorf("the Corefile lacks %q", want)
		}
	}
}
