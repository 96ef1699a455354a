# make demo       install, train on an embedded dataset, evaluate, segment, report
# make test       install, check, run the suite that CI runs
# make test-all   the slow tests too
# make device     build and test the C++ runner with the engines that are here (TESTS=OFF: without tests)
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

DEVICE := inference/cpp
TESTS ?= ON
DEVICE_NEEDS := cmake ninja g++ pkg-config
DEVICE_PACKAGES := cmake ninja-build g++ pkg-config libjpeg62-turbo-dev libpng-dev doctest-dev

.PHONY: demo test test-all device device-if-possible check format bench clean

demo: $(INSTALLED)
	$(BIN)/python tools/demo.py

test: check device-if-possible
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-all: check device-if-possible
	$(BIN)/python -m pytest $(PARALLEL)

device: $(DEV)
	cd $(DEVICE) && cmake --preset host -DDEEPLAB_PYTHON=$(abspath $(BIN)/python) -DDEEPLAB_TESTS=$(TESTS)
	cd $(DEVICE) && cmake --build --preset host
ifneq ($(TESTS),OFF)
	cd $(DEVICE) && ctest --preset host
endif

# Without a compiler and the libraries the tests of the runner are skipped, and say so. What does not build, fails.
device-if-possible: $(DEV)
	@if (for tool in $(DEVICE_NEEDS); do command -v $$tool >/dev/null || exit 1; done) && pkg-config --exists libjpeg libpng && \
		[ -n "$$(find /usr/include /usr/local/include -path '*doctest/doctest.h' -print -quit 2>/dev/null)" ]; then \
		$(MAKE) --no-print-directory device; \
	else \
		echo "The C++ runner is not built and its tests are skipped. On Debian it needs: $(DEVICE_PACKAGES)"; \
	fi

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
	rm -rf $(VENV) $(DEVICE)/build demo .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)

$(INSTALLED): pyproject.toml requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(DEV): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@
