# snigate: `make run` starts it on its built-in defaults, `make test` runs the whole suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Pins what is installed, and what builds it, to the versions that were tested together.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint format bench packages clean

run: $(VENV)/.run
	$(BIN)/snigate serve

test: packages $(VENV)/.dev
	$(BIN)/pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: packages $(VENV)/.dev
	$(BIN)/python -m benchmarks

# The servers and tools that end-to-end tests talk to.
packages:
	@./tests/support/system-packages

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "snigate needs Python 3.11 or newer; say which with make PYTHON=...")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./tests/support/system-packages python3-venv
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
