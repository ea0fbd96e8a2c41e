# `make test` works first, alone and again; it sets up .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help env test lint clean

help:
	@echo 'make test   set up .venv and pass the tests'
	@echo 'make lint   check the sources'
	@echo 'make env    set up .venv alone (PYTHON=python3.x to choose the Python)'
	@echo 'make clean  remove what was built; .venv stays'

env:
	@$(PYTHON) tools/setup_env.py

test: env
	$(BIN)/python -m pytest

lint: env
	$(BIN)/ruff check .

clean:
	rm -rf build dist *.egg-info mmadaptor/_ext*.so
