# make demo       install, train on an embedded dataset, evaluate, segment, report
# make test       install, check, run the suite that CI runs
# make test-all   the slow tests too
# make check      format, lint, types, version
# make format     format and fix
# make bench      the benchmarks (needs a dataset: make bench DATA=folder)

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEV := $(VENV)/.dev
# Building a network is one thread of Python, so two processes; a file's fixtures stay in one of them.
PARALLEL := -n 2 --dist loadfile

.PHONY: demo test test-all check format bench clean

demo: $(INSTALLED)
	$(BIN)/python tools/demo.py

test: check
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-all: check
	$(BIN)/python -m pytest $(PARALLEL)

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV)
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/input_pipeline.py --dataset_path $(DATA) --dataset_file $(DATA)/train.txt \
		--classes_path $(DATA)/classes.txt --ignore_index 11

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)

$(INSTALLED): pyproject.toml requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(DEV): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@
