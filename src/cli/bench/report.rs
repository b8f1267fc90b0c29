//! What a run came to, as a table and as JSON.

use serde::Serialize;

use super::tally::Spread;

#[derive(Debug, Serialize)]
pub struct Report {
    pub sessions: usize,
    pub messages: u64,
    pub sessions_per_second: f64,
    /// From a message to the reply that says that it is in the log.
    pub acknowledged_ms: Spread,
    pub first_delta_ms: Spread,
    pub run_ms: Spread,
    /// Those that watchers got are counted as well.
    pub deltas: u64,
    pub deltas_per_second: f64,
    pub gaps: u64,
    pub duplicates: u64,
    pub errors: u64,
    pub server_rss_bytes: Option<u64>,
    /// Memory that the server took since the first session was opened, by session.
    pub bytes_per_session: Option<f64>,
    /// The same before the first message.
    pub idle_bytes_per_session: Option<f64>,
    /// Processor time of the server while messages were answered, by delta.
    pub server_cpu_us_per_delta: Option<f64>,
    #[serde(flatten)]
    pub watching: Option<Watching>,
    #[serde(flatten)]
    pub reconnecting: Option<Reconnecting>,
    pub seconds: f64,
}

#[derive(Debug, Serialize)]
pub struct Watching {
    pub watchers: usize,
    /// From the first watcher that got an event to the last.
    pub spread_ms: Spread,
}

#[derive(Debug, Serialize)]
pub struct Reconnecting {
    /// From when all begin to come back, for each client.
    pub reconnect_ms: Spread,
    pub all_back_ms: f64,
    pub replayed: u64,
}

impl Report {
    pub fn table(&self) -> String {
        let kib = |bytes: Option<f64>| bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes / 1024.0));
        let spread = |Spread { p50, p99, max }: &Spread| format!("{p50:.3} / {p99:.3} / {max:.3}");
        let mut rows = vec![
            ("sessions", self.sessions.to_string()),
            ("messages answered", self.messages.to_string()),
            ("sessions opened a second", format!("{:.0}", self.sessions_per_second)),
            ("acknowledged, ms p50 / p99 / max", spread(&self.acknowledged_ms)),
            ("first delta, ms p50 / p99 / max", spread(&self.first_delta_ms)),
            ("whole run, ms p50 / p99 / max", spread(&self.run_ms)),
            ("deltas", self.deltas.to_string()),
            ("deltas a second", format!("{:.0}", self.deltas_per_second)),
        ];
        if let Some(Watching { watchers, spread_ms }) = &self.watching {
            rows.push(("watchers", watchers.to_string()));
            rows.push(("from first to last, ms p50/p99/max", spread(spread_ms)));
        }
        if let Some(Reconnecting { reconnect_ms, all_back_ms, replayed }) = &self.reconnecting {
            rows.push(("back again, ms p50 / p99 / max", spread(reconnect_ms)));
            rows.push(("all back, ms", format!("{all_back_ms:.0}")));
            rows.push(("events replayed", replayed.to_string()));
        }
        rows.extend([
            ("gaps", self.gaps.to_string()),
            ("duplicates", self.duplicates.to_string()),
            ("errors", self.errors.to_string()),
            ("server memory, KiB", kib(self.server_rss_bytes.map(|bytes| bytes as f64))),
            ("KiB a session, idle", kib(self.idle_bytes_per_session)),
            ("KiB a session, at the end", kib(self.bytes_per_session)),
            (
                "server processor time a delta, us",
                self.server_cpu_us_per_delta.map_or("-".to_owned(), |us| format!("{us:.2}")),
            ),
            ("seconds", format!("{:.1}", self.seconds)),
        ]);
        rows.iter().map(|(name, value)| format!("{name:<36}{value}\n")).collect()
    }
}
