# `make demo` and `make test` work on a machine that has only Python and pip: the first call makes .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo docs picture house first-hour test test-slow test-browser test-gpu test-kill test-isa test-lowest test-newest lint format
.PHONY: bench clean

.PHONY: help install
.DEFAULT_GOAL := help

# The words after ## are the help of a target. `make` alone prints it too.
help:  ## list what make can do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv with the versions of constraints.txt, as all the others do by themselves

demo: $(INSTALLED)  ## convert two checkpoints, prove them, find scenes by words and by depth maps, draw what is found
	$(BIN)/python examples/demo.py

# The notebooks find the command in PATH. Both builders share what was read and run; a warning ends either.
SPHINX = PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/read
docs: $(INSTALLED)  ## the documentation as a site, in docs/_build/html; runs its notebooks and its doctests
	$(SPHINX) -b html docs docs/_build/html
	$(SPHINX) -b doctest docs docs/_build/doctest

picture: $(INSTALLED)  ## draw docs/found.png again, which is on top of the README
	$(BIN)/python examples/search_rooms.py docs/found.png

house: $(INSTALLED)  ## draw docs/house.svg again, by the map in CONTRIBUTING.md
	$(BIN)/python docs/draw_house.py

# One process a core, one thread a process: two cores are enough, and more are used. What the tests of a file share is
# made once.
test: lint  ## lint, types and tests: what a change must pass
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile -m 'not slow and not kill and not gpu and not browser'

test-slow: $(INSTALLED)  ## the tests that take long and rarely break
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile -m slow

# The page in a real browser: Debian's chromium, or any of these that is there. Gradio takes no Pillow of constraints.txt
# (it wants one below 13): it has a venv of its own, which sees the packages of .venv behind its own. `make install` and
# `make test` need neither. SCREENSHOTS=FOLDER keeps pictures.
BROWSER_PILLOW := pillow==12.3.0
test-browser: .venv-browser/.installed  ## the page of `hf-encoders demo`, used in a headless browser
	command -v chromium || command -v chromium-browser || command -v google-chrome \
		|| apt-get install -y chromium || { apt-get update && apt-get install -y chromium; }
	OMP_NUM_THREADS=1 .venv-browser/bin/python -m pytest -q -n 0 -m browser tests/demo

test-gpu: $(INSTALLED)  ## the tests and the benchmark that need a CUDA device
	$(BIN)/python -m pytest -q -rs -m gpu
	$(BIN)/python benchmarks/bench_gpu.py

first-hour: $(INSTALLED)  ## what a newcomer does first: the wheel, in an empty folder, with data of their own
	tests/first_hour.sh $(BIN)/python

# Every command that writes, killed at every change of the file system: hours. EVENTS=20 tries so many of each, evenly
# spaced.
test-kill: $(INSTALLED)  ## every command that writes, killed at every change of the file system; EVENTS=20 for fewer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -n auto --timeout 0 -m kill tests/test_kills.py

# The numeric tests as on processors with AVX2 and no more, and without AVX. PyTorch, oneDNN (OpenVINO's too), OpenBLAS
# and FAISS can be told so, and MKL on Intel. OpenVINO takes bfloat16, int8 and some layers without AVX for what the
# processor itself has, and then does without oneDNN's kernels: such tests are left out.
NUMERIC = ONEDNN_DEFAULT_FPMATH_MODE=STRICT OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m numeric
test-isa: $(INSTALLED)  ## the numeric tests as on processors with AVX2 only, and without AVX
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell \
		FAISS_SIMD_LEVEL=AVX2 $(NUMERIC)
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OPENBLAS_CORETYPE=Nehalem \
		FAISS_SIMD_LEVEL=NONE $(NUMERIC) -k 'not openvino'

# All tests but whole runs of the examples, the benchmarks and against a Hub: what versions of other packages may break.
FAST := -q -n auto --dist loadfile -m 'not slow and not kill and not gpu and not browser' $(addprefix --ignore=tests/, benchmarks examples \
	docs test_hub_round_trip.py test_readme.py test_repository.py test_wheel.py conversion/test_convert_kill.py \
	training/test_recipes.py training/test_training_on_the_hub.py)

test-lowest: .venv-lowest/.installed  ## the fast tests with the oldest versions that pyproject.toml allows
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest $(FAST)

test-newest: .venv-newest/.installed  ## the fast tests with the newest versions
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest $(FAST)

lint: $(INSTALLED)  ## ruff, codespell and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: $(INSTALLED)  ## ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## the benchmarks, each beside the plain way
	$(BIN)/python benchmarks/bench_adopt.py
	$(BIN)/python benchmarks/bench_conversion.py
	$(BIN)/python benchmarks/bench_evaluation.py
	$(BIN)/python benchmarks/bench_cached_loss.py
	$(BIN)/python benchmarks/bench_encode.py
	$(BIN)/python benchmarks/bench_encode_libraries.py
	$(BIN)/python benchmarks/bench_first_answer.py
	$(BIN)/python benchmarks/bench_identity.py
	$(BIN)/python benchmarks/bench_load_encoder.py
	$(BIN)/python benchmarks/bench_loading.py
	$(BIN)/python benchmarks/bench_quantization.py
	$(BIN)/python benchmarks/bench_scale.py

clean:  ## remove .venv, its kin, the site and the output of the demo
	rm -rf .venv .venv-lowest .venv-newest .venv-browser demo-output docs/_build

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv \
		|| { $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv .venv; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--no-deps --upgrade --target .venv/deepspeed deepspeed einops hjson msgpack ninja py-cpuinfo
	touch $@

# Packages of .venv stand behind: a .pth file names their folder.
.venv-browser/.installed: $(INSTALLED)
	test -x $(@D)/bin/python || $(BIN)/python -m venv $(@D)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/behind.pth"
	{ grep -v '^pillow==' constraints.txt; echo '$(BROWSER_PILLOW)'; } > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/constraints.txt \
		fastapi gradio playwright pillow uvicorn
	touch $@

# PyPI's torch brings gigabytes of CUDA: both take the one of constraints.txt, unless TORCH=torch==2.7.0 names another.
TORCH ?= $(shell grep '^torch==' constraints.txt)
.venv-lowest/.installed: PINS := grep -v '^torch==' constraints-lowest.txt; grep -E '^(pytest|hypothesis)' constraints.txt
.venv-newest/.installed: PINS := true
.venv-lowest/.installed .venv-newest/.installed: pyproject.toml constraints.txt constraints-lowest.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	{ echo '$(TORCH)'; $(PINS); } > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
		-c $(@D)/constraints.txt -e '.[test]'
	touch $@
