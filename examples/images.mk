# The examples' image: one for all of them, the manifests choose the program by its path. Included by the top Makefile.
# EXAMPLES_ARCH=arm64 builds it for nodes of another kind than this machine.

EXAMPLES_IMAGE = grpclb.dev/examples:dev
EXAMPLES_TAR = bin/examples.tar
EXAMPLES_ARCH = $(shell $(GO) env GOARCH)
EXAMPLES_PROGRAMS = square-server square-aggregator echo-backend echo-frontend load-server load-client voting-server voting-web voting-bot voting-graph

.PHONY: examples-image
examples-image: need-go ## build bin/examples.tar, the image of the example applications
	@mkdir -p bin/examples
	CGO_ENABLED=0 GOOS=linux GOARCH=$(EXAMPLES_ARCH) $(GO) build -trimpath -ldflags '-s -w' -o bin/examples/ \
		./examples/square/cmd/... ./examples/echo/cmd/... ./examples/load/cmd/... ./examples/voting/cmd/...
	@$(LAB) image --name $(EXAMPLES_IMAGE) --arch $(EXAMPLES_ARCH) --user 65532:65532 --entrypoint /square-server \
		-o $(CURDIR)/$(EXAMPLES_TAR) \
		$(foreach p,$(EXAMPLES_PROGRAMS),$(CURDIR)/bin/examples/$(p)=/$(p))
