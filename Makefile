# The menu: `make help`. CI calls these targets.

PREFIX  ?= /opt/cni/bin
BINDIR  ?= /usr/local/bin
UNITDIR ?= /etc/systemd/system
DATADIR ?= /usr/local/share
MANDIR  ?= $(DATADIR)/man
DESTDIR ?=
MULTICALL ?= 1
LINKS   ?= 0
CARGO   ?= cargo

# Static executables need an explicit target: otherwise the flags would also reach build scripts and proc macros. With
# musl, wherever the toolchain has it (`make tools` adds it): glibc takes 0.5 ms of each start in a virtual machine.
HOST     = $(shell rustc -vV | sed -n 's/^host: //p')
MUSL     = $(firstword $(subst -, ,$(HOST)))-unknown-linux-musl
TARGET  ?= $(shell [ -d "$$(rustc --print sysroot)/lib/rustlib/$(MUSL)/lib" ] && echo $(MUSL) || echo $(HOST))
# The toolchain's own linker needs no C compiler, for no architecture. Not position-independent: see SECURITY.md.
LINK_musl = -C linker=rust-lld -C link-arg=--build-id=sha1 -C relocation-model=static -C link-arg=--icf=all
LINK_gnu  = -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--icf=all
# The agent's TLS has C code, which needs nothing of a C library's headers but functions that musl has, too: the machine's
# compiler makes it, where it is one of the same architecture. Of another, CC_<target> names a compiler.
ifeq ($(firstword $(subst -, ,$(TARGET))),$(firstword $(subst -, ,$(HOST))))
CC_musl  = CC_$(subst -,_,$(TARGET))=cc CFLAGS_$(subst -,_,$(TARGET))=-U_FORTIFY_SOURCE
endif
# No path of the machine that builds goes into them: the same source gives the same bytes anywhere.
STATIC   = $(if $(filter %-unknown-linux-musl,$(TARGET)),$(CC_musl)) MOOR_VERSION="$(VERSION)" RUSTFLAGS="-C target-feature=+crt-static \
    $(if $(filter %-unknown-linux-musl,$(TARGET)),$(LINK_musl),$(LINK_gnu)) \
    --remap-path-prefix=$(CURDIR)=/moor --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo"

# The newest tag's; without a tag, that of Cargo.toml.
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//')

PLUGINS  = bandwidth bridge cluster dhcp dns dummy firewall host-device host-local ipvlan loopback macvlan overlay portmap ptp sbr static tap tuning vlan vrf
# The plugins in one file.
ALL      = moor-plugins
PROGRAMS = $(PLUGINS) $(ALL) overlay-agent moor moor-install conformance

# Makes image $(1), on a root file system or from scratch.
IMAGE = mkdir -p dist && rm -f dist/$(1)-*.oci.tar && \
    version=$(or $(VERSION),$$(sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)) && \
    plugins/packages/image $(1) bin "dist/$(1)-$$version.oci.tar" "$$version" "$$(git log -1 --format=%ct)" $(2)

# This file's directory, which a test calls from elsewhere.
HERE := $(dir $(lastword $(MAKEFILE_LIST)))
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)
# Where `make pr` has its plugins: of a development build.
PR_DIR = $(TARGET_DIR)/debug/plugins

.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster build install install-units man dist dist-test systemd-test distributions-test upgrade-test image image-test image-conformance image-conformance-test clean pr fmt lint test test-unit conformance test-vm kernels faults diff stress clients seeded coverage worlds fuzz supply reproducible bench bench-dns tools tools-vm tools-clients tools-dhcp tools-dist tools-distributions tools-dns tools-etcd tools-firewalld tools-fuzz tools-image tools-kernels tools-supply tools-systemd

help: ## list the targets
	@awk -F':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Try it

demo: tools build ## build, attach containers, send real packets, detach, and show that nothing is left
	bin/conformance demo

demo-cluster: tools tools-etcd build ## the same on three hosts: one network, a container that moves, a host that dies, no etcd
	bin/conformance demo --cluster

##@ Build and install

build: ## build every executable, static, into bin/; AUDITABLE=1: each lists its crates; TARGET=aarch64-unknown-linux-musl
	@case $(TARGET) in *-musl) ;; *) echo "built with glibc, which starts more slowly: the Rust toolchain lacks $(MUSL)" >&2 ;; esac
	$(STATIC) $(CARGO) $(if $(AUDITABLE),auditable )build --release --target $(TARGET) $(addprefix -p ,$(PROGRAMS:cluster=cluster-ipam))
	@mkdir -p bin
	@for program in $(PROGRAMS); do \
	    cp -f $(TARGET_DIR)/$(TARGET)/release/$$program bin/.$$program.new && mv -f bin/.$$program.new bin/$$program || exit 1; \
	done
	@ls -l bin

install: ## install the plugins and moor into $(DESTDIR)$(PREFIX), each by rename; LINKS=1: one file; MULTICALL=0: one each
	@FROM="$(CURDIR)" PLUGINS="$(PLUGINS)" PREFIX="$(PREFIX)" BINDIR="$(BINDIR)" DATADIR="$(DATADIR)" MANDIR="$(MANDIR)" \
	    DESTDIR="$(DESTDIR)" MULTICALL="$(MULTICALL)" LINKS="$(LINKS)" $(HERE)plugins/packages/install

