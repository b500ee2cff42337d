# The menu. CI calls exactly these targets.

PREFIX  ?= /opt/cni/bin
UNITDIR ?= /etc/systemd/system
DESTDIR ?=
MULTICALL ?= 1
LINKS   ?= 0
CARGO   ?= cargo

# Static executables need an explicit target: otherwise the flag would also reach build scripts and proc macros.
TARGET  ?= $(shell rustc -vV | sed -n 's/^host: //p')
# No path of the machine that builds goes into them: the same source gives the same bytes anywhere.
STATIC   = MOOR_VERSION="$(VERSION)" RUSTFLAGS="-C target-feature=+crt-static \
    -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--icf=all \
    --remap-path-prefix=$(CURDIR)=/moor --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo"

# That of the newest tag; without one the packages' own.
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//')

PLUGINS  = bridge dns host-local ipvlan loopback macvlan portmap
PROGRAMS = $(PLUGINS) moor conformance

TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help build install install-units demo test test-unit conformance worlds seeded coverage faults diff stress clients bench bench-dns lint supply fuzz reproducible fmt tools test-vm tools-vm tools-clients tools-dns tools-fuzz tools-supply clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-14s %s\n", $$1, $$2 }'

build: ## build every executable, static, into bin/; AUDITABLE=1: each lists the crates it is made of
	$(STATIC) $(CARGO) $(if $(AUDITABLE),auditable )build --release --target $(TARGET) $(addprefix -p ,$(PROGRAMS))
	@mkdir -p bin
	@for program in $(PROGRAMS); do \
	    cp -f $(TARGET_DIR)/$(TARGET)/release/$$program bin/.$$program.new && mv -f bin/.$$program.new bin/$$program || exit 1; \
	done
	@ls -l bin

# Every name is a copy of the one executable that holds all plugins, so that the IPAM plugin runs in bridge's own process.
# Copies, not links: an installer that writes another network's `loopback` over ours would write to all names of that file.
install: ## install the plugins into $(DESTDIR)$(PREFIX), each by rename; LINKS=1: one file; MULTICALL=0: an executable for each
	@test -x bin/moor || { echo "nothing is built: run 'make build' first" >&2; exit 1; }
	@mkdir -p "$(DESTDIR)$(PREFIX)"
	@cd "$(DESTDIR)$(PREFIX)" && bin="$(CURDIR)/bin" && \
	put() { \
	    if [ "$(MULTICALL)" != 1 ]; then install -m 0755 "$$bin/$$1" ".$$2.new"; \
	    elif [ "$(LINKS)" = 1 ] && [ "$$2" != moor ]; then ln -f moor ".$$2.new"; \
	    else install -m 0755 "$$bin/moor" ".$$2.new"; fi && \
	    mv -fT ".$$2.new" "$$2" && echo "$(DESTDIR)$(PREFIX)/$$2"; \
	} && \
	if [ "$(MULTICALL)" = 1 ]; then put moor moor; fi && \
	for plugin in $(PLUGINS); do put "$$plugin" "$$plugin" || exit 1; done && \
	put dns dnsname

install-units: ## install the systemd unit that rebuilds packet rules after a firewall's restart, into $(DESTDIR)$(UNITDIR)
	@mkdir -p "$(DESTDIR)$(UNITDIR)"
	@sed 's|/opt/cni/bin|$(PREFIX)|' plugins/portmap/systemd/moor-reapply@.service > "$(DESTDIR)$(UNITDIR)/moor-reapply@.service"
	@echo "$(DESTDIR)$(UNITDIR)/moor-reapply@.service"

demo: tools build ## see it: two containers, real packets, then nothing left
	bin/conformance demo

test: tools tools-vm tools-dns build test-unit conformance seeded faults diff stress clients ## everything: unit tests, then the harness in throwaway namespaces

test-unit: ## unit and kernel tests, which leave nothing on this machine
	$(CARGO) run -q -p conformance -- untouched -- $(CARGO) test --workspace

conformance: ## every case of the harness against bin/; what this kernel lacks, in a virtual machine
	bin/conformance run --cni-path bin

worlds: ## the cases on busy, hostile and odd hosts, FILTER=portmap/
	@held=0; for world in busy hostile odd; do \
	    echo "== $$world"; bin/conformance run --cni-path bin --world $$world --filter "$(FILTER)" || held=1; \
	done; exit $$held

seeded: ## the harness tests itself: plugins with one defect each, and the case that must catch it
	bin/conformance seeded --cni-path bin

coverage: ## which clauses have a case
	bin/conformance coverage

test-vm: tools-vm build ## only the cases that not every kernel can run, in a virtual machine
	bin/conformance run --cni-path bin --special --lane vm

faults: ## an error and a SIGKILL at every system call that changes something
	bin/conformance faults --cni-path bin

diff: ## the same requests to ours and to the reference
	bin/conformance diff --cni-path bin --against /usr/lib/cni

stress: ## many at once by two suites on one store, some killed on the way; SEEDS=4
	bin/conformance stress --cni-path bin --seeds $(or $(SEEDS),4)

clients: tools tools-clients ## podman and containerd over bin/
	bin/conformance clients --cni-path bin

# Others on the machine disturb less when it comes first, which only root may say.
bench: tools tools-vm build ## what attachments cost: ours, the reference and the kernel alone, against testdata/budgets.json
	$(if $(filter 0,$(shell id -u)),nice -n -19) bin/conformance bench --cni-path bin --against /usr/lib/cni \
	    --page $(TARGET_DIR)/bench.html $(or $(BENCH),--scale --parallel --data-path)

bench-dns: tools tools-dns build ## names: questions against dnsmasq and aardvark-dns, coming and going against dnsname, under load
	bin/conformance dns --cni-path bin $(BENCH)

lint: ## formatting and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

supply: tools-supply ## licences, duplicates, sources and advisories of what we build on
	$(CARGO) deny check licenses bans sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check --disable-fetch advisories; \
	else echo "advisories: NOT RUN: their database cannot be had from here" >&2; fi

fuzz: tools-fuzz ## look for input that breaks a reader, SECONDS=15 for each of testdata/fuzz
	.ci/fuzz $(SECONDS)

reproducible: ## build the committed tree again elsewhere: the same bytes as bin/
	.ci/reproducible

fmt: ## format
	$(CARGO) fmt --all

tools: ## what demo and test need: installed when root, else said
	@.ci/tools

tools-vm: ## what the virtual machine needs: likewise, and a kernel in ~/.cache/moor/vm
	@.ci/tools vm || echo "without them, the cases that this kernel cannot run are not run" >&2

tools-clients: ## what clients needs: podman and containerd, unpacked in ~/.cache/moor/clients
	@.ci/tools clients || echo "without them, podman and containerd are not run" >&2

tools-dns: ## what bench-dns and the cases about dnsname need: dnsperf and dnsmasq; aardvark-dns and dnsname, unpacked in ~/.cache/moor/dns
	@.ci/tools dns || echo "without them, the cases about dnsname are not run" >&2

tools-fuzz: ## what fuzz needs: a C++ compiler
	@.ci/tools fuzz

tools-supply: ## what supply needs: cargo-deny, and cargo-auditable for AUDITABLE=1
	@.ci/tools supply

clean: ## remove what was built
	$(CARGO) clean
	rm -rf bin
