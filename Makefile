# The two commands: `make ablation` runs the main job, `make test` the tests. Both install what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
TASK ?= taxonomy
# Models that manifold-lora fetch gets have settings of their own, unless a task is named.
FETCHED := $(filter smollm2 gemma3,$(MODEL))
REAL := $(if $(FETCHED),$(if $(filter file,$(origin TASK)),real))
CONFIG ?= experiments/configs/$(if $(REAL),real$(if $(DATA),_data),$(if $(DATA),word_problems,$(TASK))).yaml
FLAGS := $(if $(DATA),--data "$(DATA)") $(if $(MODEL),--model "$(MODEL)") $(ARGS)

.PHONY: ablation study test test-slow test-extras test-faults check lint types arrows wheel clean

# gemma3 has terms: make ablation MODEL=gemma3 FETCH=--accept-terms
ablation: .venv/installed
	$(if $(FETCHED),$(BIN)/manifold-lora fetch $(FETCHED) $(FETCH))
	$(BIN)/manifold-lora ablate "$(CONFIG)" $(FLAGS)

# The five parts of docs/study; stopped and given again, it goes on from where it was.
STUDY := study study_scaled study_rates study_arithmetic study_longer
study: .venv/installed
	for part in $(STUDY); do $(BIN)/manifold-lora ablate experiments/configs/$$part.yaml $(ARGS) || exit; done

test: .venv/installed
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m pytest -n 2 --dist loadfile --durations 15 $(ARGS)

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow --timeout 3000 $(ARGS)

# The tests that skip in `make test`: Triton takes a gigabyte, and torchao warns in every import of transformers.
test-extras: .venv/installed .extras/installed
	PYTHONPATH=.extras OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/adapters/test_triton.py \
		tests/models/test_quantised.py $(ARGS)

# Every fault check of tests/faults, the long ones included; the counts become docs/reliability.md.
test-faults: .venv/installed
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m pytest tests/faults -m "slow or not slow" --timeout 3000 \
		--fault-report docs/reliability.md $(ARGS)

check: lint types arrows wheel

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

arrows: .venv/installed
	$(BIN)/lint-imports

wheel: .venv/installed
	rm -rf build dist && $(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python tests/wheel_contents.py dist/*.whl

# torch first and by exact version: a plain `torch` would fetch gigabytes of CUDA packages.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt $$(grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet -c constraints.txt --editable ".[dev]"
	touch $@

.extras/installed: constraints.txt .venv/installed
	$(BIN)/pip install --quiet --no-deps --target .extras -c constraints.txt triton torchao
	touch $@

clean:
	rm -rf .venv .extras build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
