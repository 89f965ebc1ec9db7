# Everything from a fresh clone: `make demo` shows it, `make test` proves it.
# Needs Python 3.11 or newer with venv, and make; Node comes from PyPI where npm is missing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    ?= runs/demo

# A run starts many interpreters, which would all compile the same sources where the environment
# forbids to keep the result.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help setup demo test check attack faults soak gpu-check clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.installed contracts/node_modules/.installed ## Create .venv, install pinned dependencies, compiler and chain node

$(VENV)/bin/python:
	@sh scripts/need-python "$(PYTHON)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing the pinned Python packages (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

contracts/node_modules/.installed: contracts/package.json contracts/package-lock.json $(VENV)/.installed
	@sh scripts/npm-ci $(BIN)
	@touch $@

demo: setup ## Train three hospitals on phantoms, audited, then audit the run (a few minutes)
	@rm -rf $(RUN)
	$(BIN)/thoracle simulate --config simulation/demo.toml --out $(RUN)
	$(BIN)/thoracle audit verify $(RUN)
	$(BIN)/thoracle chain show $(RUN)

check: setup ## Lint, format, types, import floors
	$(BIN)/ruff check --output-format concise .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

test: check ## All of the above and every test
	@# Real runs mostly wait: a third worker; the longest files begin first (tests/conftest.py).
	@# One thread each: three workers' threads would only wait for one another's cores.
	PATH="$$PWD/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder

attack: setup ## Run the attack catalogue and print its table
	$(BIN)/python -m tests.attacks

faults: setup ## Stop a run at every durable step, in every way, one at a time (up to half an hour)
	THORACLE_FAULTS=0 $(BIN)/pytest -q tests/faults

soak: setup ## 200 rounds of five hospitals on a real node, everything killed at random (a while)
	$(BIN)/python -m tests.faults.soak

gpu-check: ## Time a few steps of every phase on this machine's GPU, private and not (torch, timm, opacus)
	@mkdir -p runs
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m client.gpu_check --json runs/gpu-check.json

clean: ## Remove what was made (not the runs)
	rm -rf $(VENV) contracts/node_modules build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
