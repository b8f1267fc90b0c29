//! The tables, and the numbers that stand in them.
//!
//! Rowid tables throughout, keyed by small numbers that grow: a table ordered by random keys was measured to
//! be six times slower. A migration that has been released never changes; a new one goes to the end.

use rusqlite::Connection;

use crate::core::{
    event::Durable,
    session::{SessionStatus, TaskStatus},
};

/// In the header of every file that is ours: "Duo1".
pub(super) const APPLICATION_ID: u32 = 0x4475_6f31;

/// From an empty file to the present; `user_version` counts those that were run.
pub(super) const MIGRATIONS: &[&str] = &[V1, V2];

pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

const V1: &str = "
-- One value a key: incarnation, boot_id, clean, synced, backup, indexed_to.
CREATE TABLE meta (
    key TEXT NOT NULL UNIQUE,
    value
);
INSERT INTO meta (key, value) VALUES ('indexed_to', 0);

-- One row a log. What comes after head is NULL unless it is a session's.
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    -- NULL once deleted, and while a fork is being copied: then only the writer knows of it.
    topic TEXT UNIQUE,
    -- Of the epoch only this part is kept: the store's incarnation is the other.
    epoch_part TEXT NOT NULL,
    first INTEGER NOT NULL,
    head INTEGER NOT NULL,
    owner TEXT,
    title TEXT,
    -- 0 idle, 1 running, 2 closed
    status INTEGER,
    created_at INTEGER,
    updated_at INTEGER,
    unfinished INTEGER NOT NULL DEFAULT 0,
    -- JSON of the rest of the fold: run, queue, context, messages.
    state TEXT
);
CREATE INDEX logs_by_owner ON logs (owner, updated_at DESC, topic) WHERE owner IS NOT NULL;
CREATE INDEX logs_unfinished ON logs (topic) WHERE unfinished = 1;

-- Ids grow and are never used twice: the text index goes by them.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    log_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    -- See kind_of.
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    run_id BLOB,
    -- JSON of core::event::Durable.
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX events_by_seq ON events (log_id, seq);
-- The runs that have ended.
CREATE INDEX events_ended ON events (log_id, run_id) WHERE kind = 10;

-- Accepted commands, oldest first; key is the first half of a SHA-256.
CREATE TABLE commands (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    -- JSON of core::command::Done.
    done TEXT NOT NULL
);

-- Pieces of messages that are still streaming, in order.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    log_id INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    run_id BLOB NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX chunks_by_log ON chunks (log_id);

-- What can be searched, by events.id; filled behind the log, up to indexed_to.
CREATE VIRTUAL TABLE search USING fts5 (
    text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
";

const V2: &str = "
-- JSON of core::session::TaskRecord, where the session is a task's, and its status: see task_status_number.
ALTER TABLE logs ADD COLUMN task TEXT;
ALTER TABLE logs ADD COLUMN task_status INTEGER;
DROP INDEX logs_by_owner;
CREATE INDEX logs_by_owner ON logs (owner, updated_at DESC, topic) WHERE owner IS NOT NULL AND task IS NULL;
CREATE INDEX tasks_by_owner ON logs (owner, updated_at DESC, topic) WHERE task IS NOT NULL;
CREATE INDEX tasks_by_status ON logs (owner, task_status, updated_at DESC, topic) WHERE task IS NOT NULL;

-- The documents that sessions share, of those that have been changed; JSON.
CREATE TABLE shared_states (
    log_id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    value TEXT NOT NULL
);
";

/// Runs the migrations that a file has not seen yet, each in a transaction of its own.
pub(super) fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (number, migration) in (1..).zip(MIGRATIONS).skip(version as usize) {
        let batch = format!("BEGIN IMMEDIATE; {migration} PRAGMA user_version = {number}; COMMIT;");
        connection.execute_batch(&batch)?;
    }
    Ok(())
}

