# make demo   the main job on the lab, from bare machines to a survived power cut, with all set-up
# make test   lint, unit, api and e2e tests, with all set-up
SHELL := /bin/bash
PYTHON := build/venv/bin/python
export PYTHONPATH := tests

.PHONY: help setup demo down test check docs reference unit api api-patient api-timed e2e drills bench-operator bench-failover lab format lock

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## system packages and the virtual environment (both other commands do this by themselves)
	@tests/setup

demo: setup ## the main job, end to end, with a power cut; leaves the lab running to look around
	@$(PYTHON) -m lab.demo

down: ## stop the lab of `make demo`, leave nothing behind
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m lab --name demo down; fi

test: setup ## everything that CI runs
	@tests/side-by-side

check: setup ## lint, types, shell, layers
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	git ls-files --cached --others --exclude-standard | while read -r file; do \
	  if [ -f "$$file" ] && head -n 1 "$$file" | grep -qaE '^#! ?/bin/(ba)?sh|^# shellcheck shell'; then echo "$$file"; fi; \
	done | xargs build/venv/bin/shellcheck -x
	$(PYTHON) build/venv/bin/lint-imports

docs: setup ## the documentation as a site, in build/site; fails on a warning
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet --strict

reference: setup ## write docs/reference anew from the code
	$(PYTHON) -m docgen

unit: setup ## seconds, no root, no lab; half of it is waiting, so four files at a time
	$(PYTHON) -m pytest tests/unit -q --durations=5 --numprocesses=4 --dist=loadfile

API_TESTS := $(PYTHON) -m pytest tests/api -v --durations=10 --dist=loadscope --no-loadscope-reorder

api: api-patient api-timed ## on a real kube-apiserver, several groups of tests at a time; those that take minutes begin first

api-patient: setup
	$(API_TESTS) -m "patient and not drill" --numprocesses=3

api-timed: setup
	$(API_TESTS) -m "not patient and not drill" --numprocesses=10

e2e: setup ## on the lab: real DRBD, Heartbeat, bonding, tgt, initiator
	$(PYTHON) -m pytest tests/e2e -v --durations=0 -m "not drill"

drills: ## the other drills, on the lab and an API server, an hour and a half: before a release
	@tests/setup podman
	$(PYTHON) -m pytest tests/api -v --durations=0 -m drill
	$(PYTHON) -m pytest tests/e2e -v --durations=0 -m drill

PAIRS ?= 500
LUNS ?= 2500
bench-operator: setup ## the operator with a tenth, three tenths and all of PAIRS=500 LUNS=2500: cost, table, plot
	$(PYTHON) -m bench.operator_scale --pairs=$(PAIRS) --luns=$(LUNS) $(ARGS)

REPEAT ?= 5
STACKS ?= storagepair,classic,pacemaker
bench-failover: setup ## ours beside the hand-built stack and Pacemaker, REPEAT=5 times each of STACKS: gaps, table, picture
	$(PYTHON) -m bench.failover --repeat=$(REPEAT) --stacks=$(STACKS) $(ARGS)

lab: setup ## the lab's own command line: make lab ARGS="status"
	@$(PYTHON) -m lab $(ARGS)

format: setup ## let ruff mend what it can
	$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

lock: setup ## renew the locked versions
	build/venv/bin/pip install -q uv
	build/venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -o requirements/node-agent.txt requirements/node-agent.in
	build/venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -o requirements/operator.txt requirements/operator.in
	build/venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --group dev pyproject.toml -o requirements/dev.txt
