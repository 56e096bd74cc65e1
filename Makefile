# Plenum: every task of the project by name. Each target does the set-up that it needs itself, so any
# of them may be the first command in a fresh clone. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Where outputs go: inside the clone, unless the environment says otherwise (as .ci/run does).
CARGO_TARGET_DIR ?= $(CURDIR)/target
PLENUM_VENV ?= $(CURDIR)/.cache/venv
export CARGO_TARGET_DIR
export PLENUM_BIN := $(CARGO_TARGET_DIR)/release/plenum
export PLENUM_PYTHON := $(PLENUM_VENV)/bin/python

STAMPS := .cache/stamps
installed = $(1)/node_modules/.package-lock.json
NPM_FOLDERS := $(foreach folder,sdk web-demo interop,$(call installed,$(folder)))
WEB_PAGES := web-demo/dist/index.html
WEB_SOURCES := $(shell find sdk web-demo -type f -not -path '*/node_modules/*' -not -path '*/dist/*' \
	-not -path '*/tests/*' 2>/dev/null)

##@ Use
.PHONY: run
run: build ## build everything and start a development server; prints a join link (ARGS=--lan for phones)
	@exec "$(PLENUM_BIN)" serve --dev $(ARGS)

.PHONY: build
build: web ## the server binary, with the web pages in it
	cargo build --release --locked -p plenum-signaling --features aac-fdk --bin plenum

.PHONY: web
web: $(WEB_PAGES) ## the JavaScript SDK and the web pages

.PHONY: docker
docker: ## a container image named plenum
	docker build -f deploy/Dockerfile -t plenum .

##@ Work
.PHONY: test
test: setup web ## all tests: Rust, SDK, web pages, and real clients against the release binary
	@.ci/test

.PHONY: check
check: $(STAMPS)/build-tools web $(call installed,interop) ## format, lints, docs, types, generated files
	@.ci/check

.PHONY: fmt
fmt: ## format the Rust code
	cargo fmt --all

.PHONY: bench
bench: $(STAMPS)/build-tools ## nanoseconds and allocations per forwarded packet, beside the floor
	cargo bench --locked -p plenum-sfu --bench forward
	cargo bench --locked -p plenum-turn --bench relay

.PHONY: bench-instructions
bench-instructions: $(STAMPS)/build-tools $(STAMPS)/bench-tools ## instructions per forwarded packet, by callgrind
	@sfu/benches/instructions

.PHONY: fuzz
fuzz: $(STAMPS)/build-tools ## any bytes at what reads bytes from outside, FUZZ_SECONDS=60 each (TARGETS="h264 amf0")
	@fuzz/run $(TARGETS)

.PHONY: load
load: build ## load on the release server: CPU for a packet, delays, memory (ARGS="--preset meeting --repeat 3")
	cargo build --release --locked -p plenum-loadtest --bin plenum-loadtest
	@taskset -c $$(($$(nproc) - 1)) "$(CARGO_TARGET_DIR)/release/plenum-loadtest" \
		--start "taskset -c 0 $(PLENUM_BIN)" --quiet $(or $(ARGS),--preset all --repeat 5)

.PHONY: bench-join
bench-join: setup build ## time from joining to the first decoded frame, in Chromium
	node interop/run.mjs --bench-join

.PHONY: bench-broadcast
bench-broadcast: setup build ## how late, at what cost and how well a broadcast goes out (ARGS=--quick: 3 minutes, not 10)
	cargo build --release --locked -p plenum-loadtest --bin plenum-loadtest
	node interop/run.mjs --bench-broadcast $(ARGS)

##@ Set up
.PHONY: setup
setup: $(STAMPS)/build-tools $(STAMPS)/test-tools $(PLENUM_VENV)/.ready $(NPM_FOLDERS) ## all that building and testing need

.PHONY: clean
clean: ## remove what was built, keep what was installed
	cargo clean
	rm -rf sdk/dist web-demo/dist .cache/logs

.PHONY: help
help:
	@awk -F ' ## ' '/^##@/ { print "\n" substr($$0, 5) } \
	/^[a-z-]+:.* ## / { split($$1, name, ":"); printf "  make %-18s %s\n", name[1], $$2 }' $(MAKEFILE_LIST)

$(STAMPS)/%-tools: .ci/tools
	@.ci/tools $*
	@mkdir -p $(@D) && touch $@

# npm writes this file last; it is newer than the lock file when the install is complete.
%/node_modules/.package-lock.json: %/package-lock.json | $(STAMPS)/build-tools
	npm ci --no-audit --no-fund --prefix $*
	@touch $@

$(PLENUM_VENV)/.ready: interop/python/requirements.txt | $(STAMPS)/test-tools
	python3 -m venv --clear "$(PLENUM_VENV)"
	"$(PLENUM_PYTHON)" -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(WEB_PAGES): $(WEB_SOURCES) | $(STAMPS)/build-tools $(call installed,sdk) $(call installed,web-demo)
	npm run build --prefix sdk
	npm run build --prefix web-demo
	@touch $@