pub(super) mod kind {
    pub(in super::super) const SESSION_CREATED: i64 = 0;
    pub(in super::super) const SYSTEM_MESSAGE: i64 = 1;
    pub(in super::super) const SEED_MESSAGE: i64 = 2;
    pub(in super::super) const USER_MESSAGE: i64 = 3;
    pub(in super::super) const RUN_STARTED: i64 = 4;
    pub(in super::super) const TOOL_CALL_STARTED: i64 = 5;
    pub(in super::super) const TOOL_CALL_ENDED: i64 = 6;
    pub(in super::super) const AGENT_RESPONSE: i64 = 7;
    pub(in super::super) const CONTEXT_UPDATED: i64 = 8;
    pub(in super::super) const ERROR: i64 = 9;
    pub(in super::super) const RUN_FINISHED: i64 = 10;
    pub(in super::super) const SESSION_UPDATED: i64 = 11;
    pub(in super::super) const SESSION_CLOSED: i64 = 12;
    pub(in super::super) const APPROVAL_REQUESTED: i64 = 13;
    pub(in super::super) const APPROVAL_RESOLVED: i64 = 14;
    pub(in super::super) const STATE_PATCHED: i64 = 15;
    pub(in super::super) const SUGGESTED: i64 = 16;
    pub(in super::super) const TASK: i64 = 17;
    pub(in super::super) const PROGRESSED: i64 = 18;
}

/// The number that tells, without its body, what an event is.
pub(super) fn kind_of(body: &Durable) -> i64 {
    match body {
        Durable::SessionCreated { .. } => kind::SESSION_CREATED,
        Durable::SystemMessage { .. } => kind::SYSTEM_MESSAGE,
        Durable::SeedMessage { .. } => kind::SEED_MESSAGE,
        Durable::UserMessage { .. } => kind::USER_MESSAGE,
        Durable::RunStarted { .. } => kind::RUN_STARTED,
        Durable::ToolCallStarted { .. } => kind::TOOL_CALL_STARTED,
        Durable::ToolCallEnded { .. } => kind::TOOL_CALL_ENDED,
        Durable::AgentResponse(_) => kind::AGENT_RESPONSE,
        Durable::ContextUpdated(_) => kind::CONTEXT_UPDATED,
        Durable::Error { .. } => kind::ERROR,
        Durable::RunFinished { .. } => kind::RUN_FINISHED,
        Durable::SessionUpdated { .. } => kind::SESSION_UPDATED,
        Durable::SessionClosed { .. } => kind::SESSION_CLOSED,
        Durable::ApprovalRequested { .. } => kind::APPROVAL_REQUESTED,
        Durable::ApprovalResolved { .. } => kind::APPROVAL_RESOLVED,
        Durable::StatePatched { .. } => kind::STATE_PATCHED,
        Durable::Suggested { .. } => kind::SUGGESTED,
        Durable::Task(_) => kind::TASK,
        Durable::Progressed(_) => kind::PROGRESSED,
    }
}

/// `core::session::is_preamble`, by kind.
pub(super) fn is_preamble(kind: i64) -> bool {
    matches!(kind, kind::SYSTEM_MESSAGE | kind::SEED_MESSAGE)
}

/// `core::session::is_message`, by kind.
pub(super) fn is_message(kind: i64) -> bool {
    is_preamble(kind)
        || matches!(
            kind,
            kind::USER_MESSAGE
                | kind::AGENT_RESPONSE
                | kind::TOOL_CALL_STARTED
                | kind::TOOL_CALL_ENDED
                | kind::APPROVAL_REQUESTED
                | kind::APPROVAL_RESOLVED
                | kind::ERROR
        )
}

/// Whether `core::search::searched_text` finds a text in the event, by kind.
pub(super) fn is_searched(kind: i64) -> bool {
    matches!(kind, kind::USER_MESSAGE | kind::AGENT_RESPONSE)
}

pub(super) fn status_number(status: SessionStatus) -> i64 {
    match status {
        SessionStatus::Idle => 0,
        SessionStatus::Running => 1,
        SessionStatus::Closed => 2,
        SessionStatus::WaitingApproval => 3,
    }
}

pub(super) fn task_status_number(status: TaskStatus) -> i64 {
    match status {
        TaskStatus::Pending => 0,
        TaskStatus::Running => 1,
        TaskStatus::Paused => 2,
        TaskStatus::Completed => 3,
        TaskStatus::Failed => 4,
        TaskStatus::Cancelled => 5,
    }
}

pub(super) fn status_of(number: i64) -> SessionStatus {
    match number {
        1 => SessionStatus::Running,
        2 => SessionStatus::Closed,
        3 => SessionStatus::WaitingApproval,
        _ => SessionStatus::Idle,
    }
}
