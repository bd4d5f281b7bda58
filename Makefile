# Two commands do everything: `make` (set up, run, show the results) and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: all setup test lint clean-setup
all: setup
	@$(BIN)/darkroom run

setup: .venv/ready

.venv/ready: requirements.txt pyproject.toml
	@command -v git >/dev/null || { echo "make: git is missing: install it (apt install git, brew install git)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: $(PYTHON) is missing or older than 3.11: install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv .venv || { \
	  echo "make: the virtual environment failed: install Python's venv module (apt install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt || { \
	  echo "make: the packages could not be installed: see pip's message above; it needs the package index and 8 GB of disk"; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test: setup
	@$(BIN)/ruff format --check src tests
	@$(BIN)/ruff check src tests
	@$(BIN)/mypy
	@$(BIN)/python -m pytest
