# make demo: set up everything and run the whole job on synthetic music, in demo/
# make test: set up everything and run the checks and the tests that take up to 3 s each
# make test-all: the checks and all tests
# PYTHON=python3.12 make test: with another Python
PYTHON ?= python3
VENV ?= .venv
BIN = $(abspath $(VENV))/bin

.PHONY: demo test test-all checks clean

PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

demo: $(VENV)/installed
	mkdir -p demo
	cd demo && $(BIN)/python -m render.demo genres --tracks 30
	cd demo && $(BIN)/python -m render genres
	cd demo && $(BIN)/python -m vision.split images_original
	cd demo && $(BIN)/python -m vision.train --epochs 20 \
	  --note "SYNTHETIC music composed by melvision: this shows that it runs, and is no result about real music"

test: checks
	$(PYTEST) -m "not slow"

test-all: checks
	$(PYTEST)

checks: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/vulture

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e ".[test]"
	$(BIN)/python -m pip install --quiet --no-deps musicnn==0.1.0
	touch $@

clean:
	rm -rf demo $(VENV)
