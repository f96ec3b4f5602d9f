# One command a job. Each first builds what it needs in .venv:
#   make demo     fit on 1,000 film reviews and 48 bank questions, explain predictions
#                 and write demo-report.html; with FULL=1, compare on all reviews
#   make test     run the tests, with one process per core, at most four
#   make lint     ruff and mypy
#   make docs     build docs/_build/html, running the examples
#   make clean    remove all that the others made, .venv included
#
# PYTHON is the interpreter that .venv is made with and TORCH the torch put into it,
# which is installed first so that no other requirement picks the build.
# After changing either: make clean.

PYTHON ?= python3
TORCH ?= torch

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs clean

demo: $(VENV)/.with-offline,demo
	FULL=$(FULL) $(BIN)/python examples/demo.py

test: $(VENV)/.with-test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.with-docs
	$(BIN)/sphinx-build -W --keep-going -n docs docs/_build/html

clean:
	rm -rf $(VENV) build dist demo-report.html
	rm -rf docs/_build docs/auto_examples docs/generated docs/sg_execution_times.rst
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache

# A stamp says that the package is installed with the extras in the stamp's name; it
# is out of date as soon as pyproject.toml changes.
$(VENV)/.with-%: pyproject.toml $(VENV)/.with-torch
	$(BIN)/python -m pip install -e ".[$*]"
	@touch $@

$(VENV)/.with-torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install "$(TORCH)"
	@touch $@
