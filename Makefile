# make up: install, start a fleet on this machine, run the main job. make test: install, run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup up down test lint types bench explore robustness fuzz real conformance clean lock

help:
	@echo "make up     install, start a hub and three clusters here, run a real application over them"
	@echo "make test   install, run the tests"
	@echo "make down lint types bench explore robustness fuzz real conformance clean"

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.lock hatch_build.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing atoll into $(VENV) (locked by requirements.lock)"
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps -e .
	@$(BIN)/python -m compileall -q atoll
	@touch $@

# Renew the lock file after a change of dependencies.
lock: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --generate-hashes --group dev --no-header --no-annotate pyproject.toml -o requirements.lock

# A published application for the demo: the file APP names, or the one that lies beside the checkout.
APP ?= $(wildcard ../shared/inputs/online-boutique/kubernetes-manifests.yaml)

up: setup
	$(BIN)/atoll demo $(if $(APP),--app $(APP))

down:
	@test ! -x $(BIN)/atoll || $(BIN)/atoll down

test: setup
	$(BIN)/python tools/run_tests.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m bench --write docs/performance.md

# Seeds in virtual time; a failing one is printed as one line that plays it again.
SEEDS ?= 10000
explore: setup
	$(BIN)/python -m atoll.testing.robustness.explore --seeds $(SEEDS) --write docs/reliability.md

# Real processes, killed; the history of what clients saw is checked.
KILLS ?= 1000
robustness: setup
	$(BIN)/python -m atoll.testing.robustness.kills --kills $(KILLS) --write docs/reliability.md

# Requests from the schemas, spoiled, over pipelined connections.
REQUESTS ?= 1000000
fuzz: setup
	$(BIN)/python -m atoll.testing.fuzz.run --requests $(REQUESTS) --write docs/reliability.md

real: setup
	$(BIN)/python tests/real/build.py
	$(BIN)/python -m pytest tests/real

# Kubernetes' own conformance suite; WITH="--focus Secrets", WITH=--real …: tests/conformance/run.py --help
conformance: setup
	$(BIN)/python tests/real/build.py
	$(BIN)/python tests/conformance/run.py $(WITH)

clean: down
	rm -rf $(VENV) out .mypy_cache .ruff_cache .coverage .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
