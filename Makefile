# One verb a habit, the same here and in CI.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
comma := ,
BIN := $(VENV)/bin
# Where .NET is (DOTNET_ROOT, ../shared/dotnet, or `dotnet` in the path), the K230's compiler is
# installed too, and every command here finds it.
ifeq ($(DOTNET_ROOT),)
ifneq ($(wildcard ../shared/dotnet/host),)
export DOTNET_ROOT := $(abspath ../shared/dotnet)
endif
endif
DOTNET := $(or $(if $(DOTNET_ROOT),$(wildcard $(DOTNET_ROOT)/host)),$(shell command -v dotnet))
EXTRAS := dev,referee,ethos-u$(if $(DOTNET),$(comma)k230)
READY := $(VENV)/.ready$(if $(DOTNET),-k230)
TUNE_TIME ?= 3m

MINUTES ?= 10

.PHONY: help tune test test-slow check fix docs bench measure pictures page-pictures clean latency
help:
	@echo "make tune       install and run a short real search for the K230 on generated images"
	@echo "make test       install and run the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make check      lint, format, types, import directions"
	@echo "make fix        mend what can be mended by a tool"
	@echo "make docs       docs/reference from the commands, targets and spaces; tests say when"
	@echo "make bench      other search tools and tune, side by side; about 3 hours (MINUTES=10)"
	@echo "make measure    training loop, costs, many boards, CIFAR-10; JSON"
	@echo "make latency    fit the latency rates to the public measurements again"
	@echo "make pictures RUN=runs/NAME   the pictures of README.md"
	@echo "make page-pictures RUN=runs/NAME   those of the report page; needs Chromium"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; install python3."; exit 2; }
	@echo "Installing into $(VENV): 1 to 2 minutes and about 3 GB the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || sh .ci/install-venv $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

tune: $(READY)
	$(BIN)/tune --target k230 --data sample:parts --time $(TUNE_TIME)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy tuner
	$(BIN)/lint-imports

fix: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python docs/make_reference.py

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[bench]'
	PYTHONPATH=tests $(BIN)/python -m benchmarks.side_by_side run --minutes $(MINUTES)
	PYTHONPATH=tests $(BIN)/python -m benchmarks.side_by_side report --minutes $(MINUTES)

measure: $(READY)
	$(BIN)/python tests/benchmarks/train_loop.py
	$(BIN)/python tests/benchmarks/costs.py
	$(BIN)/python tests/benchmarks/many_targets.py overhead --home runs/bench
	$(BIN)/python tests/benchmarks/cifar10_search.py

latency: $(READY)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tuner.cost.latency_fit

pictures: $(READY)
	$(BIN)/python docs/make_pictures.py $(RUN) docs/images

page-pictures: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[browser]'
	$(BIN)/python docs/make_page_pictures.py $(RUN) docs/images

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
