//! What tests of the core stand on: a subscriber that records, a store whose pace the test decides.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;

use super::{
    command::{Caller, CommandKey, Remember},
    event::Event,
    ids::{ClientId, Epoch, Principal, RunId, Seq, SessionId, Topic},
    ports::{
        Append, AppendError, Appended, Checkpoint, Fork, Head, Hits, InvitedFrom, Overflow, Page, PageLimit,
        Partial, ReadFrom, Remembered, Search, SessionFilter, SessionTail, Store, StoreError, Subscriber,
    },
    session::{SessionRecord, SessionState},
};
use crate::store::memory::MemoryStore;

pub fn caller(client: &str) -> Caller {
    let client_id: ClientId = client.parse().expect("a client's id");
    Caller { principal: Principal::local(), client_id: Some(client_id) }
}

/// Lets everything that can run do so.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// What a probe was given.
#[derive(Debug, Clone)]
pub enum Given {
    Event(Arc<Event>),
    Announced { head: Seq },
    Invited,
    Ended(Topic),
    CutOff,
}

/// A subscriber that records what it is given, and has room for so many events.
pub struct Probe {
    state: Mutex<ProbeState>,
}

struct ProbeState {
    given: Vec<Given>,
    room: usize,
    /// Events that it was offered, and not woken for.
    unwoken: usize,
}

impl Probe {
    pub fn new() -> Arc<Self> {
        Self::with_room(usize::MAX)
    }

    pub fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(ProbeState { given: Vec::new(), room, unwoken: 0 }) })
    }

    /// All it was given since it was last asked.
    pub fn take(&self) -> Vec<Given> {
        std::mem::take(&mut self.state.lock().unwrap().given)
    }

    /// The events among them.
    pub fn take_events(&self) -> Vec<Arc<Event>> {
        let events = self.take().into_iter().filter_map(|given| match given {
            Given::Event(event) => Some(event),
            _ => None,
        });
        events.collect()
    }

    /// Whether it was told of all that it was offered.
    pub fn is_awake(&self) -> bool {
        self.state.lock().unwrap().unwoken == 0
    }

    fn push(&self, given: Given) {
        self.state.lock().unwrap().given.push(given);
    }
}

impl Subscriber for Probe {
    fn offer(&self, events: &[Arc<Event>]) -> Result<(), Overflow> {
        let mut state = self.state.lock().unwrap();
        for event in events {
            let Some(room) = state.room.checked_sub(1) else {
                // A subscriber that is full wakes itself, to end.
                state.unwoken = 0;
                return Err(Overflow);
            };
            state.room = room;
            state.given.push(Given::Event(event.clone()));
            state.unwoken += 1;
        }
        Ok(())
    }

    fn wake(&self) {
        self.state.lock().unwrap().unwoken = 0;
    }

    fn hand_over(&self, events: &[Arc<Event>]) {
        events.iter().for_each(|event| self.push(Given::Event(event.clone())));
    }

    fn announce(&self, _topic: &Topic, _epoch: &Epoch, head: Seq) {
        self.push(Given::Announced { head });
    }

    fn invite(&self, _topic: &Topic, _from: InvitedFrom) {
        self.push(Given::Invited);
    }

    fn end_subscription(&self, topic: &Topic) {
        self.push(Given::Ended(topic.clone()));
    }

    fn cut_off(&self) {
        self.push(Given::CutOff);
    }
}

/// A store in memory that appends when, and fails where, the test says so.
pub struct GatedStore {
    inner: Arc<MemoryStore>,
    gate: Mutex<Gate>,
    hesitates: AtomicBool,
    loses_checkpoints: AtomicBool,
    fails_reads: AtomicBool,
    /// Questions for commands that wait, if they do.
    recalls: Mutex<Option<Vec<oneshot::Sender<()>>>>,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    /// What waits has been appended, and can be read: only the answer is to come.
    visible: bool,
    /// Oldest first.
    waiting: VecDeque<oneshot::Sender<Verdict>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Append,
    Fail,
}

impl GatedStore {
    pub fn new() -> Arc<Self> {
        Self::with_bound(usize::MAX)
    }

    pub fn with_bound(max_bytes: usize) -> Arc<Self> {
        let inner = Arc::new(MemoryStore::new(max_bytes));
        Arc::new(Self {
            inner,
            gate: Mutex::default(),
            hesitates: AtomicBool::default(),
            loses_checkpoints: AtomicBool::default(),
            fails_reads: AtomicBool::default(),
            recalls: Mutex::default(),
        })
    }

    /// From now on what is read comes a little later than it was read, as from a disk.
    pub fn hesitate(&self) {
        self.hesitates.store(true, Ordering::Relaxed);
    }

    /// From now on nothing is saved of what is still streaming.
    pub fn lose_checkpoints(&self) {
        self.loses_checkpoints.store(true, Ordering::Relaxed);
    }

