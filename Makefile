# `make help` lists the targets. Needs python3 with venv and pip, and nothing else.

PYTHON ?= python3
VENV := .venv
ORACLES := .venv-oracles
PYTEST_ARGS ?=
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-oracles bench clean

help:
	@echo 'make demo           install, then walk through every verb on the demo checkpoint'
	@echo 'make test           install, then run the tests (no torch)'
	@echo 'make test-oracles   run the tests against torch, transformers and compressed-tensors'
	@echo 'make bench          run the benchmarks (benchmarks/README.md); BENCH_ARGS goes to both'
	@echo 'make install        only install, into $(VENV)'
	@echo 'make clean          remove the virtual environments and the caches'

# A stamp is newer than pyproject.toml when the environment is up to date. The install is
# editable: a changed source file needs no new one.
$(VENV)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -e '.[run]'
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp
	$(VENV)/bin/python -m pip install --quiet -e '.[test]'
	@touch $@

$(ORACLES)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/python -m pip install --quiet torch==2.13.0
	$(ORACLES)/bin/python -m pip install --quiet -e '.[test,run]' transformers compressed-tensors
	@touch $@

install: $(VENV)/.stamp

demo: $(VENV)/.stamp
	@$(VENV)/bin/weighbridge demo

test: $(VENV)/.stamp-test
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-oracles: $(ORACLES)/.stamp
	@$(ORACLES)/bin/python -m pytest tests/oracles $(PYTEST_ARGS)

bench: $(VENV)/.stamp-test
	@$(VENV)/bin/python -m benchmarks.bench_inspect $(BENCH_ARGS)
	@$(VENV)/bin/python -m benchmarks.bench_convert $(BENCH_ARGS)
	@$(VENV)/bin/python -m benchmarks.bench_kernels
	@$(VENV)/bin/python -m benchmarks.bench_errors

clean:
	rm -rf $(VENV) $(ORACLES) build dist .pytest_cache .hypothesis .ruff_cache
	find weighbridge tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
