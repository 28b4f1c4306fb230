# make quickstart   set up, train on the embedded digits, test, classify a picture
# make detection    set up, train SSDLite on scenes of the digits, test, draw the objects of a scene
# make segmentation the same with Mobile DeepLabv3: a class for every pixel
# make test         set up, check style and types, run the tests
# make browser      install what the web page in examples/ and its tests need, where there is npm
# make bench        set up in .venv-bench, compare the speed with other programs
# make litert       set up .venv-litert, which scripts/export.py litert converts in

PYTHON ?= python3
VENV = .venv
IN_VENV = $(VENV)/bin/python
# Folders of its own, so that a quickstart never touches a run of yours.
QUICKSTART = EXP_NAME=quickstart $(IN_VENV)

.PHONY: quickstart detection segmentation test bench browser litert environment

quickstart: environment
	$(IN_VENV) scripts/prepare_dataset.py digits
	rm -rf samples/quickstart samples/logs/quickstart results/quickstart
	MODE=train $(QUICKSTART) train.py
	MODE=train $(QUICKSTART) inference.py figure/digit.png
	MODE=test $(QUICKSTART) test.py

detection segmentation: environment
	rm -rf samples/quickstart-$@ samples/logs/quickstart-$@ results/quickstart-$@
	MODE=train EXP_NAME=quickstart-$@ $(IN_VENV) $@/train.py
	MODE=train EXP_NAME=quickstart-$@ $(IN_VENV) $@/inference.py
	MODE=test EXP_NAME=quickstart-$@ $(IN_VENV) $@/test.py

# The types are checked beside the tests, in what these leave of two cores.
test: environment browser
	@cat requirements-convert.txt requirements-export.txt requirements-dev.txt | cmp -s - $(VENV)/requirements-dev.txt || { \
		$(IN_VENV) -m pip install -r requirements-dev.txt \
		&& cat requirements-convert.txt requirements-export.txt requirements-dev.txt > $(VENV)/requirements-dev.txt; }
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .
	nice $(IN_VENV) -m mypy > $(VENV)/types.txt & types=$$!; \
	OMP_NUM_THREADS=1 $(IN_VENV) -m pytest -n 2 --dist worksteal; tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/types.txt; exit $$((tests + types))

# Nothing is done where the lock files are those that were installed, or there is no npm.
browser:
	@for folder in examples/web tests/examples; do \
		test ! -x "$$(command -v npm)" || cmp -s $$folder/package-lock.json $$folder/node_modules/installed || { \
			npm ci --prefix $$folder --ignore-scripts --no-audit --no-fund \
			&& cp $$folder/package-lock.json $$folder/node_modules/installed; } || exit 1; \
	done

# The packages to compare with stay out of the environment that trains.
bench:
	$(MAKE) environment VENV=.venv-bench
	@cat requirements-export.txt requirements-bench.txt | cmp -s - .venv-bench/requirements-bench.txt || { \
		.venv-bench/bin/python -m pip install -r requirements-bench.txt \
		&& cat requirements-export.txt requirements-bench.txt > .venv-bench/requirements-bench.txt; }
	.venv-bench/bin/python scripts/benchmark.py all --plot

# litert-torch needs an older torch.
litert:
	@cmp -s requirements-litert.txt .venv-litert/requirements-litert.txt || { \
		rm -rf .venv-litert && $(PYTHON) -m venv .venv-litert \
		&& .venv-litert/bin/python -m pip install -r requirements-litert.txt \
		&& cp requirements-litert.txt .venv-litert/; }

# A good .venv is reused; one without a working Python 3.11 and pip is made anew.
environment:
	@$(IN_VENV) -c "import pip, sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { \
		$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; set PYTHON=')" \
		&& rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@cmp -s requirements.txt $(VENV)/requirements.txt || { \
		$(IN_VENV) -m pip install -r requirements.txt && cp requirements.txt $(VENV)/; }
