//! Logging: lines on standard error, with ids of sessions, runs and connections, never with what they say.

use std::io::Write;

use log::LevelFilter;

/// Starts logging. `filters` is what `RUST_LOG` says, or its default.
pub fn init(filters: &str) {
    env_logger::Builder::new()
        // It says at every start what our first line says better.
        .filter_module("actix_server", LevelFilter::Warn)
        // They quote what servers of tools say; what there is to know of those our own lines say.
        .filter_module("rmcp", LevelFilter::Off)
        .filter_module("tracing", LevelFilter::Off)
        .parse_filters(filters)
        .format(|line, record| {
            // It logs what providers answer, and some of them answer with the key that they refuse. A filter
            // would give way to a longer one in RUST_LOG.
            if record.target().starts_with("genai") {
                return Ok(());
            }
            let at = line.timestamp_millis();
            writeln!(line, "{at} {:5} {}: {}", record.level(), record.target(), record.args())
        })
        .init();
}
