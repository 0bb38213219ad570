PORT ?= 8000
PYTHON ?=
FRESH ?=
ARGS ?=
export PYTHON

.PHONY: run test check prove venv

run: venv  ## Serve on http://127.0.0.1:$(PORT); FRESH=1 starts over
	@.venv/bin/python -m infra serve --port $(PORT) $(if $(filter-out 0,$(FRESH)),--fresh)

# The processes have to find the same tests, and some are named after a set: its order must not differ.
test: venv  ## All tests, a process for each core; or, with ARGS, what these tell pytest
	@PYTHONHASHSEED=0 .venv/bin/python -m pytest $(or $(ARGS),-n auto --dist loadfile --no-loadscope-reorder)

check: venv  ## Style and types
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

prove: venv  ## Remove each clause of each condition, and expect red; ARGS=refresh_token some, ARGS=--list none
	@.venv/bin/python -m tests.prove $(ARGS)

venv:  ## The virtualenv, made again when the requirements have changed
	@sh infra/venv.sh
