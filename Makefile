# Needs only Python >= 3.11 and make. uv is used when it is on PATH; `make UV= test` insists on pip.

PYTHON ?= python3
UV ?= $(shell command -v uv 2>/dev/null)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test lint protos bench-quick lock clean
.DELETE_ON_ERROR:

run: $(READY)
	$(BIN)/gridaccord run examples/rts_gmlc/day.yaml

test: $(READY)
	$(BIN)/python -m pytest -n auto -m "not processes"
	$(BIN)/python -m pytest -n 0 -m processes

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_protos.py --check

protos: $(READY)
	$(BIN)/python tools/generate_protos.py

bench-quick: $(READY)
	$(BIN)/python -m benchmarks.pglib --quick

# One lock for Python 3.11 to 3.13, read by pip and uv alike. Hashes are of the files, so any mirror of PyPI serves it;
# sed drops what uv writes of the index it asked. Needs uv. An existing pin stays unless pyproject.toml excludes it;
# `make lock UPGRADE=--upgrade` takes the newest of everything.
lock:
	$(or $(UV),uv) pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes \
	  --fork-strategy fewest --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  $(UPGRADE) --quiet --output-file requirements.lock
	sed -i.bak -E '/^ *(-i|--(extra-)?index-url|--find-links|--trusted-host)[ =]/d' requirements.lock && rm requirements.lock.bak

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The project itself is editable, so only a change of what it depends on makes the environment anew.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: GridAccord needs Python >= 3.11; name one with 'make PYTHON=...'" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: GridAccord needs Python >= 3.11; name one with 'make PYTHON=python3.12'" >&2; exit 1; }
	rm -rf $(VENV)
ifneq ($(UV),)
	$(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --compile --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endif
	touch $@
