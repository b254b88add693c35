# Two targets do all the set-up that they need: `make demo` and `make test`.
# They want Python >= 3.11 with pip, and make; no root, no Docker, no PostgreSQL.

PYTHON ?= python3
PIP    ?= $(PYTHON) -m pip
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTEST_ARGS ?=
TORTURE_ARGS ?=
export CDC_SYNC_SCREENSHOTS ?=
# Empty is unset: without them, each worker and each program that a test starts compiles all that it imports.
export PYTHONDONTWRITEBYTECODE :=
BENCH_ARGS ?=
TRACE_ARGS ?=
MATRIX ?=
MATRIX_ARGS ?=

WHEEL     := build/wheel/.ready
INSTALLED := build/installed
SOURCES   := $(shell find cdc_sync systemd -type f -not -name '*.pyc')

PY ?= python3.13

.PHONY: help demo test followed unit test-python test-systemd test-image test-browser screenshots \
	test-postgres-matrix check lint types imports dead-code format coverage \
	upgrade-drill month mutations torture torture-cluster bench trace-change bench-trigger bench-tenants wheel sbom docs deb check-deb constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# `--without-pip` and `pip --python`: Debian's Python has venv but no ensurepip.
$(READY): pyproject.toml constraints.txt cdc_sync/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit("cdc-sync needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.13 ...") if sys.version_info < (3, 11) else None'
	@echo "Setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv --clear --without-pip $(VENV)
	@$(PIP) --python $(BIN)/python --disable-pip-version-check install --quiet \
		--constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

demo: $(READY) ## Run the main job here: embedded PostgreSQL, real triggers, real HTTP
	@$(BIN)/cdc-sync demo

test: $(READY) $(INSTALLED)/.ready ## Run the whole test-suite against a real PostgreSQL that it starts itself
	CDC_SYNC_TEST_COMMAND=$(CURDIR)/$(INSTALLED)/bin/cdc-sync $(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

UNIT := pytest -q -n 2 -m "not exhaustive" --hypothesis-profile=quick --dist loadfile tests/unit

unit: $(READY) ## The unit tests alone, with fewer examples: 20 seconds at most, and no PostgreSQL
	$(BIN)/python -m $(UNIT) $(PYTEST_ARGS)

# Another Python may have no pip of its own.
test-python: ## The unit tests on another Python, in an environment of its own; PY=python3.13
	@$(MAKE) --no-print-directory unit PYTHON=$(PY) PIP="$(PYTHON) -m pip" VENV=build/venv-$(notdir $(PY))

# Both are bounded from outside too: a machine or a container that hangs must not hold up who waits for the verdict.
test-systemd: $(READY) deb ## Boot a real systemd, with the package and its units in it; needs root and Debian packages
	CDC_SYNC_TEST_DEB=$$(ls -t dist/cdc-sync_*.deb | head -n 1) \
		timeout --kill-after=30 900 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/systemd/booted.py

test-image: $(READY) ## Build the image and run it; needs root and Debian packages
	$(BIN)/hadolint Dockerfile
	timeout --kill-after=30 600 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/image/built.py

test-postgres-matrix: $(READY) ## Run what depends on PostgreSQL on each version from 10 to 18; MATRIX="10 15" runs these
	@PYTHONPATH=tests:tools $(BIN)/python -m postgres_matrix $(MATRIX_ARGS) $(MATRIX)

# Debian's chromium, chromedriver and npm, which brings axe-core; a bare machine's `make test` needs none of them.
test-browser: $(READY) ## Look at the page in a real Chromium, with a real daemon behind it
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ echo "make $@ needs a browser: apt-get install chromium chromium-driver" >&2; exit 1; }
	@command -v npm >/dev/null || { echo "make $@ needs npm for axe-core: apt-get install npm" >&2; exit 1; }
	@npm ci --prefix tests/browser --no-audit --no-fund --silent
	$(BIN)/python -m pytest tests/browser $(PYTEST_ARGS)

screenshots: ## The same, and write the pictures of the documentation
	@$(MAKE) --no-print-directory test-browser CDC_SYNC_SCREENSHOTS=docs/images

check: lint types imports dead-code coverage ## Everything that is checked beside the tests

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

imports: $(READY) ## The import contract: layers, and a pure core
	$(BIN)/lint-imports

dead-code: $(READY) ## What of the package nothing in the package uses
	$(BIN)/vulture

coverage: $(READY) ## Branch coverage of the pure core must be 100 %
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(UNIT)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

followed: $(READY) $(INSTALLED)/.ready ## Follow the first steps, the installation and the upgrade as the documents have them
	CDC_SYNC_TEST_COMMAND=$(CURDIR)/$(INSTALLED)/bin/cdc-sync $(BIN)/python -m pytest -n 3 $(PYTEST_ARGS) \
		tests/acceptance/followed_documents.py tests/acceptance/followed_operations.py

upgrade-drill: $(READY) ## From 0.1.0 and 0.2.0 at work to this version, and back; their programs come from this repository
	$(BIN)/python -m pytest -q $(PYTEST_ARGS) tests/acceptance/upgrade_drill.py

