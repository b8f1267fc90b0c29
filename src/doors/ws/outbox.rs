//! What waits to be written to one socket. Outside the socket's actor, because behind a client that does
//! not read the actor is frozen; bounded in bytes, because that client must not cost more than its bound.
//!
//! Three kinds wait here. *Live* events come from the bus: past the bound the connection is closed, and the
//! client resumes. *Replies* answer commands: past their bound the socket is no longer read. *Handed over*
//! is what a subscription begins with: it is fetched only once everything else has been written.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::watchdog::Tick;
use crate::{
    core::{
        event::Event,
        ids::{Epoch, Seq, Topic},
        ports::{InvitedFrom, Overflow},
    },
    doors::{reply::Close, wire::frames},
};

/// Bytes of replies that wait, before the socket is no longer read.
pub const MAX_REPLY_BYTES: usize = 256 * 1024;
/// What is handed over may find so many entries waiting, before the client counts as slow.
const MAX_ENTRIES: usize = 16 * 1024;
/// A queue that held more entries than this gives its memory back once it is empty.
const KEPT_CAPACITY: usize = 16;

pub struct Outbox {
    max_live_bytes: usize,
    state: Mutex<State>,
    /// Of the socket's task. Woken at most once until it has looked again.
    waker: AtomicWaker,
    drained: Notify,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    live_bytes: usize,
    reply_bytes: usize,
    /// Why the connection is being closed, and since when. Nothing is taken in any more.
    closing: Option<(Close, Tick)>,
}

struct Entry {
    item: Item,
    kind: Kind,
    bytes: u32,
    since: Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Live,
    Reply,
    HandedOver,
}

/// Something for the socket's actor to write, or to do in its turn.
#[derive(Debug)]
pub enum Item {
    Event(Arc<Event>),
    Text(ByteString),
    Ping,
    Pong(Bytes),
    Notice(Notice),
    Close(Close),
}

/// What the bus tells a socket, in its place among the events.
#[derive(Debug)]
pub enum Notice {
    /// It is subscribed to a topic, from `head` on.
    Subscribed { topic: Topic, epoch: Epoch, head: Seq },
    /// It is to subscribe to a topic, from the beginning.
    Invited(Topic, InvitedFrom),
    /// A subscription has ended with its topic's log.
    Ended(Topic),
}

impl Outbox {
    pub fn new(max_live_bytes: usize) -> Self {
        Self { max_live_bytes, state: Mutex::default(), waker: AtomicWaker::new(), drained: Notify::new() }
    }

    // ---- filling ----

    /// Takes in live events. Without room the connection is closed as a slow one, and takes nothing more;
    /// an empty outbox has room for any one event. Wakes nobody: the bus does, once for all that it has.
    pub fn offer(&self, events: &[Arc<Event>], now: Tick) -> Result<(), Overflow> {
        let mut state = self.lock();
        for event in events {
            if state.closing.is_some() {
                return Err(Overflow);
            }
            let bytes = event.weight();
            if !state.entries.is_empty() && state.live_bytes + bytes > self.max_live_bytes {
                state.close(Close::SlowConsumer, now);
                drop(state);
                self.waker.wake();
                return Err(Overflow);
            }
            state.push(Item::Event(event.clone()), Kind::Live, bytes, now);
        }
        Ok(())
    }

    /// Takes in what a subscription begins with. Its bytes are bounded by whoever hands it over; that there are
    /// not too many, as of notices to a client that does not read, is seen to here.
    pub fn hand_over(&self, items: impl IntoIterator<Item = Item>, now: Tick) {
        let mut state = self.lock();
        for item in items {
            if state.entries.len() >= MAX_ENTRIES {
                state.close(Close::SlowConsumer, now);
                break;
            }
            let bytes = item.bytes();
            state.push(item, Kind::HandedOver, bytes, now);
        }
        drop(state);
        self.waker.wake();
    }

    /// Takes in the answer to something that the client sent.
    pub fn reply(&self, item: Item, now: Tick) {
        let bytes = item.bytes();
        self.lock().push(item, Kind::Reply, bytes, now);
        self.waker.wake();
    }

    /// Begins to close the connection: what waits is dropped, since the client will resume from what it has
    /// read. The first reason stays.
    pub fn close(&self, close: Close, now: Tick) {
        self.lock().close(close, now);
        self.waker.wake();
    }

