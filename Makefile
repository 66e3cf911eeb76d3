# `make demo` is the way in; `make test` and `make check` are what a change has to pass.
#
# PYTHON       the interpreter to build .venv with; by default the first of python3, python3.13,
#              python3.12 and python3.11 that is new enough
# TORCH_INDEX  where to look for torch before PyPI. PyPI's Linux wheels bring gigabytes of CUDA, so a
#              machine without an NVIDIA driver looks for the CPU wheels; `TORCH_INDEX=` asks PyPI
#              alone. An index that cannot be reached is given up after seconds.
# ARGS         more arguments for pytest or for scripts/train.py

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi 2>/dev/null),,https://download.pytorch.org/whl/cpu)
TORCH := $(shell grep '^torch==' requirements.lock)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: setup demo test format check clean

setup: .venv/ready

# The lock is complete, so nothing is resolved: dm-control asks for labmaze, which its suite does
# not need and which has no wheel for Python 3.13.
.venv/ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Mindreel needs Python 3.11, 3.12 or 3.13; found: $$(python3 --version 2>&1)." \
		"Install one, or name it: make setup PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	$(if $(TORCH_INDEX),$(PIP) install --index-url $(TORCH_INDEX) --timeout 15 --retries 1 \
		$(if $(findstring /cpu,$(TORCH_INDEX)),--no-deps) $(TORCH) || echo "Taking torch from PyPI instead.")
	$(PIP) install --constraint requirements.lock torch
	$(PIP) install --no-deps --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/extras: .venv/ready extras.lock
	$(PIP) install --no-deps --requirement extras.lock
	@touch $@

demo: setup
	$(BIN)/python scripts/train.py preset=demo $(ARGS)

test: .venv/extras
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: .venv/extras
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
