# make quickstart   train and test a fusion on real news, offline once packages are installed
# make test         the tests that take seconds; `make test-slow` those that take minutes
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# A stamp of what was installed: a second call installs nothing, a change of the files installs again.
PROJECT_FILES := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow lint docs results scores build clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 24

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.quickstart: $(BIN)/python $(PROJECT_FILES)
	$(PIP) -e ".[quickstart]"
	@touch $@

$(VENV)/.dev: $(BIN)/python $(PROJECT_FILES)
	$(PIP) -e ".[dev,quickstart]"
	@touch $@ $(VENV)/.quickstart $(VENV)/.docs

$(VENV)/.docs: $(BIN)/python $(PROJECT_FILES)
	$(PIP) -e ".[docs]"
	@touch $@

$(VENV)/.benchmarks: $(BIN)/python $(PROJECT_FILES)
	$(PIP) -e ".[quickstart,benchmarks,onnx,openai,serve]"
	@touch $@

$(VENV)/.llm: $(VENV)/.quickstart
	$(PIP) -e ".[quickstart,local-llm,benchmarks]"
	@touch $@

quickstart: $(VENV)/.quickstart  ## train, calibrate and test a fusion on BBC News with embedded models
	$(BIN)/lf fit --config quickstart.yaml
	$(BIN)/lf test --config quickstart.yaml --ckpt_path best

# One OpenMP thread a process: on shared cores its waiting threads make a small fit two to four times slower.
# By files, so that what a file prepares once is prepared once.
test test-slow: export OMP_NUM_THREADS = 1
test: $(VENV)/.dev  ## set up .venv and pass the tests; PYTEST_ARGS="-k fusion" picks some
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.dev  ## the tests that take minutes: notebooks, Ray, scikit-learn's checks, fits killed and resumed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow $(PYTEST_ARGS)

lint: $(VENV)/.dev  ## style, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: export HF_HUB_OFFLINE = 1
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.docs  ## the documentation in site/, warnings as errors
	$(BIN)/python -m mkdocs build --strict --quiet

results: $(VENV)/.quickstart  ## write the README's tables from benchmarks/*.json
	$(BIN)/python -m benchmarks.render

benchmarks-small: $(VENV)/.benchmarks  ## a reduced set of every benchmark in 20 minutes; DATA=FOLDER: of those that need data, too
	$(BIN)/python -m benchmarks.small $(if $(DATA),--data "$(DATA)")

scores: $(VENV)/.llm  ## make the committed scores again, with the embedded LLM (compiles llama-cpp-python once)
	rm -rf configs/scores/bbc_news configs/scores/rotten_tomatoes
	$(BIN)/lf score --config configs/scoring/bbc_news_smollm2.yaml
	$(BIN)/lf score --config configs/scoring/rotten_tomatoes_smollm2.yaml

build: $(VENV)/.dev  ## the wheel, and a look whether the configs are in it
	rm -rf dist
	$(BIN)/python -m build --wheel
	@$(BIN)/python -c "import pathlib, zipfile; \
	inside = set(zipfile.ZipFile(next(pathlib.Path('dist').glob('*.whl'))).namelist()); \
	wanted = {f'lf_lightning/{p.as_posix()}' for p in pathlib.Path('configs').rglob('*') if p.is_file() and p.name != '.lock'} | {'lf_lightning/py.typed'}; \
	missing = sorted(wanted - inside); assert not missing, f'not in the wheel: {missing}'; \
	print(f'the wheel carries all {len(wanted) - 1} files of configs/')"

clean:  ## remove .venv, builds and caches; runs/ stays
	rm -rf $(VENV) dist build site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
