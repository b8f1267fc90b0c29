//! The one thread that writes.
//!
//! Owns: the connection that writes, the order of what is written, and what is known of logs because they were
//! just written. Whatever waits is written in one transaction; nothing waits for a timer. Each request is
//! checked before its first row is written, so that a refusal leaves nothing to take back, and the others of
//! its transaction alone. Does not own: readers, and checkpoints in time.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::{
    checkpointer::WriteAheadLog,
    commands::{self, KeyHash, KnownCommands, MAX_COMMANDS},
    failure::{AbortOnPanic, Complaints, concerns_everything, explain},
    fork::Copying,
    log_cache::LogCache,
    open::{Database, connect_to_write, mark_clean_end, meta, sync_commits},
    purge,
    queue::{Popped, Queue, Refused},
    rows::{Log, find_log, number, rest_json, to_json},
    schema::{kind_of, status_number, task_status_number},
    search_index::SearchIndex,
};
use crate::core::{
    command::Remember,
    event::{Durable, Event},
    ids::{Epoch, SessionId, Topic},
    log::KEPT_EVENTS,
    ports::{Append, AppendError, Appended, Checkpoint, Fork, StoreError},
    session::{SessionState, TaskRecord},
    shared_state::SharedState,
};

/// Events of one transaction, at most.
const GROUP_EVENTS: usize = 256;
/// How long a store without a connection waits before it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long nothing must have come before the log of the file is folded back.
const IDLE: Duration = Duration::from_secs(1);
/// How often old commands are looked for when nothing else is to do.
const LOOK_FOR_EXPIRED: Duration = Duration::from_secs(60);
/// Half of the logs that are known at a time.
const CACHED_LOGS: usize = 2_048;

type Reply<T> = oneshot::Sender<Result<T, AppendError>>;

/// Something to write, and who is told of it.
pub(super) enum Request {
    Append(Append, Reply<Appended>),
    Fork(Box<Fork>, Reply<()>),
    Delete(SessionId, Vec<Remember>, Reply<()>),
    Checkpoint(Checkpoint, oneshot::Sender<Result<(), StoreError>>),
}

/// What became of a request.
pub(super) enum Outcome {
    Done,
    Refused(AppendError),
    /// The rest of it takes other transactions.
    Later(Box<Copying>),
}

pub(super) struct Writer {
    pub(super) queue: Arc<Queue<Request>>,
    database: Database,
    incarnation: String,
    /// None after a failure, until it could be opened again.
    connection: Option<Connection>,
    retry_at: Option<Instant>,
    complaints: Complaints,
    /// What failed last was not about one log.
    disk_failed: bool,
    pub(super) logs: LogCache,
    known: Arc<KnownCommands>,
    /// Of the commands in the transaction that is going.
    fresh: Vec<KeyHash>,
    commands: usize,
    looked_for_expired: Instant,
    next_event: i64,
    /// Forks that are being copied.
    copying: VecDeque<(Copying, Reply<()>)>,
    /// Logs whose rows are to go.
    purging: VecDeque<i64>,
    index: SearchIndex,
    wal: WriteAheadLog,
    /// The end that comes is one in good order.
    closing: Arc<AtomicBool>,
}

pub(super) struct Parts {
    pub(super) queue: Arc<Queue<Request>>,
    pub(super) database: Database,
    pub(super) incarnation: String,
    pub(super) known: Arc<KnownCommands>,
    pub(super) wal: WriteAheadLog,
    pub(super) closing: Arc<AtomicBool>,
}

impl Writer {
    /// Opens the file. Blocks.
    pub(super) fn open(parts: Parts) -> rusqlite::Result<Self> {
        let Parts { queue, database, incarnation, known, wal, closing } = parts;
        let mut writer = Self {
            queue,
            database,
            incarnation,
            connection: None,
            retry_at: None,
            complaints: Complaints::new("the writer"),
            disk_failed: false,
            logs: LogCache::new(CACHED_LOGS),
            known,
            fresh: Vec::new(),
            commands: 0,
            looked_for_expired: Instant::now(),
            next_event: 1,
            copying: VecDeque::new(),
            purging: VecDeque::new(),
            index: SearchIndex::default(),
            wal,
            closing,
        };
        let connection = writer.connect()?;
        writer.commands = writer.known.fill(&connection)?;
        writer.connection = Some(connection);
        Ok(writer)
    }

