# The two commands that matter: `make demo` and `make test`. `make help` lists the rest.
DATA ?=
RECORDS ?= data/records
RUN ?= runs/fast
RECIPE ?= fast
STUDY ?= light-unet
VENV := .venv
PY := $(VENV)/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 3

# A name on the PATH may be a shim without a Python behind it, so each is run.
PYTHON ?= $(shell for name in python3.11 python3.12 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1 \
	&& echo $$name && break; done)

.PHONY: help setup demo records train evaluate predict explain export serve report study notebooks bench reference docs lint format test test-slow clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/installed  ## make .venv and install the toolkit at the versions last tested

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or 3.12, and none runs under these names: python3.11 python3.12 python3 python. Install one, or name it: make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

$(VENV)/installed-notebooks: $(VENV)/installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[notebooks]'
	@touch $@

demo: setup  ## the main job from end to end, on phantoms or on DATA=folder
	@$(PY) -m ustoolkit.demo --data "$(DATA)"

records: setup  ## convert DATA=folder to RECORDS=folder
	$(PY) -m ustoolkit records "$(DATA)" --out "$(RECORDS)"

train: setup  ## train RECIPE=name on RECORDS into RUN=folder
	$(PY) -m ustoolkit train "$(RECIPE)" --records "$(RECORDS)" --out "$(RUN)"

evaluate: setup  ## score RUN on its test part
	$(PY) -m ustoolkit evaluate "$(RUN)"

predict: setup  ## segment DATA=folder with RUN into RUN/predictions
	$(PY) -m ustoolkit predict "$(RUN)" "$(DATA)" --out "$(RUN)/predictions"

explain: setup  ## show what RUN's layers have learned, in RUN/explain
	$(PY) -m ustoolkit explain "$(RUN)"

export: setup  ## write RUN for downstream apps, in RUN/export
	$(PY) -m ustoolkit export "$(RUN)"

serve: setup  ## answer requests with RUN/export, and show a page to try it on
	$(PY) -m ustoolkit serve "$(RUN)/export"

study: setup  ## repeat STUDY=lymph-node, deeplab, light-unet, fine-tuning or fast on RECORDS, as previews
	$(PY) -m ustoolkit study "$(STUDY)" --preview --records "$(RECORDS)" --out "studies/$(STUDY)"

report: setup  ## write RUN's page
	$(PY) -m ustoolkit report "$(RUN)"

notebooks: $(VENV)/installed-notebooks  ## open notebooks/ in JupyterLab
	$(VENV)/bin/jupyter lab notebooks

bench: $(VENV)/installed-bench  ## measure speed beside PyTorch, MONAI and MedPy
	$(PY) benchmarks/phantom.py
	$(PY) benchmarks/against_pytorch.py
	$(PY) benchmarks/grouped.py
	$(PY) benchmarks/unet_step.py
	$(PY) benchmarks/pipeline.py
	$(PY) benchmarks/pipeline.py --memory
	$(PY) benchmarks/metrics.py
	$(PY) benchmarks/crf.py
	$(PY) benchmarks/explain.py
	$(PY) benchmarks/inference.py
	$(PY) benchmarks/serving.py

reference: setup  ## write docs/reference/recipes.md anew from the settings
	$(PY) -m ustoolkit.recipe.reference docs/reference/recipes.md

docs: setup  ## build the site from docs/ into site/
	NO_MKDOCS_2_WARNING=true $(PY) -m mkdocs build --strict --quiet

lint: setup  ## check style, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup  ## put the code into the house's format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

test: setup  ## the quick tests, some minutes
	$(PY) -m pytest -q -n 2 --dist loadgroup

test-slow: setup  ## every test, the slow ones too
	$(PY) -m pytest -q -m "slow or not slow"

clean:  ## remove what the demo, the tests and the tools left behind
	rm -rf demo build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
