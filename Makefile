# Everything starts here: `make test` and `make demo` work in a fresh clone with nothing but Python 3.11 or newer and make.
#
#   make test    the whole suite, as CI runs it       make check   format, lint and types only
#   make demo    see it work, without a key           make lock    pin all dependencies anew
#   make venv    only the environment in .venv        make clean   remove all that was made
#   make bench   the measurements of bench/, some ten minutes on a quiet machine (never part of CI)
#
# PYTHON=python3.13 make test   uses another interpreter (after `make clean`)

PYTHON ?= python3
BIN := .venv/bin
MADE := .venv/.made

# pip-tools is needed by `make lock` alone, which makes an environment of its own for it
PIP_TOOLS := pip-tools==7.6.2
COMPILE := build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

NODE_LOCK := $(wildcard tests/node/package-lock.json)
NODE_MADE := $(NODE_LOCK:package-lock.json=node_modules/.made)
BENCHES := $(filter-out bench/lib_%,$(wildcard bench/*.py))

.DEFAULT_GOAL := test
.NOTPARALLEL:
.PHONY: test check demo bench bench-env venv lock clean system

test: system venv $(NODE_MADE) check
	$(BIN)/pytest --cov

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: venv
	$(BIN)/sidecar demo

# Each script answers one question and fails when it misses its target; all are run, whatever the others find.
bench: venv bench-env
	@failed=""; for script in $(BENCHES); do $(BIN)/python $$script || failed="$$failed $$script"; done; \
	[ -z "$$failed" ] || { echo "targets missed by:$$failed" >&2; exit 1; }

bench-env: build/litellm/.made bench/node/node_modules/.made

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

# What the tests need besides Python. Installed by root on Debian and its kin; else the line that does it is printed.
system:
	@missing=""; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing $(notdir $(PYTHON))-venv"; \
	[ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || missing="$$missing ca-certificates"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	if [ -n "$(NODE_LOCK)" ]; then \
		command -v node >/dev/null || missing="$$missing nodejs"; \
		command -v npm >/dev/null || missing="$$missing npm"; \
	fi; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else \
		echo "The tests need more than is installed; run this first: sudo apt-get install -y$$missing" >&2; exit 1; \
	fi

%/node_modules/.made: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

# LiteLLM's proxy, which goodput is compared with, apart from everything of ours.
build/litellm/.made: bench/litellm.txt
	$(PYTHON) -m venv --clear build/litellm
	build/litellm/bin/pip install --quiet --disable-pip-version-check -r bench/litellm.txt
	@touch $@

# PyPI's own hashes, whatever index this machine's pip is told to use.
lock: export PIP_CONFIG_FILE = /dev/null
lock: export CUSTOM_COMPILE_COMMAND = make lock
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check $(PIP_TOOLS)
	unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS; \
	$(COMPILE) --upgrade --output-file requirements.lock pyproject.toml && \
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' | \
	$(COMPILE) --upgrade --constraint requirements.lock --output-file requirements-dev.lock -

clean:
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache */node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