    /// Writes until the queue is closed.
    pub(super) fn run(mut self) {
        let _guard = AbortOnPanic("the store's writer");
        loop {
            let idle = match self.queue.pop(self.patience()) {
                Popped::Item(first) => {
                    let group = self.gather(first);
                    self.write(group);
                    false
                }
                Popped::Nothing => true,
                Popped::Closed => break,
            };
            self.copy_on();
            if self.queue.is_empty() {
                self.tidy(idle);
            }
        }
        self.end();
    }

    /// How long to wait for the next request before other work is looked at; `None`: there is none.
    fn patience(&self) -> Option<Duration> {
        if !self.copying.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.connection.is_none() {
            return Some(RETRY_AFTER);
        }
        if !self.purging.is_empty() || self.too_many_commands() {
            return Some(Duration::ZERO);
        }
        if let Some(patience) = self.index.patience(self.next_event) {
            return Some(patience);
        }
        Some(if self.wal.is_dirty() { IDLE } else { LOOK_FOR_EXPIRED })
    }

    /// What waits, up to a transaction's worth.
    fn gather(&self, first: Request) -> Vec<Request> {
        let mut events = first.events();
        let mut group = vec![first];
        while events < GROUP_EVENTS
            && let Popped::Item(request) = self.queue.pop(Some(Duration::ZERO))
        {
            events += request.events();
            group.push(request);
        }
        group
    }

    /// Writes requests in one transaction, and answers them once it is committed.
    fn write(&mut self, group: Vec<Request>) {
        let outcomes = self.in_transaction(true, |writer, connection| {
            group.iter().map(|request| writer.perform(connection, request)).collect::<Result<Vec<_>, _>>()
        });
        match outcomes {
            Ok(outcomes) => {
                for (request, outcome) in group.into_iter().zip(outcomes) {
                    match (outcome, request) {
                        (Outcome::Done, request) => request.answer(Ok(())),
                        (Outcome::Refused(error), request) => request.answer(Err(error)),
                        (Outcome::Later(copying), Request::Fork(_, reply)) => {
                            self.copying.push_back((*copying, reply));
                        }
                        (Outcome::Later(_), _) => unreachable!("only forks take several transactions"),
                    }
                }
            }
            // One of them alone may be what cannot be written: the others need not suffer for it.
            Err(_) if group.len() > 1 && !self.disk_failed => {
                group.into_iter().for_each(|request| self.write(vec![request]));
            }
            Err(error) => group.into_iter().for_each(|request| request.answer(Err(error.clone().into()))),
        }
    }

    /// Does something, commits it, and then whatever checkpoints that calls for. After a failure nothing of it
    /// has happened, and nothing that was known of the file is believed any more.
    fn in_transaction<T>(
        &mut self,
        lasting: bool,
        work: impl FnOnce(&mut Self, &Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reconnect()?,
        };
        let relaxed = self.database.sync_every_commit && !lasting;
        let done = (|| {
            if relaxed {
                sync_commits(&connection, false)?;
            }
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let done = work(self, &connection)?;
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(done)
        })();
        let done = done.map_err(|error| self.fail(&error))?;
        self.commands += self.fresh.len();
        self.fresh.drain(..).for_each(|key| self.known.insert(&key));
        // The transaction is there, whatever becomes of this.
        let after = (|| {
            if relaxed {
                sync_commits(&connection, true)?;
            }
            self.wal.after_commit(&connection)
        })();
        match after {
            Ok(()) => self.connection = Some(connection),
            Err(error) => drop(self.fail(&error)),
        }
        Ok(done)
    }

