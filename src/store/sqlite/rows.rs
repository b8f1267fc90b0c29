//! Rows as the core's types, and back.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, types::Type};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::schema::status_of;
use crate::core::{
    event::{ContextUse, Event, Timestamp},
    ids::{Epoch, EventId, Position, RunId, Seq, SessionId, Topic},
    ports::Head,
    session::{Approval, QueuedRun, SessionRecord, SessionState},
    shared_state::SharedState,
};

/// A log as its row has it.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) id: i64,
    pub(super) epoch: Epoch,
    pub(super) first: Seq,
    pub(super) head: Seq,
    /// Of a session's log.
    pub(super) state: Option<SessionState>,
}

/// Where a log stands, and the number that its events know it by.
pub(super) struct Place {
    pub(super) id: i64,
    pub(super) head: Head,
}

/// The part of a session's fold that has no columns of its own.
#[derive(Serialize, Deserialize)]
struct Rest {
    run: Option<RunId>,
    queue: Vec<QueuedRun>,
    context: Option<ContextUse>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    approvals: Vec<Approval>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suggestions: Vec<String>,
    messages: u64,
}

/// A number as SQLite has it; no log is so long that it matters.
pub(super) fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    value.try_into().unwrap_or(0)
}

/// What a row says cannot be read.
fn unreadable(
    column: usize,
    error: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

pub(super) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

pub(super) fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

fn parsed<T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error: T::Err| unreadable(column, error))
}

/// The session that a row's topic names.
pub(super) fn session_id(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionId> {
    match parsed(row, column)? {
        Topic::Session(id) => Ok(id),
        other => Err(unreadable(column, format!("{other} is not a session"))),
    }
}

/// The event of a row that begins with seq, kind, at, event_id, run_id, body.
pub(super) fn event(row: &Row<'_>, topic: &Topic, epoch: &Epoch, of_task: bool) -> rusqlite::Result<Event> {
    let position = Position { epoch: epoch.clone(), seq: unsigned(row.get(0)?) };
    let run_id = row.get::<_, Option<[u8; 16]>>(4)?.map(RunId::from_bytes);
    let id = EventId::from_bytes(row.get(3)?);
    Ok(Event::stored(id, Timestamp(row.get(2)?), topic.clone(), position, run_id, from_json(row, 5)?)
        .of_task(of_task))
}

pub(super) fn find_place(
    connection: &Connection,
    topic: &Topic,
    incarnation: &str,
) -> rusqlite::Result<Option<Place>> {
    connection
        .prepare_cached("SELECT id, epoch_part, first, head, task IS NOT NULL FROM logs WHERE topic = ?1")?
        .query_row([topic.to_string()], |row| {
            let epoch = Epoch::of_log(row.get_ref(1)?.as_str()?, incarnation);
            let (first, last) = (unsigned(row.get(2)?), unsigned(row.get(3)?));
            let head = Head { epoch, first, last, of_task: row.get(4)? };
            Ok(Place { id: row.get(0)?, head })
        })
        .optional()
}

pub(super) fn find_log(
    connection: &Connection,
    topic: &Topic,
    incarnation: &str,
) -> rusqlite::Result<Option<Log>> {
    let mut find: CachedStatement<'_> = connection.prepare_cached(
        "SELECT topic, owner, title, status, created_at, updated_at, epoch_part, head, task, id, first, state,
             version, value
         FROM logs LEFT JOIN shared_states ON log_id = id WHERE topic = ?1",
    )?;
    find.query_row([topic.to_string()], |row| {
        let epoch = Epoch::of_log(row.get_ref(6)?.as_str()?, incarnation);
        let head = unsigned(row.get(7)?);
        let state = match row.get_ref(11)?.as_str_or_null()? {
            Some(_) => Some(state(record(row, incarnation)?, from_json(row, 11)?, shared_state(row, 12)?)),
            None => None,
        };
        Ok(Log { id: row.get(9)?, epoch, first: unsigned(row.get(10)?), head, state })
    })
    .optional()
}

/// The record of a row that begins with topic, owner, title, status, created_at, updated_at, epoch_part, head,
/// task.
pub(super) fn record(row: &Row<'_>, incarnation: &str) -> rusqlite::Result<SessionRecord> {
    Ok(SessionRecord {
        session_id: session_id(row, 0)?,
        owner: parsed(row, 1)?,
        title: row.get(2)?,
        status: status_of(row.get(3)?),
        created_at: Timestamp(row.get(4)?),
        updated_at: Timestamp(row.get(5)?),
        epoch: Epoch::of_log(row.get_ref(6)?.as_str()?, incarnation),
        head: unsigned(row.get(7)?),
        task: match row.get_ref(8)?.as_str_or_null()? {
            Some(_) => Some(from_json(row, 8)?),
            None => None,
        },
    })
}

/// The document of a row that has its version and its value from this column on; empty where it has none.
fn shared_state(row: &Row<'_>, column: usize) -> rusqlite::Result<SharedState> {
    Ok(match row.get::<_, Option<i64>>(column)? {
        Some(version) => SharedState::new(unsigned(version), from_json(row, column + 1)?),
        None => SharedState::default(),
    })
}

fn state(record: SessionRecord, rest: Rest, shared: SharedState) -> SessionState {
    let Rest { run, queue, context, approvals, suggestions, messages } = rest;
    SessionState { record, run, queue, context, approvals, suggestions, shared, messages }
}

/// The JSON of what a session's columns do not have.
pub(super) fn rest_json(state: &SessionState) -> rusqlite::Result<String> {
    let SessionState { record: _, run, queue, context, approvals, suggestions, shared: _, messages } = state;
    to_json(&Rest {
        run: *run,
        queue: queue.clone(),
        context: *context,
        approvals: approvals.clone(),
        suggestions: suggestions.clone(),
        messages: *messages,
    })
}
