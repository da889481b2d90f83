# Everything is done with what `make install` puts into .venv; it needs Python 3.11 or newer and nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Hundreds of processes are started: what one has compiled, the next takes from its cache, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

# Three more than a small machine has cores: four of them mostly wait, for a broker and for time to pass (tests/conftest.py).
WORKERS ?= 5
# With Rust the tests run on the native engine, too; `make NATIVE= test` leaves it out.
NATIVE ?= $(shell cargo --version 2>/dev/null | awk '{ split($$2, v, "."); if (v[1] > 1 || v[2] >= 88) print "native" }')
# On CI nobody watches a terminal, and slow tests must be seen.
PYTEST_FLAGS := $(if $(filter true 1,$(CI)),--color=no --durations=15)

.DEFAULT_GOAL := help
.PHONY: help helm install install-dev native native-checks demo test check docs lint format bench bench-counts fuzz soak prove dist sbom lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed ## Make .venv with spnhub, spnagent and spnlog in .venv/bin

install-dev: .venv/.installed-dev

native: .venv/.native ## Build the native engine into .venv; needs cargo (Rust 1.88 or newer)

demo: install ## A hub, two agents and real traffic on this machine; ends by itself
	$(BIN)/spnhub demo --once

test: install lint $(NATIVE) ## Every check, and every test but the full sizes; the native engine's where cargo is
	@$(BIN)/python -c 'from spnhub.transport.native_engine import why_not; missing = why_not(); \
		missing and print(f"{missing}: its tests are skipped (make native)")'
	$(BIN)/python -m pytest -m "not prove" --numprocesses $(WORKERS) --dist loadgroup $(PYTEST_FLAGS)

check: install lint ## In seconds: lint, types, import contracts, and the tests without sockets and processes
	$(BIN)/python -m pytest --pure --quiet --numprocesses 2 --dist loadfile

docs: install-dev ## The documentation as a site, in build/docs; a warning is an error
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q -c docs . build/docs

lint: install-dev ## Formatter, linter, strict types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if rustfmt --version >/dev/null 2>&1; then rustfmt --check --edition 2024 --config-path $(CRATE) $(CRATE)/src/lib.rs; \
		else echo "without rustfmt the native engine's layout isn't checked"; fi

native-checks: native ## Rust's own checks of the native engine: clippy, its tests, and licences where cargo-deny is
	cd $(CRATE) && cargo clippy --all-targets -- -D warnings
	cd $(CRATE) && cargo test
	@if cargo deny --version >/dev/null 2>&1; then cd $(CRATE) && cargo deny check; \
		else echo "without cargo-deny licences and advisories aren't checked"; fi

format: install-dev ## Format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install-dev $(NATIVE) ## Native and aioquic beside each other, as a table, JSON and a plot; ROWS="bulk.down opens.50" ROUNDS=3 SECONDS=3
	$(BIN)/python -m tests.bench $(ROWS) --rounds $(or $(ROUNDS),3) --seconds $(or $(SECONDS),3)

bench-counts: install-dev ## What the hub executes for a connection and for bytes, over the merge base: fails beyond a third more
	$(BIN)/python -m tests.bench.counts

fuzz: install-dev ## Every parser under changed inputs, and such as coverage leads to; SECONDS=60 for each, NAMES="pem crl"
	$(BIN)/python -m tests.fuzz $(NAMES) --seconds $(or $(SECONDS),60)

soak: install-dev ## Hubs and agents under churn, faults and attackers, and whether they grow; SOAK=60 seconds for a look
	$(BIN)/python -m tests.soak --seconds $(or $(SOAK),1200)

prove: install-dev $(NATIVE:native=native-checks) ## The full sizes of what the tests try small; takes long
	$(BIN)/python -m pytest -m prove $(PYTEST_FLAGS)

helm: ## Helm in build/bin, by which the tests lint and render the chart; needs Go, and takes minutes
	GOBIN=$(CURDIR)/build/bin go install helm.sh/helm/v3/cmd/helm@v3.19.5

dist: install-dev ## An sdist and a wheel in dist/; the sdist has tests and compose, too; ADDRESS=https://… is put into both
	rm -rf dist build/dist
ifdef ADDRESS
	mkdir -p build/dist && git archive HEAD | tar --extract --directory build/dist
	$(BIN)/python .ci/address.py build/dist $(ADDRESS)
	$(BIN)/python -m build --no-isolation --outdir dist build/dist
else
	$(BIN)/python -m build --no-isolation --outdir dist .
endif

sbom: install ## What an install consists of, as CycloneDX, in dist/ (needs uv)
	mkdir -p dist
	uvx --from cyclonedx-bom cyclonedx-py environment .venv --output-reproducible --output-file dist/spnhub.cdx.json

lock: ## Write the lock files anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --group build $(EXTRAS) $(LOCK_FLAGS) -o requirements.lock
	uv pip compile pyproject.toml --group dev -c requirements.lock $(EXTRAS) $(LOCK_FLAGS) -o requirements-dev.lock

# All but the native engine, which isn't had from an index here.
EXTRAS := --extra console --extra kafka --extra docker --extra kubernetes
LOCK_FLAGS := --upgrade --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

clean: ## Remove .venv and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist src/*.egg-info $(CRATE)/patched

# The stamps make an install that is up to date cost nothing. The lock files pin everything, setuptools included, so
# the project itself is built without isolation and without looking for dependencies.
.venv/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.installed-dev: requirements-dev.lock .venv/.installed
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@

# Outside of the crate's folder, so that neither formatter nor linter walks through it.
CRATE := transport/native_engine
export CARGO_TARGET_DIR ?= $(CURDIR)/build/native

.venv/.native: .venv/.installed-dev $(wildcard $(addprefix $(CRATE)/,Cargo.* pyproject.toml prepare.py quinn-proto/* \
		src/*.rs src/*/*.rs))
	@command -v cargo >/dev/null || { echo "cargo is needed to build the native engine" >&2; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --force-reinstall --no-deps --no-build-isolation ./$(CRATE)
	@touch $@
