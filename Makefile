# make demo   the whole story: rendered (or real) videos -> shards -> teacher -> students -> report in runs/demo
#             (SEEDS=3: everything three times; EPOCHS=..., and of real videos SPLIT=1, 2 or 3)
# make test   the test suite, against the installed wheel
# make test-faults     the fault suite in full, 400 kills (KILLS=...); docs/reliability.md
# make fuzz   hostile input with fresh seeds for MINUTES (10) minutes; what is found is written to tests/hostile/kept
# make golden renews tests/golden.json; in a commit that says why its change is meant to change numbers
# make check  lint, types, import rules
# make lock   .ci/requirements.lock and docs/licences.md anew, after a change of constraints.txt
# make sbom   sbom.json (CycloneDX) of what is installed in .venv;  make audit: the lock against known vulnerabilities
# make wheel  dist/pclkd-*.whl, the same bytes from the same commit
# make test-gpu        the tests that need a GPU, and no others, in the environment of $(PYTHON)
# make wheelhouse PYTHON=3.12     for a machine without a package index that has torch and torchvision: what it lacks,
#             in wheelhouse/, in parts of 56 MB
# make offline-install    there: puts the parts together and installs them and this checkout into .offline, all without
#             an index; docs/benchmarks.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
UCF101 ?=
SPLITS ?=
SPLIT ?= 1
EPOCHS ?=
SEEDS ?= 1
DEMO_OPTIONS := $(if $(UCF101),--videos '$(UCF101)') $(if $(SPLITS),--splits '$(SPLITS)') $(if $(EPOCHS),--epochs $(EPOCHS))
# pytest's workers; each test of several processes or threads stays small
WORKERS ?= 2
KILLS ?= 400
MINUTES ?= 10

.PHONY: demo test test-faults fuzz test-gpu golden check lock sbom audit wheel wheelhouse offline-install clean

# The package is rebuilt into the environment on every call, so that what runs is what is in the checkout.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.dependencies: setup.cfg constraints.txt | $(BIN)/python
	@echo "installing the pinned dependencies into $(VENV) (a few minutes, 5 to 6 GB)"
	$(INSTALL) --constraint constraints.txt '.[test,check]'
	touch $@

define install_wheel
	@rm -rf build pclkd.egg-info
	$(INSTALL) --constraint constraints.txt --no-deps --force-reinstall .
	@rm -rf build pclkd.egg-info
endef

demo: $(VENV)/.dependencies
	$(install_wheel)
	$(BIN)/train-kd demo --out $(DEMO) --split $(SPLIT) --seeds $(SEEDS) $(DEMO_OPTIONS)

test: $(VENV)/.dependencies
	$(install_wheel)
	OMP_NUM_THREADS=1 PCLKD_FAULT_SEED=$${PCLKD_FAULT_SEED:-685936} $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-faults: $(VENV)/.dependencies
	$(install_wheel)
	OMP_NUM_THREADS=1 PCLKD_KILLS=$(KILLS) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -rP tests/faults \
		tests/training/study/test_study.py::test_a_study_stopped_three_times_ends_with_the_same_tables

fuzz: $(VENV)/.dependencies
	$(install_wheel)
	OMP_NUM_THREADS=1 nice $(BIN)/python -W ignore tests/hostile/fuzz.py --minutes $(MINUTES)

golden: $(VENV)/.dependencies
	$(install_wheel)
	PCLKD_RENEW_GOLDEN=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_golden.py

check: $(VENV)/.dependencies
	$(install_wheel)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p pclkd.sharding -p pclkd.pipeline -p pclkd.training -p pclkd.benchmarks
	$(BIN)/mypy examples/*.py
	$(BIN)/lint-imports

lock: $(BIN)/python
	$(INSTALL) --dry-run --ignore-installed --no-deps --report $(VENV)/report.json --requirement constraints.txt
	$(BIN)/python .ci/supply.py $(VENV)/report.json

# Tools that the package does not need have an environment of their own.
TOOLS := .tools

$(TOOLS)/bin/python:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7.5' 'pip-audit>=2.10'

sbom: $(VENV)/.dependencies $(TOOLS)/bin/python
	$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --output-file sbom.json $(BIN)/python

# Asks a service of advisories: it needs a network.
audit: $(TOOLS)/bin/python
	$(TOOLS)/bin/pip-audit --disable-pip --require-hashes --requirement .ci/requirements.lock

# Archives tell the times and the rights of files: both are fixed.
wheel: $(VENV)/.dependencies
	@rm -rf build dist pclkd.egg-info
	umask 022 && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --wheel --outdir dist .
	@rm -rf build pclkd.egg-info

test-gpu:
	$(PYTHON) -m pytest -m gpu tests/test_gpu.py tests/training/compute tests/pipeline/pretext/test_base.py

# All that runs beside torch, torchvision and what comes with tensorboard, OpenCV and matplotlib.
LACKING := annotated-types astunparse av braceexpand click filelock gast hypothesis iniconfig lazy-loader libcst makefun \
	nvidia-dali-cuda130 nvidia-libnvcomp-cu13 nvidia-nvimgcodec-cu13 nvidia-nvjpeg nvtx optree pluggy pydantic \
	pydantic_core Pygments pytest PyYAML simplejpeg six sortedcontainers typing-inspection typing_extensions webdataset \
	'setuptools<82' # torch 2.11 wants no newer one
# pip takes each by its own name.
PLATFORMS := manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1
WHEELS := wheelhouse/wheels
SITE := .offline

wheelhouse:
	$(if $(filter 3.%,$(PYTHON)),,$(error name the version of the other machine: make wheelhouse PYTHON=3.12))
	@rm -rf wheelhouse
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
		--python-version $(PYTHON) $(PLATFORMS:%=--platform %_x86_64) --constraint constraints.txt --dest $(WHEELS) $(LACKING)
	tar --create --directory $(WHEELS) . | split --bytes 56MB --numeric-suffixes - wheelhouse/part-
	@rm -r $(WHEELS)
	@cd wheelhouse && sha256sum part-* > SHA256SUMS && du --bytes part-*

offline-install:
	cd wheelhouse && sha256sum --check --quiet SHA256SUMS
	@rm -rf $(SITE) $(WHEELS)
	@mkdir -p $(WHEELS)
	cat wheelhouse/part-* | tar --extract --directory $(WHEELS)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target $(SITE) $(WHEELS)/*.whl
	PYTHONPATH=$(SITE) $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
		--no-build-isolation --target $(SITE) .
	@rm -rf build pclkd.egg-info $(WHEELS)
	@echo "PYTHONPATH=$(CURDIR)/$(SITE) $(PYTHON) -m pclkd.benchmarks.cli gpu --minutes 9 --out DIR"

clean:
	rm -rf $(VENV) $(TOOLS) $(SITE) wheelhouse build dist sbom.json *.egg-info
