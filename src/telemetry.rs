//! Logging: lines on standard error, with ids of sessions, runs and connections, never with what they say.

use std::io::Write;

use log::LevelFilter;

/// Starts logging. `filters` is what `RUST_LOG` says, or its default.
pub fn init(filters: &str) {
    env_logger::Builder::new()
        .parse_filters(filters)
        // It logs what providers answer, and some of them answer with the key that they refuse.
        .filter_module("genai", LevelFilter::Off)
        .format(|line, record| {
            let at = line.timestamp_millis();
            writeln!(line, "{at} {:5} {}: {}", record.level(), record.target(), record.args())
        })
        .init();
}
