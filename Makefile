# snigate: `make help` says what there is.
PYTHON ?= python3
VENV := .venv
MAIL := smtp imap pop3 sieve
BIN := $(VENV)/bin
# Pins what is installed, and what builds it, to the versions that were tested together.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint format bench bench-charts soak fuzz packages clean help

run: $(VENV)/.run ## set up once, and serve https://127.0.0.1:8443 with a welcome page
	$(BIN)/snigate serve

test: packages $(VENV)/.dev ## set up once, install what end-to-end tests talk to, and run the whole suite
	$(BIN)/pytest -n 3 --no-loadscope-reorder --durations=15

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## compare with the peers in one run; CASES="download idle" PEERS="snigate nginx" ROUNDS=5 JSON=FILE choose
	@./benchmarks/system-packages
	$(BIN)/python -m benchmarks $(if $(CASES),--cases $(CASES)) $(if $(PEERS),--peers $(PEERS)) \
	  $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json $(JSON))

bench-charts: $(VENV)/.bench ## draw docs/benchmarks/results.json, which `make bench JSON=docs/benchmarks/results.json` writes
	$(BIN)/python -m benchmarks --from $(or $(JSON),docs/benchmarks/results.json) --charts docs/benchmarks

soak: $(VENV)/.bench ## mixed traffic for SECONDS (1200) at RATE (50), while certificates, configuration and workers change; JSON=FILE and CHART=FILE keep it
	$(BIN)/python -m soak --kill-every 300 $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE)) \
	  $(if $(JSON),--json $(JSON)) $(if $(CHART),--chart $(CHART))

fuzz: $(VENV)/.dev ## follow coverage through what strangers send, SECONDS (600) for each of TARGETS
	@$(BIN)/pip install --quiet --editable '.[fuzz]'
	@for target in $(or $(TARGETS),client_hello proxy_header $(MAIL) $(MAIL:=_server)); do \
	  echo "fuzzing $$target"; \
	  $(BIN)/python -m tests.fuzz.guided $$target -max_total_time=$(or $(SECONDS),600) -max_len=4096 -verbosity=0 || exit 1; \
	done

packages: $(VENV)/.sslyze ## install the servers and tools that end-to-end tests talk to
	@./tests/support/system-packages

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "snigate needs Python 3.11 or newer; say which with make PYTHON=...")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./tests/support/system-packages python3-venv
	@echo 'setting up $(VENV), about half a minute, once'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.venv pyproject.toml constraints.txt
	@$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	@$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(VENV)/.dev
	@$(BIN)/pip install --quiet --editable '.[bench]'
	@touch $@

# It wants another cryptography than snigate does, and so an environment of its own.
$(VENV)/.sslyze: $(VENV)/.venv tests/support/sslyze-constraints.txt
	@$(PYTHON) -m venv $(VENV)/sslyze
	@PIP_CONSTRAINT=$(CURDIR)/tests/support/sslyze-constraints.txt $(VENV)/sslyze/bin/pip install --quiet sslyze
	@touch $@

clean: ## remove the environment and the tools' caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

help: ## list these
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)
