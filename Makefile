# `make demo` and `make test` are all that a fresh machine needs: Python >= 3.10 and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed: the package alone, with what training needs, and with all that the tests need.
CORE := $(VENV)/.core
TRAIN := $(VENV)/.train
STAMP := $(VENV)/.installed
DEMO := demo

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-train test fuzz kill lint format clean

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install the package with all that its tests need.

$(CORE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("spd needs Python 3.10 or newer, got " + sys.version.split()[0] + "; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=23"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(TRAIN): $(CORE)
	$(BIN)/python -m pip install --quiet --editable ".[train]"
	@touch $@

$(STAMP): $(CORE)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

demo: $(CORE) ## Depths at points of a bundled room, or of IMAGE=photo.jpg, by the bundled checkpoint (seconds).
	@mkdir -p $(DEMO)
	$(BIN)/spd predict "$(IMAGE)" --grid 5 --overlay $(DEMO)/overlay.png
	@echo "The picture with its depths: $(DEMO)/overlay.png"

IMAGE := docs/images/room.jpg

demo-train: $(TRAIN) ## Rooms, a short training, and depths at points of a room it has not seen (under ten minutes).
	rm -rf $(DEMO)
	$(BIN)/spd data rooms $(DEMO)/rooms --num 400 --seed 0 --near 0
	$(BIN)/spd train rooms-atto --data.root $(DEMO)/rooms --output $(DEMO)/model \
		--model.train-size 128 160 --max-steps 300
	$(BIN)/spd predict "$$($(held_out_room))" --checkpoint $(DEMO)/model \
		--points 160,128 40,60 280,60 60,220 260,220 --overlay $(DEMO)/overlay.png
	@echo "The room with its depths: $(DEMO)/overlay.png"

# The first image of the validation split.
held_out_room = $(BIN)/python -c 'import csv, pathlib; \
	rows = csv.DictReader(open("$(DEMO)/rooms/manifest.csv")); \
	print(pathlib.Path("$(DEMO)/rooms", next(row["image"] for row in rows if row["split"] == "val")))'

test: lint ## Format, lint, types, import rules and tests.
	$(BIN)/python -m pytest

FUZZ ?= 10000
fuzz: $(STAMP) ## Ten thousand damaged inputs, each answered or refused in one line; FUZZ=N asks for others.
	$(BIN)/python -m tests.fuzz.run --inputs $(FUZZ)

kill: $(STAMP) ## SIGKILL at fifty random moments of each thing that writes: nothing is lost (an hour).
	$(BIN)/python -m pytest -q -m slow tests/kill

lint: $(STAMP) ## Format, lint, types and import rules.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code and fix what can be fixed.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## Remove what the targets above made.
	rm -rf $(VENV) $(DEMO) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
