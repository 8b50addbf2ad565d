# Everything a developer does, in a few words. `make help` explains itself from the `##` comments.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
# Two tests at a time: they mostly wait. `make test PYTEST_WORKERS=` runs one after the other.
PYTEST_WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo up down status test test-fast observability-test check format bench docs lock clean manifests-test images compose-test

help: ## this list
	@awk 'BEGIN {FS = ":.*## "; print "make …\n"} /^[a-z-]+:.*## / {printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make the virtual environment with the locked packages (the other targets do it by themselves)
	@bash dev/setup.sh

demo: setup ## four calls through all four services on a real Kafka, watched live; under a minute
	@$(PY) -m offhook_dev demo

up: setup ## start the whole stack and keep it running; prints the addresses and a working API key
	@$(PY) -m offhook_dev up

down: setup ## stop what `make up` started
	@$(PY) -m offhook_dev down

status: setup ## what `make up` has running, and whether it is well
	@$(PY) -m offhook_dev status

test: setup ## every test, with real Kafka, Redis, PostgreSQL and Chromium, which it starts by itself
	@$(PY) -m offhook_dev prepare
	@OFFHOOK_REQUIRE_REAL=1 $(PY) -m pytest $(PYTEST_WORKERS) --durations=15 $(PYTEST_ARGS)

test-fast: setup ## the tests that need no server
	@$(PY) -m pytest -m "not real" $(PYTEST_ARGS)

images: setup ## build the container images of the services and of the simulator
	@$(PY) -m offhook_dev images

compose-test: setup ## docker-compose.yml, really brought up from images built here, and four calls through it
	@$(PY) -m offhook_dev prepare
	@OFFHOOK_REQUIRE_REAL=1 $(PY) -m pytest dev/tests/test_compose.py $(PYTEST_ARGS)

manifests-test: setup ## what is deployed on Kubernetes: schemas, checkov, our own policies
	@OFFHOOK_REQUIRE_REAL=1 $(PY) -m pytest -m manifests dev/tests $(PYTEST_ARGS)

observability-test: setup ## traces, logs, metrics, dashboards and alerts: that each leads to the cause
	@$(PY) -m offhook_dev prepare
	@OFFHOOK_REQUIRE_REAL=1 $(PY) -m pytest -m observability $(PYTEST_ARGS)

check: setup ## style, strict types, import contracts, spelling of topics and metrics, generated docs
	@bash dev/check.sh

format: setup ## let ruff put the code in shape
	@.venv/bin/ruff check -q --fix . ; .venv/bin/ruff format -q .

bench: setup ## what it costs and what it carries, beside the alternatives, in one run
	@$(PY) -m offhook_dev prepare
	@$(PY) -m benchmarks $(BENCH_ARGS)

docs: setup ## write the generated pages: topics, events, AsyncAPI, metrics, settings
	@$(PY) -m offhook_dev docs

lock: setup ## resolve the dependencies anew and write the lock files (hashes, no index address)
	@bash dev/lock.sh

clean: ## remove everything that was made: the virtual environment, downloads, state, caches
	@rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
