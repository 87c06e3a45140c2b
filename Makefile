# Every target sets itself up: a virtual environment in .venv, installed once and again when setup.cfg changes.
PYTHON ?= python3
BIN := .venv/bin
# test processes; each takes an equal share of the cores
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: demo test stress lint quick check format clean

.venv/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: .venv/.installed
	$(BIN)/wsseg run cam_crf -c demo

test: .venv/.installed
	$(PYTEST)

stress: .venv/.installed
	$(BIN)/python -m tests.stress --json stress.json

# style, types and import contracts
lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# before each commit
quick: lint
	$(PYTEST) -m "not slow"

check: lint test

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info
