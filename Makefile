# Commands for people. Each target does all the set-up it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup sweep test faults chaos fuzz ui docs pictures lint wheel-test bench bench-scale clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "embedsweep needs Python 3.11 or newer: make PYTHON=python3.11 setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The main job: two losses compared on the embedded model and data.
sweep: $(READY)
	$(BIN)/python train.py -m loss=mnrl,cosent

# The default tests. TESTS= takes arguments of pytest: make test TESTS="-m slow"
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(TESTS)

# All tests of faults; docs/RELIABILITY.md lists them. TESTS= takes arguments of pytest.
faults: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not chaos' tests/faults $(TESTS)

# Kill all processes of a search at random moments, twenty times, in six variants. CHAOS_SEED= for other moments.
chaos: $(READY)
	$(BIN)/python -m pytest -m chaos tests/faults $(TESTS)

# 500 commands and 300 data files with random mistakes; FUZZ_SEED=1 makes others.
fuzz: $(READY)
	$(BIN)/python -m pytest -m 'slow or fuzz' tests/fuzz $(TESTS)

# MLflow's pages; STUDY= opens on that study's trials, PORT= is another port.
ui: $(READY)
	$(BIN)/embedsweep ui $(STUDY) $(if $(PORT),--port $(PORT))

# The documentation site, site/index.html; a broken link or anchor is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# Install the wheel into an empty venv and run it in an empty folder.
wheel-test: $(READY)
	PYTHON=$(BIN)/python tests/wheel.sh

# The README's pictures of MLflow's pages: screenshots of their tests.
pictures: $(READY)
	EMBEDSWEEP_PICTURES=docs $(BIN)/python -m pytest -m browser -k sqlite tests/browser

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

bench: $(READY)
	$(BIN)/python -m benchmarks

# 64 workers whose training sleeps, on one PostgreSQL and one MLflow server; ten minutes, 12 GB of memory.
bench-scale: $(READY)
	$(BIN)/python -m benchmarks scale

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
