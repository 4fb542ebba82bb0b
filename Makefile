# What a newcomer types.  `make run` and `make test` need nothing set up
# beforehand: they bring the machine and .venv up to date first (tools/).
#
#     make run      the echo server on 127.0.0.1:7000
#     make test     linters, types, and the tests on every httpd, MPM and Python
#     make fuzz     random tables, options and bytes, for SECONDS (600)
#     make soak     mixed load on one child for SOAK seconds (3600)
#     make bench    the benchmarks
#     make lint     linters and types alone
#     make build    build what changed
#     make clean    remove what was built;  make distclean: the environments too
#
# Variables:
#     PYTHON=python3.12     the Python to use        APXS=/path/to/apxs   the httpd to use
#     LISTEN=0.0.0.0:7001   where `make run` listens
#     SECONDS=60    how long `make fuzz` sends random bytes
#     ARGS="-k echo"        more arguments for pytest, or for the benchmarks

PYTHON  ?=
LISTEN  ?= 127.0.0.1:7000
ARGS    ?=
SECONDS ?= 600
SOAK    ?= 3600
VENV    := .venv
IN_VENV := $(VENV)/bin/python
SOURCES := src/mod_python tests benchmarks build_support tools examples setup.py

# The Python that sets things up need not be the one that is used; whatever is there will do.
# A machine without any gets Debian's.
SETUP_PYTHON := $(or $(shell command -v python3),python3)

export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup build run test lint fuzz soak bench clean distclean

help:
	@grep -E "^#     " Makefile | cut -c 7-

setup:
	@command -v python3 >/dev/null || { \
	    as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	    $$as_root apt-get -q update && $$as_root apt-get -q install -y --no-install-recommends python3; \
	} || { echo "Error: this needs python3; install it first." >&2; exit 1; }
	@$(SETUP_PYTHON) -m tools.bootstrap

build: setup

run: setup
	@exec $(VENV)/bin/mod_python serve examples/echo/echo.py --listen $(LISTEN)

lint: setup
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/ruff format --check $(SOURCES)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint src/core
	$(VENV)/bin/mypy

test: lint
	@$(IN_VENV) -m tools.run_tests $(ARGS)

soak: setup
	$(IN_VENV) -m tools.soak --seconds $(SOAK) $(ARGS)

fuzz: setup
	MOD_PYTHON_FUZZ_SECONDS=$(SECONDS) $(VENV)/bin/pytest -q -s tests/fuzz $(ARGS)

bench: setup
	@$(IN_VENV) -m benchmarks $(ARGS)

clean:
	rm -rf build dist src/*.egg-info src/mod_python/_build.py src/mod_python/*.so
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-*