    /// Whether sessions can be read.
    pub fn fail_reads(&self, fail: bool) {
        self.fails_reads.store(fail, Ordering::Relaxed);
    }

    /// From now on nobody is told whether a command was carried out before.
    pub fn hold_recalls(&self) {
        *self.recalls.lock().unwrap() = Some(Vec::new());
    }

    /// Now they are.
    pub fn release_recalls(&self) {
        *self.recalls.lock().unwrap() = None;
    }

    fn later<T: Send + 'static>(&self, answer: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
        if !self.hesitates.load(Ordering::Relaxed) {
            return answer;
        }
        async move {
            let answer = answer.await;
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            answer
        }
        .boxed()
    }

    /// From now on appends wait for a verdict.
    pub fn close_gate(&self) {
        self.gate.lock().unwrap().closed = true;
    }

    /// From now on appends are carried out at once, and answered when the test says so.
    pub fn hold_answers(&self) {
        *self.gate.lock().unwrap() = Gate { closed: true, visible: true, ..Gate::default() };
    }

    /// From now on appends pass; what waited is appended.
    pub fn open_gate(&self) {
        let mut gate = self.gate.lock().unwrap();
        (gate.closed, gate.visible) = (false, false);
        drop(gate);
        while self.decide(Verdict::Append) {}
    }

    /// Decides about the oldest append that waits; false if none does.
    pub fn decide(&self, verdict: Verdict) -> bool {
        let oldest = self.gate.lock().unwrap().waiting.pop_front();
        oldest.map(|waiting| waiting.send(verdict)).is_some()
    }
}

impl Store for GatedStore {
    fn incarnation(&self) -> &str {
        self.inner.incarnation()
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let mut gate = self.gate.lock().unwrap();
        if !gate.closed {
            return self.inner.append(append);
        }
        let (waiting, verdict) = oneshot::channel();
        gate.waiting.push_back(waiting);
        let inner = self.inner.clone();
        if gate.visible {
            let appended = inner.append(append);
            return async move {
                // Whichever it is: what is there is there.
                let _ = verdict.await;
                appended.await
            }
            .boxed();
        }
        async move {
            match verdict.await {
                Ok(Verdict::Append) => inner.append(append).await,
                Ok(Verdict::Fail) | Err(_) => Err(StoreError("the disk is full".to_owned()).into()),
            }
        }
        .boxed()
    }

    fn checkpoint(&self, checkpoint: Checkpoint) -> BoxFuture<'static, Result<(), StoreError>> {
        if self.loses_checkpoints.load(Ordering::Relaxed) {
            return std::future::ready(Err(StoreError("the disk is full".to_owned()))).boxed();
        }
        self.later(self.inner.checkpoint(checkpoint))
    }

    fn fork(&self, fork: Fork) -> BoxFuture<'static, Result<(), AppendError>> {
        self.later(self.inner.fork(fork))
    }

    fn delete(&self, id: &SessionId, commands: Vec<Remember>) -> BoxFuture<'static, Result<(), AppendError>> {
        self.later(self.inner.delete(id, commands))
    }

    fn recall(&self, key: &CommandKey) -> BoxFuture<'static, Result<Option<Remembered>, StoreError>> {
        let recalled = self.inner.recall(key);
        let Some(held) = &mut *self.recalls.lock().unwrap() else { return self.later(recalled) };
        let (release, released) = oneshot::channel();
        held.push(release);
        async move {
            // It is dropped to release it.
            let _ = released.await;
            recalled.await
        }
        .boxed()
    }

    fn head(&self, topic: &Topic) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        self.later(self.inner.head(topic))
    }

    fn read(
        &self,
        topic: &Topic,
        from: ReadFrom,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<Page>, StoreError>> {
        self.later(self.inner.read(topic, from, limit))
    }

    fn session(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<SessionState>, StoreError>> {
        if self.fails_reads.load(Ordering::Relaxed) {
            return std::future::ready(Err(StoreError("the disk is gone".to_owned()))).boxed();
        }
        self.later(self.inner.session(id))
    }

    fn tail(
        &self,
        id: &SessionId,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<SessionTail>, StoreError>> {
        self.later(self.inner.tail(id, limit))
    }

    fn partial(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<Partial>, StoreError>> {
        self.later(self.inner.partial(id))
    }

    fn has_ended(&self, id: &SessionId, run_id: RunId) -> BoxFuture<'static, Result<bool, StoreError>> {
        self.later(self.inner.has_ended(id, run_id))
    }

    fn unfinished(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, StoreError>> {
        self.later(self.inner.unfinished(after, limit))
    }

    fn search(&self, search: Search) -> BoxFuture<'static, Result<Hits, StoreError>> {
        self.later(self.inner.search(search))
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.inner.close()
    }

    fn sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>> {
        self.later(self.inner.sessions(filter))
    }
}
