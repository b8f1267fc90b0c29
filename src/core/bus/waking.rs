//! When subscribers are woken.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::{Duration, Instant},
};

use actix::{ActorFuture, Context};

use super::EventBus;
use crate::core::{ids::ConnectionId, ports::Subscriber};

/// A subscriber is woken this soon after it was offered something, even if more is coming.
const MAX_WAKE_DELAY: Duration = Duration::from_millis(1);

/// Subscribers that have been offered events and not been woken.
///
/// Waking another thread costs more than an event does, and what happens to a session comes in quick
/// succession: so the bus first looks whether more is coming.
#[derive(Default)]
pub(super) struct Unwoken {
    subscribers: HashMap<ConnectionId, Arc<dyn Subscriber>>,
    since: Option<Instant>,
    /// Something was offered since the bus last looked.
    more: bool,
    /// Of the bus's task: events may be offered where it would not look again by itself.
    looking: Option<Waker>,
}

impl Unwoken {
    pub(super) fn add(&mut self, connection: ConnectionId, subscriber: &Arc<dyn Subscriber>) {
        self.more = true;
        if self.subscribers.is_empty()
            && let Some(looking) = &self.looking
        {
            looking.wake_by_ref();
        }
        self.subscribers.entry(connection).or_insert_with(|| subscriber.clone());
    }

    /// Wakes all of them, unless more is coming; whether to look again.
    fn wake_unless_more(&mut self) -> bool {
        if self.subscribers.is_empty() {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if std::mem::take(&mut self.more) && since.elapsed() < MAX_WAKE_DELAY {
            return true;
        }
        self.since = None;
        self.subscribers.drain().for_each(|(_, subscriber)| subscriber.wake());
        false
    }
}

/// Wakes subscribers once nothing more is coming for them.
pub(super) struct Waking;

impl ActorFuture<EventBus> for Waking {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        bus: &mut EventBus,
        _ctx: &mut Context<EventBus>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        if bus.unwoken.wake_unless_more() {
            // Once everything else that can run has had its turn.
            task.waker().wake_by_ref();
        }
        if bus.unwoken.looking.as_ref().is_none_or(|waker| !waker.will_wake(task.waker())) {
            bus.unwoken.looking = Some(task.waker().clone());
        }
        Poll::Pending
    }
}
