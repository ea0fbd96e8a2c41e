# `make demo` and `make test` work first, alone and again; each sets up .venv.
PYTHON ?= python3
BIN := .venv/bin
TASK ?= det
KILLS ?= 30
CONFIG_det := configs/mask_rcnn_mamba_adaptor_b0_shapes.py
CONFIG_seg := configs/upernet_mamba_adaptor_b0_shapes.py
CONFIG_cls := configs/mamba_adaptor_b0_shapes.py
CONFIG := $(or $(CONFIG_$(TASK)),$(error TASK must be det, seg or cls, got $(TASK)))
DEMO := work_dirs/demo_$(TASK)
OPS := cross_selective_scan dilated_depthwise extension instruction_sets memory_readout \
	memory_select onnxruntime selective_scan
CXX_SOURCES := $(shell find mmadaptor/csrc tests/ops -name '*.h' -o -name '*.cpp' -o -name '*.cu*')
SANITIZED := build/sanitized
# A process a core; each file in one of them, whose fixtures are made once.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
SANITIZERS := -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined
# In the folder of the sanitized package, so that it is the one imported.
SANITIZED_PYTHON = cd $(SANITIZED)/lib && PYTHONPATH='$(CURDIR)/$(SANITIZED)/lib:$(CURDIR):$(CURDIR)/tests' \
	ASAN_OPTIONS=detect_leaks=0 OMP_WAIT_POLICY=passive \
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	'$(CURDIR)/$(BIN)/python'
SECONDS := 600

