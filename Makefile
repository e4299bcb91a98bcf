# Bzzz: everything a developer or a new user runs. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help setup demo test simulate chaos soak interop bench format lint lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## put the environment in .venv (PYTHON=... names the Python; nothing is done where it fits)
	@scripts/setup.sh

demo: setup ## three nodes, a Hive with its forge, nine real issues (ARGS=... are handed on: ARGS=--keep)
	@.venv/bin/bzzz demo $(ARGS)

test: setup ## every check: format, lint, types, import contracts, then all tests
	@scripts/check.sh

simulate: setup ## seeded worlds of the claim protocol with faults (ARGS="--seed N --faults all" plays one again)
	@.venv/bin/bzzz simulate $(ARGS)

chaos: setup ## the tests that kill, stop and cut real nodes for minutes
	@.venv/bin/python -m pytest -q -m chaos $(ARGS)

soak: setup ## 100,000 messages and 2,000 joins over each mesh engine, with flat memory; a long fuzz of what reads bytes
	@BZZZ_SOAK_MESSAGES=100000 BZZZ_SOAK_JOINS=2000 BZZZ_FUZZ_EXAMPLES=20000 .venv/bin/python -m pytest -q --timeout 7200 \
	    tests/system/test_mesh_soak.py tests/system/test_mesh_churn.py tests/unit/mesh/test_mesh_fuzz.py $(ARGS)

lint: setup ## the checks that run no test
	@scripts/check.sh static

format: setup ## rewrite all code in the house's form
	@.venv/bin/ruff format --quiet .
	@.venv/bin/ruff check --quiet --fix .

interop: setup ## nodes beside js-libp2p and go-libp2p, where Node or Go is installed
	@scripts/interop.sh

bench: setup ## run the benchmarks into bench/results.json (NAMES="ledger mesh" runs some)
	@.venv/bin/python -m benchmarks $(NAMES)

lock: ## write requirements/lock.txt anew (UPGRADE=1 takes newer versions)
	@scripts/lock.sh

clean: ## remove .venv and what the tools cached
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .demo
