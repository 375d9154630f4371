VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The one place that pins torch. On x86 the default index may add gigabytes of CUDA packages; name PyTorch's
# CPU index to avoid them:  make test TORCH='torch==2.13.0 --index-url URL'
TORCH ?= torch==2.13.0

ARGS ?=
DATA ?= ../shared/data
NEGATIVES := ../corpora/negatives
WORDS := ../corpora/words_default ../corpora/words_on_off ../corpora/words_others
# The folder of Kokoro's model, which says the words. The shipped models were trained with it; without it only robots do.
KOKORO ?=
MODELS ?= default home commands

.DEFAULT_GOAL := help
.PHONY: help listen setup test check format bench models wheel clean

help:     ## this list
	@awk -F ':.*## ' '/^[a-z]+: .*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

listen: $(VENV)/listen.done ## hear wake words: sets everything up, then runs `kws listen` (options: ARGS="--json")
	@$(BIN)/python -c 'import sounddevice' 2>/dev/null || scripts/apt-need libportaudio2 'PortAudio (the microphone)' || true
	@$(BIN)/kws listen $(ARGS) || [ $$? = 130 ] # Ctrl-C is no failure

setup: $(VENV)/develop.done ## virtual environment with everything a developer needs

test: check ## format, lint, types, import rules, then every test
	$(BIN)/pytest $(ARGS)

check: $(VENV)/develop.done ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/develop.done ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/listen.done ## speed and memory of the shipped model on this machine (options: ARGS="--json")
	@$(BIN)/kws bench $(ARGS)

models: runs/trunk/qat.safetensors $(WORDS:=/manifest.csv) ## train, export and measure the shipped models (MODELS="default home commands") from the corpus DATA=../shared/data
	@set -ex; for name in $(MODELS); do \
		$(BIN)/kws train configs/train/$$name.yaml --data $(DATA) --run runs/$$name --resume; \
		$(BIN)/kws export runs/$$name --name $$name; \
		$(BIN)/kws evaluate --model models/$$name --data $(DATA) --jobs $$(nproc) --float --robustness --update --out runs/$$name/evaluation; \
	done

runs/trunk/qat.safetensors: configs/train/trunk.yaml $(NEGATIVES)/manifest.csv ../corpora/words_default/manifest.csv
	$(BIN)/kws train $< --data $(DATA) --run $(@D) --resume

$(NEGATIVES)/manifest.csv: | $(VENV)/develop.done
	$(BIN)/kws corpus negatives $(NEGATIVES) --without alexa computer jarvis mycroft nabu

VOICES = $(if $(KOKORO),--kokoro $(KOKORO))
SPEAK = $(BIN)/kws corpus words $(@D) $(VOICES)
../corpora/words_default/manifest.csv: | $(VENV)/develop.done
	$(SPEAK) alexa computer jarvis --takes 500 --robot-takes 150
../corpora/words_on_off/manifest.csv: | $(VENV)/develop.done
	$(SPEAK) on off --takes 190
../corpora/words_others/manifest.csv: | $(VENV)/develop.done
	$(SPEAK) --takes 8 yes no up down left right stop go bed bird cat dog four happy house marvin nine seven \
		sheila six three tree two wow zero one five eight backward forward follow learn visual

wheel: $(BIN)/python ## dist/kws-*.whl, the models inside
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove the virtual environment, caches and built files
	rm -rf $(VENV) dist build .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.maxsize < 2**32)' \
		|| { echo "kws: needs a 64-bit Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| scripts/apt-need python3-venv 'the venv module of Python'
	@echo 'kws: making $(VENV) and filling it; the first time this takes a minute or two'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/listen.done: $(BIN)/python pyproject.toml
	@$(PIP) install --quiet --editable .
	@touch $@

# torch comes first and alone: resolved together with other packages, a newer build could be chosen.
$(VENV)/develop.done: $(BIN)/python pyproject.toml Makefile
	$(PIP) install --quiet 'pip>=25.1'
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet --editable '.[train]' --group dev
	@touch $@ $(VENV)/listen.done
