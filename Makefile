# The pipeline: make prune export build-trt    on any machine: make demo    the tests: make test
OUT      ?= build
MODEL    ?= vdsr
# The family is named by its usual member.
ifeq ($(MODEL),plain)
override MODEL := plain_l_x2
endif
OWN_SCALE := $(if $(filter srresnet srgan %_x4,$(MODEL)),4,$(if $(filter %_x3,$(MODEL)),3,2))
SCALE    ?= $(OWN_SCALE)
SPARSITY ?= 0.5
CRITERION ?= l1
DATA     ?=
CALIB    ?=
# A step of SRGAN moves two networks.
STEPS    ?= $(if $(filter srgan,$(MODEL)),40,150)
SHAPE    ?=
# A tile of an SRResNet takes seconds.
ROUNDS   := $(if $(filter srresnet% srgan%,$(MODEL)),4,15)
# How many dB int8 may be below fp32, at every scale that is calibrated for; empty: no accuracy guard.
MAX_DROP ?= 0.05
TILES    ?=

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

CHECKPOINT := train/pretrained/$(MODEL).safetensors
PRUNED     := $(OUT)/$(MODEL)_pruned.safetensors
# "prune" and "export" are done whenever they are asked for; the other targets make what is missing or older than what it is made from.
# Where "make prune" made nothing, the network of train/pretrained is taken: tuned for longer, with thresholds and the guard's decision.
PRUNE_NOW  := $(filter prune demo-run,$(MAKECMDGOALS))
EXPORT_NOW := $(filter export,$(MAKECMDGOALS))
ifeq ($(PRUNE_NOW)$(wildcard $(PRUNED)),)
PRUNED     := $(or $(wildcard train/pretrained/$(MODEL)_pruned.safetensors),$(PRUNED))
endif
# Graphs for another scale than the network's default carry it in their name.
SUFFIX     := $(if $(filter $(OWN_SCALE),$(SCALE)),,_x$(SCALE))
DENSE_NAME := $(OUT)/$(MODEL)$(SUFFIX)
NAME       := $(OUT)/$(MODEL)_pruned$(SUFFIX)
INT8       := $(NAME)_int8.onnx
TUNE_ON    := $(or $(DATA),calib_data/calibrate)
CALIB_ON   := $(or $(CALIB),calib_data/calibrate)
GATE_ON    := tests/pictures

.PHONY: install demo test test-all check wheel docs prune export build-trt gate gpu-check pareto engines clean demo-run FORCE
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo                    the whole pipeline on this machine, CPU only, from a checkpoint to an enlarged photograph"
	@echo "make test | test-all         tests without the slow ones, in minutes | all of them, with coverage"
	@echo "make check                   format, lint and types"
	@echo "make prune export build-trt  the pipeline, with MODEL=$(MODEL) SCALE=$(SCALE) SPARSITY=$(SPARSITY) CRITERION=$(CRITERION) DATA= CALIB= OUT=$(OUT) STEPS=$(STEPS) MAX_DROP=$(MAX_DROP)"
	@echo "make gpu-check               TensorRT plans built, gated and timed on this machine's GPU"
	@echo "make install | export        into .venv | graphs in fp32, fp16 and int8 under the accuracy guard, of weights pruned already unless \"prune\" is asked for"
	@echo "make pareto                  dense and pruned in fp32, fp16, int8: PSNR against latency, as a table and a picture"
	@echo "make engines SET5=           the engines that ship in the wheel, from the committed weights and decisions"
	@echo "make wheel                   wheel and sdist in $(OUT)/dist, checked and tried in a new environment"
	@echo "make docs                    the documentation with the API reference as a site, in $(OUT)/site"
	@echo "make gate                    compare the exported engines with the fp32 network"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "make install: $$($(PYTHON) --version) is too old, Python 3.10 or later is needed; make PYTHON=python3.11 install"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(CHECKPOINT):
	@echo "make: MODEL=$(MODEL): there is no $@; those at hand: $(filter-out %_pruned %_qat,$(notdir $(basename $(wildcard train/pretrained/*.safetensors))))"; exit 2

$(OUT)/$(MODEL)_pruned.safetensors: $(CHECKPOINT) $(if $(PRUNE_NOW),FORCE) | $(VENV)/.installed
	$(BIN)/sr-prune $(CHECKPOINT) -o $@ --sparsity $(SPARSITY) --criterion $(CRITERION) --data $(TUNE_ON) --finetune-steps $(STEPS) \
	  --val $(GATE_ON) --overwrite

$(INT8): $(PRUNED) $(if $(EXPORT_NOW),FORCE) | $(VENV)/.installed
	$(BIN)/sr-export $(PRUNED) -o $(OUT) --precision fp32 fp16 int8 --calib $(CALIB_ON) $(if $(MAX_DROP),--max-drop $(MAX_DROP)) \
	  $(if $(SUFFIX),--scale $(SCALE)) $(if $(SHAPE),--shape $(SHAPE)) $(TILES)

prune: $(OUT)/$(MODEL)_pruned.safetensors

export: $(INT8)

build-trt: $(INT8)
	@$(BIN)/sr-build $(NAME)_fp16.onnx $(INT8) -o $(OUT)

gate: $(INT8)
	$(BIN)/sr-gate $(NAME)_fp16.onnx $(INT8) --reference $(PRUNED) --data $(GATE_ON) --json $(OUT)/gate.json