    /// Begins to close the connection once what waits has been written.
    pub fn close_after_flush(&self, close: Close, now: Tick) {
        self.lock().close_after_flush(close, now);
        self.waker.wake();
    }

    // ---- emptying ----

    /// The next items to write, some `max_bytes` of them but one at least. Registers `waker` for those
    /// that come later.
    pub fn drain(&self, max_bytes: usize, waker: &Waker) -> Vec<Item> {
        self.waker.register(waker);
        let mut state = self.lock();
        let mut items = Vec::new();
        let mut bytes = 0;
        while bytes < max_bytes
            && let Some(entry) = state.pop()
        {
            bytes += entry.bytes as usize;
            items.push(entry.item);
        }
        if state.entries.is_empty() && state.entries.capacity() > KEPT_CAPACITY {
            state.entries = VecDeque::new();
        }
        drop(state);
        if !items.is_empty() {
            self.drained.notify_waiters();
        }
        items
    }

    /// Has the socket's task look again.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Registers the socket's task for what comes later.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Waits until nothing waits.
    pub async fn until_empty(&self) {
        loop {
            let drained = self.drained.notified();
            if self.lock().entries.is_empty() {
                return;
            }
            drained.await;
        }
    }

    /// Waits until fewer than so many bytes of replies wait.
    pub async fn until_replies_below(&self, max_bytes: usize) {
        loop {
            let drained = self.drained.notified();
            if self.lock().reply_bytes <= max_bytes {
                return;
            }
            drained.await;
        }
    }

    // ---- watching ----

    pub fn reply_bytes(&self) -> usize {
        self.lock().reply_bytes
    }

    /// Why the connection is being closed, and since when.
    pub fn closing(&self) -> Option<(Close, Tick)> {
        self.lock().closing
    }

    /// Since when the oldest entry has been waiting.
    pub fn oldest(&self) -> Option<Tick> {
        self.lock().entries.front().map(|entry| entry.since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }
}

impl State {
    fn push(&mut self, item: Item, kind: Kind, bytes: usize, since: Tick) {
        if self.closing.is_some() {
            return;
        }
        match kind {
            Kind::Live => self.live_bytes += bytes,
            Kind::Reply => self.reply_bytes += bytes,
            Kind::HandedOver => {}
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.entries.push_back(Entry { item, kind, bytes, since });
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        let bytes = entry.bytes as usize;
        match entry.kind {
            Kind::Live => self.live_bytes = self.live_bytes.saturating_sub(bytes),
            Kind::Reply => self.reply_bytes = self.reply_bytes.saturating_sub(bytes),
            Kind::HandedOver => {}
        }
        Some(entry)
    }

    fn close(&mut self, close: Close, now: Tick) {
        if self.closing.is_none() {
            self.entries = VecDeque::new();
            self.live_bytes = 0;
            self.reply_bytes = 0;
            self.close_after_flush(close, now);
        }
    }

    fn close_after_flush(&mut self, close: Close, now: Tick) {
        if self.closing.is_none() {
            for item in [Item::Text(frames::connection_closed(close)), Item::Close(close)] {
                self.push(item, Kind::HandedOver, 0, now);
            }
            self.closing = Some((close, now));
        }
    }
}

impl Item {
    fn bytes(&self) -> usize {
        const SMALL: usize = 64;
        match self {
            Item::Event(event) => event.weight(),
            Item::Text(text) => SMALL + text.len(),
            Item::Pong(data) => SMALL + data.len(),
            Item::Ping | Item::Notice(_) | Item::Close(_) => SMALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_to_a_client_that_does_not_read_are_bounded() {
        let outbox = Outbox::new(1024);
        let notice = || [Item::Notice(Notice::Invited(Topic::System, InvitedFrom::Beginning))];
        for _ in 0..MAX_ENTRIES {
            outbox.hand_over(notice(), Tick::default());
        }
        assert!(outbox.lock().closing.is_none());

        outbox.hand_over(notice(), Tick::default());

        assert!(matches!(outbox.lock().closing, Some((Close::SlowConsumer, _))));
        // The close, and whatever is said of it.
        assert!(outbox.lock().entries.len() < 4, "what waited is dropped");
    }
}
