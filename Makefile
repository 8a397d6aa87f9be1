# make demo    install and run the demonstration: an ablation of 3 rows x 2 seeds on synthetic videos
# make test    install and run all tests, the slow ones too
# make lint    install and check style, format, types and which package may import which
# make quick   install and run the fast tests
# make lowest  install the oldest release that pyproject.toml allows of each dependency, and run the fast tests
# make chaos   install and disturb 100 runs on a SLURM of their own (needs what .ci/run installs)
# make gpu     measure all that is claimed of a GPU, in 8 minutes, with the packages that are found; writes gpu.json
# make env     install alone
#
# TORCH=cpu with any of them: PyTorch without CUDA, a sixth of the download; TORCH=cu126 and so on: another
# of the builds of https://pytorch.org/get-started. It counts when .venv is made; make clean removes that.
PYTHON ?= python3
VENV   := .venv
LOWEST := .venv-lowest
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check
TORCH  ?=
SIZE   := $(if $(filter cpu,$(TORCH)),0.5 GB to download and 2 GB on disk,3 GB to download and 6 GB on disk; without CUDA 0.5 and 2 GB: make TORCH=cpu)

.PHONY: demo lint quick test lowest chaos gpu env clean

demo: env
	@echo 'training 6 runs: about 5 minutes on 2 cores'
	$(VENV)/bin/vocl submit ablation=demo cluster=local
	$(VENV)/bin/vocl table demo --pictures

lint: env
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/mypy

quick: env
	$(VENV)/bin/python -m pytest tests -n 2 --ignore=tests/slurm

test: env
	$(VENV)/bin/python -m pytest tests -m '' -n 3

lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct $(addprefix --torch-backend ,$(TORCH)) \
		--editable '.[dev]'
	$(LOWEST)/bin/python -m pytest tests -n 2 --ignore=tests/slurm

chaos: env
	PYTHONPATH=.:tests $(VENV)/bin/python tests/slurm/chaos.py

gpu:
	PYTHONPATH=".:$$PYTHONPATH" $(or $(wildcard $(VENV)/bin/python),$(PYTHON)) benchmarks/gpu.py gpu.json

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vocl needs Python >= 3.11; set PYTHON=/path/to/python3.11")'
	@echo 'installing into $(VENV), about $(SIZE)'
	$(PYTHON) -m venv $(VENV)
ifneq ($(TORCH),)
	$(PIP) install --index-url https://download.pytorch.org/whl/$(TORCH) torch torchvision
endif
	$(PIP) install --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST)
