//! The store `memory:`: everything in this process, gone with it.
//!
//! Bounded in bytes. When full, the oldest closed sessions make room; when there are none, new sessions
//! and new messages are refused, while runs that have begun may still end.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, VecDeque},
    iter::Peekable,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, RwLock},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};

use crate::core::{
    command::{CommandKey, Remember},
    event::{Durable, Event, Timestamp},
    ids::{Epoch, Principal, Seq, SessionId, Topic, random_tag},
    log::KEPT_EVENTS,
    ports::{
        Append, AppendError, Appended, Head, Page, PageLimit, ReadFrom, Remembered, SessionFilter,
        SessionTail, Store, StoreError,
    },
    session::{SessionRecord, SessionState, SessionStatus, is_message, is_preamble},
};

/// How long an accepted command is remembered.
const COMMAND_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How many accepted commands are remembered; past it the oldest are forgotten.
const MAX_COMMANDS: usize = 1_000_000;
/// What a remembered command takes, roughly, with its place in the order.
const COMMAND_BYTES: usize = 320;
/// What a session takes beside its events, roughly.
const SESSION_BYTES: usize = 1024;

pub struct MemoryStore {
    incarnation: String,
    max_bytes: usize,
    logs: RwLock<HashMap<Topic, Arc<Mutex<Log>>>>,
    catalog: Mutex<Catalog>,
}

struct Log {
    epoch: Epoch,
    /// Number of the oldest event kept.
    first: Seq,
    events: VecDeque<Arc<Event>>,
    /// Of a session's log.
    state: Option<SessionState>,
    bytes: usize,
}

/// Where a session stands in its owner's list: the one that changed last comes first.
type ListPlace = (Reverse<Timestamp>, SessionId);

/// What is not in one log: the order of sessions, the remembered commands, the bytes in use.
#[derive(Default)]
struct Catalog {
    bytes: usize,
    sessions: HashMap<Principal, BTreeSet<ListPlace>>,
    /// Oldest first.
    closed: VecDeque<SessionId>,
    commands: HashMap<CommandKey, Remembered>,
    /// Oldest first.
    command_order: VecDeque<(Instant, CommandKey)>,
}

impl MemoryStore {
    pub fn new(max_bytes: usize) -> Self {
        Self { incarnation: random_tag(), max_bytes, logs: RwLock::default(), catalog: Mutex::default() }
    }

    fn log(&self, topic: &Topic) -> Option<Arc<Mutex<Log>>> {
        self.logs.read().expect("no panic while locked").get(topic).cloned()
    }

    /// Runs `read` on a log, if there is such a log.
    fn with_log<T>(&self, topic: &Topic, read: impl FnOnce(&Log) -> T) -> Option<T> {
        let log = self.log(topic)?;
        let log = lock(&log);
        Some(read(&log))
    }

    fn append_now(&self, append: Append) -> Result<Appended, AppendError> {
        let Append { topic, expected_seq, events, commands } = append;
        let mut catalog = lock(&self.catalog);
        if let Some(remembered) = commands.iter().find_map(|command| catalog.commands.get(&command.key)) {
            return Err(AppendError::Duplicate(Box::new(remembered.clone())));
        }
        let log = self.log(&topic);
        let head = log.as_ref().map_or(0, |log| lock(log).last());
        if head != expected_seq || (log.is_none() && events.is_empty()) {
            return Err(AppendError::Conflict);
        }
        let added = events.iter().map(|event| event.weight()).sum::<usize>();
        let session = if log.is_none() { SESSION_BYTES } else { 0 };
        let removed = if events.iter().filter_map(|event| event.as_durable()).any(may_be_refused) {
            self.make_room(&mut catalog, session + added)?
        } else {
            Vec::new()
        };
        let log = log.unwrap_or_else(|| self.begin_log(&topic, &events, &mut catalog));
        {
            let mut log = lock(&log);
            let before = log.state.as_ref().map(|state| state.record.clone());
            let freed = events.into_iter().map(|event| log.push(event, topic.session().is_some())).sum();
            log.bytes = (log.bytes + added).saturating_sub(freed);
            catalog.bytes = (catalog.bytes + added).saturating_sub(freed);
            if let Some(state) = &log.state {
                catalog.place(before.as_ref(), &state.record);
            }
        }
        commands.into_iter().for_each(|command| catalog.remember(command));
        Ok(Appended { removed })
    }