month: $(READY) ## A month of an ATS on our clock, in minutes: nothing lost or invented, nothing grows without bound
	$(BIN)/python -m pytest -q $(PYTEST_ARGS) tests/integration/ats/a_month.py

mutations: $(READY) ## Whether tests find faults put into the code, a minute each at most; MUTATION="word of one"
	cd tests && ../$(BIN)/python -m mutations $(MUTATION)

torture: $(READY) ## Random work, kills, restarts and faults for minutes; TORTURE_ARGS="--mode poll --store postgres --seconds 600 --seed 7"
	PYTHONPATH=tests:tools $(BIN)/python -m torture $(TORTURE_ARGS)

torture-cluster: $(READY) ## The same for three daemons on three hosts; needs root and Debian packages; TORTURE_ARGS="--only stop kill"
	PYTHONPATH=tests:tools $(BIN)/python -m torture --hosts $(TORTURE_ARGS)

bench: $(READY) ## How fast it is, each figure beside a bare loop, in some minutes; BENCH_ARGS="--rounds 5"
	@PYTHONPATH=tests:tools $(BIN)/python -m bench $(BENCH_ARGS)

trace-change: $(READY) ## The path of one change: functions, store jobs, statements; TRACE_ARGS="--changes 20"
	@PYTHONPATH=tests:tools $(BIN)/python -m trace_change $(TRACE_ARGS)

bench-trigger: $(READY) ## What the triggers cost, in instructions (valgrind); CDC_SYNC_TEST_PGBIN=/usr/lib/postgresql/15/bin has it counted there
	@PYTHONPATH=tests:tools $(BIN)/python -m bench --only trigger $(BENCH_ARGS)

bench-tenants: $(READY) ## What 1,000 customers in one daemon cost, in half an hour; BENCH_ARGS="--schemas 200"
	@PYTHONPATH=tests:tools $(BIN)/python -m bench --only tenants $(BENCH_ARGS)

wheel: $(WHEEL) ## Build the wheel into build/wheel

$(WHEEL): pyproject.toml README.md LICENSE $(SOURCES)
	@rm -rf build/wheel
	@$(PIP) --disable-pip-version-check wheel --quiet --no-deps --wheel-dir build/wheel .
	@touch $@

# What the acceptance tests run: the wheel in an environment of its own, beside the dependencies of ours. Nothing of this
# folder is in it, so a file that the wheel lacks is missed.
$(INSTALLED)/.ready: $(READY) $(WHEEL)
	@$(PYTHON) -m venv --clear --without-pip $(INSTALLED)
	@$(PIP) --python $(INSTALLED)/bin/python --disable-pip-version-check install --quiet --no-deps \
		build/wheel/*.whl
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $$($(INSTALLED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth
	@touch $@

docs: $(READY) ## Build the documentation as a site into build/site/html, in English and French, without network
	@rm -rf build/site
	@packaging/documents build/site/source
	@$(BIN)/mkdocs build --strict --quiet
	@echo build/site/html/index.html

deb: $(WHEEL) ## Build the Debian package into dist, for the Debian that this machine has
	@packaging/deb/build build/wheel/*.whl dist

check-deb: deb ## Look at the package with lintian; needs Debian packages
	@command -v lintian >/dev/null || { echo "make $@ needs lintian: apt-get install lintian" >&2; exit 1; }
	lintian --fail-on error $$(ls -t dist/cdc-sync_*.deb | head -n 1)

# In environments of their own: what the image has, and the tool that lists it.
sbom: $(WHEEL) ## What the image has of Python, as CycloneDX, into build/sbom.json
	@$(PYTHON) -m venv --clear --without-pip build/image-python
	@$(PIP) --python build/image-python/bin/python --disable-pip-version-check install --quiet \
		--constraint constraints.txt build/wheel/*.whl
	@$(PYTHON) -m venv --clear --without-pip build/sbom-tool
	@$(PIP) --python build/sbom-tool/bin/python --disable-pip-version-check install --quiet 'cyclonedx-bom>=7,<8'
	@build/sbom-tool/bin/cyclonedx-py environment --output-reproducible --output-file build/sbom.json \
		build/image-python/bin/python
	@echo build/sbom.json

format: $(READY) ## Let ruff format the code and repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(READY) ## Rewrite constraints.txt from what is installed, and what the image takes of it, with hashes
	@$(PIP) --python $(BIN)/python freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' > constraints.new
	@mv constraints.new constraints.txt
	@$(PYTHON) -m venv --clear --without-pip build/hashes-tool
	@$(PIP) --python build/hashes-tool/bin/python --disable-pip-version-check install --quiet 'pip-tools>=7' pip
	@build/hashes-tool/bin/pip-compile --quiet --generate-hashes --no-header --no-annotate --no-emit-options --strip-extras \
		--allow-unsafe --constraint constraints.txt --output-file packaging/image.txt pyproject.toml

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
