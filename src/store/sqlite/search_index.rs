//! The text index: a projection of the log that is filled behind it, when no append waits.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::{
    open::set_meta,
    rows::{from_json, number},
    schema::is_searched,
};
use crate::core::{event::Durable, search::searched_text};

/// How long one transaction should take.
const SLICE_TIME: Duration = Duration::from_millis(2);
const MAX_SLICE: usize = 1_024;
/// Events that are worth a transaction at once; fewer wait until nothing has come for a moment.
const WORTHWHILE: i64 = 1_024;
const MOMENT: Duration = Duration::from_millis(20);

/// How far the index has come.
#[derive(Clone)]
pub(super) struct SearchIndex {
    /// The last event that it has passed.
    to: i64,
    /// Events that a transaction takes in, as the last ones took their time.
    slice: usize,
    /// It is damaged: as long as this process lives it stays as it is.
    given_up: bool,
}

impl Default for SearchIndex {
    fn default() -> Self {
        Self { to: 0, slice: 16, given_up: false }
    }
}

impl SearchIndex {
    /// Goes on where the file says.
    pub(super) fn start_at(&mut self, indexed_to: i64) {
        self.to = indexed_to;
    }

    pub(super) fn give_up(&mut self) {
        self.given_up = true;
    }

    pub(super) fn is_complete(&self, next_event: i64) -> bool {
        self.given_up || self.to + 1 >= next_event
    }

    /// How long to wait for requests before the index is looked after; `None` if it is complete.
    pub(super) fn patience(&self, next_event: i64) -> Option<Duration> {
        match next_event - 1 - self.to {
            _ if self.given_up => None,
            behind if behind >= WORTHWHILE => Some(Duration::ZERO),
            behind if behind > 0 => Some(MOMENT),
            _ => None,
        }
    }

    /// Whether now is the time; `idle` if nothing has come for as long as `patience` said.
    pub(super) fn is_due(&self, next_event: i64, idle: bool) -> bool {
        self.patience(next_event).is_some_and(|patience| idle || patience.is_zero())
    }

    /// Takes in the next few events before `end`.
    pub(super) fn advance(&mut self, connection: &Connection, end: i64) -> rusqlite::Result<()> {
        let started = Instant::now();
        let mut insert = connection.prepare_cached("INSERT INTO search (rowid, text) VALUES (?1, ?2)")?;
        let mut next = connection
            .prepare_cached("SELECT id, kind, body FROM events WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let mut rows = next.query(params![self.to, number(self.slice)])?;
        let mut seen = 0;
        let mut to = self.to;
        while let Some(row) = rows.next()? {
            to = row.get(0)?;
            if is_searched(row.get(1)?) {
                // One that cannot be read is for whoever reads it to complain of.
                let body: Option<Durable> = from_json(row, 2).ok();
                let text = body.as_ref().and_then(searched_text).unwrap_or_default();
                insert.execute(params![to, text])?;
            }
            seen += 1;
        }
        // Nothing else is before the end: some ids were never used.
        self.to = if seen < self.slice { end - 1 } else { to };
        set_meta(connection, "indexed_to", self.to)?;
        let took = started.elapsed();
        if took > SLICE_TIME {
            self.slice = (self.slice / 2).max(1);
        } else if took < SLICE_TIME / 2 {
            self.slice = (self.slice * 2).min(MAX_SLICE);
        }
        Ok(())
    }
}
