//! What can be asked of a file: each question one moment of it, and never the length of a log.
//!
//! Owns: the questions in SQL, and the threads that ask them for a store. Does not own: a moment longer than
//! one call, so that the log of the file can always be folded back into it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::oneshot;

use super::{
    OpenError, SqliteReader,
    commands::{self, KeyHash},
    failure::{AbortOnPanic, Complaints, explain},
    open::{self, Refusal, beside, connect_to_read, meta},
    queue::{Popped, Queue, Refused},
    rows::{Place, event, find_log, find_place, number, record, session_id, unsigned},
    schema::{is_message, is_preamble, is_searched, kind, task_status_number},
};
use crate::{
    core::{
        event::{Event, Timestamp},
        ids::{MessageId, RunId, Seq, SessionId, Topic},
        ports::{
            Head, Hit, Hits, Page, PageLimit, Partial, ReadFrom, Remembered, Search, SessionFilter,
            SessionKind, SessionTail, StoreError,
        },
        search::{Words, searched_text},
        session::{SessionRecord, SessionState},
    },
    store::matches_query,
};

/// Questions that may wait, at most.
const WAITING: usize = 16 * 1024;
const THREADS: usize = 2;
/// Sessions that one call looks at, at most, while it seeks those that match.
const LIST_SLICE: usize = 1_000;
/// A search ends its page early once it has looked at so many messages, or for so long.
const SEARCH_ROWS: usize = 4_000;
/// Characters that the beginning of a word must have for the index to be asked for it.
const INDEXED_BEGINNING: usize = 3;
const SEARCH_TIME: Duration = Duration::from_millis(100);

// ---- the threads ----

type Question = Box<dyn FnOnce(&mut Desk) + Send>;

/// Where questions are handed in.
#[derive(Clone)]
pub(super) struct Readers {
    questions: Arc<Queue<Question>>,
}

/// One thread's connection, made anew after it has failed.
struct Desk {
    path: PathBuf,
    incarnation: String,
    reader: Option<Reader>,
    complaints: Complaints,
}

impl Readers {
    /// Starts the threads; they end once the queue is closed.
    pub(super) fn start(
        path: &Path,
        incarnation: &str,
    ) -> std::io::Result<(Self, Vec<std::thread::JoinHandle<()>>)> {
        let questions: Arc<Queue<Question>> = Arc::new(Queue::new(WAITING));
        let threads = (0..THREADS).map(|_| {
            let questions = questions.clone();
            let mut desk = Desk {
                path: path.to_owned(),
                incarnation: incarnation.to_owned(),
                reader: None,
                complaints: Complaints::new("a reader"),
            };
            std::thread::Builder::new().name("store-reader".to_owned()).spawn(move || {
                let _guard = AbortOnPanic("a reader of the store");
                while let Popped::Item(question) = questions.pop(None) {
                    question(&mut desk);
                }
            })
        });
        let threads = threads.collect::<Result<Vec<_>, _>>();
        let readers = Self { questions };
        if threads.is_err() {
            readers.close();
        }
        Ok((readers, threads?))
    }

    pub(super) fn close(&self) {
        self.questions.close();
    }

    /// Asks, now; the answer comes from another thread.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (to, answer) = oneshot::channel();
        let question: Question = Box::new(move |desk| {
            // Whoever asked may have gone.
            let _ = to.send(desk.answer(question));
        });
        match self.questions.push(question) {
            Ok(()) => answer.map(|answer| answer.unwrap_or_else(|_| Err(Refused::Closed.to_error()))).boxed(),
            Err(refused) => std::future::ready(Err(refused.to_error())).boxed(),
        }
    }
}

impl Desk {
    fn answer<T>(&mut self, question: impl FnOnce(&Reader) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let reader = match self.reader.take() {
            Some(reader) => Ok(reader),
            None => Reader::open(&self.path, &self.incarnation),
        };
        let answer = reader.and_then(|reader| {
            let answer = question(&reader)?;
            self.reader = Some(reader);
            Ok(answer)
        });
        answer.map_err(|error| {
            self.complaints.log(&error);
            StoreError(explain(&error).to_owned())
        })
    }
}

// ---- the questions ----

// The questions that must not take longer with more to choose from; a test looks at how SQLite answers them.

