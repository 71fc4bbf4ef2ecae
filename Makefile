# make demo | test | check | drills | bench | setup | servers | testing | reference | docker-… | clean
# Every target may be repeated: it skips what is already done.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
RUN := PYTHONPATH="$(CURDIR)" $(PY) -P
MAKE_QUIET := $(MAKE) --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup servers observers testing demo test test-docker check drills bench reference docker-engine docker-stop docker-images clean

help:
	@echo "make demo       start a lab, run a scenario, write a report (setup included)"
	@echo "make test       the tests on real servers, setup included; TIER=unit runs one tier"
	@echo "make check      lint, types, import order"
	@echo "make drills     the long campaigns: lose members, zones and regions; compare pairs of runs with fresh labs (an hour)"
	@echo "make bench      measure every row of the table, or ROW=name, or ROW=name,name"
	@echo "make setup      create the environment in .venv and bin/tweetlab"
	@echo "make servers    download the servers into the user's cache folder"
	@echo "make observers  download the observability stack for --observe: Prometheus, Alertmanager and others"
	@echo "make testing    install everything that a test uses: servers, observability stack, cluster programs, Chromium"
	@echo "make reference  write docs/reference from the program's tables"
	@echo "make docker-engine  start a private Docker engine where none answers (Debian, root); make docker-stop stops it"
	@echo "make test-docker    the tests on containers; IMAGES=official checks the official images, where they can be pulled"
	@echo "make docker-images  build the images of the lab on this machine, without a registry of images"
	@echo "make clean      stop this checkout's labs; remove caches, data and logs (keeps runs and .venv)"

$(PY):
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or later was not found (python3 is $$(python3 --version 2>&1))." \
			"To fix: install it, or set its path: make setup PYTHON=/path/to/python3.11" >&2; exit 3; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1); Python 3.11 or later is required. To fix: make setup PYTHON=python3.11" >&2; exit 3; }
	@echo "environment: creating $(VENV) with $$("$(PYTHON)" --version)" >&2
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "The module venv of $(PYTHON) does not work. To fix, on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 3; }

# The stamp is written last, so an interrupted installation is repeated.
$(VENV)/installed: requirements.txt requirements-services.txt constraints.txt | $(PY)
	@echo "environment: installing the pinned packages into $(VENV) (one to three minutes the first time)" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	@touch $@
	@echo "environment: ready" >&2

bin/tweetlab: Makefile
	@mkdir -p bin
	@printf '%s\n' '#!/bin/sh' \
		'# Created by `make setup`. Works from any folder and without activation; keeps the current folder.' \
		'here=$$(dirname -- "$$(dirname -- "$$(readlink -f -- "$$0")")")' \
		'[ -f "$$here/.venv/installed" ] || { echo "The environment is missing. To fix: make -C $$here setup" >&2; exit 3; }' \
		'PYTHONPATH="$$here$${PYTHONPATH:+:$$PYTHONPATH}" exec "$$here/.venv/bin/python" -P -m tweetlab "$$@"' > $@.part
	@chmod +x $@.part && mv $@.part $@

setup: $(VENV)/installed bin/tweetlab
	@$(RUN) -m sim.compiled.warm

# Needs only the standard library, so it can run in parallel with the installation above.
servers: | $(PY)
	@$(RUN) -m tweetlab.setup

# The observability stack for --observe.
observers: | $(PY)
	@$(RUN) -m tweetlab.setup --observe

# Everything that a test uses. Lists what this machine cannot provide; those tests are skipped with the reason.
testing: | $(PY)
	@$(RUN) -m tweetlab.setup --tests

demo:
	@$(MAKE_QUIET) -j2 setup servers
	@bin/tweetlab demo

# For a single tier (TIER=unit) the test runner installs the servers, if the tier uses any.
test:
	@$(MAKE_QUIET) -j2 setup $(if $(TIER),,testing)
	@$(RUN) tests/tiers.py $(TIER)

# IMAGES is official or ours; by default ours if they are built here. Here a missing engine is a failure, not a skip.
test-docker: setup
	@TWEETLAB_DOCKER=require TWEETLAB_IMAGES="$(IMAGES)" $(RUN) tests/tiers.py docker

check: setup
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@PYTHONPATH="$(CURDIR)" $(VENV)/bin/lint-imports

# TIER is campaigns, regions or pairs (default: all); TWEETLAB_PAIRS is the number of pairs of runs (20).
drills:
	@$(MAKE_QUIET) -j2 setup testing
	@$(RUN) tests/tiers.py $(or $(TIER),campaigns regions pairs)

bench:
	@$(MAKE_QUIET) -j2 setup servers
	@ROW="$(ROW)" $(RUN) -m bench

reference: setup
	@$(RUN) -m bench.reference

# Unpacked into the cache: installs nothing and touches no other engine. Prints what to export.
docker-engine: setup
	@$(RUN) -m system.platform.containers.engine start

docker-stop: setup
	@$(RUN) -m system.platform.containers.engine stop

docker-images: setup
	@$(RUN) -m system.platform.containers.stand_ins

clean:
	@for lab in .tweetlab/*/; do [ -d "$$lab" ] && [ -x $(PY) ] && \
		TWEETLAB_RANGE=$$(basename "$$lab") $(RUN) -m tweetlab down --purge; done; true
	@rm -rf .tweetlab .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
