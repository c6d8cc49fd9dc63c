PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-elsewhere test-tl4 check check-experiments docs lint types clean
.DELETE_ON_ERROR:

# What grokinterp needs to run; made again when pyproject.toml changes.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# What its tests need on top.
.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The same with TransformerLens 4, which has no HookedTransformer, in an environment of its own.
.venv-tl4/installed: pyproject.toml
	$(PYTHON) -m venv .venv-tl4
	.venv-tl4/bin/python -m pip install --quiet --editable '.[tests]' 'transformer-lens>=4'
	@touch $@

# What the site of the docs needs on top.
.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

demo: .venv/installed  ## analyse the run that ships, and say where the report is
	$(BIN)/grokinterp analyze checkpoints/modular_addition_113

test: .venv/installed-dev  ## the fast tests
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: .venv/installed-dev  ## all tests, long trainings and thousands of kills included
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'slow or not slow'

# How this processor is made to compute as others do: no AVX-512 in MKL, no vectors at all in torch's own loops.
ELSEWHERE := ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=AVX2

test-elsewhere: .venv/installed-dev  ## the tests that ask what a training comes to, in the arithmetic of another processor
	$(ELSEWHERE) $(BIN)/python -m pytest -n auto --dist worksteal -m 'trains and not slow and not browser'

# What stands on TransformerLens: networks, hooks, views, imports, exports, measures of networks in memory, commands.
TL4 := tl4 hooked models view forward vision kinds encoder_decoder mlp record import export show foreign_files ablation nodes \
  interchange in_memory controls cli

test-tl4: .venv-tl4/installed .venv/installed-dev  ## the tests of networks with TransformerLens 4, and a run trained with 3 and with 4: the same bytes
	GROKINTERP_OTHER_PYTHON=$(CURDIR)/$(BIN)/python .venv-tl4/bin/python -m pytest -n auto --dist worksteal \
	  $(patsubst %,tests/test_%.py,$(TL4))

check-experiments: .venv/installed  ## the experiments whose --check takes a minute or two, trained anew; the others: make test-slow
	rm -rf runs/check
	$(BIN)/python experiments/label_noise/run.py --check --out runs/check/label_noise

docs: .venv/installed-docs  ## the site in build/docs; a warning is an error (--quiet would not count them)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo build/docs/index.html

check: lint types docs test test-elsewhere check-experiments  ## what CI runs

lint: .venv/installed-dev
	$(BIN)/ruff check src tests experiments benchmarks docs
	$(BIN)/ruff format --check src tests experiments benchmarks docs

types: .venv/installed-dev
	$(BIN)/mypy

clean:
	rm -rf .venv .venv-tl4 .pytest_cache .mypy_cache .ruff_cache .hypothesis
