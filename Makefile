PORT ?= 8000
PYTHON ?=
FRESH ?=
ARGS ?=
export PYTHON

# Compiled files make collection three times as fast, also where containers set this.
unexport PYTHONDONTWRITEBYTECODE

# `make venv` leaves out what only tests and checks need.
TEST_VENV = sh infra/venv.sh test

# Each process runs whole files, the slowest first: tests/tools/durations.py.
PARALLEL = -n auto --dist loadfile --no-loadscope-reorder

.PHONY: help run test quick interop check prove messages audit venv

help:  ## List the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: venv  ## Serve on http://localhost:8000. PORT=9000 uses another port, FRESH=1 deletes the local data first
	@.venv/bin/signet serve --port $(PORT) $(if $(filter-out 0,$(FRESH)),--fresh)

test:  ## Run all tests, with a process for each core. ARGS=… runs pytest with these arguments instead
	@$(TEST_VENV)
	@.venv/bin/python -m pytest $(or $(ARGS),$(PARALLEL))

quick:  ## Run the tests without browser, deployment and slow files, in under a minute on two cores
	@$(TEST_VENV)
	@.venv/bin/python -m pytest $(PARALLEL) --quick $(ARGS)

interop:  ## Install programs of other projects, such as the MCP SDKs and oauth2-proxy, and run the tests with them
	@$(TEST_VENV)
	@sh tests/interop/install.sh
	@.venv/bin/python -m pytest $(PARALLEL) -m programs $(or $(ARGS),tests/interop tests/browser tests/aws)

check:  ## Check style and types
	@$(TEST_VENV)
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

prove:  ## Mutation test: remove each clause of each condition and expect a failure. ARGS=refresh_token: some, ARGS=--list: none
	@$(TEST_VENV)
	@.venv/bin/python -m tests.tools.prove $(ARGS)

messages:  ## Update and compile the translations of pages and mails, after a text has changed
	@$(TEST_VENV)
	@.venv/bin/python -m tests.tools.messages

audit: venv  ## List known vulnerabilities of all libraries, where the advisory service of PyPI answers
	@.venv/bin/python -m infra.aws.advisories requirements.txt infra/requirements.txt tests/requirements.txt

venv:  ## Create .venv, again when the requirements or the Python have changed. PYTHON=python3.12 chooses the Python
	@sh infra/venv.sh
