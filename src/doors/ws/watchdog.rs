//! The watchdog of a worker: keeps time for its sockets, and ends those whose clients are gone or stuck.
//!
//! It stands outside the sockets' actors, which are frozen just when it is needed. Its clock counts its own
//! ticks, so a process that was stopped for a while, or a machine that is too busy, shifts all deadlines
//! instead of letting them pass at once.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use super::{connection::Connection, tcp::SocketHandle};
use crate::doors::reply::Close;

/// How often the watchdog looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// What may wait this long before the client counts as slow.
const MAX_WAIT: u32 = 10;
/// How long after a missed heartbeat a client may still be heard of.
const HEARTBEAT_GRACE: u32 = 10;
/// How long a client may take to answer a close, before the connection is cut.
const CLOSE_GRACE: u32 = 2;

/// A moment on the watchdog's clock, in seconds that it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(u32);

impl Tick {
    fn seconds_since(self, earlier: Tick) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment that several threads look at.
#[derive(Debug)]
pub struct AtomicTick(AtomicU32);

impl AtomicTick {
    pub fn new(tick: Tick) -> Self {
        Self(AtomicU32::new(tick.0))
    }

    pub fn get(&self) -> Tick {
        Tick(self.0.load(Ordering::Relaxed))
    }

    pub fn set(&self, tick: Tick) {
        self.0.store(tick.0, Ordering::Relaxed);
    }
}

/// The clock of a worker's sockets. Read by whoever puts something into their outboxes, on any thread.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicU32>);

impl Clock {
    pub fn now(&self) -> Tick {
        Tick(self.0.load(Ordering::Relaxed))
    }
}

/// Watches the sockets of one worker.
pub struct Watchdog {
    clock: Clock,
    heartbeat_secs: u32,
    watched: RefCell<Vec<Watched>>,
    running: Cell<bool>,
}

struct Watched {
    connection: Weak<Connection>,
    socket: Rc<SocketHandle>,
    /// Where in the interval its heartbeat falls, so that not all of them come at once.
    phase: u32,
}

/// What a connection's state calls for (pure).
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Ping,
    Close(Close),
    Cut,
}

/// What the watchdog looks at.
#[derive(Debug, Clone, Copy)]
struct Signs {
    now: Tick,
    /// When the last frame came.
    heard: Tick,
    /// When the oldest entry of the outbox was put there.
    oldest: Option<Tick>,
    /// Since when it is being closed.
    closing: Option<Tick>,
    heartbeat_secs: u32,
    phase: u32,
}

impl Watchdog {
    pub fn new(heartbeat_secs: u32) -> Rc<Self> {
        Rc::new(Self {
            clock: Clock::default(),
            heartbeat_secs,
            watched: RefCell::default(),
            running: Cell::new(false),
        })
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Watches a connection until it is dropped.
    pub fn watch(self: &Rc<Self>, connection: &Arc<Connection>, socket: Rc<SocketHandle>) {
        let phase = rand::random_range(0..self.heartbeat_secs);
        self.watched.borrow_mut().push(Watched { connection: Arc::downgrade(connection), socket, phase });
        if !self.running.replace(true) {
            actix_web::rt::spawn(self.clone().run());
        }
    }

    async fn run(self: Rc<Self>) {
        let mut ticks = interval(INTERVAL);
        // A late tick is one tick: what was missed is not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.clock.0.fetch_add(1, Ordering::Relaxed);
            self.look();
        }
    }

    fn look(&self) {
        let now = self.clock.now();
        self.watched.borrow_mut().retain(|watched| {
            let Some(connection) = watched.connection.upgrade() else { return false };
            let signs = Signs {
                now,
                heard: connection.heard(),
                oldest: connection.outbox.oldest(),
                closing: connection.outbox.closing().map(|(_, since)| since),
                heartbeat_secs: self.heartbeat_secs,
                phase: watched.phase,
            };
            match signs.judge() {
                Verdict::Fine => {}
                Verdict::Ping => connection.ping(),
                Verdict::Close(close) => {
                    log::info!("connection={} is closed: {}", connection.id, close.reason());
                    connection.outbox.close(close, now);
                }
                Verdict::Cut => watched.socket.shut_down(),
            }
            true
        });
    }
}

impl Signs {
    fn judge(self) -> Verdict {
        let Signs { now, heard, oldest, closing, heartbeat_secs, phase } = self;
        if let Some(since) = closing {
            return if now.seconds_since(since) >= CLOSE_GRACE { Verdict::Cut } else { Verdict::Fine };
        }
        if oldest.is_some_and(|since| now.seconds_since(since) >= MAX_WAIT) {
            return Verdict::Close(Close::SlowConsumer);
        }
        if now.seconds_since(heard) >= heartbeat_secs + HEARTBEAT_GRACE {
            return Verdict::Close(Close::HeartbeatMissed);
        }
        if (now.0 + phase).is_multiple_of(heartbeat_secs) { Verdict::Ping } else { Verdict::Fine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: Signs = Signs {
        now: Tick(100),
        heard: Tick(95),
        oldest: Some(Tick(99)),
        closing: None,
        heartbeat_secs: 25,
        phase: 3,
    };

    #[test]
    fn a_healthy_connection_is_pinged_once_an_interval() {
        let pings = (0..50).filter(|second| {
            let now = Tick(100 + second);
            Signs { now, heard: now, oldest: None, ..HEALTHY }.judge() == Verdict::Ping
        });

        assert_eq!(pings.count(), 2);
    }

    #[test]
    fn a_silent_connection_is_closed_after_its_grace() {
        let after = |seconds: u32| Signs { now: Tick(95 + seconds), oldest: None, ..HEALTHY }.judge();

        assert!(!matches!(after(34), Verdict::Close(_)));
        assert_eq!(after(35), Verdict::Close(Close::HeartbeatMissed));
    }

    #[test]
    fn what_waits_too_long_makes_a_slow_consumer() {
        let since = |oldest| Signs { oldest: Some(Tick(oldest)), ..HEALTHY }.judge();

        assert_eq!(since(91), Verdict::Fine);
        assert_eq!(since(90), Verdict::Close(Close::SlowConsumer));
    }

    #[test]
    fn a_close_that_is_not_answered_is_cut() {
        let since = |closing| Signs { closing: Some(Tick(closing)), ..HEALTHY }.judge();

        assert_eq!(since(99), Verdict::Fine);
        assert_eq!(since(98), Verdict::Cut);
    }
}
