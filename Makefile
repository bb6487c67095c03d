# A thin front for: python -m venv, pip install -e ".[dev]", ruff, mypy, pytest, fusion-engine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: demo test lint types unit slow install clean help

help:
	@echo "make demo   train a VAE-GAN on images, speech, strokes and phrases of digits; runs/digits_vae_gan/report.html"
	@echo "make test   lint, types, tests"
	@echo "make slow   the long tests"
	@echo "make clean  remove the environment and build leftovers"

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	rm -f $(VENV)/.installed-*
	touch $@

demo: install
	$(BIN)/fusion-engine train examples/digits_vae_gan.yaml

test: lint types unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile

slow: install
	$(BIN)/pytest -m slow

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