const AFTER: &str = "SELECT seq, kind, at, event_id, run_id, body FROM events
    WHERE log_id = ?1 AND seq > ?2 ORDER BY seq";
const BEFORE: &str = "SELECT seq, kind, at, event_id, run_id, body FROM events
    WHERE log_id = ?1 AND seq < ?2 ORDER BY seq DESC";
const NEWEST: &str = "SELECT seq, kind, at, event_id, run_id, body FROM events
    WHERE log_id = ?1 AND seq > ?2 ORDER BY seq DESC";
const HIT: &str = "SELECT seq, kind, at, event_id, run_id, body, topic, title
    FROM events JOIN logs ON logs.id = events.log_id WHERE events.id = ?1 AND owner = ?2";
const FOUND: &str = "SELECT rowid FROM search WHERE search MATCH ?2 AND rowid < ?1 ORDER BY rowid DESC";
const MESSAGES: &str = "SELECT id FROM events WHERE id < ?1 ORDER BY id DESC";
const LIST: &str =
    "SELECT topic, owner, title, status, created_at, updated_at, epoch_part, head, task FROM logs
    WHERE owner = ?1 AND task IS NULL AND updated_at <= ?2 AND (updated_at < ?2 OR topic > ?3)
    ORDER BY updated_at DESC, topic";
const TASKS: &str =
    "SELECT topic, owner, title, status, created_at, updated_at, epoch_part, head, task FROM logs
    WHERE owner = ?1 AND task IS NOT NULL AND updated_at <= ?2 AND (updated_at < ?2 OR topic > ?3)
    ORDER BY updated_at DESC, topic";
const TASKS_BY_STATUS: &str =
    "SELECT topic, owner, title, status, created_at, updated_at, epoch_part, head, task FROM logs
    WHERE owner = ?1 AND task IS NOT NULL AND task_status = ?4 AND updated_at <= ?2
        AND (updated_at < ?2 OR topic > ?3)
    ORDER BY updated_at DESC, topic";
const UNFINISHED: &str = "SELECT topic FROM logs WHERE unfinished = 1 AND topic > ?1 ORDER BY topic LIMIT ?2";
const HAS_ENDED: &str = "SELECT 1 FROM logs JOIN events ON events.log_id = logs.id
    WHERE logs.topic = ?1 AND events.run_id = ?2 AND events.kind = 10";
const PARTIAL: &str = "SELECT chunks.run_id, chunks.message_id, chunks.text
    FROM chunks JOIN logs ON chunks.log_id = logs.id WHERE logs.topic = ?1 ORDER BY chunks.id";

/// A connection that only reads.
pub(super) struct Reader {
    connection: Connection,
    incarnation: String,
}

impl Reader {
    pub(super) fn open(path: &Path, incarnation: &str) -> rusqlite::Result<Self> {
        Ok(Self { connection: connect_to_read(path)?, incarnation: incarnation.to_owned() })
    }

