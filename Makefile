# Everything a contributor types. The two that matter: "make demo" and "make test"; "make help" lists the rest.
# What is more than a line of shell lives in Go programs: test/run (the suite), test/demo, test/lab (the cluster).
# They read KEEP, CONTEXT, SCREENSHOTS, V and CI from the environment, where make puts "make demo KEEP=1" too.

GO = go
LAB = $(GO) -C test/lab run .
RUN = $(GO) run ./test/run

# The stamp of a build. The time is the commit's, so that two builds of one commit are the same bytes. An untagged
# build is left without a version: the binary then answers from what the go command embedded.
STAMPED = github.com/grpclb/kubectl-grpclb/internal/version
STAMP = -s -w \
	-X $(STAMPED).Version=`git describe --tags --match 'v*' --dirty 2>/dev/null` \
	-X $(STAMPED).Commit=`git rev-parse HEAD 2>/dev/null` \
	-X $(STAMPED).Date=`TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null`
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(STAMP)"

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  KEEP=1 leaves the cluster running; CONTEXT=name uses that kubeconfig context instead of the lab;"
	@echo "  V=1 shows all output; CI=true also turns a skipped step into a failure."

.PHONY: demo
demo: need-go ## start a cluster, show the problem, find it, fix it, show the fix
	@$(GO) run ./test/demo $(DEMOFLAGS)

.PHONY: test
test: need-go ## run everything: unit, lint, grpc-go's versions, generated files, fuzz seeds, conformance, supply chain, release, race, browser, end to end
	@$(RUN)

# The steps of "make test", one by one.

.PHONY: unit
unit: need-go ## run the unit tests of every module
	@$(RUN) unit

.PHONY: race
race: need-go ## run the unit tests under the race detector
	@$(RUN) race

.PHONY: lint
lint: need-go ## run golangci-lint, built from tools/, over every module
	@$(RUN) lint

.PHONY: grpc-versions
grpc-versions: need-go ## test the refresher library with the two minor releases of grpc-go before ours
	@$(RUN) grpc-versions

.PHONY: fuzz-seeds
fuzz-seeds: need-go ## run the fuzz targets over their seed corpora
	@$(RUN) fuzz-seeds

.PHONY: conformance
conformance: need-go ## hold the sidecar to h2spec and gRPC's interop cases, and flood it
	@$(RUN) conformance

.PHONY: supply
supply: need-go ## check licences, known vulnerabilities and versions of what is linked
	@$(RUN) supply

.PHONY: release
release: need-go ## build a snapshot of a release for all platforms and test it; nothing is published
	@$(RUN) release

.PHONY: browser
browser: need-go ## look at the pools page in Chromium (SCREENSHOTS=folder keeps pictures)
	@$(RUN) browser

.PHONY: e2e
e2e: need-go ## run the end-to-end tests on the lab, or on CONTEXT=name
	@$(RUN) e2e

.PHONY: generate
generate: need-go ## write generated code and documents
	@$(RUN) -v -generate

.PHONY: check-generated
check-generated: need-go ## fail when a generated file is not what its generator writes
	@$(RUN) generated

.PHONY: build
build: need-go ## build bin/kubectl-grpclb and bin/grpclb-refresher
	$(BUILD) -o bin/kubectl-grpclb ./cmd/kubectl-grpclb
	$(BUILD) -o bin/grpclb-refresher ./cmd/grpclb-refresher

.PHONY: snapshot
snapshot: need-go ## build what a release consists of, for this commit, into dist/
	@$(RUN) -v -snapshot

# Quicker than a snapshot after a change to files for one system.
.PHONY: cross
cross: need-go ## build the plugin for macOS and Windows
	GOOS=darwin GOARCH=arm64 $(BUILD) -o /dev/null ./cmd/kubectl-grpclb
	GOOS=windows GOARCH=amd64 $(BUILD) -o /dev/null ./cmd/kubectl-grpclb

.PHONY: lab-up
lab-up: need-go ## start the lab: a real Kubernetes on this machine (Linux, root)
	@$(LAB) up

.PHONY: lab-down
lab-down: need-go ## stop the lab and leave nothing behind
	@$(LAB) down

.PHONY: bench
bench: need-go ## run the benchmarks and print them with the machine
	@$(GO) -C bench run . $(BENCHFLAGS)

.PHONY: bench-faults
bench-faults: need-go ## break the lab in many ways under load, beside stock grpc-go and kuberesolver
	@$(GO) -C bench run ./faults $(BENCHFLAGS)

.PHONY: bench-sidecar
bench-sidecar: need-go ## run the sidecar beside HAProxy, nginx and Envoy (Linux)
	@$(GO) -C bench run ./sidecar $(BENCHFLAGS)

.PHONY: clean
clean: ## remove what was built here (not the lab's cache)
	rm -rf bin dist

.PHONY: need-go
need-go:
	@command -v $(GO) >/dev/null || { \
		echo 'Go 1.26 or later is missing. Install it from https://go.dev/dl/ and run the same command again.' >&2; exit 1; }

-include examples/images.mk cmd/grpclb-refresher/image.mk
