PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

# The last step fetches the wheels of the Lambda's package; demo and tests then run offline.
$(STAMP): requirements-dev.txt pyproject.toml lambdas/scaler/requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV) (once, about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m infra.package > /dev/null
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Create .venv with the locked dependencies (other targets do it when needed)

.PHONY: demo
demo: $(STAMP) ## Build stack local in this process and replay an hour (TRACE=file for your own, ARGS=... for options)
	@$(BIN)/gpu-fleet demo $(if $(TRACE),--trace $(TRACE)) $(ARGS)

.PHONY: test
test: $(STAMP) ## Run all tests (ARGS=... for pytest)
	@$(BIN)/pytest --numprocesses 2 --dist worksteal --quiet $(ARGS)

# One at a time, because an update under the engine keeps two cores busy; in order, because each edit of a stack starts
# from the result of the one before.
.PHONY: engine
engine: $(STAMP) ## Test edits of a stack under the real Pulumi engine, where it is installed (ARGS=... for pytest)
	@$(BIN)/pytest -m engine -p no:randomly --numprocesses 0 --quiet tests/engine $(ARGS)

.PHONY: check
check: $(STAMP) ## Check lint, types, floors, generated files, YAML, the policies' cases and the pages
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/pyright --level error
	@$(BIN)/lint-imports
	@$(BIN)/gpu-fleet schema --check
	@$(BIN)/gpu-fleet validate
	@$(BIN)/gpu-fleet test policies/
	@$(BIN)/pytest --quiet tests/docs

# The first day of each trace with the closest rivals takes about ten minutes. All rivals on whole traces with five seeds
# (ARGS="--seeds 5") take hours.
BENCH_ARGS := --seeds 2 --hours 24 --contenders gpu-fleet,static-peak,target-tracking-requests,step-scaling,hpa-requests

.PHONY: bench
bench: $(STAMP) ## Measure speed and the policy against its rivals (ARGS=... for bench_compare)
	@$(BIN)/python bench/bench_decide.py
	@$(BIN)/python bench/bench_mix.py
	@$(BIN)/python bench/bench_simulator.py
	@$(BIN)/python bench/bench_frontier.py
	@$(BIN)/python bench/bench_boot.py
	@$(BIN)/python bench/bench_compare.py $(or $(ARGS),$(BENCH_ARGS))

.PHONY: mutants
mutants: $(STAMP) ## Run mutation tests of the decision modules (one to two hours)
	@$(BIN)/mutmut run $(ARGS)
	@$(BIN)/mutmut results

.PHONY: schema
schema: $(STAMP) ## Generate the JSON Schemas and the table of keys from the models
	@$(BIN)/gpu-fleet schema

# Lock files hold names, versions and hashes, and no address.
PIP_COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: lock
lock: $(STAMP) ## Lock the dependencies
	$(PIP_COMPILE) --extra desk --extra dev --output-file requirements-dev.txt pyproject.toml
	$(PIP_COMPILE) --constraint requirements-dev.txt --output-file requirements.txt pyproject.toml
	$(PIP_COMPILE) --output-file lambdas/scaler/requirements.txt lambdas/scaler/requirements.in

.PHONY: clean
clean: ## Remove build products (not .venv)
	@rm -rf build out mutants .pytest_cache .hypothesis .ruff_cache .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
