# Every target sets up what it needs; 'make setup' does nothing when nothing has changed.
#   make train                        practise with the quickstart configuration
#   make train ARGS="--training.seed 1"   the same with overrides
#   make test                         lint, types and every test this machine can run
SHELL := /bin/bash
PYTHON := .venv/bin/python
CONFIG ?= pi0/ript/config/quickstart.yaml
ARGS ?=
SOURCES := $(wildcard pi0 tests tools benchmarks)

.PHONY: help setup train test check format docs clean

help:
	@echo "make setup | train | test | check | format | docs | clean"

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt tools/setup.sh
	@tools/setup.sh

train: setup
	@$(PYTHON) pi0/ript/scripts/train_ript_pi0.py --config_path $(CONFIG) $(ARGS)

# An empty -m selects slow, libero and gpu tests as well; gpu tests skip themselves without a GPU.
test: check
	@$(PYTHON) -m pytest -m ""

check: setup
	@$(PYTHON) -m ruff check $(SOURCES)
	@$(PYTHON) -m ruff format --check $(SOURCES)
	@$(PYTHON) -m pyright

format: setup
	@$(PYTHON) -m ruff check --fix $(SOURCES)
	@$(PYTHON) -m ruff format $(SOURCES)

docs: setup
	@$(PYTHON) tools/write_config_reference.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