install-units: ## install the units that rebuild packet rules after a firewall's restart, that run the daemons of dhcp and overlay, and moor's timers, into $(DESTDIR)$(UNITDIR)
	@mkdir -p "$(DESTDIR)$(UNITDIR)"
	@for unit in plugins/portmap/systemd/moor-reapply@.service ipam/dhcp/systemd/moor-dhcp.service ipam/dhcp/systemd/moor-dhcp.socket plugins/overlay-agent/systemd/moor-overlay.service plugins/moor/systemd/*; do \
	    to="$(DESTDIR)$(UNITDIR)/$${unit##*/}" && sed 's|/opt/cni/bin|$(PREFIX)|' "$$unit" > "$$to" && echo "$$to" || exit 1; \
	done

man: ## write moor's man pages and the scripts that complete its commands into bin/share, for install
	@rm -rf bin/share && mkdir -p bin && $(CARGO) run -q -p moor --example man -- bin/share

dist: tools build man image ## an archive, packages for Debian, the image, and their checksums, of the commit's tree, in dist/
	PLUGINS="$(PLUGINS)" VERSION="$(VERSION)" TARGET="$(TARGET)" plugins/packages/dist

dist-test: tools-dist dist ## make them twice and compare; install, upgrade and remove the packages on a bare Debian
	plugins/packages/trial

systemd-test: tools-systemd dist ## try the package's units under a systemd that is process 1 of a virtual machine
	plugins/packages/trial-systemd

distributions-test: tools tools-distributions tools-etcd tools-firewalld tools-dhcp build ## try what DISTRIBUTIONS.md says: read-only, noexec, no C library, AppArmor, SELinux
	plugins/packages/trial-distributions

# Of before most of the records that there are today, and as far back as the packet rules of published ports allow.
OLDER ?= f2586aa

upgrade-test: tools build ## bin/ takes an older release's place under 100 attachments, and gives it back; OLD=DIR, else OLDER=COMMIT is built first
	old=$(if $(OLD),"$(OLD)",$$(.ci/older $(OLDER))) && bin/conformance upgrade --cni-path bin --from "$$old"

image: ## an OCI image of bin/ that installs itself into a host's directories: dist/moor-install-VERSION.oci.tar
	@test -x bin/moor-install || { echo "nothing is built: run 'make build' first" >&2; exit 1; }
	@$(call IMAGE,moor-install)

image-test: tools-clients image ## podman runs the image as a pod would, in namespaces of its own
	plugins/install/trial dist/moor-install-*.oci.tar "$$(basename dist/moor-install-*.oci.tar .oci.tar | sed 's/^moor-install-//')"

image-conformance: tools-image ## an OCI image of the harness, for other projects' CI: dist/moor-conformance-VERSION.oci.tar
	@test -x bin/conformance || { echo "nothing is built: run 'make build' first" >&2; exit 1; }
	@$(call IMAGE,moor-conformance,"$${XDG_CACHE_HOME:-$$HOME/.cache}/moor/debian/bookworm-conformance")

image-conformance-test: tools-clients image-conformance ## make it twice and compare; podman runs it on plugins of bin/ and on a broken one
	plugins/packages/trial-conformance dist/moor-conformance-*.oci.tar "$$(basename dist/moor-conformance-*.oci.tar .oci.tar | sed 's/^moor-conformance-//')" bin

clean: ## remove what was built
	$(CARGO) clean
	rm -rf bin dist

##@ Before a pull request

pr: lint test-unit ## what a pull request must pass: lint, test-unit, the demo, bridge's cases; under three minutes once built
	$(CARGO) build -q -p $(ALL) -p conformance
	@mkdir -p $(PR_DIR) && for plugin in $(PLUGINS); do ln -f $(TARGET_DIR)/debug/$(ALL) $(PR_DIR)/$$plugin || exit 1; done
	$(TARGET_DIR)/debug/conformance demo --cni-path $(PR_DIR)
	$(TARGET_DIR)/debug/conformance run --cni-path $(PR_DIR) --lane native --filter bridge/

fmt: ## format the source
	$(CARGO) fmt --all

lint: ## formatting and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

##@ Test

test: tools tools-vm tools-dhcp tools-dns tools-etcd tools-firewalld build test-unit conformance seeded faults diff stress clients ## all of these, and seeded: forty minutes

test-unit: ## unit and kernel tests, which leave nothing on this machine
	$(CARGO) run -q -p conformance -- untouched -- $(CARGO) test --workspace

conformance: ## every case of the harness against bin/; what this kernel lacks, in a virtual machine
	bin/conformance run --cni-path bin

test-vm: tools-vm build ## only the cases that not every kernel can run, in a virtual machine
	bin/conformance run --cni-path bin --special --lane vm

KERNELS = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/moor/kernels

