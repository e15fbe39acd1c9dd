# `make demo` and `make test` do all their set-up themselves; everything they make lies in target/ and .build/.
BUILD  := .build
VENV   := $(BUILD)/venv
PYTHON ?= python3
WHEELS := $(BUILD)/wheels

.PHONY: demo test rust lint wheel python bench soak clean

demo: $(BUILD)/demo/installed
	$(BUILD)/demo/bin/python -m exai_files.demo

test: rust lint python

rust: $(BUILD)/servers
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	.ci/with-postgres cargo test --locked

lint: $(VENV)/installed
	$(VENV)/bin/ruff check python tests_py benches
	$(VENV)/bin/ruff format --check python tests_py benches
	$(VENV)/bin/mypy python tests_py/typing benches
	cd $(BUILD) && venv/bin/python -m mypy.stubtest exai_files._core

# The wheel is one for all interpreters (abi3). The first one found runs all tests, each other those that are not of the
# core alone.
python: wheel $(BUILD)/servers
	.ci/interpreters | .ci/test-wheels

wheel: $(VENV)/tools
	rm -rf $(WHEELS)
	$(VENV)/bin/maturin build --locked --profile ci --out $(WHEELS) --interpreter $(VENV)/bin/python

bench: $(VENV)/tools $(BUILD)/servers
	rm -rf $(BUILD)/release
	$(VENV)/bin/maturin build --locked --release --out $(BUILD)/release --interpreter $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps $(BUILD)/release/*.whl
	cargo build --locked --release --example simulator_load --example resilience_load --example registry_load
	.ci/with-postgres $(VENV)/bin/python -m benches

# What `make test` does in small, before a release.
soak: $(BUILD)/servers
	EXAI_TEST_KILLS=10000 EXAI_TEST_POSITIONS=200 .ci/with-postgres cargo test --locked --test behaviour -- killed:: every_way
	$(MAKE) $(VENV)/installed
	$(VENV)/bin/python -m benches.soak

clean:
	rm -rf target $(BUILD)

# ===== set-up =====

# What a bare Debian or Ubuntu lacks: a C compiler (for SQLite and ring) and Python's venv.
$(BUILD)/tools:
	.ci/system-packages
	mkdir -p $(BUILD) && touch $@

# Installed but not left running: each test starts its own, on a free port.
$(BUILD)/servers: $(BUILD)/tools
	.ci/system-packages tests
	touch $@

$(VENV)/tools: $(BUILD)/tools tests_py/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check 'maturin>=1.16,<2' -r tests_py/requirements.txt
	touch $@

$(VENV)/installed: wheel
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps $(WHEELS)/*.whl
	touch $@

$(BUILD)/demo/installed: wheel
	$(PYTHON) -m venv $(BUILD)/demo
	$(BUILD)/demo/bin/pip install --quiet --disable-pip-version-check rich
	$(BUILD)/demo/bin/pip install --quiet --disable-pip-version-check --force-reinstall $(WHEELS)/*.whl
	touch $@
