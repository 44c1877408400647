# `make demo` and `make test` need Python ≥ 3.11, git and make, and set up everything else in .venv.
PYTHON ?= python3
RUN := .venv/bin/python
READY := .venv/.ready
export UV_COMPILE_BYTECODE := 1

.PHONY: demo test test-setup test-thorough check format run clean

demo: $(READY)
	@$(RUN) -m bot demo

test: $(READY)
	@$(RUN) -m pytest -n 2 --dist loadfile

# What needs the package registries, and Node with npm: no part of `make test`.
test-setup: $(READY)
	@.ci/node
	@$(RUN) -m pytest -m "registry and not thorough"

# Every package manager, poetry 1 and 2, pdm, Go and Rust included: minutes, and go and cargo must be there.
test-thorough: $(READY)
	@.ci/node
	@$(RUN) -m pytest -m "registry or thorough"

check: $(READY)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	@$(MAKE) --no-print-directory test

format: $(READY)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

run: $(READY)
	@$(RUN) -m bot up

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml uv.lock .ci/setup
	@PYTHON="$(PYTHON)" .ci/setup
	@touch $@
