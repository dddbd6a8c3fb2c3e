# `make demo` and `make test` work on a machine that has only Python and pip: the first call makes .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint format bench clean

demo: $(INSTALLED)
	$(BIN)/python examples/depth_demo.py

# One process a core, one thread a process: two cores are enough, and more are used. What the tests of a file share is
# made once.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/bench_conversion.py
	$(BIN)/python benchmarks/bench_evaluation.py
	$(BIN)/python benchmarks/bench_cached_loss.py
	$(BIN)/python benchmarks/bench_encode.py
	$(BIN)/python benchmarks/bench_encode_libraries.py
	$(BIN)/python benchmarks/bench_loading.py
	$(BIN)/python benchmarks/bench_quantization.py
	$(BIN)/python benchmarks/bench_scale.py

clean:
	rm -rf .venv demo-output

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv \
		|| { $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv .venv; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--no-deps --upgrade --target .venv/deepspeed deepspeed einops hjson msgpack ninja py-cpuinfo
	touch $@
