//! The store `memory:`: everything in this process, gone with it.
//!
//! Bounded in bytes. When full, the oldest closed sessions make room; when there are none, new sessions
//! and new messages are refused, while runs that have begun may still end.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    iter::Peekable,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, RwLock},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};

use super::matches_query;
use crate::core::{
    command::{CommandKey, Remember},
    event::{Durable, Event, TaskChange, Timestamp},
    ids::{Epoch, MessageId, Principal, RunId, Seq, SessionId, Topic, random_tag},
    log::KEPT_EVENTS,
    ports::{
        Append, AppendError, Appended, Checkpoint, Fork, Head, Hit, Hits, Page, PageLimit, Partial, ReadFrom,
        Remembered, Search, SessionFilter, SessionTail, Store, StoreError,
    },
    search::searched_text,
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

/// Cheap to clone: what is asked of it slowly keeps it.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
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
    /// Of each of them, where it stands among the events of all logs.
    places: VecDeque<u64>,
    /// Of a session's log.
    state: Option<SessionState>,
    /// Of the message that is streaming.
    partial: Option<Partial>,
    bytes: usize,
}

/// Where a session stands in its owner's list: the one that changed last comes first.
type ListPlace = (Reverse<Timestamp>, SessionId);

/// What is not in one log: the order of sessions, the remembered commands, the bytes in use.
#[derive(Default)]
struct Catalog {
    bytes: usize,
    /// Events that were ever appended.
    appended: u64,
    sessions: HashMap<Principal, BTreeSet<ListPlace>>,
    /// Oldest first.
    closed: VecDeque<SessionId>,
    commands: HashMap<CommandKey, Remembered>,
    /// Oldest first.
    command_order: VecDeque<(Instant, CommandKey)>,
}

impl MemoryStore {
    pub fn new(max_bytes: usize) -> Self {
        let incarnation = random_tag();
        let shared = Shared { incarnation, max_bytes, logs: RwLock::default(), catalog: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }
}

impl Shared {
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
        catalog.check_new(&commands)?;
        let log = self.log(&topic);
        let head = log.as_ref().map_or(0, |log| lock(log).last());
        if head != expected_seq || (log.is_none() && events.is_empty()) {
            return Err(AppendError::Conflict);
        }
        let added = events.iter().map(|event| event.weight()).sum::<usize>();
        let session = if log.is_none() { SESSION_BYTES } else { 0 };
        let removed = if events.iter().any(|event| may_be_refused(event)) {
            self.make_room(&mut catalog, session + added)?
        } else {
            Vec::new()
        };
        let log = log.unwrap_or_else(|| self.begin_log(&topic, &events, &mut catalog));
        {
            let mut log = lock(&log);
            let before = log.state.as_ref().map(|state| state.record.clone());
            let keep_all = topic.session().is_some();
            // A patch of a few bytes may make a document a thousand times as long.
            let state_before = log.state_bytes();
            let freed: usize =
                events.into_iter().map(|event| log.push(event, catalog.next_place(), keep_all)).sum();
            let (added, freed) = (added + log.state_bytes(), freed + state_before);
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
        let log = Log { bytes: SESSION_BYTES, ..Log::new(epoch) };
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
            removed.extend(self.remove_log(catalog, &session_id));
        }
        Ok(removed)
    }

    /// Takes a session's log away; its record.
    fn remove_log(&self, catalog: &mut Catalog, session_id: &SessionId) -> Option<SessionRecord> {
        let topic = Topic::Session(session_id.clone());
        let log = self.logs.write().expect("no panic while locked").remove(&topic)?;
        let log = lock(&log);
        catalog.bytes = catalog.bytes.saturating_sub(log.bytes);
        let record = log.state.as_ref()?.record.clone();
        catalog.remove(&record);
        Some(record)
    }

    fn checkpoint(&self, checkpoint: Checkpoint) {
        let Checkpoint { session_id, run_id, message_id, text } = checkpoint;
        let Some(log) = self.log(&Topic::Session(session_id)) else { return };
        let mut log = lock(&log);
        match &mut log.partial {
            Some(partial) if partial.message_id == message_id => partial.text.push_str(&text),
            partial => *partial = Some(Partial { run_id, message_id, text }),
        }
    }

    fn fork(&self, fork: Fork) -> Result<(), AppendError> {
        let Fork { from, created, state, commands } = fork;
        let mut catalog = lock(&self.catalog);
        catalog.check_new(&commands)?;
        let topic = created.topic.clone();
        let SessionRecord { epoch, head, .. } = state.record.clone();
        if self.log(&topic).is_some() {
            return Err(AppendError::Conflict);
        }
        let copied = self.with_log(&Topic::Session(from), |log| {
            if log.last() < head {
                return None;
            }
            let past = log.events.iter().skip(1).take_while(|event| event.seq() <= head);
            Some(
                past.filter_map(|event| event.copied_to(topic.clone(), epoch.clone()))
                    .map(Arc::new)
                    .collect(),
            )
        });
        let mut events: VecDeque<_> = copied.flatten().ok_or(AppendError::Conflict)?;
        events.push_front(created);
        let events_bytes = events.iter().map(|event| event.weight()).sum::<usize>();
        let added = SESSION_BYTES + events_bytes + state.weight();
        // Closed sessions do not make room for a copy.
        if catalog.bytes + added > self.max_bytes {
            return Err(AppendError::Full);
        }
        catalog.bytes += added;
        catalog.place(None, &state.record);
        let places = events.iter().map(|_| catalog.next_place()).collect();
        let log = Log { events, places, state: Some(state), bytes: added, ..Log::new(epoch) };
        self.logs.write().expect("no panic while locked").insert(topic, Arc::new(Mutex::new(log)));
        commands.into_iter().for_each(|command| catalog.remember(command));
        Ok(())
    }

