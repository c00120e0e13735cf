# Every target sets up what it needs; 'make setup' does nothing when nothing has changed.
#   make train                        train with the quickstart configuration
#   make train ARGS="--training.seed 1"   the same with overrides
#   make bench                        short measurements of the simulator engine; BENCH= for full ones
#   make test                         lint, types and every test this machine can run; WORKERS= processes
SHELL := /bin/bash
PYTHON := .venv/bin/python
CONFIG ?= pi0/ript/config/quickstart.yaml
ARGS ?=
BENCH ?= --quick
WORKERS ?= 2
BENCH_DIR := outputs/benchmarks
SOURCES := $(wildcard pi0 tests tools benchmarks)

.PHONY: audit browser help setup train test check format docs bench clean

help:
	@echo "make setup | train | test | check | format | docs | bench | clean"

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt tools/setup.sh
	@tools/setup.sh

train: setup
	@$(PYTHON) pi0/ript/scripts/train_ript_pi0.py --config_path $(CONFIG) $(ARGS)

# Two parts, both of which run in any case: tests that do not mind a neighbor, in several processes,
# then those that have the machine to themselves; gpu tests skip themselves without a GPU.
test: check browser
	@status=0; \
	$(PYTHON) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
		-m "not alone and not gpu" || status=$$?; \
	$(PYTHON) -m pytest -m "alone or gpu" || status=$$?; \
	exit $$status

browser: setup
	@tools/setup.sh browser

check: setup
	@$(PYTHON) -m ruff check $(SOURCES)
	@$(PYTHON) -m ruff format --check $(SOURCES)
	@$(PYTHON) -m pyright

format: setup
	@$(PYTHON) -m ruff check --fix $(SOURCES)
	@$(PYTHON) -m ruff format $(SOURCES)

docs: setup
	@$(PYTHON) tools/write_config_reference.py

# Give it a machine that does nothing else; the proof comes first, numbers of a wrong engine are worth nothing.
bench: setup
	@mkdir -p $(BENCH_DIR)
	$(PYTHON) benchmarks/exactness.py $(BENCH) --json $(BENCH_DIR)/exactness.json
	$(PYTHON) benchmarks/engine.py $(BENCH) --json $(BENCH_DIR)/engine.json
	$(PYTHON) benchmarks/rollout.py $(BENCH) --json $(BENCH_DIR)/rollout.json --plot $(BENCH_DIR)/engine_rollout.png
	$(PYTHON) benchmarks/scheduler.py $(BENCH) --json $(BENCH_DIR)/scheduler.json
	$(PYTHON) benchmarks/slots.py $(BENCH) --json $(BENCH_DIR)/slots.json --plot $(BENCH_DIR)/engine_slots.png

# Known weaknesses of the pinned dependencies; needs the network.
audit: setup
	@tools/audit.sh

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
