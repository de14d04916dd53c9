# Plait. Every target sets itself up: the first one run makes the virtual environment in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help run test lint unit conformance mutants soak bench clean

help:            ## show what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(VENV)/ready   ## run the example application, a syslog collector
	@$(BIN)/plait run examples/collector.py

test: lint unit      ## check style and types, then run the tests

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/ready
	$(BIN)/python -m pytest

mutants: $(VENV)/ready ## change the kernel a little, many times over, and see which test notices
	$(BIN)/python tests/mutants.py

soak: $(VENV)/ready ## 200,000 random steps of lives against the model; SEED=... to repeat a run
	$(BIN)/python tests/model/soak.py $(SEED)

.conformance/ready: pyproject.toml
	$(PYTHON) -m venv .conformance
	.conformance/bin/python -m pip install --quiet --disable-pip-version-check \
	    'twisted==26.10.0' hypothesis PyHamcrest pyOpenSSL service-identity --editable '.[classic]'
	@touch $@

conformance: .conformance/ready ## run Twisted's own tests against plait.classic; the table in docs/classic.md is its
	.conformance/bin/python tests/classic/conformance.py --write docs/classic.md

bench: $(VENV)/ready ## measure Plait beside its peers; prints one table
	$(BIN)/python -m bench

clean:               ## remove the virtual environment and caches
	rm -rf $(VENV) .conformance .mypy_cache .ruff_cache .pytest_cache build dist
