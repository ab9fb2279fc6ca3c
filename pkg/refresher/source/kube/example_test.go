package kube_test

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/rest"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/kube"
)

// In a pod: the channel watches the Service's EndpointSlices. See "Rights" for
// the Role that the pod's ServiceAccount needs.
func ExampleNew() {
	conn, err := grpc.NewClient("refresh:///square-service.default:grpc",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		refresher.DialOption(refresher.WithSource(kube.New())))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
}

// Outside of a cluster: a configuration that the application has from elsewhere.
// The pods' addresses have to be reachable from there.
func ExampleWithConfig() {
	config := &rest.Config{Host: "https://api.cluster.example", BearerTokenFile: "/run/secrets/cluster-token"}
	source := kube.New(kube.WithConfig(config), kube.WithNamespace("default"))
	conn, err := grpc.NewClient("refresh:///square-service:grpc",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		refresher.DialOption(refresher.WithSource(source)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
}
