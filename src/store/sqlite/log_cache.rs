//! The logs that were written to last, as their rows have them: so that an append need not read them first.

use std::collections::HashMap;

use super::rows::Log;
use crate::core::ids::Topic;

/// Documents that sessions share are kept up to twice this many bytes, as JSON.
const SHARED_BYTES: usize = 8 * 1024 * 1024;

/// Keeps what was used among the last `half` to twice as many.
pub(super) struct LogCache {
    half: usize,
    /// Bytes of the shared documents among the young.
    shared_bytes: usize,
    /// Used since the last turn.
    young: HashMap<Topic, Log>,
    /// Used before; whoever is used again becomes young, the others go at the next turn.
    old: HashMap<Topic, Log>,
}

impl LogCache {
    pub(super) fn new(half: usize) -> Self {
        Self { half, shared_bytes: 0, young: HashMap::new(), old: HashMap::new() }
    }

    /// Takes a log out; whoever does puts it back, as it is then.
    pub(super) fn take(&mut self, topic: &Topic) -> Option<Log> {
        if let Some(log) = self.young.remove(topic) {
            self.shared_bytes -= shared_bytes(&log);
            return Some(log);
        }
        self.old.remove(topic)
    }

    pub(super) fn put(&mut self, topic: Topic, log: Log) {
        if self.young.len() >= self.half || self.shared_bytes >= SHARED_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.shared_bytes = 0;
        }
        self.shared_bytes += shared_bytes(&log);
        if let Some(before) = self.young.insert(topic, log) {
            self.shared_bytes -= shared_bytes(&before);
        }
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.shared_bytes = 0;
    }
}

fn shared_bytes(log: &Log) -> usize {
    log.state.as_ref().map_or(0, |state| state.shared.bytes())
}
