# Two commands do all the set-up on a machine with Python 3.11 or newer, make and a C compiler.
#   make demo   virtual environment, install, then `scanner demo`, whose report is demo.html
#   make test   the same, then the tests

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: demo test speed counts lint types docs hostile install clean

demo: $(VENV)/.installed
	$(BIN)/scanner demo --report demo.html
	@echo "Open demo.html in a browser for the full report."

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Counts exactly, times as ratios in the same run; the tests have warmed the compiled kernels.
speed: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q benchmarks/speed

# Steps on the demo's backdoored model, exactly, here and at the commit before.
counts: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.base_counts

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed
	$(BIN)/mypy

# The guide into site/; a broken link or a generated page that is out of date is an error.
docs: $(VENV)/.installed
	$(BIN)/python docs/.tools/generate.py --check
	PYTHONPATH=docs/.tools $(BIN)/zensical build --strict

# Hostile and broken inputs, some of them generated; then mutated models for some seconds, half of it whole imports.
hostile: $(VENV)/.installed
	$(BIN)/python -m benchmarks.hostile --seed 60622 --generated 20
	$(BIN)/python -m benchmarks.fuzz --seed 60623 --count 10000000 --whole 10000000 --seconds 10

install: $(VENV)/.installed

# A regular install: what runs is what a user gets. After a change of the sources make installs them again.
$(VENV)/.installed: pyproject.toml constraints.txt $(shell find scanner kernels converters -type f -not -name '*.pyc')
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[cpu,ray,dev,docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