    fn begin_log(&self, topic: &Topic, events: &[Arc<Event>], catalog: &mut Catalog) -> Arc<Mutex<Log>> {
        let epoch = events
            .first()
            .and_then(|event| event.position.as_ref())
            .map_or_else(|| Epoch::of_only_log(&self.incarnation), |position| position.epoch.clone());
        let log = Log { epoch, first: 1, events: VecDeque::new(), state: None, bytes: SESSION_BYTES };
        catalog.bytes += log.bytes;
        let log = Arc::new(Mutex::new(log));
        self.logs.write().expect("no panic while locked").insert(topic.clone(), log.clone());
        log
    }

    /// Removes closed sessions, oldest first, until `added` bytes fit; none if all of them would not do.
    fn make_room(&self, catalog: &mut Catalog, added: usize) -> Result<Vec<SessionRecord>, AppendError> {
        let mut missing = (catalog.bytes + added).saturating_sub(self.max_bytes);
        let mut to_remove = 0;
        while missing > 0 {
            let next = catalog.closed.get(to_remove).cloned().ok_or(AppendError::Full)?;
            missing =
                missing.saturating_sub(self.with_log(&Topic::Session(next), |log| log.bytes).unwrap_or(0));
            to_remove += 1;
        }
        let closed: Vec<_> = catalog.closed.drain(..to_remove).collect();
        let mut removed = Vec::new();
        for session_id in closed {
            let log = self.logs.write().expect("no panic while locked").remove(&Topic::Session(session_id));
            let Some(log) = log else { continue };
            let log = lock(&log);
            catalog.bytes = catalog.bytes.saturating_sub(log.bytes);
            if let Some(state) = &log.state {
                catalog.remove(&state.record);
                removed.push(state.record.clone());
            }
        }
        Ok(removed)
    }
}

impl Log {
    fn last(&self) -> Seq {
        self.first + self.events.len() as u64 - 1
    }

    fn head(&self) -> Head {
        Head { epoch: self.epoch.clone(), first: self.first, last: self.last() }
    }

    /// Takes in an event; the bytes of the one that it pushed out.
    fn push(&mut self, event: Arc<Event>, keep_all: bool) -> usize {
        match &mut self.state {
            Some(state) => state.apply(&event),
            None => self.state = SessionState::begin(&event),
        }
        self.events.push_back(event);
        if keep_all || self.events.len() <= KEPT_EVENTS {
            return 0;
        }
        self.first += 1;
        self.events.pop_front().map_or(0, |oldest| oldest.weight())
    }

    fn page(&self, from: ReadFrom, limit: PageLimit) -> Page {
        // A position after the last event, or before the first, is an empty page.
        let index = |seq: Seq| {
            usize::try_from(seq.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.events.len())
        };
        let (events, more) = match from {
            ReadFrom::After(seq) => {
                let mut rest = self.events.range(index(seq.saturating_add(1))..).peekable();
                (take(&mut rest, limit), rest.peek().is_some())
            }
            ReadFrom::Before(seq) => {
                let mut rest = self.events.range(..index(seq)).rev().peekable();
                let mut events = take(&mut rest, limit);
                events.reverse();
                (events, rest.peek().is_some())
            }
        };
        Page { events, head: self.head(), more }
    }

    fn tail(&self, limit: PageLimit) -> Option<SessionTail> {
        let state = self.state.clone()?;
        let shown = |event: &&Arc<Event>, is: fn(&Durable) -> bool| event.as_durable().is_some_and(is);
        let is_start = |body: &Durable| is_preamble(body) || matches!(body, Durable::SessionCreated { .. });
        let start = self.events.iter().take_while(|event| shown(event, is_start));
        let mut messages: Vec<_> = start.filter(|event| shown(event, is_preamble)).cloned().collect();
        let after = messages.last().map_or(0, |event| event.seq());

        let newest = self
            .events
            .iter()
            .rev()
            .take_while(|event| event.seq() > after)
            .filter(|event| shown(event, is_message));
        let mut newest = newest.peekable();
        let mut kept = take(&mut newest, limit);
        let truncated = newest.peek().is_some();
        kept.reverse();
        messages.extend(kept);
        Some(SessionTail { state, messages, truncated })
    }
}

impl Catalog {
    /// Puts a session's record where it belongs now in the order of its owner's sessions.
    fn place(&mut self, before: Option<&SessionRecord>, now: &SessionRecord) {
        let closed_before = before.is_some_and(|record| record.status == SessionStatus::Closed);
        if now.status == SessionStatus::Closed && !closed_before {
            self.closed.push_back(now.session_id.clone());
        }
        if before.is_some_and(|before| before.updated_at == now.updated_at) {
            return;
        }
        if let Some(before) = before {
            self.remove(before);
        }
        let sessions = self.sessions.entry(now.owner.clone()).or_default();
        sessions.insert((Reverse(now.updated_at), now.session_id.clone()));
    }

