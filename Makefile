# `make demo` and `make test` work first, alone and again; each sets up .venv.
PYTHON ?= python3
BIN := .venv/bin
TASK ?= det
CONFIG_det := configs/mask_rcnn_mamba_adaptor_b0_shapes.py
CONFIG_seg := configs/upernet_mamba_adaptor_b0_shapes.py
CONFIG_cls := configs/mamba_adaptor_b0_shapes.py
CONFIG := $(or $(CONFIG_$(TASK)),$(error TASK must be det, seg or cls, got $(TASK)))
DEMO := work_dirs/demo_$(TASK)

.PHONY: help env demo transfer test lint clean

help:
	@echo 'make demo   set up .venv, train a detector on the embedded dataset, test'
	@echo '            it and draw; TASK=seg a segmentor, TASK=cls a classifier'
	@echo 'make transfer  detector and segmentor from scratch and from a classifier'
	@echo 'make test   set up .venv and pass the tests'
	@echo 'make lint   check the sources'
	@echo 'make env    set up .venv alone (PYTHON=python3.x to choose the Python)'
	@echo 'make clean  remove what was built; .venv stays'

env:
	@$(PYTHON) tools/setup_env.py

demo: env
	$(BIN)/python tools/train.py $(CONFIG) --work-dir $(DEMO)
	$(BIN)/python tools/test.py $(CONFIG) "$$(cat $(DEMO)/last_checkpoint)" \
		--work-dir $(DEMO) --show-dir $(DEMO)/pictures
	@echo 'Losses and metrics over time: $(DEMO)/curves.png'
	@echo 'Pictures of the predictions: $(DEMO)/pictures'

transfer: env
	$(BIN)/python -m benchmarks.transfer

test: env
	$(BIN)/python -m pytest

lint: env
	$(BIN)/ruff check .

clean:
	rm -rf build dist *.egg-info mmadaptor/_ext*.so