    /// Asks several things of one moment.
    fn at_once<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let transaction = self.connection.unchecked_transaction()?;
        ask(&transaction)
    }

    pub(super) fn recall(&self, key: &KeyHash) -> rusqlite::Result<Option<Remembered>> {
        commands::recall(&self.connection, key)
    }

    pub(super) fn head(&self, topic: &Topic) -> rusqlite::Result<Option<Head>> {
        Ok(find_place(&self.connection, topic, &self.incarnation)?.map(|place| place.head))
    }

    pub(super) fn read(
        &self,
        topic: &Topic,
        from: ReadFrom,
        limit: PageLimit,
    ) -> rusqlite::Result<Option<Page>> {
        self.at_once(|connection| {
            let Some(Place { id, head }) = find_place(connection, topic, &self.incarnation)? else {
                return Ok(None);
            };
            let (question, seq) = match from {
                ReadFrom::After(seq) => (AFTER, seq),
                ReadFrom::Before(seq) => (BEFORE, seq),
            };
            let mut statement = connection.prepare_cached(question)?;
            let rows = statement.query(params![id, number(seq)])?;
            let (mut events, more) =
                take(rows, limit, |_| true, |row| event(row, topic, &head.epoch, head.of_task))?;
            if matches!(from, ReadFrom::Before(_)) {
                events.reverse();
            }
            Ok(Some(Page { events, head, more }))
        })
    }

    pub(super) fn session(&self, id: &SessionId) -> rusqlite::Result<Option<SessionState>> {
        let log = find_log(&self.connection, &Topic::Session(id.clone()), &self.incarnation)?;
        Ok(log.and_then(|log| log.state))
    }

    pub(super) fn tail(&self, id: &SessionId, limit: PageLimit) -> rusqlite::Result<Option<SessionTail>> {
        let topic = Topic::Session(id.clone());
        self.at_once(|connection| {
            let Some(log) = find_log(connection, &topic, &self.incarnation)? else { return Ok(None) };
            let Some(state) = log.state else { return Ok(None) };
            let of_task = state.record.task.is_some();
            let as_event = |row: &Row<'_>| event(row, &topic, &log.epoch, of_task);
            let mut messages = preamble(connection, log.id, as_event)?;
            let after = messages.last().map_or(0, |event| event.seq());
            let mut newest = connection.prepare_cached(NEWEST)?;
            let rows = newest.query(params![log.id, number(after)])?;
            let (mut kept, truncated) = take(rows, limit, is_message, as_event)?;
            kept.reverse();
            messages.append(&mut kept);
            Ok(Some(SessionTail { state, messages, truncated }))
        })
    }

    pub(super) fn partial(&self, id: &SessionId) -> rusqlite::Result<Option<Partial>> {
        let mut pieces = self.connection.prepare_cached(PARTIAL)?;
        let mut rows = pieces.query([Topic::Session(id.clone()).to_string()])?;
        let mut partial: Option<Partial> = None;
        while let Some(row) = rows.next()? {
            let text = row.get_ref(2)?.as_str()?;
            match &mut partial {
                Some(partial) => partial.text.push_str(text),
                None => {
                    let run_id = RunId::from_bytes(row.get(0)?);
                    let message_id = MessageId::from_bytes(row.get(1)?);
                    partial = Some(Partial { run_id, message_id, text: text.to_owned() });
                }
            }
        }
        Ok(partial)
    }

    pub(super) fn has_ended(&self, id: &SessionId, run_id: RunId) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached(HAS_ENDED)?
            .exists(params![Topic::Session(id.clone()).to_string(), run_id.as_bytes()])
    }

    pub(super) fn unfinished(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> rusqlite::Result<Vec<SessionId>> {
        let after = after.map_or_else(String::new, |id| Topic::Session(id.clone()).to_string());
        self.connection
            .prepare_cached(UNFINISHED)?
            .query_map(params![after, number(limit)], |row| session_id(row, 0))?
            .collect()
    }

    /// The next records of a list, of at most so many sessions that were looked at; where to go on, if the
    /// list has not ended.
    pub(super) fn list_slice(&self, filter: &SessionFilter) -> rusqlite::Result<ListSlice> {
        let query = filter.query.as_ref().map(|query| query.to_lowercase());
        let is_wanted = |record: &SessionRecord| {
            filter.agent_id.as_ref().is_none_or(|agent| agent.as_str() == record.session_id.agent_str())
                && query.as_ref().is_none_or(|query| matches_query(record, query))
        };
        let (updated_at, topic) = match &filter.after {
            Some((updated_at, id)) => (updated_at.0, Topic::Session(id.clone()).to_string()),
            None => (i64::MAX, String::new()),
        };
        let owner = filter.owner.as_str();
        let ask = |question| self.connection.prepare_cached(question);
        let mut statement;
        let mut rows = match filter.kind {
            SessionKind::Chats => {
                statement = ask(LIST)?;
                statement.query(params![owner, updated_at, topic])?
            }
            SessionKind::Tasks { status: None } => {
                statement = ask(TASKS)?;
                statement.query(params![owner, updated_at, topic])?
            }
            SessionKind::Tasks { status: Some(status) } => {
                statement = ask(TASKS_BY_STATUS)?;
                statement.query(params![owner, updated_at, topic, task_status_number(status)])?
            }
        };
        let mut slice = ListSlice { records: Vec::new(), next: None };
        for seen in 1.. {
            let Some(row) = rows.next()? else { break };
            let record = record(row, &self.incarnation)?;
            let place = (record.updated_at, record.session_id.clone());
            if is_wanted(&record) {
                slice.records.push(record);
            }
            if seen == LIST_SLICE || slice.records.len() >= filter.limit {
                slice.next = Some(place);
                break;
            }
        }
        Ok(slice)
    }

    pub(super) fn search(&self, search: &Search) -> rusqlite::Result<Hits> {
        let Sought { in_index, beginning } = Sought::of(&search.words);
        self.at_once(|connection| {
            let mut hits = Hits { indexed_to: indexed_to(connection)?, ..Hits::default() };
            let mut candidates =
                connection.prepare_cached(if in_index.is_some() { FOUND } else { MESSAGES })?;
            let after = search.after.map_or(i64::MAX, number);
            let mut rows = match in_index {
                Some(words) => candidates.query(params![after, words])?,
                None => candidates.query([after])?,
            };
            // The first row is where the index does its work.
            let mut row = rows.next()?;
            let started = Instant::now();
            let mut last = None;
            let mut seen = 0;
            while let Some(candidate) = row {
                let place: i64 = candidate.get(0)?;
                let hit = hit(connection, place, search, beginning.as_ref())?;
                if hits.hits.len() >= search.limit && hit.is_some() {
                    hits.next = last;
                    break;
                }
                hits.hits.extend(hit);
                last = Some(unsigned(place));
                seen += 1;
                if seen >= SEARCH_ROWS || started.elapsed() > SEARCH_TIME {
                    hits.next = last;
                    break;
                }
                row = rows.next()?;
            }
            Ok(hits)
        })
    }
}

