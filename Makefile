# `make` lists what can be done. Needs Python >= 3.11; everything else goes into .venv, which every target builds by itself.
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VENV_VLLM ?= .venv-vllm
ARGS ?=
FAST := not slow and not nightly and not slurm and not gpu and not vllm and not browser
export PATH := $(abspath $(BIN)):$(PATH)
unexport PYTHONDONTWRITEBYTECODE # vLLM's 20,000 modules would be compiled at each start of a server

.PHONY: help venv venv-vllm run bench test test-more test-slow test-nightly test-browser test-slurm test-vllm lint types format ci clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  ARGS="..." is handed on: make run ARGS="seed=1", make test ARGS="tests/chat -x"'

$(READY): pyproject.toml constraints.txt .ci/venv.sh
	@bash .ci/venv.sh $(VENV)
	@touch $@

venv: $(READY) ## build .venv (the other targets do this when it is missing or stale)

venv-vllm: $(VENV_VLLM)/.ready ## build .venv-vllm: vLLM for the CPU, for test-vllm and pool=mini_served

$(VENV_VLLM)/.ready: constraints-vllm.txt .ci/vllm.sh | $(READY)
	@bash .ci/vllm.sh $(VENV_VLLM) $(BIN)/python
	@touch $@

run: $(READY) ## the whole method on the miniature world: data, students, comparison table
	gra-train run experiment=mini $(ARGS)

bench: $(READY) ## the synthesis client beside its peers, against a server with a fixed latency (20 minutes)
	python benchmarks/bench.py $(ARGS)

test: $(READY) ## the fast tests, with the line coverage of gra_train (85% at least)
	python -m slipcover --json --out .coverage.json -m pytest -n 2 -m "$(FAST)" $(ARGS)
	python -m slipcover --merge .coverage.json --out .coverage.json --fail-under 85

test-more: $(READY) ## what CI runs beside the fast tests: the next four at once (three at a time: servers and daemons are waited for)
	python -m pytest -n 3 --dist loadgroup -m "(slow or browser or slurm or vllm) and not nightly and not gpu" $(ARGS)

test-slow: $(READY) ## the tests that take long
	python -m pytest -n 2 --dist loadgroup -m "slow and not nightly and not slurm and not gpu and not vllm and not browser" $(ARGS)

test-nightly: $(READY) ## what CI has no time for: further configurations, three kills in every kind of stage
	python -m pytest -n 2 -m nightly --ignore tests/test_kill.py $(ARGS)
	GRA_KILLS=3 python -m pytest -m nightly tests/test_kill.py

test-browser: $(READY) ## the comparison's page in a real browser (Debian: chromium)
	python -m pytest -m browser $(ARGS)

test-vllm: $(READY) ## the tests on real vLLM servers (on the CPU; make venv-vllm first)
	python -m pytest -n 2 --dist loadscope -m vllm $(ARGS)

test-slurm: $(READY) ## the tests on real SLURM daemons (Debian: slurm-wlm, munge)
	python -m pytest -m slurm $(ARGS)

lint: $(READY) ## style
	ruff check .
	ruff format --check .

format: $(READY) ## mend the style
	ruff check --fix .
	ruff format .

types: $(READY) ## types
	mypy

ci: $(READY) ## everything that CI runs; in CI, a test that needs what CI installs may not be skipped
	@bash .ci/system.sh
	$(MAKE) -j4 lint types test venv-vllm
	$(MAKE) test-more

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) $(VENV_VLLM) .mypy_cache .ruff_cache .pytest_cache build *.egg-info .coverage .coverage.*
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
