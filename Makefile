# `make help` lists the targets. Needs python3 with venv and pip, and nothing else; `make test-browser` needs Node.js with npm, too.

PYTHON ?= python3
VENV := .venv
ORACLES := .venv-oracles
# The formats' own libraries; their rounding is what the oracles compare with. ModelOpt imports requests without saying so; transformers loads FP8 and
# bitsandbytes by accelerate.
LIBRARIES := compressed-tensors==0.20.0 bitsandbytes==0.50.2 nvidia-modelopt==0.47.0 requests accelerate==1.15.0 'mlx[cpu]==0.32.4'
# Environments of readers for `make test-readers`: one that is not there is made, one that cannot be made is left out with its reason.
READERS ?= .venv-readers
BROWSER := tests/browser
PAGES := out/browser
PYTEST_ARGS ?=
# As many processes as cores; a module's tests stay together, so that what they share is made once.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadscope
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-faults test-flips test-matrix test-oracles test-readers test-browser bench docs clean

help:
	@echo 'make demo           install, then walk through every verb on the demo checkpoint; pictures and a page stay in out/demo'
	@echo 'make test           install, then run the tests (no torch)'
	@echo 'make test-faults    every call of a conversion to the disk fails once, and the power is cut after each (make test tries some of them)'
	@echo 'make test-flips     flip 1,000 random bits of converted checkpoints: verify must find each'
	@echo 'make test-matrix    every stored form to every layout, and nine real tables (make test tries some of them)'
	@echo 'make test-oracles   run the tests against torch, transformers and the libraries of the formats'
	@echo 'make test-readers   ask vLLM, SGLang, transformers, llama.cpp and mlx-lm themselves (environments of their own in $(READERS), 5 GB)'
	@echo 'make test-browser   open the pages in a headless Chromium; screenshots go to $(PAGES)/screenshots'
	@echo 'make bench          run the benchmarks (benchmarks/README.md); BENCH_ARGS goes to both'
	@echo 'make docs           make the pages and pictures of docs/, and the site in out/site'
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

$(ORACLES)/.stamp: pyproject.toml Makefile
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/python -m pip install --quiet torch==2.13.0
	$(ORACLES)/bin/python -m pip install --quiet -e '.[test,run]' torch==2.13.0 transformers $(LIBRARIES)
	@touch $@

$(BROWSER)/node_modules/.stamp: $(BROWSER)/package.json $(BROWSER)/package-lock.json
	$(BROWSER)/chromium.sh
	cd $(BROWSER) && npm ci --no-audit --no-fund
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp
	$(VENV)/bin/python -m pip install --quiet -e '.[docs]'
	@touch $@

install: $(VENV)/.stamp

demo: $(VENV)/.stamp
	@rm -rf out/demo
	@$(VENV)/bin/weighbridge demo --keep out/demo

test: $(VENV)/.stamp-test
	@$(VENV)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-faults: $(VENV)/.stamp-test
	@WEIGHBRIDGE_FAULTS=all $(VENV)/bin/python -m pytest tests/faults $(PARALLEL) --dist load $(PYTEST_ARGS)

test-flips: $(VENV)/.stamp-test
	@WEIGHBRIDGE_FLIPS=1000 $(VENV)/bin/python -m pytest tests/verify/test_flips.py $(PYTEST_ARGS)

test-matrix: $(VENV)/.stamp-test
	@WEIGHBRIDGE_MATRIX=all $(VENV)/bin/python -m pytest tests/matrix $(PARALLEL) --dist load $(PYTEST_ARGS)

test-oracles: $(ORACLES)/.stamp
	@$(ORACLES)/bin/python -m pytest tests/oracles --ignore=tests/oracles/readers $(PYTEST_ARGS)

test-readers: $(VENV)/.stamp-test
	@PYTHON=$(PYTHON) tests/oracles/readers/environments.sh $(READERS)
	@WEIGHBRIDGE_READERS=$(abspath $(READERS)) $(VENV)/bin/python -m pytest tests/oracles/readers $(PYTEST_ARGS)

test-browser: $(VENV)/.stamp-test $(BROWSER)/node_modules/.stamp
	@rm -rf $(PAGES)
	@$(VENV)/bin/python $(BROWSER)/pages.py $(PAGES)/pages
	@CHROMIUM=$$($(BROWSER)/chromium.sh) && export CHROMIUM && cd $(BROWSER) && npm test --silent

bench: $(VENV)/.stamp-test
	@$(VENV)/bin/python -m benchmarks.bench_inspect $(BENCH_ARGS)
	@$(VENV)/bin/python -m benchmarks.bench_reading $(BENCH_ARGS)
	@$(VENV)/bin/python -m benchmarks.bench_report $(BENCH_ARGS)
	@$(VENV)/bin/python -m benchmarks.bench_convert $(BENCH_ARGS)
	@$(VENV)/bin/python -m benchmarks.bench_hashing
	@$(VENV)/bin/python -m benchmarks.bench_kernels
	@$(VENV)/bin/python -m benchmarks.bench_formats
	@$(VENV)/bin/python -m benchmarks.bench_errors

docs: $(VENV)/.stamp-docs
	@$(VENV)/bin/python docs/make_site.py

clean:
	rm -rf $(VENV) $(ORACLES) $(READERS) $(BROWSER)/node_modules $(PAGES) build dist .pytest_cache .hypothesis .ruff_cache
	find weighbridge tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
