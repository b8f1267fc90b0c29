//! The logs that were written to last, as their rows have them: so that an append need not read them first.

use std::collections::HashMap;

use super::rows::Log;
use crate::core::ids::Topic;

/// Keeps what was used among the last `half` to twice as many.
pub(super) struct LogCache {
    half: usize,
    /// Used since the last turn.
    young: HashMap<Topic, Log>,
    /// Used before; whoever is used again becomes young, the others go at the next turn.
    old: HashMap<Topic, Log>,
}

impl LogCache {
    pub(super) fn new(half: usize) -> Self {
        Self { half, young: HashMap::new(), old: HashMap::new() }
    }

    /// Takes a log out; whoever does puts it back, as it is then.
    pub(super) fn take(&mut self, topic: &Topic) -> Option<Log> {
        self.young.remove(topic).or_else(|| self.old.remove(topic))
    }

    pub(super) fn put(&mut self, topic: Topic, log: Log) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(topic, log);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}
