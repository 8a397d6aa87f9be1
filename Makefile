# make demo    install and run the demonstration: an ablation of 3 rows x 2 seeds on synthetic videos
# make test    install and run all tests, the slow ones too
# make chaos   install and disturb 100 runs on a SLURM of their own (needs what .ci/run installs)
PYTHON ?= python3
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: demo test chaos env clean

demo: env
	$(VENV)/bin/vocl submit ablation=demo cluster=local
	$(VENV)/bin/vocl table demo --pictures

test: env
	$(VENV)/bin/python -m pytest tests -m '' -n 2

chaos: env
	PYTHONPATH=.:tests $(VENV)/bin/python tests/slurm/chaos.py

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vocl needs Python >= 3.11; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV)
