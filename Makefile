# medfuse: `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
VIEWER ?= yes
OUT    ?= demo
CASES  ?= 3
TORCH  := $(shell grep '^torch==' constraints.txt)
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

MEDFUSE_SHARED ?= ../shared

.PHONY: demo test lint schemas bench fuzz attack soak sbom lock locked clean

demo: $(VENV)/.demo
	$(BIN)/medfuse demo --out $(OUT) --cases $(CASES) $(if $(filter no,$(VIEWER)),--no-viewer,--viewer)

# three processes for two cores: browsers, servers and batches are waited for; compiled once, where each of the
# programs that tests start would compile again if PYTHONDONTWRITEBYTECODE is set
test: $(VENV)/.dev lint
	$(BIN)/python -m compileall -q medfuse apps
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(if $(SLOW),--slow,)

lint: $(VENV)/.dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/python tests/house_figures.py --check

schemas: $(VENV)/.demo
	$(BIN)/python -m medfuse.workflows.schemas data_schemas

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/io.py
	$(BIN)/python benchmarks/writer.py
	$(BIN)/python benchmarks/batch.py

# 10,000 mutants of the real files; about ten minutes
fuzz: $(VENV)/.dev
	$(BIN)/python tests/fuzz.py --mutants 10000 --seed 2 --data $(MEDFUSE_SHARED)/data/dicom $(MEDFUSE_SHARED)/data/nifti --out docs/fuzz.json

# every test that attacks, counted; part of `make test` too
attack: $(VENV)/.dev
	$(BIN)/python tests/attack.py

# hours: what the tests of batch and node do in minutes, at full count
soak: $(VENV)/.dev
	$(BIN)/python tests/soak.py
	$(BIN)/python tests/kills.py --kills 200
	$(BIN)/python tests/situations.py

# what is installed here, as a CycloneDX bill of materials; its tool lives in an environment of its own
sbom: $(VENV)/.demo
	$(PYTHON) -m venv build/sbom && build/sbom/bin/python -m pip install --quiet cyclonedx-bom==7.5.0
	build/sbom/bin/cyclonedx-py environment --output-file build/medfuse.cdx.json $(BIN)/python
	@echo "build/medfuse.cdx.json"

# requirements.lock anew, after pyproject.toml or constraints.txt changed
lock: $(VENV)/.demo
	$(PYTHON) -m venv build/lock && build/lock/bin/python -m pip install --quiet pip-tools==7.6.2
	$(BIN)/python tests/lock.py --wanted > build/wanted.in
	build/lock/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --no-emit-options --no-header --no-annotate --strip-extras --allow-unsafe -c constraints.txt -o build/compiled.txt build/wanted.in
	$(BIN)/python tests/lock.py --keep build/compiled.txt

# an environment of files whose SHA-256 is known, but for torch: build/locked
locked:
	$(PYTHON) -m venv build/locked
	build/locked/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	build/locked/bin/python -m pip install --quiet --no-deps $(TORCH)
	build/locked/bin/python -m pip install --quiet --no-deps .
	build/locked/bin/python -m pip check

clean:
	rm -rf $(VENV) $(OUT)

# torch first and pinned: any other order may pull a build for hardware that is not here
$(VENV)/.demo: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("medfuse needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e '.[viewer]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo .ci/install-debian
	@bash .ci/install-debian
	$(PIP) -e '.[viewer,dev]'
	@touch $@
