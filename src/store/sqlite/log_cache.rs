//! The logs that were written to last, as their rows have them: so that an append need not read them first.

use std::collections::HashMap;

use super::rows::Log;
use crate::core::{ids::Topic, session::SessionState};

/// What is kept of sessions has up to twice this weight, most of it documents that they share.
const MAX_WEIGHT: usize = 16 * 1024 * 1024;

/// Keeps what was used among the last `half` to twice as many.
pub(super) struct LogCache {
    half: usize,
    /// Of the young.
    weight: usize,
    /// Used since the last turn.
    young: HashMap<Topic, Log>,
    /// Used before; whoever is used again becomes young, the others go at the next turn.
    old: HashMap<Topic, Log>,
}

impl LogCache {
    pub(super) fn new(half: usize) -> Self {
        Self { half, weight: 0, young: HashMap::new(), old: HashMap::new() }
    }

    /// Takes a log out; whoever does puts it back, as it is then.
    pub(super) fn take(&mut self, topic: &Topic) -> Option<Log> {
        if let Some(log) = self.young.remove(topic) {
            self.weight -= weight(&log);
            return Some(log);
        }
        self.old.remove(topic)
    }

    pub(super) fn put(&mut self, topic: Topic, log: Log) {
        if self.young.len() >= self.half || self.weight >= MAX_WEIGHT {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight(&log);
        if let Some(before) = self.young.insert(topic, log) {
            self.weight -= weight(&before);
        }
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.weight = 0;
    }
}

fn weight(log: &Log) -> usize {
    log.state.as_ref().map_or(0, SessionState::weight)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::{
        event::{Durable, Entry, Event, Timestamp},
        ids::{Principal, SessionId},
        shared_state::{MAX_STATE_BYTES, SharedState},
    };

    fn log(number: u64, shared: SharedState) -> (Topic, Log) {
        let topic = Topic::Session(SessionId::new(&"helper".parse().unwrap(), number));
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: "Helper".into(),
            title: None,
            forked_from: None,
        };
        let event = Event::durable(topic.clone(), "e".into(), 1, Timestamp(0), Entry::from(created));
        let mut state = SessionState::begin(&event).unwrap();
        state.shared = shared;
        (topic, Log { id: 1, epoch: "e".into(), first: 1, head: 1, state: Some(state) })
    }

    #[test]
    fn what_is_kept_is_bounded_by_its_weight_too() {
        // Of the longest documents those that take the most room in memory.
        let shared = SharedState::new(1, json!(vec![0; MAX_STATE_BYTES / 2 - 1]));
        let (largest, count) = (shared.weight(), 200);
        assert!(largest > 8 * shared.bytes(), "{largest}");
        let mut cache = LogCache::new(1_000);
        for number in 100..100 + count {
            let (topic, log) = log(number, shared.clone());
            cache.put(topic, log);
            let kept: usize = cache.young.values().chain(cache.old.values()).map(weight).sum();
            assert!(kept <= 2 * (MAX_WEIGHT + largest), "{kept}");
        }
        assert!(cache.young.len() + cache.old.len() < count as usize);

        let (newest, _) = log(100 + count - 1, SharedState::default());
        assert!(cache.take(&newest).is_some());
        assert_eq!(cache.weight, cache.young.values().map(weight).sum::<usize>());
    }

    #[test]
    fn a_log_that_changes_counts_as_it_is_now() {
        let mut cache = LogCache::new(4);
        let text = |length| SharedState::new(1, json!("x".repeat(length)));
        for length in [10_000, 0, 200_000, 100] {
            let (topic, log) = log(100, text(length));
            cache.put(topic, log);
        }

        assert_eq!(cache.weight, cache.young.values().map(weight).sum::<usize>());
        let (topic, _) = log(100, text(0));
        cache.take(&topic);
        assert_eq!(cache.weight, 0);
    }
}
