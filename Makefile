# What a newcomer types.  `make run` and `make test` need nothing set up
# beforehand: they bring the machine and .venv up to date first (tools/).
#
#     make run       the echo server on 127.0.0.1:7000
#     make test      linters, types, and the whole suite on one MPM: minutes
#     make test-all  linters, types, and the suite on every MPM and on other httpds and Pythons
#     make repeat    the suite TIMES times (10), to find tests that depend on chance
#     make fuzz      random tables, options and bytes, for SECONDS (600)
#     make soak      mixed load on one child for SOAK seconds (3600)
#     make bench     the benchmarks
#     make lint      linters and types alone
#     make build     build what changed
#     make clean     remove what was built;  make distclean: the environments too
#
# Variables:
#     PYTHON=python3.12     the Python to use        APXS=/path/to/apxs   the httpd to use
#     LISTEN=0.0.0.0:7001   where `make run` listens
#     MPM=prefork           the MPM of `make test` and `make repeat`; event by default
#     JOBS=2                how many tests run at the same time; by default three for each processor
#     ARGS="-k echo"        more arguments for pytest, or for the benchmarks

PYTHON  ?=
LISTEN  ?= 127.0.0.1:7000
ARGS    ?=
MPM     ?=
JOBS    ?=
TIMES   ?= 10
SECONDS ?= 600
SOAK    ?= 3600
VENV    := .venv
IN_VENV := $(VENV)/bin/python

# The Python that sets things up need not be the one that is used; whatever is there will do.
# A machine without any gets Debian's.
SETUP_PYTHON := $(or $(shell command -v python3),python3)

export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests build run test test-all repeat lint fuzz soak bench clean distclean

help:
	@grep -E "^#     " Makefile | cut -c 7-

setup: BOOTSTRAP_FLAGS :=
setup-tests: BOOTSTRAP_FLAGS := --tests
setup setup-tests:
	@command -v python3 >/dev/null || { \
	    as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	    $$as_root apt-get -q update && $$as_root apt-get -q install -y --no-install-recommends python3; \
	} || { echo "Error: this needs python3; install it first." >&2; exit 1; }
	@$(SETUP_PYTHON) -m tools.bootstrap $(BOOTSTRAP_FLAGS)

build: setup

run: setup
	@exec $(VENV)/bin/mod_python serve examples/echo/echo.py --listen $(LISTEN)

lint: setup-tests
	@$(IN_VENV) -m tools.lint

test: lint
	@$(IN_VENV) -m tools.run_tests $(if $(MPM),--mpm $(MPM)) $(if $(JOBS),--jobs $(JOBS)) -- $(ARGS)

test-all: lint
	@$(IN_VENV) -m tools.matrix $(if $(JOBS),--jobs $(JOBS)) -- $(ARGS)

repeat: setup-tests
	@$(IN_VENV) -m tools.repeat --times $(TIMES) $(if $(MPM),--mpm $(MPM)) $(if $(JOBS),--jobs $(JOBS)) -- $(ARGS)

soak: setup-tests
	$(IN_VENV) -m tools.soak --seconds $(SOAK) $(ARGS)

fuzz: setup-tests
	MOD_PYTHON_FUZZ_SECONDS=$(SECONDS) $(VENV)/bin/pytest -q -s tests/fuzz $(ARGS)

bench: setup-tests
	@$(IN_VENV) -m benchmarks $(ARGS)

clean:
	rm -rf build dist src/*.egg-info src/mod_python/_build.py src/mod_python/*.so
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-*
