# The agent's image, built without a registry: one static binary on nothing. Included by the Makefile at the root.

AGENT_IMAGE = grpclb.dev/grpclb-refresher:dev
AGENT_BINARY = $(CURDIR)/bin/grpclb-refresher-linux
AGENT_TAR = $(CURDIR)/bin/images/grpclb-refresher.tar

# The user is a number because a pod with runAsNonRoot cannot judge a name.
.PHONY: agent-image
agent-image: need-go ## build the in-pod agent's image, bin/images/grpclb-refresher.tar
	@mkdir -p $(CURDIR)/bin/images
	GOOS=linux $(BUILD) -o $(AGENT_BINARY) ./cmd/grpclb-refresher
	$(LAB) image --name $(AGENT_IMAGE) --user 65532:65532 --entrypoint /grpclb-refresher \
		-o $(AGENT_TAR) $(AGENT_BINARY)=/grpclb-refresher
