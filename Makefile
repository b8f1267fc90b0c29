# `make run` is all that a user needs; the rest is for those who work on Duologue.

.PHONY: run test lint bench fmt doc types ui needs python tools chromium test-ui test-server test-browser
.DELETE_ON_ERROR:

UI_SOURCES := $(shell find static/src static/public static/index.html static/vite.config.ts static/tsconfig.json -type f)
# Where it is there, tests run at the same time, and one that hangs is ended.
CARGO_TEST := $(if $(shell command -v cargo-nextest),cargo nextest run,cargo test)

# Builds the web page and the server, and starts it.
run: ui
	cargo run --release

# Checks and tests everything.
test: lint test-ui test-server test-browser

lint: needs
	cargo fmt --check
	cargo fmt --check --manifest-path benches/axum-peer/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --manifest-path benches/axum-peer/Cargo.toml --target-dir target/axum-peer -- -D warnings
	npm --prefix static run lint
	npm --prefix tests run lint
	$(if $(shell command -v cargo-deny),cargo deny check licenses bans sources,@echo "cargo-deny is not there: deny.toml was not checked")

test-ui: ui
	npm --prefix static run test
	npm --prefix static run budget

test-server: ui needs python tools
	$(CARGO_TEST) --locked

test-browser: ui needs tools chromium
	cargo build --locked
	npm --prefix tests run e2e

# Measures what docs/performance.md reports. Takes a quiet machine, and a quarter of an hour.
bench:
	cargo bench --locked
	benches/figures.sh

fmt: needs
	cargo fmt
	cargo fmt --manifest-path benches/axum-peer/Cargo.toml
	npm --prefix static run format
	npm --prefix tests run format

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# Writes the web page's types from the Rust types of the wire.
types:
	UPDATE_TYPES=1 cargo test --locked --lib typescript

# ---- what these need ----

ui: static/dist/index.html

static/dist/index.html: $(UI_SOURCES) static/node_modules/.package-lock.json
	npm --prefix static run build

needs: static/node_modules/.package-lock.json tests/node_modules/.package-lock.json

# npm writes this file when it has installed what the lockfile names.
%/node_modules/.package-lock.json: %/package-lock.json
	npm --prefix $* ci
	touch $@

# One of the examples is in Python; Debian has what makes virtual environments in a package of its own.
python:
	@python3 -c "import ensurepip, venv" 2>/dev/null || { \
		echo "The tests of the examples need Python's venv; installing it from the packages of the system."; \
		apt-get update && apt-get install -y --no-install-recommends python3 python3-venv; \
	}

# Disks that are full, frozen and read-only, and clocks that jump, are made with tools of the system.
tools:
	@( for tool in faketime mkfs.ext4 chattr unshare fsfreeze prlimit script; do \
		command -v $$tool >/dev/null || exit 1; \
	done ) || { \
		echo "The tests of faults need faketime, e2fsprogs and util-linux; installing them from the packages of the system."; \
		apt-get update && apt-get install -y --no-install-recommends faketime e2fsprogs util-linux bsdutils; \
	}

chromium:
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { \
		echo "The browser tests need Chromium; installing it from the packages of the system."; \
		apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core || { \
			echo "It could not be installed: install it yourself, or name one by CHROMIUM=/path/to/chromium." >&2; \
			exit 1; \
		}; \
	}
