.PHONY: test lint fmt types

test: lint
	cargo test

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

fmt:
	cargo fmt

# Writes the web UI's types from the Rust types of the wire.
types:
	UPDATE_TYPES=1 cargo test --lib typescript
