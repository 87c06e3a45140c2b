# Every target sets itself up: a virtual environment in .venv, installed once and again when setup.cfg changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test stress check format clean

.venv/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: .venv/.installed
	$(BIN)/wsseg run cam_crf -c demo

test: .venv/.installed
	$(BIN)/python -m pytest

stress: .venv/.installed
	$(BIN)/python -m tests.stress --json stress.json

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --no-warn-unreachable
	$(BIN)/mypy --platform darwin --no-warn-unreachable
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info
