# Brindle's targets. `make help` lists them.
.DEFAULT_GOAL := help
ARCH := $(if $(filter aarch64,$(shell uname -m)),arm64,x64)
NODE := node_modules/node-linux-$(ARCH)/bin/node
SOURCES := $(shell find src -type f)

.PHONY: help bench-cni bench-fabric demo test test-pure lint types format build bench bench-bgp clean soak

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(NODE): package.json package-lock.json
	@[ ! -L node_modules ] || { echo 'node_modules is a link: run npm ci where it leads' >&2; exit 1; }
	npm ci --no-audit --no-fund --loglevel=error
	@touch $(NODE)

build: dist/brindle.js ## bundle the command into dist/ and compile the CNI executable

dist/brindle.js: $(NODE) $(SOURCES) tools/build.ts
	$(NODE) tools/build.ts

demo: build ## three hosts, a real router, containers and a policy, shown step by step; cleans up after itself
	tools/install-needs 'the demo needs a real router, network tools and a small web server' \
	  bird2 iproute2 nftables libnftables1 busybox-static
	$(if $(filter 0,$(shell id -u)),,sudo) $(NODE) --disable-warning=ExperimentalWarning tools/demo.ts

test: build ## install what the tests need and run them all
	tools/install-test-needs
	$(NODE) tools/run-tests.ts

test-pure: $(NODE) ## only the tests that need neither root nor peers
	$(NODE) tools/run-tests.ts --pure

lint: $(NODE) ## types, lint rules, format, layers
	node_modules/.bin/tsc
	node_modules/.bin/oxlint --type-aware --deny-warnings src test bench tools
	node_modules/.bin/biome ci
	$(NODE) tools/check-layers.ts
	$(NODE) tools/resource-reference.ts --check
	$(NODE) tools/results-table.ts --check

format: $(NODE) ## rewrite all files in the project's format
	node_modules/.bin/biome format --write

bench: bench-cni bench-fabric bench-bgp ## every benchmark against its peers (root, a quiet machine)

bench-cni: build ## CNI calls against Debian's ptp + host-local (needs root)
	tools/install-needs 'the CNI benchmark compares with the reference plugins' containernetworking-plugins iproute2 gcc libc6-dev
	$(NODE) --disable-warning=ExperimentalWarning bench/cni/cni.ts

bench-fabric: build ## convergence of a fabric of 3, 10 and 50 hosts in the lab (needs root)
	tools/install-needs 'the fabric benchmark needs a real router' bird2 iproute2 libnftables1
	$(NODE) --disable-warning=ExperimentalWarning bench/fabric/fabric.ts

bench-bgp: build ## BGP against BIRD, FRR and GoBGP (root, gcc, bird2, frr, gobgpd)
	$(NODE) bench/bgp/core.ts
	$(NODE) bench/bgp/run.ts --repeat 3

soak: $(NODE) ## long runs: a million mutated BGP messages
	BRINDLE_FUZZ=1000000 $(NODE) --test src/bgp/wire/fuzz.test.ts

clean: ## remove what was built
	rm -rf dist
