# SPDX-License-Identifier: GPL-2.0-or-later
# make help lists the targets; all of them work on a fresh Debian 12 after 'git clone'.
SHELL := /bin/sh
PYTHON := .venv/bin/python
# Files of tests side by side; a guest takes a core and a gigabyte.
WORKERS ?= 2
PYTEST := PYTHONPATH=client:builder:tests:. $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
.PHONY: help setup demo demo-dnf test test-all check bench deb rpm clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: ## install Debian packages and the Python environment
	@tools/setup

demo: setup ## real CVE fixes go live in a VM during apt full-upgrade
	@demo/run

demo-dnf: setup ## the same on a guest with dnf, during dnf upgrade
	@demo/run dnf

test: setup check ## everything but the slow matrix
	@$(PYTEST) -m "not slow"

test-all: setup check ## all tests, the slow matrix included
	@$(PYTEST)

check: setup ## ruff, mypy, spelling, shellcheck, kernel style
	@tools/check

bench: setup ## measure, as ratios to the compiler's own time
	@PYTHONPATH=client:builder:tests:. $(PYTHON) -m benchmarks

deb: setup ## the client package: dist/kmend_VERSION_all.deb
	@packaging/debian/build --out dist

rpm: setup ## the same for RPM systems: dist/kmend-VERSION-1.noarch.rpm
	@packaging/rpm/build --out dist

clean: ## remove what was built, not the kernel cache
	@rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
