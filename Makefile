# `make` sets up, runs the stages, prints the results. `make test` runs all checks. `make verify` rebuilds all results and compares.
# docs/reference/commands.md lists the other targets.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: all taste docs setup hashes deps test verify pr-report bench
all: setup
	@$(BIN)/darkroom run

# All stages within a minute, on a slice of the demo in a temporary copy.
taste: setup
	@$(BIN)/darkroom taste

# uv installs the packages where it is on the PATH, and pip elsewhere. TORCH_INDEX=URL takes torch's CPU build from that index.
# HASHES=1 installs nothing whose SHA-256 is not in requirements/hashes.lock.
UV := $(shell command -v uv)
INSTALL := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)
CPU_BUILD := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) $(if $(UV),--index-strategy unsafe-best-match))
LISTED := $(if $(HASHES),--require-hashes -r requirements/hashes.lock,-r requirements.txt)

setup: .venv/ready

.venv/ready: requirements.txt $(wildcard requirements/*.txt) pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) requirements/check.py $(if $(wildcard .venv/ready),0,$(if $(TORCH_INDEX),3,8))
	@$(if $(and $(HASHES),$(TORCH_INDEX)),echo "make: requirements/hashes.lock has no CPU build of torch: leave out HASHES or TORCH_INDEX"; exit 1)
	@$(PYTHON) -m venv .venv
	@$(INSTALL) $(LISTED) $(CPU_BUILD) || { \
	  echo "make: the packages could not be installed: see the message above. It needs the package index, and room on the disk"; exit 1; }
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# Writes the SHA-256 of each file that the pinned packages have on the index, for HASHES=1. Run it after a change of a pin.
hashes: requirements.txt $(wildcard requirements/*.txt)
	@test -n "$(UV)" || { echo "make: uv is missing: pip install uv"; exit 1; }
	@$(UV) pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
	  --custom-compile-command "make hashes" --output-file requirements/hashes.lock requirements.txt

test: setup
	@$(INSTALL) --quiet -r requirements/extras/tune.txt \
	  -r requirements/extras/cleanlab.txt -r requirements/extras/export.txt -r requirements/extras/serve.txt \
	  -r requirements/extras/browser.txt -r requirements/extras/s3.txt -r requirements/extras/moto.txt \
	  -r requirements/extras/docs.txt
	@$(BIN)/ruff format --check --quiet src tests benchmarks docs requirements
	@$(BIN)/ruff check --quiet src tests benchmarks docs requirements
	@$(BIN)/mypy
	@found=$$($(BIN)/lint-imports --no-cache) || { echo "$$found"; exit 1; }
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# The documentation as a site, in site/. A broken link is an error.
docs: setup
	@$(INSTALL) --quiet -r requirements/extras/docs.txt
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean
	@echo "site/index.html has the documentation; $(BIN)/mkdocs serve shows it while you write"

# Writes into dvc.yaml what each stage depends on. Run it after a change of imports, of the params that a stage loads, or of the
# list of models.
deps: setup
	@$(BIN)/darkroom deps

# SET="train_scratch.epochs=1 train_finetune.epochs=1" builds a small run twice and compares the two. REPORT=FILE also writes what was
# found to a file, for `make pr-report REBUILT=FILE`.
verify: setup
	@$(BIN)/darkroom verify $(foreach change,$(SET),--set $(change)) $(if $(REPORT),--report "$(REPORT)")

# Writes report/report.md, the comment on a pull request. BASE: the revision to compare with; PICTURES: a URL, ending in /, under
# which the files of the branch can be seen; FAIL_ON=worse ends with exit code 1 if an accuracy is worse; REBUILT: what verify wrote.
pr-report: setup
	@$(BIN)/darkroom pr-report $(BASE) $(if $(PICTURES),--pictures "$(PICTURES)") $(if $(FAIL_ON),--fail-on "$(FAIL_ON)") \
	  $(if $(REBUILT),--rebuilt "$(REBUILT)")

# Compares the speed with fastai, plain PyTorch and the bare training step. QUICK=1 takes 5 minutes after `make` and writes
# nothing. fastai is installed into a second environment, which also sees the packages of the first. TIMM: a copy of timm's repository,
# whose train script then takes part.
bench: all .venv-bench/ready
	@$(BIN)/python benchmarks/throughput.py --peers .venv-bench/bin/python $(if $(QUICK),--rounds 1)
	@$(if $(QUICK),,$(BIN)/python benchmarks/time_to_accuracy.py --peers .venv-bench/bin/python $(if $(TIMM),--timm "$(TIMM)"))
	@$(if $(QUICK),,$(BIN)/python benchmarks/stages.py)
	@$(if $(QUICK),,$(BIN)/python benchmarks/busy.py)
	@$(BIN)/python benchmarks/overhead.py $(if $(QUICK),--rounds 1)

.venv-bench/ready: requirements/extras/bench.txt .venv/ready
	@$(PYTHON) -m venv .venv-bench
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
	  > "$$(.venv-bench/bin/python -c 'import site; print(site.getsitepackages()[0])')/darkroom.pth"
	@.venv-bench/bin/python -m pip install --disable-pip-version-check --no-deps -r requirements/extras/bench.txt
	@touch $@
