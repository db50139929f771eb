# make report                    the report on simulated radiographs (profile demo), rendered to _site/
# make report PROFILE=smoke      every line of it in minutes, on a tiny phantom
# make report DATA=/path/to/MURA-v1.1 [PROFILE=paper]     the same chapters on MURA
# make report DATA=/path/to/FracAtlas                     the same on FracAtlas, GRAZPEDWRI-DX, a COCO or YOLO export
# make test                      notebooks, modules and README in step, all chapters in profile smoke, pytest
# make help                      everything else

PROFILE ?= $(or $(MURA_NB_PROFILE),demo)
DATA ?= $(MURA_NB_DATA)
PYTHON ?= python3

# the only two variables that the notebooks read
export MURA_NB_PROFILE := $(PROFILE)
export MURA_NB_DATA := $(if $(strip $(DATA)),$(shell cd "$(DATA)" 2>/dev/null && pwd))

# PyTorch's threads spin only briefly while they wait: as fast on a quiet machine, about 1.5 times faster beside another busy program
export GOMP_SPINCOUNT ?= 1000

BIN := .venv/bin
STAMP := .venv/.ready-$(shell cat requirements.lock pyproject.toml setup.py | cksum | tr ' ' -)

.PHONY: report ablations rehearse bench test test-all torture lab notebooks site pdf gpu-wheels lock sbom vulnerabilities reruns shipped clean help choice setup
.DEFAULT_GOAL := report

report: choice $(STAMP)  ## run the chapters and render them to _site/
	@$(BIN)/python tools/report.py

ablations: choice $(STAMP)  ## the studies beside the report, hours (STUDY=name: one of them; an unknown name lists all)
	@$(BIN)/python tools/report.py $(if $(STUDY),--study $(STUDY),--ablation)

rehearse: $(STAMP)  ## the way of profile paper over simulated data of MURA's size: time, memory, disk (SHARE=.1: a tenth)
	@$(BIN)/mura-nb rehearse --share $(or $(SHARE),1)

bench: $(STAMP)  ## how fast everything is beside other libraries and bounds, minutes (BENCH=name: one question anew)
	@$(BIN)/python benchmarks/run.py $(BENCH)

test: $(STAMP)  ## what must hold before a commit
	@$(BIN)/python tools/check.py

test-all: $(STAMP)  ## test (unless this very tree has just passed it) and the slow outer checks
	@$(BIN)/python tools/check.py --all

torture: $(STAMP)  ## kills, bad input, fuzzing, full disks, mutants (Linux), an hour or two; its tables go to results/torture (TORTURE=kills|inputs|fuzz|machine|mutants: one)
	@cd tests && ../$(BIN)/python -m torture $(TORTURE)

lab: choice $(STAMP)  ## JupyterLab on the notebooks
	@$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/nbs

notebooks: choice  ## maintainers: write the outputs of the demo into nbs/, and the README
	@if [ -n "$$MURA_NB_DATA" ]; then echo "make notebooks: refused, DATA is set. Committed notebooks hold simulated radiographs only; MURA's may not be redistributed." >&2; exit 2; fi
	@if [ "$$MURA_NB_PROFILE" != demo ]; then echo "make notebooks: refused, PROFILE=$$MURA_NB_PROFILE. Committed notebooks hold the outputs of profile demo." >&2; exit 2; fi
	@$(MAKE) --no-print-directory $(STAMP)
	@$(BIN)/nbdev-export && $(BIN)/python tools/report.py --save $(if $(ABLATION),--ablation) && $(BIN)/nbdev-clean && $(BIN)/python tools/pages.py

site: $(STAMP)  ## the site from the outputs in nbs/: with Quarto to _docs/ where it is installed, else with pandoc to _site/
	@$(BIN)/python tools/publish.py

pdf: $(STAMP)  ## the report in _site/ as one PDF, _site/report.pdf (needs Chromium)
	@$(BIN)/python tools/pdf.py

gpu-wheels:  ## maintainers: what tools/gpu_check.sh takes along to a machine with a GPU and no network (needs uv)
	@bash tools/gpu_wheels.sh

lock:  ## maintainers: resolve requirements.lock anew (needs uv)
	@{ echo "# Every package of the project at one version with its hashes, for every platform. Made by make lock; installed by make."; \
	   uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --all-extras --upgrade --no-header --no-emit-index-url --no-emit-find-links pyproject.toml; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

sbom:  ## maintainers: after make lock, install it anew and list it in sbom.json, a bill of materials in CycloneDX (Linux; needs uv)
	@d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && uv venv --quiet --python 3.11 "$$d" && \
	   uv pip install --quiet --python "$$d/bin/python" --no-deps --require-hashes -r requirements.lock && \
	   uvx --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.json "$$d/bin/python"

vulnerabilities:  ## known vulnerabilities of the packages of the lock file, where PyPI's list of them is reachable (needs uv)
	@$(PYTHON) tools/vulnerabilities.py

reruns: choice $(STAMP)  ## is the same seed the same numbers, here, with other kernels, with another Pillow? (ONLY=twice or processors)
	@$(BIN)/python tools/reruns.py $(if $(ONLY),--only $(ONLY))

shipped: choice $(STAMP)  ## maintainers: train the recipe `shipped` on DATA, write it to mura_nb/weights, the network that everybody gets
	@if [ -z "$$MURA_NB_DATA" ]; then echo "make shipped: trained on what? add DATA=/path/to/FracAtlas" >&2; exit 2; fi
	@$(BIN)/python tools/report.py --study shipped && $(BIN)/python tools/ship.py

clean:  ## remove what was rendered and cached; results, data and .venv stay
	rm -rf _site _build _docs _proc nbs/api .cache build dist

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

# An unknown profile or a missing folder is said before anything is installed or run.
choice:
	@grep -q "^\[profile $$MURA_NB_PROFILE\]" settings.ini || { echo "make: unknown PROFILE '$$MURA_NB_PROFILE'; settings.ini has: $$(sed -n 's/^\[profile \(.*\)\]/\1/p' settings.ini | tr '\n' ' ')" >&2; exit 2; }
	@if [ -n "$(strip $(DATA))" ] && [ -z "$$MURA_NB_DATA" ]; then echo "make: DATA=$(DATA): no such folder; it must be the one that holds train/ and valid/, or a public dataset such as FracAtlas" >&2; exit 2; fi
	@if [ "$$MURA_NB_PROFILE" = paper ] && [ -z "$$MURA_NB_DATA" ]; then echo "make: PROFILE=paper reads real radiographs: add DATA=/path/to/MURA-v1.1" >&2; exit 2; fi

setup: $(STAMP)  ## install into .venv what the project needs; every command that needs it does so itself

$(STAMP):
	@if command -v uv >/dev/null; then \
	   echo "setting up .venv with uv (once; minutes, mostly PyTorch)"; \
	   { [ -x $(BIN)/python ] || uv venv --quiet --python '>=3.11' .venv; } && \
	   uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --require-hashes -r requirements.lock && \
	   uv pip install --quiet --python $(BIN)/python --no-deps -e .; \
	 else \
	   $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: needs Python 3.11 or newer: install it (or uv), or name one: make PYTHON=python3.12 ..." >&2; exit 2; }; \
	   echo "setting up .venv with pip (once; minutes, mostly PyTorch)"; \
	   { [ -x $(BIN)/python ] || $(PYTHON) -m venv .venv; } && \
	   $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock && \
	   $(BIN)/python -m pip install --quiet --no-deps -e .; \
	 fi
	@rm -f .venv/.ready-*; touch $@