kernels: tools-vm tools-kernels build ## the same on Debian 11's kernel and on the newest of Debian 12: one after the other; FILTER=ipvlan/
	@held=0; for kernel in oldest newest; do \
	    echo "== $$kernel: $$(ls $(KERNELS)/$$kernel)"; \
	    bin/conformance run --cni-path bin --special --lane vm --vm-images $(KERNELS)/$$kernel --filter "$(FILTER)" || held=1; \
	done; exit $$held

faults: ## an error and a SIGKILL at every system call that changes something
	bin/conformance faults --cni-path bin

diff: ## the same requests to Moor and to the reference, compared
	bin/conformance diff --cni-path bin --against /usr/lib/cni

stress: ## two suites at once on one directory of leases, some calls killed; SEEDS=4
	bin/conformance stress --cni-path bin --seeds $(or $(SEEDS),4)

clients: tools tools-clients tools-dhcp tools-etcd ## podman, containerd, CRI-O's calls, dhcp, and engines on two hosts, with bin/
	bin/conformance clients --cni-path bin

##@ Test the harness

seeded: ## plugins with one defect each, and the case that must catch it
	bin/conformance seeded --cni-path bin

coverage: ## which clauses have a case
	bin/conformance coverage

##@ Look further

worlds: ## the cases on busy, hostile and odd hosts, FILTER=portmap/
	@held=0; for world in busy hostile odd; do \
	    echo "== $$world"; bin/conformance run --cni-path bin --world $$world --filter "$(FILTER)" || held=1; \
	done; exit $$held

fuzz: tools-fuzz ## look for input that breaks a reader, SECONDS=15 for each of testdata/fuzz
	.ci/fuzz $(SECONDS)

supply: tools-supply ## licences, duplicates, sources and advisories of dependencies
	$(CARGO) deny check licenses bans sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check --disable-fetch advisories; \
	else echo "advisories: NOT RUN: their database cannot be had from here" >&2; fi

reproducible: ## build the committed tree elsewhere, and compare with bin/ byte by byte
	.ci/reproducible

##@ Measure

# A higher priority keeps other processes from disturbing it; only root may have one.
bench: tools tools-vm tools-clients build ## attachments: Moor, the reference and the kernel alone, against testdata/budgets.json; BENCH='--filter host-local'; BEFORE=DIR: an earlier build too
	$(if $(filter 0,$(shell id -u)),nice -n -19) bin/conformance bench --cni-path bin --against /usr/lib/cni \
	    --page $(TARGET_DIR)/bench.html $(or $(BENCH),--scale --parallel --data-path --also start --also gc --also herd --also wait --also engine --also rates --also networks --also tool --also flow) \
	    $(if $(BEFORE),--also chain --before $(BEFORE))

bench-dns: tools tools-dns build ## names: questions against dnsmasq and aardvark-dns, ADD and DEL against dnsname
	bin/conformance dns --cni-path bin $(BENCH)

##@ Programs that these need: installed as root, else printed

tools: ## for demo and test
	@.ci/tools

tools-vm: ## for the virtual machine, with a kernel in ~/.cache/moor/vm
	@.ci/tools vm || echo "without them, the cases that this kernel cannot run are not run" >&2

tools-clients: ## for clients: podman and containerd, unpacked in ~/.cache/moor/clients
	@.ci/tools clients || echo "without them, podman and containerd are not run" >&2

tools-dhcp: ## for the cases of dhcp: dnsmasq; kea and isc-dhcp-server, unpacked in ~/.cache/moor/dhcp
	@.ci/tools dhcp || echo "without them, the cases about DHCP servers are not run" >&2

tools-dist: ## for dist-test: mmdebstrap, lintian, and root file systems of Debian in ~/.cache/moor/debian
	@.ci/tools dist

tools-distributions: tools-vm ## for distributions-test: a root file system of Debian with SELinux' policy and tools of AppArmor
	@.ci/tools distributions

tools-dns: ## for bench-dns and the cases of dnsname: dnsperf, dnsmasq; aardvark-dns and dnsname in ~/.cache/moor/dns
	@.ci/tools dns || echo "without them, the cases about dnsname are not run" >&2

tools-etcd: ## for the cases of networks over many hosts: openssl; etcd and etcdctl, unpacked in ~/.cache/moor/etcd
	@.ci/tools etcd || echo "without them, the cases about networks over many hosts are not run" >&2

tools-firewalld: ## for the cases of firewalld: D-Bus and Python; firewalld, unpacked in ~/.cache/moor/firewalld
	@.ci/tools firewalld || echo "without them, the cases about firewalld are not run" >&2

tools-fuzz: ## for fuzz: a C++ compiler
	@.ci/tools fuzz

tools-image: ## for image-conformance: a root file system of Debian with what the harness calls in ~/.cache/moor/debian
	@.ci/tools image

tools-systemd: tools-vm tools-etcd ## for systemd-test: a root file system of Debian with systemd in ~/.cache/moor/debian
	@.ci/tools systemd

tools-kernels: ## for kernels: an older and a newer kernel in ~/.cache/moor/kernels
	@.ci/tools kernels

tools-supply: ## for supply and AUDITABLE=1: cargo-deny, cargo-auditable
	@.ci/tools supply