    fn delete(&self, session_id: &SessionId, commands: Vec<Remember>) -> Result<(), AppendError> {
        let mut catalog = lock(&self.catalog);
        catalog.check_new(&commands)?;
        self.remove_log(&mut catalog, session_id).ok_or(AppendError::Conflict)?;
        catalog.closed.retain(|closed| closed != session_id);
        commands.into_iter().for_each(|command| catalog.remember(command));
        Ok(())
    }

    /// The records of a principal's next sessions that match; `None` once there are no more.
    fn matching(&self, filter: &SessionFilter, after: &mut Option<ListPlace>) -> Option<Vec<SessionRecord>> {
        // Appends get their turn between the slices.
        let slice = lock(&self.catalog).slice(&filter.owner, after.as_ref());
        *after = Some(slice.last()?.clone());
        let query = filter.query.as_ref().map(|query| query.to_lowercase());
        let records = slice
            .into_iter()
            .filter(|(_, id)| filter.agent_id.as_ref().is_none_or(|agent| agent.as_str() == id.agent_str()))
            .filter_map(|(_, id)| {
                self.with_log(&Topic::Session(id), |log| Some(log.state.as_ref()?.record.clone()))?
            })
            .filter(|record| filter.kind.takes(record))
            .filter(|record| query.as_ref().is_none_or(|query| matches_query(record, query)));
        Some(records.collect())
    }

    /// The messages of a session that have the words, with their places in the order of all messages.
    fn hits(&self, session_id: &SessionId, search: &Search) -> Vec<(u64, Hit)> {
        let hits = self.with_log(&Topic::Session(session_id.clone()), |log| {
            let title = log.state.as_ref().and_then(|state| state.record.title.clone());
            let hits = log.places.iter().zip(&log.events).filter_map(|(&place, event)| {
                if search.after.is_some_and(|after| place >= after) {
                    return None;
                }
                let text = searched_text(event.as_durable()?).filter(|text| search.words.are_in(text))?;
                let excerpt = search.words.excerpt(text);
                let hit =
                    Hit { session_id: session_id.clone(), title: title.clone(), seq: event.seq(), excerpt };
                Some((place, hit))
            });
            hits.collect()
        });
        hits.unwrap_or_default()
    }
}

impl Log {
    fn new(epoch: Epoch) -> Self {
        let (events, places) = (VecDeque::new(), VecDeque::new());
        Self { epoch, first: 1, events, places, state: None, partial: None, bytes: 0 }
    }

    fn last(&self) -> Seq {
        self.first + self.events.len() as u64 - 1
    }

