# `make demo`, `make tour` and `make test` do all their own set-up on Debian 12.

PYTHON := .venv/bin/python
TESTKERNEL := scripts/testkernel
# KERNEL=test: demo and tour in the test kernel, with the kernel's dataplane.
ifeq ($(KERNEL),test)
SHOW_SETUP := run
SHOW := GATEWAY_TESTKERNEL=always GATEWAY_LAB_DATAPLANE=kernel $(TESTKERNEL) run --
else ifeq ($(KERNEL),)
SHOW_SETUP := demo
SHOW := scripts/apart
else
$(error KERNEL: "$(KERNEL)" given, allowed are test and nothing)
endif
UNIT ?= tests/unit
LAB ?= tests/lab

.PHONY: demo tour test setup lint unit lab-tests bench lock clean clean-cache

demo:
	@scripts/setup $(SHOW_SETUP)
	@$(SHOW) .venv/bin/gateway demo

tour:
	@scripts/setup $(SHOW_SETUP)
	@$(SHOW) .venv/bin/gateway lab tour

# Linters, types, unit tests, lab tests; each runs even when an earlier one failed.
# make test PLANE=portable (or kernel) runs every lab file on that dataplane.
test:
	@scripts/setup test
	@scripts/run-tests $(PLANE)

setup:
	@scripts/setup run

lint:
	@$(PYTHON) -m ruff check . scripts/testkernel
	@$(PYTHON) -m ruff format --check . scripts/testkernel
	@$(PYTHON) -m mypy

unit:
	@$(PYTHON) -m pytest -n auto $(UNIT)

lab-tests:
	@GATEWAY_LAB_REQUIRED=1 GATEWAY_LAB_DATAPLANE=$(PLANE) $(TESTKERNEL) run -- $(PYTHON) -m pytest $(LAB)

# make bench ONLY=name runs one benchmark. What the running kernel can do is measured there first.
bench:
	@scripts/setup bench
	-@$(if $(filter footprint,$(or $(ONLY),footprint)),$(PYTHON) -m bench.startup build/startup.json)
	-@$(PYTHON) -m bench --native $(ONLY)
	@$(TESTKERNEL) run -- $(PYTHON) -m bench $(ONLY)

# New versions of the locked packages; needs the network and uv.
lock:
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --constraint requirements.lock --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find gateway tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment, the test kernel and libreswan; the next `make` builds them again.
clean-cache:
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/gateway" .venv