    /// After a failure: nothing that is known can be relied on.
    fn fail(&mut self, error: &rusqlite::Error) -> StoreError {
        self.disk_failed = concerns_everything(error);
        self.complaints.log(error);
        self.logs.clear();
        self.fresh.clear();
        let failed = StoreError(explain(error).to_owned());
        for (_, reply) in self.copying.drain(..) {
            let _ = reply.send(Err(failed.clone().into()));
        }
        failed
    }

    /// Opens the file again, though not all the time.
    fn reconnect(&mut self) -> Result<Connection, StoreError> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err(StoreError("the database cannot be opened; it is tried again and again".to_owned()));
        }
        match self.connect() {
            Ok(connection) => {
                self.retry_at = None;
                Ok(connection)
            }
            Err(error) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                Err(self.fail(&error))
            }
        }
    }

    /// Opens the file, and reads what the writer must know of it.
    fn connect(&mut self) -> rusqlite::Result<Connection> {
        let mut connection = connect_to_write(&self.database)?;
        self.wal.watch(&mut connection)?;
        let indexed_to = meta(&connection, "indexed_to")?.unwrap_or(0);
        let newest: Option<i64> = connection.query_row("SELECT max(id) FROM events", [], |row| row.get(0))?;
        // An id that the index has passed would never be found.
        self.next_event = self.next_event.max(newest.unwrap_or(0).max(indexed_to) + 1);
        self.index.start_at(indexed_to);
        self.purging = purge::left_over(&connection)?;
        Ok(connection)
    }

    // ---- requests ----

    fn perform(&mut self, connection: &Connection, request: &Request) -> rusqlite::Result<Outcome> {
        match request {
            Request::Append(append, _) => self.append(connection, append),
            Request::Fork(fork, _) => self.begin_fork(connection, fork),
            Request::Delete(id, commands, _) => self.delete(connection, id, commands),
            Request::Checkpoint(checkpoint, _) => self.checkpoint(connection, checkpoint),
        }
    }

    fn append(&mut self, connection: &Connection, append: &Append) -> rusqlite::Result<Outcome> {
        let Append { topic, expected_seq, events, commands } = append;
        if let Some(duplicate) = self.duplicate(connection, commands)? {
            return Ok(Outcome::Refused(duplicate));
        }
        let log = self.log(connection, topic)?;
        let head = log.as_ref().map_or(0, |log| log.head);
        if head != *expected_seq || (log.is_none() && events.is_empty()) {
            if let Some(log) = log {
                self.logs.put(topic.clone(), log);
            }
            return Ok(Outcome::Refused(AppendError::Conflict));
        }
        if let Some(log) = self.append_events(connection, topic, log, events)? {
            self.logs.put(topic.clone(), log);
        }
        self.remember(connection, commands)?;
        Ok(Outcome::Done)
    }

    /// The log with the events, which are written.
    fn append_events(
        &mut self,
        connection: &Connection,
        topic: &Topic,
        log: Option<Log>,
        events: &[Arc<Event>],
    ) -> rusqlite::Result<Option<Log>> {
        let Some(last) = events.last() else { return Ok(log) };
        let before = log.as_ref().and_then(|log| log.state.as_ref());
        let shared_before = before.map_or(0, |state| state.shared.version);
        let before = before.map(Shown::of);
        let is_new = log.is_none();
        let mut log = log.unwrap_or_else(|| {
            let epoch = last.position.as_ref().map(|position| position.epoch.clone());
            let epoch = epoch.unwrap_or_else(|| Epoch::of_only_log(&self.incarnation));
            let epoch = self.epoch_here(&epoch);
            Log { id: 0, epoch, first: 1, head: 0, state: None }
        });
        for event in events {
            match &mut log.state {
                Some(state) => state.apply(event),
                None => log.state = SessionState::begin(event),
            }
        }
        if let Some(state) = &mut log.state {
            state.record.epoch = log.epoch.clone();
        }
        log.head = last.seq();
        if topic.session().is_none() {
            log.first = log.first.max((log.head + 1).saturating_sub(KEPT_EVENTS as u64));
        }
        if is_new {
            log.id = insert_log(connection, Some(topic), &log)?;
        } else if before == log.state.as_ref().map(Shown::of) {
            update_head(connection, &log)?;
        } else {
            update_log(connection, topic, &log)?;
        }
        if let Some(state) = log.state.as_ref().filter(|state| state.shared.version != shared_before) {
            write_shared(connection, log.id, &state.shared)?;
        }
        for event in events {
            self.insert_event(connection, log.id, event)?;
            forget_chunks(connection, log.id, event)?;
        }
        if log.first > 1 {
            connection
                .prepare_cached("DELETE FROM events WHERE log_id = ?1 AND seq < ?2")?
                .execute(params![log.id, number(log.first)])?;
        }
        Ok(Some(log))
    }

    /// The epoch of a log, as it is read in this life.
    pub(super) fn epoch_here(&self, epoch: &Epoch) -> Epoch {
        Epoch::of_log(epoch.log_part(), &self.incarnation)
    }

    pub(super) fn insert_event(
        &mut self,
        connection: &Connection,
        log: i64,
        event: &Event,
    ) -> rusqlite::Result<()> {
        // The bus appends nothing else.
        let Some(body) = event.as_durable() else { return Ok(()) };
        let mut insert = connection.prepare_cached(
            "INSERT INTO events (id, log_id, seq, kind, at, event_id, run_id, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        insert.execute(params![
            self.next_event,
            log,
            number(event.seq()),
            kind_of(body),
            event.at.0,
            event.id.as_bytes(),
            event.run_id.as_ref().map(|id| id.as_bytes()),
            to_json(body)?,
        ])?;
        self.next_event += 1;
        Ok(())
    }

    /// Ids for so many events.
    pub(super) fn take_ids(&mut self, count: i64) -> i64 {
        let first = self.next_event;
        self.next_event += count;
        first
    }

    fn delete(
        &mut self,
        connection: &Connection,
        id: &SessionId,
        commands: &[Remember],
    ) -> rusqlite::Result<Outcome> {
        if let Some(duplicate) = self.duplicate(connection, commands)? {
            return Ok(Outcome::Refused(duplicate));
        }
        let Some(log) = self.log(connection, &Topic::Session(id.clone()))? else {
            return Ok(Outcome::Refused(AppendError::Conflict));
        };
        purge::hide(connection, log.id)?;
        self.purging.push_back(log.id);
        self.remember(connection, commands)?;
        Ok(Outcome::Done)
    }

    fn checkpoint(&mut self, connection: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<Outcome> {
        let Checkpoint { session_id, run_id, message_id, text } = checkpoint;
        let topic = Topic::Session(session_id.clone());
        // The session may have gone meanwhile.
        let Some(log) = self.log(connection, &topic)? else { return Ok(Outcome::Done) };
        let (log_id, message_id) = (log.id, message_id.as_bytes());
        self.logs.put(topic, log);
        // One message streams at a time.
        connection
            .prepare_cached("DELETE FROM chunks WHERE log_id = ?1 AND message_id <> ?2")?
            .execute(params![log_id, message_id])?;
        connection
            .prepare_cached("INSERT INTO chunks (log_id, message_id, run_id, text) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![log_id, message_id, run_id.as_bytes(), text])?;
        Ok(Outcome::Done)
    }

    /// A log, out of the cache.
    pub(super) fn log(&mut self, connection: &Connection, topic: &Topic) -> rusqlite::Result<Option<Log>> {
        match self.logs.take(topic) {
            Some(log) => Ok(Some(log)),
            None => find_log(connection, topic, &self.incarnation),
        }
    }

    /// What there is to say if one of these commands has been carried out before.
    pub(super) fn duplicate(
        &self,
        connection: &Connection,
        new: &[Remember],
    ) -> rusqlite::Result<Option<AppendError>> {
        for command in new {
            let key = commands::hash(&command.key);
            if (self.fresh.contains(&key) || self.known.may_know(&key))
                && let Some(remembered) = commands::recall(connection, &key)?
            {
                return Ok(Some(AppendError::Duplicate(Box::new(remembered))));
            }
        }
        Ok(None)
    }

    pub(super) fn remember(&mut self, connection: &Connection, new: &[Remember]) -> rusqlite::Result<()> {
        for command in new {
            self.fresh.push(commands::remember(connection, command)?);
        }
        Ok(())
    }

    // ---- what is done when there is time ----

    /// Copies a slice of a fork. Appends come in between, but do not wait for the whole of it.
    fn copy_on(&mut self) {
        let Some((mut copying, reply)) = self.copying.pop_front() else { return };
        let is_last = copying.is_last_slice();
        match self.in_transaction(is_last, |writer, connection| writer.copy_slice(connection, &mut copying)) {
            Ok(Outcome::Later(_)) => unreachable!("a slice is done or refused"),
            Ok(Outcome::Done) if !copying.is_complete() => self.copying.push_back((copying, reply)),
            Ok(Outcome::Done) => drop(reply.send(Ok(()))),
            Ok(Outcome::Refused(error)) => {
                self.purging.push_back(copying.log());
                drop(reply.send(Err(error)));
            }
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    /// One small piece of what can wait.
    fn tidy(&mut self, idle: bool) {
        // A log that is being copied from may be among those that were deleted.
        if let Some(log) = self.purging.front().copied().filter(|_| self.copying.is_empty()) {
            let purged = self.in_transaction(false, |_, connection| purge::slice(connection, log));
            // A log that is damaged stays; it is tried again after the next start.
            if purged == Ok(true) || (purged.is_err() && !self.disk_failed) {
                self.purging.pop_front();
            }
        } else if self.too_many_commands() || (idle && self.looked_for_expired.elapsed() > LOOK_FOR_EXPIRED) {
            self.forget_commands();
        } else if self.index.is_due(self.next_event, idle) {
            let end = self.next_event;
            let mut index = self.index.clone();
            match self.in_transaction(false, |_, connection| index.advance(connection, end)) {
                Ok(()) => self.index = index,
                // Nothing is found any more that comes from now on, but everything else goes on.
                Err(_) if !self.disk_failed => self.index.give_up(),
                Err(_) => {}
            }
        } else if idle && self.index.is_complete(self.next_event) && self.copying.is_empty() {
            self.fold_back();
        }
    }

    fn too_many_commands(&self) -> bool {
        self.commands > MAX_COMMANDS
    }

    fn forget_commands(&mut self) {
        let count = self.commands;
        let forgotten = self
            .in_transaction(false, |_, connection| commands::forget_slice(connection, count, MAX_COMMANDS));
        let forgotten = forgotten.unwrap_or(0);
        self.commands = self.commands.saturating_sub(forgotten);
        if forgotten < commands::SLICE {
            self.looked_for_expired = Instant::now();
        }
    }

    fn fold_back(&mut self) {
        let Ok(connection) = self.connection.take().map_or_else(|| self.reconnect(), Ok) else { return };
        match self.wal.when_idle(&connection) {
            Ok(()) => self.connection = Some(connection),
            Err(error) => drop(self.fail(&error)),
        }
    }

    /// The queue is closed, and empty.
    fn end(mut self) {
        self.wal.close();
        if self.closing.load(Ordering::Acquire) {
            while !self.copying.is_empty() {
                self.copy_on();
            }
            let connection = self.connection.take().map_or_else(|| self.connect(), Ok);
            if let Err(error) = connection.and_then(|connection| mark_clean_end(&connection)) {
                self.fail(&error);
            }
        }
        for (_, reply) in self.copying.drain(..) {
            let _ = reply.send(Err(Refused::Closed.to_error().into()));
        }
    }
}

impl Request {
    /// Its part of a transaction.
    fn events(&self) -> usize {
        match self {
            Request::Append(append, _) => append.events.len().max(1),
            Request::Fork(..) => GROUP_EVENTS,
            Request::Delete(..) | Request::Checkpoint(..) => 1,
        }
    }

    /// Tells whoever asked, who may have gone.
    fn answer(self, result: Result<(), AppendError>) {
        match self {
            Request::Append(_, reply) => drop(reply.send(result.map(|()| Appended::default()))),
            Request::Fork(_, reply) | Request::Delete(_, _, reply) => drop(reply.send(result)),
            Request::Checkpoint(_, reply) => {
                let result = result.map_err(|error| match error {
                    AppendError::Failed(error) => error,
                    other => StoreError(other.to_string()),
                });
                drop(reply.send(result));
            }
        }
    }
}

/// What the columns of a session's row are made of, but for its head and the rest of its state.
#[derive(PartialEq)]
struct Shown {
    title: Option<String>,
    status: i64,
    updated_at: i64,
    unfinished: bool,
    task: Option<Box<TaskRecord>>,
}

impl Shown {
    fn of(state: &SessionState) -> Self {
        Self {
            title: state.record.title.clone(),
            status: status_number(state.record.status),
            updated_at: state.record.updated_at.0,
            unfinished: state.is_unfinished(),
            task: state.record.task.clone(),
        }
    }
}

/// Writes a log's row; without a topic nobody can find it. Its number.
pub(super) fn insert_log(connection: &Connection, topic: Option<&Topic>, log: &Log) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO logs (epoch_part, first, head) VALUES (?1, ?2, ?3)")?
        .execute(params![log.epoch.log_part(), number(log.first), number(log.head)])?;
    let id = connection.last_insert_rowid();
    if let Some(topic) = topic {
        update_log(connection, topic, &Log { id, ..log.clone() })?;
    }
    Ok(id)
}

/// Brings a log's row up to date.
pub(super) fn update_log(connection: &Connection, topic: &Topic, log: &Log) -> rusqlite::Result<()> {
    let state = log.state.as_ref();
    let record = state.map(|state| &state.record);
    let shown = state.map(Shown::of);
    let mut update = connection.prepare_cached(
        "UPDATE logs SET topic = ?2, first = ?3, head = ?4, owner = ?5, title = ?6, status = ?7,
             created_at = ?8, updated_at = ?9, unfinished = ?10, state = ?11, task = ?12,
             task_status = ?13
         WHERE id = ?1",
    )?;
    update.execute(params![
        log.id,
        topic.to_string(),
        number(log.first),
        number(log.head),
        record.map(|record| record.owner.as_str()),
        record.and_then(|record| record.title.as_deref()),
        shown.as_ref().map(|shown| shown.status),
        record.map(|record| record.created_at.0),
        shown.as_ref().map(|shown| shown.updated_at),
        shown.as_ref().is_some_and(|shown| shown.unfinished),
        state.map(rest_json).transpose()?,
        record.and_then(|record| record.task.as_ref()).map(to_json).transpose()?,
        record.and_then(|record| record.task.as_ref()).map(|task| task_status_number(task.status)),
    ])?;
    Ok(())
}

/// Keeps the document that a session shares.
pub(super) fn write_shared(connection: &Connection, log: i64, shared: &SharedState) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO shared_states (log_id, version, value) VALUES (?1, ?2, ?3)")?
        .execute(params![log, number(shared.version), to_json(shared.value.as_ref())?])?;
    Ok(())
}

/// The same where no index is concerned.
fn update_head(connection: &Connection, log: &Log) -> rusqlite::Result<()> {
    let state = log.state.as_ref().map(rest_json).transpose()?;
    connection
        .prepare_cached("UPDATE logs SET first = ?2, head = ?3, state = ?4 WHERE id = ?1")?
        .execute(params![log.id, number(log.first), number(log.head), state])?;
    Ok(())
}

/// What was saved of a message is of no use once the message, or its run, has ended.
fn forget_chunks(connection: &Connection, log: i64, event: &Event) -> rusqlite::Result<()> {
    match event.as_durable() {
        Some(Durable::AgentResponse(response)) => connection
            .prepare_cached("DELETE FROM chunks WHERE log_id = ?1 AND message_id = ?2")?
            .execute(params![log, response.message_id.as_bytes()])?,
        Some(Durable::RunFinished { .. }) => connection
            .prepare_cached("DELETE FROM chunks WHERE log_id = ?1 AND run_id = ?2")?
            .execute(params![log, event.run_id.as_ref().map(|id| id.as_bytes())])?,
        _ => 0,
    };
    Ok(())
}
