# make demo   the whole story: rendered (or real) videos -> shards -> teacher -> students -> report in runs/demo
#             (SEEDS=3: everything three times)
# make test   the test suite, against the installed wheel
# make golden renews tests/golden.json; in a commit that says why its change is meant to change numbers
# make check  lint, types, import rules

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

.PHONY: demo test golden check clean

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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

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

clean:
	rm -rf $(VENV) build dist *.egg-info
