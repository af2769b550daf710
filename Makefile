# Two commands are enough on a fresh Debian 12 machine, as root:  make demo   make test
# Everything else here is a part of them. CI runs `.ci/run`, which is `make test`.

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test soak check lint types compiled unit servers bench changelog clean

help:
	@echo "make demo       bring stacks/hello up, watch it heal, take it down (about ten seconds)"
	@echo "make test       install what the tests need, then lint, types and all tests (root)"
	@echo "make soak       the tests that take minutes each: fuzzers, every kill point, a thousand containers, many seeds (root)"
	@echo "make check      lint, types and the tests that need neither root nor servers"
	@echo "make bench      pystack against a C program that makes the same system calls, and against podman and buildah (root)"
	@echo "make changelog  assemble CHANGELOG.md from changes/"

$(VENV)/.installed: pyproject.toml .ci/venv
	.ci/venv $(VENV) .

$(VENV)/.installed-dev: pyproject.toml .ci/venv
	.ci/venv $(VENV) '.[dev]'

demo: $(VENV)/.installed
	@$(PY) stacks/hello/demo.py

# Before the tests, what keeps one processor busy is done beside what keeps another. Four workers on two processors: many
# tests wait. They take tests from each other, so that none is left alone with the long ones.
test: export PYSTACK_KERNEL_MUST_WORK = 1
test: servers $(VENV)/.installed-dev
	$(MAKE) --jobs 2 --output-sync lint types compiled
	$(PY) -m pytest -n 4 --dist worksteal

# SOAK_MINUTES: how long each fuzzer runs. SOAK="-k kill": only some of them.
soak: export PYSTACK_KERNEL_MUST_WORK = 1
soak: export PYSTACK_SOAK = 1
soak: servers $(VENV)/.installed-dev
	$(PY) -m pytest -m soak $(SOAK)

check: $(VENV)/.installed-dev lint types unit

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .

types: $(VENV)/.installed-dev
	$(VENV)/bin/mypy

# Once, or each worker would rewrite the assertions of all tests. What fails here is told when the tests run.
compiled: $(VENV)/.installed-dev
	$(PY) -m pytest --collect-only -q | tail -n 1

unit: $(VENV)/.installed-dev
	$(PY) -m pytest -m "not kernel and not servers"

servers:
	.ci/servers

bench: servers $(VENV)/.installed
	$(PY) -m benchmarks.bench
	$(PY) -m benchmarks.startup
	$(PY) -m benchmarks.images
	$(PY) -m benchmarks.names
	$(PY) -m benchmarks.network
	$(PY) -m benchmarks.dependents
	$(PY) -m benchmarks.oci_run

changelog:
	python3 changes/assemble.py --write

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
