# `make demo` and `make test` work first, alone and again; each sets up .venv.
PYTHON ?= python3
BIN := .venv/bin
CONFIG := configs/mask_rcnn_mamba_adaptor_b0_shapes.py
DEMO := work_dirs/demo

.PHONY: help env demo test test-cuda lint clean

help:
	@echo 'make demo   set up .venv, train a detector on the embedded dataset,'
	@echo '            test it and draw its detections: in $(DEMO)'
	@echo 'make test   set up .venv and pass the tests'
	@echo 'make test-cuda   pass the tests of the ops that need a GPU'
	@echo 'make lint   check the sources'
	@echo 'make env    set up .venv alone (PYTHON=python3.x to choose the Python)'
	@echo 'make clean  remove what was built; .venv stays'

env:
	@$(PYTHON) tools/setup_env.py

demo: env
	$(BIN)/python tools/train.py $(CONFIG) --work-dir $(DEMO)
	$(BIN)/python tools/test.py $(CONFIG) "$$(cat $(DEMO)/last_checkpoint)" \
		--work-dir $(DEMO) --show-dir $(DEMO)/pictures
	@echo 'Losses and AP over time: $(DEMO)/curves.png'
	@echo 'Ground truth beside detections: $(DEMO)/pictures'

test: env
	$(BIN)/python -m pytest

test-cuda: env
	$(BIN)/python -m pytest -m cuda -rs tests/ops

lint: env
	$(BIN)/ruff check .

clean:
	rm -rf build dist *.egg-info mmadaptor/_ext*.so
