# One command each; every target sets up what it needs in .venv and asks the system for the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_SECONDS ?= 1
SOAK_POINTS ?= 50

.PHONY: demo test contract contract-apiserver lint docs bench soak clean

## demo: the study on the embedded lab; writes report.html and prints the table
demo: $(VENV)/.lab system-packages
	K8SNET_LAB_TIMING=quick STUDY_SECONDS=$(DEMO_SECONDS) $(BIN)/python -m pytest -p no:cacheprovider -c conftest_examples/calico_study/pytest.ini \
	  --rootdir=conftest_examples/calico_study conftest_examples/calico_study \
	  --k8snet-lab --k8snet-report=report.html --k8snet-results=results.jsonl

## test: unit tests and end-to-end tests on the lab
# (four at a time, since most of it waits for a lab; one file's tests share one; in the order of the
# folders, which has the long files of tests/e2e before the many short ones)
test: $(VENV)/.dev system-packages
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

## contract: what the lab plays, held against the cluster of KUBECONFIG
# (in namespaces of its own; CONTRACT_MAY=pools,cluster lets it try pools and make cluster roles, too)
contract: $(VENV)/.dev
	CONTRACT=cluster $(BIN)/python -m pytest tests/contract $(ARGS)

## contract-apiserver: the same of kube-apiserver and etcd alone, from KUBEBUILDER_ASSETS
contract-apiserver: $(VENV)/.dev
	CONTRACT=apiserver $(BIN)/python -m pytest tests/contract $(ARGS)

## lint: style, spelling, types and the direction of dependencies
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

## docs: the documentation site, into site/; a broken link or anchor fails it
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

## bench: the figures the project promises, as paired ratios
bench: $(VENV)/.dev system-packages
	$(BIN)/python -m benchmarks

## soak: the long series of the guarantees
# (three at a time, each on labs of its own)
soak: $(VENV)/.dev system-packages
	K8SNET_SOAK=$(SOAK_POINTS) $(BIN)/python -m pytest -n 3 --dist load $(ARGS) \
	  tests/e2e/test_calico_killed.py tests/e2e/test_calico_signals.py tests/e2e/test_report_killed.py

clean:
	rm -rf $(VENV) site dist report.html results.jsonl summary.md

.PHONY: system-packages
system-packages:
	@scripts/system-packages

$(VENV)/bin/python:
	@scripts/system-packages python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lab: pyproject.toml $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lab]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lab]' --group dev
	@touch $@ $(VENV)/.lab

$(VENV)/.docs: pyproject.toml $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lab]' --group docs
	@touch $@