/// A part of a list.
pub(super) struct ListSlice {
    pub(super) records: Vec<SessionRecord>,
    pub(super) next: Option<(Timestamp, SessionId)>,
}

/// The events that a conversation begins with.
fn preamble(
    connection: &Connection,
    log: i64,
    event: impl Fn(&Row<'_>) -> rusqlite::Result<Event>,
) -> rusqlite::Result<Vec<Arc<Event>>> {
    let mut statement = connection.prepare_cached(AFTER)?;
    let mut rows = statement.query([log, 0])?;
    let mut preamble = Vec::new();
    while let Some(row) = rows.next()? {
        match row.get(1)? {
            kind::SESSION_CREATED => {}
            kind if is_preamble(kind) => preamble.push(Arc::new(event(row)?)),
            _ => break,
        }
    }
    Ok(preamble)
}

/// The events of rows that are wanted, up to a limit; one at least, if there is one. Whether there are more.
fn take(
    mut rows: rusqlite::Rows<'_>,
    limit: PageLimit,
    is_wanted: impl Fn(i64) -> bool,
    event: impl Fn(&Row<'_>) -> rusqlite::Result<Event>,
) -> rusqlite::Result<(Vec<Arc<Event>>, bool)> {
    let mut bytes: usize = 0;
    let mut taken = Vec::new();
    while let Some(row) = rows.next()? {
        if !is_wanted(row.get(1)?) {
            continue;
        }
        if !taken.is_empty() && taken.len() >= limit.events {
            return Ok((taken, true));
        }
        let event = event(row)?;
        bytes = bytes.saturating_add(event.weight());
        if !taken.is_empty() && bytes > limit.bytes {
            return Ok((taken, true));
        }
        taken.push(Arc::new(event));
    }
    Ok((taken, false))
}

/// The moment up to which messages can be found; `None` once all can.
fn indexed_to(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let indexed_to: i64 = meta(connection, "indexed_to")?.unwrap_or(0);
    let newest: Option<i64> =
        connection.prepare_cached("SELECT max(id) FROM events")?.query_row([], |row| row.get(0))?;
    if newest.is_none_or(|newest| newest <= indexed_to) {
        return Ok(None);
    }
    let at = connection
        .prepare_cached("SELECT at FROM events WHERE id <= ?1 ORDER BY id DESC LIMIT 1")?
        .query_row([indexed_to], |row| row.get(0))
        .optional()?;
    Ok(Some(Timestamp(at.unwrap_or(0))))
}

/// What the index is asked for, and what is left to look for in the messages themselves.
struct Sought {
    /// All of these words, as FTS5 wants them; `None`: any message.
    in_index: Option<String>,
    /// A word must begin so. So many do that the index would gather them for seconds, while the messages that
    /// the next page needs are soon found.
    beginning: Option<Words>,
}

impl Sought {
    fn of(words: &Words) -> Self {
        // They are letters and digits only; in quotes none of them is an operator.
        let mut quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let last = words.iter().last().unwrap_or_default();
        if last.chars().count() >= INDEXED_BEGINNING {
            return Self { in_index: Some(quoted.join(" AND ") + "*"), beginning: None };
        }
        quoted.pop();
        let in_index = (!quoted.is_empty()).then(|| quoted.join(" AND "));
        Self { in_index, beginning: Words::of(last) }
    }
}

/// A message that may be a hit, if it is the owner's and still there.
fn hit(
    connection: &Connection,
    id: i64,
    search: &Search,
    beginning: Option<&Words>,
) -> rusqlite::Result<Option<Hit>> {
    let mut statement = connection.prepare_cached(HIT)?;
    let mut rows = statement.query(params![id, search.owner.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    if !is_searched(row.get(1)?) {
        return Ok(None);
    }
    let session_id = session_id(row, 6)?;
    // Only its text is of interest.
    let event = event(row, &Topic::System, &"".into(), false)?;
    let Some(text) = event.as_durable().and_then(searched_text) else { return Ok(None) };
    if beginning.is_some_and(|beginning| !beginning.are_in(text)) {
        return Ok(None);
    }
    let excerpt = search.words.excerpt(text);
    Ok(Some(Hit { session_id, title: row.get(7)?, seq: event.seq() as Seq, excerpt }))
}

// ---- beside a running server ----

impl SqliteReader {
    /// Opens a file that a server may have open too.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let refused = |refusal: Refusal| refusal.at(path);
        open::check_log_if_alone(path)?;
        let wal = std::fs::metadata(beside(path, "-wal")).map_or(0, |metadata| metadata.len());
        open::check_header(path, wal).map_err(refused)?;
        let connection = connect_to_read(path).map_err(Refusal::from).map_err(refused)?;
        open::check_version(&connection).map_err(refused)?;
        let incarnation = meta(&connection, "incarnation").map_err(Refusal::from).map_err(refused)?;
        let incarnation = incarnation.unwrap_or_default();
        Ok(Self { reader: Reader { connection, incarnation } })
    }

    pub fn session(&self, id: &SessionId) -> Result<Option<SessionState>, StoreError> {
        self.reader.session(id).map_err(failed)
    }

    pub fn read(&self, topic: &Topic, from: ReadFrom, limit: PageLimit) -> Result<Option<Page>, StoreError> {
        self.reader.read(topic, from, limit).map_err(failed)
    }

    /// Checks all pages of the file; what is wrong with it.
    pub fn verify(&self) -> Result<(), String> {
        open::quick_check(&self.reader.connection).map_err(|refusal| match refusal {
            Refusal::Damaged(what) | Refusal::Failed(what) => what,
            Refusal::TooNew(_) | Refusal::NotOurs => "it is not a file of this version".to_owned(),
        })
    }
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError(explain(&error).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::schema::migrate;

    #[test]
    fn no_question_looks_at_everything_or_sorts() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        let questions = [
            (AFTER, "events_by_seq"),
            (BEFORE, "events_by_seq"),
            (NEWEST, "events_by_seq"),
            (HIT, "PRIMARY KEY"),
            (MESSAGES, "PRIMARY KEY"),
            (LIST, "logs_by_owner"),
            (TASKS, "tasks_by_owner"),
            (TASKS_BY_STATUS, "tasks_by_status"),
            (UNFINISHED, "logs_unfinished"),
            (HAS_ENDED, "events_ended"),
        ];
        for (question, index) in questions {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
            let steps = plan.raw_query().mapped(|row| row.get::<_, String>(3));
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            assert!(steps.iter().all(|step| step.starts_with("SEARCH ")), "{steps:?}: {question}");
            assert!(steps.iter().any(|step| step.contains(index)), "{steps:?}: {question}");
        }
    }

    #[test]
    fn kinds_say_what_the_core_says() {
        // The number stands in the schema.
        assert!(HAS_ENDED.ends_with(&format!("kind = {}", kind::RUN_FINISHED)));
    }
}
