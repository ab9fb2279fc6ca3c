// The lab's driver. Light on purpose: "go run ." compiles it in seconds; the
// cluster it starts is built from the modules below it.
module github.com/grpclb/kubectl-grpclb/test/lab

go 1.26.8

replace github.com/grpclb/kubectl-grpclb/internal/release => ../../internal/release

require (
	github.com/google/go-cmp v0.7.0
	github.com/grpclb/kubectl-grpclb/internal/release v0.0.0-00010101000000-000000000000
	github.com/spf13/cobra v1.10.2
	github.com/vishvananda/netlink v1.3.1
	github.com/vishvananda/netns v0.0.5
	golang.org/x/mod v0.42.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	golang.org/x/term v0.47.0
	sigs.k8s.io/yaml v1.6.0
)

require (
	github.com/google/go-containerregistry v0.22.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/compress v1.19.2 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/spf13/pflag v1.0.10 // indirect
	go.yaml.in/yaml/v2 v2.4.2 // indirect
)