# The wheel of the CPU's ops, or with CUDA=1 that of both, named by CUDA_VERSION.
CUDA ?= 0
CUDA_VERSION := $(if $(filter 1,$(CUDA)),cu$(shell nvcc --version | \
	sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1\2/p'))
RELEASE := build/release/bin

.PHONY: help env demo trained publish transfer test test-cuda test-integrations test-page \
	peers lint docs gallery test-docs sanitize sanitized fuzz faults wheel test-wheel test-aarch64 clean

help:
	@echo 'make demo   set up .venv, train a detector on the embedded dataset, test'
	@echo '            it and draw; TASK=seg a segmentor, TASK=cls a classifier'
	@echo 'make trained  the three demos, and their weights in half precision in trained/'
	@echo 'make transfer  detector and segmentor from scratch and from a classifier'
	@echo 'make test   set up .venv and pass the tests'
	@echo 'make test-cuda   pass the tests of the ops that need a GPU'
	@echo 'make test-integrations   pass the tests with timm, torchvision, transformers, peft'
	@echo '            and segmentation_models_pytorch, without OpenMMLab'
	@echo 'make test-page   pass the tests of the page of tools/make_page.py, which need'
	@echo '            chromium and npm'
	@echo 'make docs   build the documentation into build/site; the first time with pip and'
	@echo '            npm, later without a network'
	@echo 'make gallery   draw the figures of the documentation'
	@echo 'make test-docs   build the documentation and open each page in chromium'
	@echo 'make peers  compare scans and classifiers with those of other packages;'
	@echo '            IPEX=1 with intel-extension-for-pytorch, OPTIONS=... see'
	@echo '            python -m benchmarks.peers --help'
	@echo 'make lint   check the sources'
	@echo 'make sanitize   pass the tests of the CPU ops under AddressSanitizer and UBSan'
	@echo 'make fuzz   random calls of the CPU ops under the same, for SECONDS=600;'
	@echo '            CASE=n runs one call again'
	@echo 'make faults   kill and damage trainings, KILLS=30 times; give hostile files to'
	@echo '            all tools'
	@echo 'make env    set up .venv alone (PYTHON=python3.x to choose the Python)'
	@echo 'make wheel  build a wheel for every Python and torch into dist/, and the sdist;'
	@echo '            CUDA=1 with the CUDA ops'
	@echo 'make test-wheel  install that wheel beside several versions of torch and Python,'
	@echo '            and pass the tests of the CPU ops'
	@echo 'make test-aarch64  build the wheel for aarch64 by a cross compiler, and pass the'
	@echo '            tests of the CPU ops in an emulator; Debian or Ubuntu, as root'
	@echo 'make clean  remove what was built; .venv stays'

env:
	@$(PYTHON) tools/setup_env.py

demo: env
	$(BIN)/python tools/train.py $(CONFIG) --work-dir $(DEMO)
	$(BIN)/python tools/test.py $(CONFIG) "$$(cat $(DEMO)/last_checkpoint)" \
		--work-dir $(DEMO) --show-dir $(DEMO)/images
	@echo 'Losses and metrics over time: $(DEMO)/curves.png'
	@echo 'Images with the predictions: $(DEMO)/images'

trained:
	for task in det seg cls; do \
		$(MAKE) demo TASK=$$task && $(MAKE) publish TASK=$$task || exit 1; done
	cd trained && sha256sum *.safetensors

# The figures of the file itself, which is in half precision.
PUBLISHED = trained/$(notdir $(CONFIG:.py=.safetensors))
publish: env
	@test -f $(DEMO)/last_checkpoint || { \
		echo 'make publish needs a training: make demo TASK=$(TASK)' >&2; exit 1; }
	$(BIN)/python tools/publish_model.py "$$(cat $(DEMO)/last_checkpoint)" \
		$(PUBLISHED) --half
	$(BIN)/python tools/test.py $(CONFIG) $(PUBLISHED) --work-dir $(DEMO)/published

transfer: env
	$(BIN)/python -m studies transfer --seeds 1

test: env
	$(BIN)/python -m pytest $(PARALLEL) --ignore tests/faults --ignore tests/security \
		--ignore tests/packaging --ignore tests/integrations --ignore tests/page \
		--ignore tests/site

# Environments of their own: without OpenMMLab, or with the torch that IPEX needs. Each gets
# `made` last, so that make repeats what was cut short, or was made by another Python.
INSTALL := pip install --quiet --disable-pip-version-check
.venv/python.stamp: | env
build/integrations/made build/ipex/made build/release/made: \
		build/%/made: requirements/%.txt .venv/python.stamp
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/$(INSTALL) -r $<
	touch $@

# Beside the packages of .venv.
build/docs/made build/peers/made: build/%/made: requirements/%.txt .venv/python.stamp
	$(BIN)/python -m venv --clear $(@D)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(echo $(@D)/lib/python*/site-packages)/venv.pth"
	$(@D)/bin/$(INSTALL) -r $<
	touch $@

# The same, without an environment.
build/page/made: requirements/page.txt .venv/python.stamp
	rm -rf $(@D)
	$(BIN)/python -m $(INSTALL) --no-deps --target $(@D) -r $<
	touch $@

test-cuda: env
	$(BIN)/python -m pytest -m cuda -rs tests/ops tests/models/test_cuda_graphs.py

test-integrations: env build/integrations/made
	PYTHONPATH='$(CURDIR)' build/integrations/bin/python -m pytest $(PARALLEL) \
		tests/integrations

test-page: env build/page/made
	@for program in chromium npm; do command -v $$program > /dev/null || { \
		echo "make test-page needs $$program: apt-get install $$program" >&2; exit 1; }; done
	PYTHONPATH='$(CURDIR):build/page' $(BIN)/python -m pytest --durations 3 tests/page

# The page of the trained segmentor, a part of the documentation. onnxruntime-web by npm.
SEGMENTOR := $(notdir $(CONFIG_seg:.py=))
build/memory/memory/page.json: $(CONFIG_seg) trained/$(SEGMENTOR).safetensors tools/export.py \
		tools/make_page.py $(wildcard mmadaptor/export/*.py mmadaptor/export/page/* \
		trained/scene_*.png) | env
	@command -v npm > /dev/null || { echo 'make docs needs npm: apt-get install npm' >&2; \
		exit 1; }
	$(BIN)/python tools/export.py $(wordlist 1,2,$^) build/$(SEGMENTOR).onnx \
		--classes --with-memory --overwrite
	rm -rf $(@D)
	$(BIN)/python tools/make_page.py build/$(SEGMENTOR).onnx $(@D) \
		--images $(wildcard trained/scene_*.png)

docs: env build/docs/made build/memory/memory/page.json
	rm -rf build/site
	build/docs/bin/python -m sphinx --fail-on-warning --keep-going --quiet \
		-d build/doctrees docs build/site
	@echo 'The documentation is in build/site:'
	@echo '    python3 -m http.server --directory build/site'

gallery: env
	for script in adaptors design predictions speed studies; do \
		$(BIN)/python docs/gallery/$$script.py || exit 1; done

test-docs: docs build/page/made
	@command -v chromium > /dev/null || { echo 'make test-docs needs chromium:' \
		'apt-get install chromium' >&2; exit 1; }
	PYTHONPATH='$(CURDIR):build/page' $(BIN)/python -m pytest tests/site

peers: env build/peers/made $(if $(filter 1,$(IPEX)),build/ipex/made)
	PYTHONPATH='$(CURDIR)' build/peers/bin/python -m benchmarks.peers $(OPTIONS) \
		$(if $(filter 1,$(IPEX)),--ipex build/ipex/bin/python)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/clang-format --dry-run --Werror $(CXX_SOURCES)

sanitized: env
	FORCE_CUDA=0 MMADAPTOR_CXX_ARGS='$(SANITIZERS) -O1 -fno-omit-frame-pointer' \
		LDFLAGS='$(SANITIZERS)' $(BIN)/python setup.py --quiet build \
		--build-base $(SANITIZED) --build-lib $(SANITIZED)/lib

sanitize: sanitized
	$(SANITIZED_PYTHON) -m pytest $(PARALLEL) $(OPS:%='$(CURDIR)/tests/ops/test_%.py')

# Every hostile file for every tool, and KILLS random moments.
faults: env
	ALL=1 KILLS=$(KILLS) $(BIN)/python -m pytest $(PARALLEL) tests/faults tests/security

fuzz: sanitized
	$(SANITIZED_PYTHON) '$(CURDIR)/tests/ops/fuzz.py' \
		$(if $(CASE),--case $(CASE),--seconds $(SECONDS))

wheel: env build/release/made
	rm -rf build/wheel dist
	$(BIN)/python setup.py --quiet sdist
	FORCE_CUDA=$(CUDA) MMADAPTOR_LOCAL_VERSION=$(CUDA_VERSION) $(BIN)/python -m pip wheel \
		--quiet --no-deps --no-build-isolation --wheel-dir build/wheel dist/*.tar.gz
	PATH="$(CURDIR)/$(RELEASE):$$PATH" $(RELEASE)/auditwheel repair --strip \
		--exclude 'libtorch*' --wheel-dir dist build/wheel/*.whl
	$(RELEASE)/check-wheel-contents dist/*.whl
	$(RELEASE)/twine check --strict dist/*

test-wheel: wheel
	$(BIN)/python -m pytest tests/packaging

test-aarch64:
	tests/packaging/aarch64.sh build/aarch64

clean:
	rm -rf build dist *.egg-info mmadaptor/*.so