# What each network and precision costs and gives, as a table and a picture.
PARETO := $(foreach precision,fp32 fp16 int8,$(DENSE_NAME)_$(precision).onnx) $(foreach precision,fp32 fp16 int8,$(NAME)_$(precision).onnx)
pareto: $(INT8)
	$(BIN)/sr-export $(CHECKPOINT) -o $(OUT) --calib $(CALIB_ON) $(if $(MAX_DROP),--max-drop $(MAX_DROP)) \
	  $(if $(SUFFIX),--scale $(SCALE)) $(if $(SHAPE),--shape $(SHAPE))
	@rm -f $(OUT)/$(MODEL)_pareto.png
	$(BIN)/sr-bench $(PARETO) --data $(GATE_ON) --scale $(SCALE) --chart $(OUT)/$(MODEL)_pareto.png \
	  --json $(OUT)/$(MODEL)_pareto.json --markdown $(OUT)/$(MODEL)_pareto.md
	@echo "picture: $(OUT)/$(MODEL)_pareto.png, table: $(OUT)/$(MODEL)_pareto.md"

# Every plain network and every pruned one with a committed decision of the guard, after QAT if there is such a one; but SRGAN's,
# which only shows that its stage works. Equal weights, thresholds and decisions give equal bytes; what differs from the shipped
# file is measured on the pictures in SET5.
SET5     ?=
DECIDED  := $(patsubst %_int8.guard.json,%,$(wildcard train/pretrained/*_pruned_int8.guard.json train/pretrained/*_pruned_qat_int8.guard.json \
              train/pretrained/plain_*_int8.guard.json))
SHIPPED  := $(foreach network,$(filter-out %/srgan_pruned,$(DECIDED)),$(if $(filter $(network)_qat,$(DECIDED)),,$(network)))
# QAT leaves the smallest int8 loss with these settings: docs/calibration.md.
QAT_OPTIONS := --method mse --refine --correct-bias --keep conv20
# After QAT the thresholds are those that it learned.
PLAIN_OPTIONS := --max-drop 0.03
engines: | $(VENV)/.installed
	@rm -f $(OUT)/shipped/*_int8.onnx
	@for network in $(SHIPPED); do \
	  case $$network in */vdsr_pruned_qat) options='$(QAT_OPTIONS)';; */plain_*) options='$(PLAIN_OPTIONS)';; *) options=;; esac; \
	  $(BIN)/sr-export $$network.safetensors -o $(OUT)/shipped --precision int8 --max-drop $(MAX_DROP) $$options || exit; done
	$(BIN)/python benchmarks/shipped_engines.py $(OUT)/shipped $(SET5)

# The demo has a folder of its own, so that it never replaces what was made from your data. Its network is new, so nothing is decided
# for it yet: to be quick, it is calibrated and checked on fewer tiles.
demo: $(VENV)/.installed
	@$(MAKE) --no-print-directory demo-run OUT=$(OUT)/demo DATA= CALIB= TILES='--calib-tiles 24 --select-tiles 4'

demo-run: gate
	$(BIN)/sr-export $(CHECKPOINT) -o $(OUT) --precision fp32 --scale $(SCALE) $(if $(SHAPE),--shape $(SHAPE))
	$(BIN)/sr-infer --engine $(INT8) tests/pictures/coffee.png -o $(OUT)/pictures --overwrite
	@echo; echo "What each engine costs (x$(SCALE), luma PSNR over $(GATE_ON), one tile on this machine):"
	@$(BIN)/sr-bench $(DENSE_NAME)_fp32.onnx $(NAME)_fp32.onnx $(NAME)_fp16.onnx $(INT8) \
	  --data $(GATE_ON) --rounds $(ROUNDS) --json $(OUT)/table.json --markdown $(OUT)/table.md
	@echo; echo "picture: $(OUT)/pictures/coffee_x$(SCALE).png (from tests/pictures/coffee.png)"
	@echo "table:   $(OUT)/table.md, gate: $(OUT)/gate.json, engines: $(OUT)/*.onnx"

# Needs an NVIDIA GPU with TensorRT; CHECK_WITH may be an interpreter that has no torch and no package index.
CHECK_WITH ?= $(BIN)/python
gpu-check:
	@PYTHONPATH=".$${PYTHONPATH:+:$$PYTHONPATH}" $(CHECK_WITH) benchmarks/gpu_check.py

# Tests that take more than a few seconds are in test-all only. Idle processes steal tests from the end of the other's list.
PROCESSES ?= 2
PYTEST     = $(BIN)/pytest -n $(PROCESSES) --dist worksteal
test: $(VENV)/.installed
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.installed
	$(PYTEST) --cov --cov-report=term:skip-covered

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy sr_deploy tests

# What could be published, in $(OUT)/dist: built from the files here, checked, and used in an environment of its own.
wheel: $(VENV)/.installed
	@rm -rf $(OUT)/dist *.egg-info && mkdir -p $(OUT)/dist
	@$(BIN)/python -m build --outdir $(OUT)/dist > $(OUT)/build.log 2>&1 || { cat $(OUT)/build.log; exit 1; }
	$(BIN)/twine check --strict $(OUT)/dist/*
	$(BIN)/python .ci/check_wheel.py $(OUT)/dist $(OUT)/dist-environment

# The site of the same Markdown and of the docstrings; a link that leads nowhere is an error.
$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -E -d $(OUT)/doctrees -c docs . $(OUT)/site
	@echo "site: $(OUT)/site/index.html"

clean:
	rm -rf $(OUT)
