# `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: install demo check test bench campaign lock clean

# The venv holds exactly what the lock names, checked by hash.
$(VENV)/.run: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run tests/requirements.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r tests/requirements.lock
	@touch $@

# The plot's library is large and serves nothing else.
$(VENV)/.bench: $(VENV)/.test tests/bench/requirements.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r tests/bench/requirements.lock
	@touch $@

install: $(VENV)/.run

demo: $(VENV)/.run
	@$(BIN)/archiver demo --to demo-archive

check: $(VENV)/.test
	$(BIN)/ruff format --check archiver tests
	$(BIN)/ruff check archiver tests
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layers.py

# Many tests wait, for servers and for the disk, so that four processes suit two cores; more would only share the disk.
test: $(VENV)/.test
	$(BIN)/pytest -n 4 --dist worksteal

# Hours on a quiet machine; rewrites the tables and the plot of docs/performance.md.
bench: $(VENV)/.bench
	$(BIN)/python -m tests.bench --out docs/performance.md

campaign: $(VENV)/.test
	ARCHIVER_CAMPAIGN=1 $(BIN)/pytest -m campaign --timeout 0

# Needs uv; names no index host in what it writes.
lock:
	uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra build pyproject.toml -o requirements.lock
	uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra build --extra test pyproject.toml -o tests/requirements.lock
	uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header tests/bench/requirements.in -o tests/bench/requirements.lock

clean:
	rm -rf $(VENV) demo-archive build
