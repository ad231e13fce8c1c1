# The commands of a contributor. Everything installs into .venv from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# `make lock` resolves everything else around this release of torch.
TORCH ?= 2.13.0

# Two tests at a time, each on one thread; clusters want the machine to themselves.
TWO_AT_A_TIME := -n 2 --dist loadfile

.PHONY: help setup demo test test-slow check format lock clean

help:
	@echo "make demo       set up, then train on the embedded default"
	@echo "make test       set up, then run the tests"
	@echo "make test-slow  set up, then run the slow tests"
	@echo "make check      set up, then format, lint, types and tests: what has to pass"
	@echo "make format     set up, then rewrite the files as the formatter wants them"
	@echo "make lock       resolve pyproject.toml afresh into requirements.lock"
	@echo "make clean      remove .venv and the caches; runs/ stays"

setup: $(STAMP)

# torch goes first and on its own: packages that build from source look for the torch that is
# there. Nothing else is resolved (--no-deps), so no second torch can be pulled in; pip check
# then tells whether the lock is complete.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nextchapter needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $@

demo: setup
	$(BIN)/nextchapter train

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_AT_A_TIME)

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not cluster" $(TWO_AT_A_TIME)
	$(BIN)/python -m pytest -m cluster

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_AT_A_TIME)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A build's local tag (2.13.0+cpu) is dropped, so that each machine finds its own build.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet "torch==$(TORCH)"
	$(VENV)-lock/bin/python -m pip install --quiet --editable '.[dev]' 'setuptools>=77'
	{ echo "# Made by 'make lock' from pyproject.toml: exact versions, torch $(TORCH)."; \
	  $(VENV)-lock/bin/python -m pip freeze --all --exclude pip --exclude nextchapter \
	  | sed 's/+[a-z0-9.]*$$//'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .pytest_cache .ruff_cache
