//! Accepted commands: what is remembered of them, and a quick answer for those that are not known.
//!
//! Owns: the table `commands`, and a filter in memory that tells most keys that are not in it.

use std::{sync::RwLock, time::Duration};

use fastbloom::AtomicBloomFilter;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest as _, Sha256};

use super::rows::{from_json, number, to_json};
use crate::core::{
    command::{CommandKey, Remember},
    event::Timestamp,
    ports::Remembered,
};

/// How long an accepted command is remembered: a day, and an hour for a clock that is set meanwhile.
const LIFETIME: Duration = Duration::from_secs(25 * 60 * 60);
/// How many are remembered; past it the oldest are forgotten.
pub(super) const MAX_COMMANDS: usize = 1_000_000;
/// Rows that are forgotten in one transaction, at most.
pub(super) const SLICE: usize = 256;

/// The first half of a SHA-256: short, and nobody makes two commands of the same.
pub(super) type KeyHash = [u8; 16];

pub(super) fn hash(key: &CommandKey) -> KeyHash {
    let CommandKey { principal, client_id, command_id } = key;
    let client_id = client_id.as_ref().map_or("", |id| id.as_str());
    let mut hasher = Sha256::new();
    for part in [principal.as_str(), client_id, command_id.as_str()] {
        // None of them holds a zero.
        hasher.update(part);
        hasher.update([0]);
    }
    let digest = hasher.finalize();
    std::array::from_fn(|at| digest[at])
}

/// Tells of a key that it is not remembered, or that it may be.
///
/// Two generations of filters: when the newer one has taken its fill, it becomes the older one. So the newest
/// `generation` keys are always in one of the two, whose size never changes.
pub(super) struct KnownCommands {
    generation: usize,
    filters: RwLock<Filters>,
}

struct Filters {
    older: AtomicBloomFilter,
    newer: AtomicBloomFilter,
    in_newer: usize,
}

impl KnownCommands {
    pub(super) fn new(generation: usize) -> Self {
        let filters = Filters { older: filter(generation), newer: filter(generation), in_newer: 0 };
        Self { generation, filters: RwLock::new(filters) }
    }

    pub(super) fn may_know(&self, key: &KeyHash) -> bool {
        let filters = self.filters.read().expect("no panic while locked");
        filters.newer.contains(key) || filters.older.contains(key)
    }

    pub(super) fn insert(&self, key: &KeyHash) {
        let mut filters = self.filters.write().expect("no panic while locked");
        if filters.in_newer == self.generation {
            let fresh = filter(self.generation);
            filters.older = std::mem::replace(&mut filters.newer, fresh);
            filters.in_newer = 0;
        }
        filters.newer.insert(key);
        filters.in_newer += 1;
    }

    /// Takes in what a file remembers; how many that are.
    pub(super) fn fill(&self, connection: &Connection) -> rusqlite::Result<usize> {
        let mut keys = connection.prepare("SELECT key FROM commands ORDER BY id")?;
        let mut rows = keys.query([])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            self.insert(&row.get(0)?);
            count += 1;
        }
        Ok(count)
    }
}

fn filter(keys: usize) -> AtomicBloomFilter {
    AtomicBloomFilter::with_false_pos(0.001).expected_items(keys)
}

pub(super) fn recall(connection: &Connection, key: &KeyHash) -> rusqlite::Result<Option<Remembered>> {
    connection
        .prepare_cached("SELECT digest, done FROM commands WHERE key = ?1")?
        .query_row([key], |row| Ok(Remembered { digest: row.get(0)?, done: from_json(row, 1)? }))
        .optional()
}

pub(super) fn remember(connection: &Connection, command: &Remember) -> rusqlite::Result<KeyHash> {
    let key = hash(&command.key);
    // In place of one that the filter has forgotten already.
    let mut insert = connection
        .prepare_cached("INSERT OR REPLACE INTO commands (key, digest, at, done) VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute(params![key, command.digest, Timestamp::now().0, to_json(&command.done)?])?;
    Ok(key)
}

/// Forgets a slice of the oldest, if there are too many or their time is over; how many.
pub(super) fn forget_slice(connection: &Connection, count: usize, max: usize) -> rusqlite::Result<usize> {
    let too_many = count.saturating_sub(max).min(SLICE);
    let expired = Timestamp::now().0.saturating_sub(number(LIFETIME.as_millis()));
    let oldest: Vec<(i64, i64)> = connection
        .prepare_cached("SELECT id, at FROM commands ORDER BY id LIMIT ?1")?
        .query_map([number(SLICE)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let gone = oldest
        .iter()
        .enumerate()
        .take_while(|(place, (_, at))| *place < too_many || *at < expired)
        .map(|(_, (id, _))| *id);
    let (gone, last) = gone.fold((0, None), |(count, _), id| (count + 1, Some(id)));
    if let Some(last) = last {
        connection.prepare_cached("DELETE FROM commands WHERE id <= ?1")?.execute([last])?;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_keys_are_always_known() {
        let known = KnownCommands::new(100);
        let key = |number: u32| -> KeyHash {
            std::array::from_fn(|at| number.to_be_bytes().get(at).copied().unwrap_or(0))
        };
        for number in 0..1_000 {
            known.insert(&key(number));
            for newest in number.saturating_sub(99)..=number {
                assert!(known.may_know(&key(newest)), "{newest} of {number}");
            }
        }

        let forgotten = (0..700).filter(|number| !known.may_know(&key(*number))).count();
        assert!(forgotten > 600, "only {forgotten} of 700 were forgotten");
    }

    #[test]
    fn keys_differ_by_each_of_their_parts() {
        let key = |principal: &str, client: Option<&str>, command: &str| {
            hash(&CommandKey {
                principal: principal.parse().unwrap(),
                client_id: client.map(|client| client.parse().unwrap()),
                command_id: command.parse().unwrap(),
            })
        };
        let keys =
            [key("a", None, "bc"), key("a", Some("b"), "c"), key("ab", None, "c"), key("b", None, "bc")];

        for (at, one) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(one));
        }
    }
}
