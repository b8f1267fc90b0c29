//! Forks: a copy of a log's beginning, made in slices, seen by nobody before it is whole.
//!
//! The new log has no topic until the last slice, so a crash leaves a log that is purged like a deleted one.

use rusqlite::{Connection, params};

use super::{
    rows::{Log, number, unsigned},
    writer::{Outcome, Writer, insert_log, update_log, write_shared},
};
use crate::core::{
    ids::{Seq, Topic},
    ports::{AppendError, Fork},
};

/// Events that one transaction copies, at most, and bytes of their bodies.
const SLICE_EVENTS: u64 = 512;
const SLICE_BYTES: i64 = 1024 * 1024;

/// A fork that is being made.
pub(super) struct Copying {
    fork: Fork,
    /// The log that is copied from.
    from: i64,
    /// The log that is made.
    to: i64,
    /// The last event that is there already.
    copied: Seq,
}

impl Copying {
    pub(super) fn log(&self) -> i64 {
        self.to
    }

    pub(super) fn is_complete(&self) -> bool {
        self.copied == self.head()
    }

    /// Probably; large events may make another one necessary.
    pub(super) fn is_last_slice(&self) -> bool {
        self.head() - self.copied <= SLICE_EVENTS
    }

    fn head(&self) -> Seq {
        self.fork.state.record.head
    }

    fn topic(&self) -> &Topic {
        &self.fork.created.topic
    }
}

impl Writer {
    /// Makes the hidden log with its first events; that is all there is to do for a short one.
    pub(super) fn begin_fork(&mut self, connection: &Connection, fork: &Fork) -> rusqlite::Result<Outcome> {
        let Fork { from, created, state, commands } = fork;
        if let Some(refused) = self.refusal(connection, &created.topic, commands)? {
            return Ok(Outcome::Refused(refused));
        }
        let from = Topic::Session(from.clone());
        let Some(source) = self.log(connection, &from)? else {
            return Ok(Outcome::Refused(AppendError::Conflict));
        };
        let (source_id, source_head) = (source.id, source.head);
        self.logs.put(from, source);
        if source_head < state.record.head || state.record.head == 0 {
            return Ok(Outcome::Refused(AppendError::Conflict));
        }
        let epoch = state.record.epoch.clone();
        let hidden = Log { id: 0, epoch, first: 1, head: 0, state: None };
        let to = insert_log(connection, None, &hidden)?;
        self.insert_event(connection, to, created)?;
        let fork = Fork {
            from: fork.from.clone(),
            created: created.clone(),
            state: state.clone(),
            commands: commands.clone(),
        };
        let mut copying = Copying { fork, from: source_id, to, copied: 1 };
        // Nobody else can have taken its place: they would have to wait for this transaction.
        match self.copy_slice(connection, &mut copying)? {
            Outcome::Done if !copying.is_complete() => Ok(Outcome::Later(Box::new(copying))),
            outcome => Ok(outcome),
        }
    }

    /// Copies the next slice, and with the last one makes the log visible.
    pub(super) fn copy_slice(
        &mut self,
        connection: &Connection,
        copying: &mut Copying,
    ) -> rusqlite::Result<Outcome> {
        let end = slice_end(connection, copying)?;
        if end == copying.copied && !copying.is_complete() {
            // Events are missing in its source: the file is not what it was.
            return Ok(Outcome::Refused(AppendError::Conflict));
        }
        if end > copying.copied {
            let base = self.take_ids(number(end - copying.copied)) - number(copying.copied) - 1;
            let mut copy = connection.prepare_cached(
                "INSERT INTO events (id, log_id, seq, kind, at, event_id, run_id, body)
                 SELECT ?1 + seq, ?2, seq, kind, at, event_id, run_id, body
                 FROM events WHERE log_id = ?3 AND seq > ?4 AND seq <= ?5 ORDER BY seq",
            )?;
            copy.execute(params![base, copying.to, copying.from, number(copying.copied), number(end)])?;
        }
        copying.copied = end;
        if !copying.is_complete() {
            return Ok(Outcome::Done);
        }
        let topic = copying.topic().clone();
        if let Some(refused) = self.refusal(connection, &topic, &copying.fork.commands)? {
            return Ok(Outcome::Refused(refused));
        }
        let state = copying.fork.state.clone();
        let epoch = self.epoch_here(&state.record.epoch);
        let mut log = Log { id: copying.to, epoch, first: 1, head: state.record.head, state: Some(state) };
        if let Some(state) = &mut log.state {
            state.record.epoch = log.epoch.clone();
        }
        update_log(connection, &topic, &log)?;
        if let Some(state) = log.state.as_ref().filter(|state| state.shared.version > 0) {
            write_shared(connection, log.id, &state.shared)?;
        }
        self.logs.put(topic, log);
        self.remember(connection, &copying.fork.commands)?;
        Ok(Outcome::Done)
    }

    /// Why a fork cannot be: it was done before, or something else has its name.
    fn refusal(
        &mut self,
        connection: &Connection,
        topic: &Topic,
        commands: &[crate::core::command::Remember],
    ) -> rusqlite::Result<Option<AppendError>> {
        if let Some(duplicate) = self.duplicate(connection, commands)? {
            return Ok(Some(duplicate));
        }
        let Some(log) = self.log(connection, topic)? else { return Ok(None) };
        self.logs.put(topic.clone(), log);
        Ok(Some(AppendError::Conflict))
    }
}

/// The last event of the next slice.
fn slice_end(connection: &Connection, copying: &Copying) -> rusqlite::Result<Seq> {
    let last = copying.head().min(copying.copied + SLICE_EVENTS);
    let mut sizes = connection.prepare_cached(
        "SELECT seq, octet_length(body) FROM events WHERE log_id = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
    )?;
    let mut rows = sizes.query(params![copying.from, number(copying.copied), number(last)])?;
    let (mut end, mut bytes) = (copying.copied, 0);
    while let Some(row) = rows.next()? {
        bytes += row.get::<_, i64>(1)?;
        end = unsigned(row.get(0)?);
        if bytes >= SLICE_BYTES {
            break;
        }
    }
    Ok(end)
}
