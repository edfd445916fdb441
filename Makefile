# One target each to run, test, check and measure. Every target sets up what it needs, on a machine
# with Python 3.11, make and a C compiler; setting up again takes a fraction of a second.

PYTHON ?= python3
MINUTES ?= 1
# Options for pytest, e.g. make test PYTEST="-k idmap -x"
PYTEST ?=
JOBS ?= 2

BIN := .venv/bin
EXECUTOR := src/sublet/sublet-exec
C_INPUT := csrc/build.py $(wildcard csrc/*.c csrc/*.h csrc/runtime/*.c csrc/runtime/*.h csrc/tests/*.c csrc/tests/*.h csrc/fuzz/*.c)
C_GENERATED := csrc/wire.h csrc/wire_tables.c
C_FORMATTED := $(filter-out $(C_GENERATED),$(filter %.c %.h,$(C_INPUT)) $(wildcard bench/*.c))

.PHONY: run test test-c check check-python check-c check-generated bench fuzz sanitize clean \
	setup-run setup-test setup-check setup-bench

# Programs are made by a second make, which runs when the first has set up the .venv that it needs.
MAKE_NOW := $(MAKE) --no-print-directory

run: setup-run
	+@$(MAKE_NOW) $(EXECUTOR)
	scripts/demo $(BIN)/sublet

test: setup-test test-c
	+@$(MAKE_NOW) $(EXECUTOR)
	$(BIN)/pytest -n $(JOBS) --dist loadgroup $(PYTEST)

test-c: setup-test
	+@$(MAKE_NOW) build/test/sublet-exec-tests
	build/test/sublet-exec-tests

check: setup-check check-python check-c check-generated

check-python: setup-check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check-c: setup-check
	$(BIN)/clang-format --dry-run -Werror $(C_FORMATTED)
	CC=gcc $(BIN)/python csrc/build.py --werror -o build/check/gcc
	CC=clang $(BIN)/python csrc/build.py --werror -o build/check/clang

check-generated: setup-check
	$(BIN)/python spec/generate.py --check
	$(BIN)/python spec/syscalls.py --check
	PYTHONPATH=src $(BIN)/python scripts/manual --check

bench: setup-bench
	+@$(MAKE_NOW) $(EXECUTOR)
	$(BIN)/python bench/run.py --write

# Each fuzz target runs for MINUTES; what it finds is kept in build/corpus/, seeds in csrc/fuzz/.
fuzz: setup-test
	$(BIN)/python csrc/build.py --variant fuzz
	scripts/fuzz $(MINUTES)

# The whole suite, with an executor that AddressSanitizer and UBSan watch.
sanitize: setup-test test-c
	+@$(MAKE_NOW) build/asan/sublet-exec
	SUBLET_EXEC=$(CURDIR)/build/asan/sublet-exec $(BIN)/pytest -n $(JOBS) --dist loadgroup $(PYTEST)

$(EXECUTOR): $(C_INPUT)
	$(BIN)/python csrc/build.py

build/asan/sublet-exec: $(C_INPUT)
	$(BIN)/python csrc/build.py --variant asan

build/test/sublet-exec-tests: $(C_INPUT)
	$(BIN)/python csrc/build.py --variant test

setup-run setup-test setup-check setup-bench: setup-%:
	@$(PYTHON) scripts/setup $*

clean:
	rm -rf build dist $(EXECUTOR)