    fn remove(&mut self, record: &SessionRecord) {
        if let Some(sessions) = self.sessions.get_mut(&record.owner) {
            sessions.remove(&(Reverse(record.updated_at), record.session_id.clone()));
        }
    }

    /// The next sessions of a principal in the order of its list.
    fn slice(&self, owner: &Principal, after: Option<&ListPlace>) -> Vec<ListPlace> {
        const SLICE: usize = 256;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let sessions = self.sessions.get(owner).into_iter();
        sessions.flat_map(|sessions| sessions.range((start, Bound::Unbounded))).take(SLICE).cloned().collect()
    }

    fn remember(&mut self, Remember { key, digest, done }: Remember) {
        let now = Instant::now();
        self.commands.insert(key.clone(), Remembered { digest, done });
        self.command_order.push_back((now, key));
        self.bytes += COMMAND_BYTES;
        while self.command_order.len() > MAX_COMMANDS
            || self
                .command_order
                .front()
                .is_some_and(|(since, _)| now.duration_since(*since) > COMMAND_LIFETIME)
        {
            let Some((_, oldest)) = self.command_order.pop_front() else { break };
            self.commands.remove(&oldest);
            self.bytes = self.bytes.saturating_sub(COMMAND_BYTES);
        }
    }
}

impl Store for MemoryStore {
    fn incarnation(&self) -> &str {
        &self.incarnation
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        now(self.append_now(append))
    }

    fn recall(&self, key: &CommandKey) -> BoxFuture<'static, Result<Option<Remembered>, StoreError>> {
        now(Ok(lock(&self.catalog).commands.get(key).cloned()))
    }

    fn head(&self, topic: &Topic) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        now(Ok(self.with_log(topic, Log::head)))
    }

    fn read(
        &self,
        topic: &Topic,
        from: ReadFrom,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<Page>, StoreError>> {
        now(Ok(self.with_log(topic, |log| log.page(from, limit))))
    }

    fn session(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<SessionState>, StoreError>> {
        now(Ok(self.with_log(&Topic::Session(id.clone()), |log| log.state.clone()).flatten()))
    }

    fn tail(
        &self,
        id: &SessionId,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<SessionTail>, StoreError>> {
        now(Ok(self.with_log(&Topic::Session(id.clone()), |log| log.tail(limit)).flatten()))
    }

    fn sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>> {
        let SessionFilter { owner, agent_id, query, after, limit } = filter;
        let query = query.map(|query| query.to_lowercase());
        let mut after = after.map(|(updated_at, id)| (Reverse(updated_at), id));
        let mut records = Vec::new();
        while records.len() < limit {
            // A search may pass over many: appends get their turn between the slices.
            let slice = lock(&self.catalog).slice(&owner, after.as_ref());
            let Some(last) = slice.last() else { break };
            after = Some(last.clone());
            let matching = slice
                .into_iter()
                .filter(|(_, id)| agent_id.as_ref().is_none_or(|agent| agent.as_str() == id.agent_str()))
                .filter_map(|(_, id)| {
                    self.with_log(&Topic::Session(id), |log| Some(log.state.as_ref()?.record.clone()))?
                })
                .filter(|record| query.as_ref().is_none_or(|query| matches_query(record, query)));
            records.extend(matching.take(limit - records.len()));
        }
        now(Ok(records))
    }
}

fn matches_query(record: &SessionRecord, lower_query: &str) -> bool {
    record.session_id.as_str().contains(lower_query)
        || record.title.as_ref().is_some_and(|title| title.to_lowercase().contains(lower_query))
}

/// Whether a full store refuses the event: those that make work, not those that end it.
fn may_be_refused(body: &Durable) -> bool {
    matches!(body, Durable::SessionCreated { .. } | Durable::UserMessage { .. })
}

/// Events up to the limit; one at least, if there is one.
fn take<'a>(
    events: &mut Peekable<impl Iterator<Item = &'a Arc<Event>>>,
    limit: PageLimit,
) -> Vec<Arc<Event>> {
    let mut bytes = 0;
    let mut taken: Vec<Arc<Event>> = Vec::new();
    while let Some(event) = events.next_if(|event| {
        taken.is_empty() || (taken.len() < limit.events && bytes + event.weight() <= limit.bytes)
    }) {
        bytes += event.weight();
        taken.push(event.clone());
    }
    taken
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while locked")
}

/// A store in memory has every answer at once.
fn now<T: Send + 'static>(answer: T) -> BoxFuture<'static, T> {
    std::future::ready(answer).boxed()
}

#[cfg(test)]
mod tests;
