# The two commands: `make serve` and `make test`. Both need only Python 3.11+ and make.
.DEFAULT_GOAL := help
.PHONY: help serve test test-all lint format lock weights verify dist pictures screenshot bench fuzz \
	soak clean

HOST ?= 127.0.0.1
PORT ?= 8000
BIN := .venv/bin
# Where it is set, each of the hundreds of processes that the tests start compiles every module anew.
export PYTHONDONTWRITEBYTECODE :=

help:  ## show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

serve: .venv/.serve  ## install if need be, then serve on http://127.0.0.1:8000 (PORT=...)
	@exec $(BIN)/menny serve --host $(HOST) --port $(PORT)

# More workers than there are cores, for tests wait as well, the slow ones less; what shares a server
# or a browser stays on one worker (tests/conftest.py).
CORES := $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell expr $(CORES) + 2)
PYTEST = $(BIN)/pytest --quiet --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: .venv/.dev  ## install if need be, then run every check (lint, types, tests; build/tests.xml)
	@$(PYTEST)

test-all: WORKERS = $(shell expr $(CORES) + 1)
test-all: .venv/.dev  ## the checks that take minutes as well, then `make test`
	@$(PYTEST) -m slow --timeout 1200 --junit-xml=build/tests-slow.xml
	@$(MAKE) --no-print-directory test

lint: .venv/.dev  ## ruff, mypy, hadolint and the directions of imports, without the tests
	@$(PYTEST) tests/test_static.py

format: .venv/.dev  ## let ruff put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

weights: .venv/.serve  ## train the shipped weights anew
	$(BIN)/menny train --recipe default --out weights/menny_model_weights.npz --force

verify: .venv/.serve  ## check the shipped weights on every query that exists (minutes)
	$(BIN)/menny verify

dist: .venv/.dev  ## build the wheel and the sdist into dist/, and check them
	@rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/twine check --strict dist/*

pictures: .venv/.dev  ## draw the pictures in docs/images anew (minutes)
	$(BIN)/menny train --recipe default --out build/default.npz --plot docs/images/training.png
	$(BIN)/menny train --recipe book --out build/book.npz --plot docs/images/training-book.png
	$(BIN)/menny evaluate --plot docs/images/answers.png
	$(BIN)/menny evaluate --weights build/book.npz --plot docs/images/answers-book.png

screenshot: .venv/.dev  ## take the picture of the playground in docs/images anew (needs chromium)
	$(BIN)/pytest -q tests/playground/test_craft.py -k picture
	cp build/playground/light.png docs/images/playground.png
	cp build/playground/dark.png docs/images/playground-dark.png

# One resolution for every platform; hashes, but no addresses of any registry.
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --no-annotate --python-version 3.11
lock: .venv/.dev  ## resolve the dependencies again
	$(UV_COMPILE) pyproject.toml --group build -o requirements.lock $(LOCK_FLAGS)
	$(UV_COMPILE) --group dev -c requirements.lock -o requirements-dev.lock $(LOCK_FLAGS)

bench: .venv-bench/.installed  ## compare Menny with other servers and frameworks (needs wrk)
	.venv-bench/bin/python benchmarks/forward.py
	.venv-bench/bin/python benchmarks/serve.py

FUZZ_SECONDS ?= 300
FUZZ = $(BIN)/python -m fuzz
fuzz: .venv/.fuzz  ## try arbitrary bytes as weights and as requests (FUZZ_SECONDS=...)
	$(FUZZ).seeds .fuzz
	$(FUZZ).weights .fuzz/weights -dict=.fuzz/weights.dict -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/
	$(FUZZ).requests .fuzz/requests -dict=.fuzz/requests.dict -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/

SOAK_SECONDS ?= 600
soak: .venv/.dev  ## mixed traffic, swaps and bad clients for ten minutes (SOAK_SECONDS=...)
	$(BIN)/python -m benchmarks.soak --seconds $(SOAK_SECONDS)

clean:  ## remove what `make` installed and cached
	rm -rf .venv .venv-bench .fuzz .mypy_cache .import_linter_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- installation -----------------------------------------------------------------------

.venv/.python: scripts/create-venv
	@scripts/create-venv .venv
	@touch $@

.venv/.serve: .venv/.python requirements.lock pyproject.toml
	@echo "Installing Menny into .venv (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.venv/.dev: .venv/.serve requirements-dev.lock
	@echo "Installing the development tools into .venv (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.venv/.fuzz: .venv/.dev fuzz/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r fuzz/requirements.txt
	@touch $@

.venv-bench/.installed: scripts/create-venv requirements.lock benchmarks/requirements.txt
	@scripts/create-venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@
