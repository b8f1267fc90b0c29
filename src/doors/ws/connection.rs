//! One open socket as everybody but its actor sees it, and the register of all of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    outbox::{Item, Notice, Outbox},
    watchdog::{AtomicTick, Clock, Tick},
};
use crate::{
    core::{
        command::Caller,
        event::Event,
        ids::{ConnectionId, Epoch, Seq, Topic},
        ports::{InvitedFrom, Overflow, Subscriber},
    },
    doors::{Path, reply::Close, wire::frames},
};

/// One open socket.
pub struct Connection {
    pub id: ConnectionId,
    pub path: Path,
    pub caller: Caller,
    pub outbox: Outbox,
    /// Topics that the bus has subscribed it to and whose notice its actor has not come to yet.
    announced: Mutex<Vec<Topic>>,
    clock: Clock,
    heard: AtomicTick,
    paused: AtomicBool,
}

impl Connection {
    pub fn new(path: Path, caller: Caller, outbox_bytes: usize, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            id: ConnectionId::new(),
            path,
            caller,
            outbox: Outbox::new(outbox_bytes),
            announced: Mutex::default(),
            heard: AtomicTick::new(clock.now()),
            clock,
            paused: AtomicBool::new(false),
        })
    }

    pub fn now(&self) -> Tick {
        self.clock.now()
    }

    /// When the last frame came. While the server does not read, silence says nothing.
    pub fn heard(&self) -> Tick {
        if self.paused.load(Ordering::Relaxed) { self.now() } else { self.heard.get() }
    }

    /// A frame has come.
    pub fn hear(&self) {
        self.heard.set(self.now());
    }

    /// The server does not read from the socket, or reads again.
    pub fn set_paused(&self, paused: bool) {
        if self.paused.swap(paused, Ordering::Relaxed) != paused {
            self.hear();
        }
    }

    /// Whether the bus has subscribed it to the topic and the notice of that still waits.
    pub fn is_announced(&self, topic: &Topic) -> bool {
        self.announced.lock().expect("no panic while locked").contains(topic)
    }

    /// The notice has been taken up, or is void; whether it waited.
    pub fn take_announced(&self, topic: &Topic) -> bool {
        let mut announced = self.announced.lock().expect("no panic while locked");
        let before = announced.len();
        announced.retain(|other| other != topic);
        announced.len() < before
    }

    pub fn reply(&self, item: Item) {
        self.outbox.reply(item, self.now());
    }

    pub fn hand_over_items(&self, items: impl IntoIterator<Item = Item>) {
        self.outbox.hand_over(items, self.now());
    }

    /// Asks for a sign of life.
    pub fn ping(&self) {
        self.hand_over_items([Item::Text(frames::heartbeat()), Item::Ping]);
    }

    pub fn close(&self, close: Close) {
        self.outbox.close(close, self.now());
    }

    /// Closes it once what waits for it has been written.
    pub fn close_after_flush(&self, close: Close) {
        self.outbox.close_after_flush(close, self.now());
    }
}

impl Subscriber for Connection {
    fn offer(&self, events: &[Arc<Event>]) -> Result<(), Overflow> {
        self.outbox.offer(events, self.now())
    }

    fn wake(&self) {
        self.outbox.wake();
    }

    fn hand_over(&self, events: &[Arc<Event>]) {
        self.hand_over_items(events.iter().cloned().map(Item::Event));
    }

    fn announce(&self, topic: &Topic, epoch: &Epoch, head: Seq) {
        self.announced.lock().expect("no panic while locked").push(topic.clone());
        let notice = Notice::Subscribed { topic: topic.clone(), epoch: epoch.clone(), head };
        self.hand_over_items([Item::Notice(notice)]);
    }

    fn invite(&self, topic: &Topic, from: InvitedFrom) {
        self.hand_over_items([Item::Notice(Notice::Invited(topic.clone(), from))]);
    }

    fn end_subscription(&self, topic: &Topic) {
        self.hand_over_items([Item::Notice(Notice::Ended(topic.clone()))]);
    }

    fn cut_off(&self) {
        self.close(Close::CutOff);
    }
}

/// All open sockets.
#[derive(Default)]
pub struct Register {
    open: Mutex<Open>,
    emptied: Notify,
}

#[derive(Default)]
struct Open {
    by_id: HashMap<ConnectionId, Arc<Connection>>,
    /// Of those that name a client: there is one at each door.
    by_client: HashMap<(Path, Caller), ConnectionId>,
}

impl Register {
    /// Takes a connection in. An older one of the same client at the same door is closed.
    pub fn insert(&self, connection: &Arc<Connection>) {
        let mut open = self.lock();
        open.by_id.insert(connection.id, connection.clone());
        if connection.caller.client_id.is_some() {
            let key = (connection.path.clone(), connection.caller.clone());
            let older = open.by_client.insert(key, connection.id);
            if let Some(older) = older.and_then(|id| open.by_id.get(&id)) {
                older.close(Close::Replaced);
            }
        }
    }

    pub fn remove(&self, connection: &Connection) {
        let mut open = self.lock();
        open.by_id.remove(&connection.id);
        let key = (connection.path.clone(), connection.caller.clone());
        if open.by_client.get(&key) == Some(&connection.id) {
            open.by_client.remove(&key);
        }
        if open.by_id.is_empty() {
            drop(open);
            self.emptied.notify_waiters();
        }
    }

    pub fn count(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Closes every connection once what waits for it has been written; waits for that, but not for ever.
    pub async fn drain(&self, patience: Duration) {
        for connection in self.lock().by_id.values() {
            connection.outbox.close_after_flush(Close::Drain, connection.now());
        }
        let all_gone = async {
            loop {
                let emptied = self.emptied.notified();
                if self.count() == 0 {
                    return;
                }
                emptied.await;
            }
        };
        if tokio::time::timeout(patience, all_gone).await.is_err() {
            log::warn!("{} connections did not take their close in time", self.count());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no panic while locked")
    }
}