    /// What its fold takes beside its events.
    fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, SessionState::weight)
    }

    fn head(&self) -> Head {
        let of_task = self.state.as_ref().is_some_and(|state| state.record.task.is_some());
        Head { epoch: self.epoch.clone(), first: self.first, last: self.last(), of_task }
    }

    /// Takes in an event; the bytes of the one that it pushed out.
    fn push(&mut self, event: Arc<Event>, place: u64, keep_all: bool) -> usize {
        match &mut self.state {
            Some(state) => state.apply(&event),
            None => self.state = SessionState::begin(&event),
        }
        match event.as_durable() {
            Some(Durable::AgentResponse(response)) => self.forget_partial(response.message_id),
            Some(Durable::RunFinished { .. }) => {
                self.partial.take_if(|partial| Some(partial.run_id) == event.run_id);
            }
            _ => {}
        }
        self.events.push_back(event);
        self.places.push_back(place);
        if keep_all || self.events.len() <= KEPT_EVENTS {
            return 0;
        }
        self.first += 1;
        self.places.pop_front();
        self.events.pop_front().map_or(0, |oldest| oldest.weight())
    }

    /// A message is whole.
    fn forget_partial(&mut self, message_id: MessageId) {
        self.partial.take_if(|partial| partial.message_id == message_id);
    }

    fn has_ended(&self, run_id: RunId) -> bool {
        let is_end = |event: &Arc<Event>| {
            event.run_id == Some(run_id) && matches!(event.as_durable(), Some(Durable::RunFinished { .. }))
        };
        self.events.iter().rev().any(is_end)
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

    fn next_place(&mut self) -> u64 {
        self.appended += 1;
        self.appended
    }

    /// None of these commands has been carried out before.
    fn check_new(&self, commands: &[Remember]) -> Result<(), AppendError> {
        match commands.iter().find_map(|command| self.commands.get(&command.key)) {
            Some(remembered) => Err(AppendError::Duplicate(Box::new(remembered.clone()))),
            None => Ok(()),
        }
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
        &self.shared.incarnation
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        now(self.shared.append_now(append))
    }

    fn checkpoint(&self, checkpoint: Checkpoint) -> BoxFuture<'static, Result<(), StoreError>> {
        self.shared.checkpoint(checkpoint);
        now(Ok(()))
    }

    fn fork(&self, fork: Fork) -> BoxFuture<'static, Result<(), AppendError>> {
        now(self.shared.fork(fork))
    }

    fn delete(&self, id: &SessionId, commands: Vec<Remember>) -> BoxFuture<'static, Result<(), AppendError>> {
        now(self.shared.delete(id, commands))
    }

    fn recall(&self, key: &CommandKey) -> BoxFuture<'static, Result<Option<Remembered>, StoreError>> {
        now(Ok(lock(&self.shared.catalog).commands.get(key).cloned()))
    }

    fn head(&self, topic: &Topic) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        now(Ok(self.shared.with_log(topic, Log::head)))
    }

    fn read(
        &self,
        topic: &Topic,
        from: ReadFrom,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<Page>, StoreError>> {
        now(Ok(self.shared.with_log(topic, |log| log.page(from, limit))))
    }

    fn session(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<SessionState>, StoreError>> {
        now(Ok(self.shared.with_log(&Topic::Session(id.clone()), |log| log.state.clone()).flatten()))
    }

    fn tail(
        &self,
        id: &SessionId,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<SessionTail>, StoreError>> {
        now(Ok(self.shared.with_log(&Topic::Session(id.clone()), |log| log.tail(limit)).flatten()))
    }

    fn partial(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<Partial>, StoreError>> {
        now(Ok(self.shared.with_log(&Topic::Session(id.clone()), |log| log.partial.clone()).flatten()))
    }

    fn has_ended(&self, id: &SessionId, run_id: RunId) -> BoxFuture<'static, Result<bool, StoreError>> {
        let ended = self.shared.with_log(&Topic::Session(id.clone()), |log| log.has_ended(run_id));
        now(Ok(ended.unwrap_or(false)))
    }

    fn sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>> {
        let shared = self.shared.clone();
        async move {
            let mut after = filter.after.clone().map(|(updated_at, id)| (Reverse(updated_at), id));
            let mut records = Vec::new();
            while records.len() < filter.limit {
                let Some(matching) = shared.matching(&filter, &mut after) else { break };
                records.extend(matching);
                if filter.query.is_some() {
                    // A search may pass over many: others get their turn.
                    tokio::task::yield_now().await;
                }
            }
            records.truncate(filter.limit);
            Ok(records)
        }
        .boxed()
    }

    fn unfinished(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, StoreError>> {
        let logs = self.shared.logs.read().expect("no panic while locked");
        let unfinished = logs.iter().filter_map(|(topic, log)| {
            let is_unfinished = lock(log).state.as_ref().is_some_and(SessionState::is_unfinished);
            topic.session().filter(|id| is_unfinished && after.as_ref().is_none_or(|after| *id > after))
        });
        let mut unfinished: Vec<_> = unfinished.cloned().collect();
        unfinished.sort_unstable();
        unfinished.truncate(limit);
        now(Ok(unfinished))
    }

    fn search(&self, search: Search) -> BoxFuture<'static, Result<Hits, StoreError>> {
        let shared = self.shared.clone();
        async move {
            // The newest so many, in the order of their places.
            let mut newest = BTreeMap::new();
            let mut after = None;
            loop {
                let slice = lock(&shared.catalog).slice(&search.owner, after.as_ref());
                let Some(last) = slice.last() else { break };
                after = Some(last.clone());
                for (_, session_id) in slice {
                    newest.extend(shared.hits(&session_id, &search));
                    while newest.len() > search.limit + 1 {
                        newest.pop_first();
                    }
                    // A search reads everything: others get their turn.
                    tokio::task::yield_now().await;
                }
            }
            let more = newest.len() > search.limit;
            if more {
                newest.pop_first();
            }
            let next = newest.keys().next().copied().filter(|_| more);
            Ok(Hits { hits: newest.into_values().rev().collect(), next, indexed_to: None })
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        now(())
    }
}

/// Whether a full store refuses the event: those that make work, or that a client sends as often as it likes, not
/// those that a run ends with.
fn may_be_refused(event: &Event) -> bool {
    match event.as_durable() {
        Some(Durable::SessionCreated { .. } | Durable::UserMessage { .. }) => true,
        Some(Durable::SessionUpdated { .. } | Durable::StatePatched { .. }) => event.run_id.is_none(),
        Some(Durable::Task(change)) => {
            let by_client = matches!(
                **change,
                TaskChange::Renamed { .. } | TaskChange::Pausing | TaskChange::Paused | TaskChange::Resumed
            );
            by_client && event.run_id.is_none()
        }
        _ => false,
    }
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
