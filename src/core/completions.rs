//! Work that an actor has begun and waits for, however much of it there is.
//!
//! A context polls every future that was spawned on it each time it wakes: a thousand that wait for the store
//! would be polled a thousand times for each that ends. These are polled only when they have something to say.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll, Waker},
};

use actix::{Actor, ActorFuture};
use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};

/// What an actor does once something has come.
type Then<A> = Box<dyn FnOnce(&mut A, &mut <A as Actor>::Context)>;

/// The work that an actor waits for. Polled by [`Completing`], which the actor spawns when it starts.
pub struct Completions<A: Actor> {
    work: FuturesUnordered<LocalBoxFuture<'static, Then<A>>>,
    /// Of the task that polls: what is added while it sleeps would not be looked at.
    waker: Option<Waker>,
}

impl<A: Actor> Default for Completions<A> {
    fn default() -> Self {
        Self { work: FuturesUnordered::new(), waker: None }
    }
}

impl<A: Actor> Completions<A> {
    /// Does `then` with what `work` comes to. What was begun earlier may end later.
    pub fn push<T: 'static>(
        &mut self,
        work: impl Future<Output = T> + 'static,
        then: impl FnOnce(&mut A, T, &mut A::Context) + 'static,
    ) {
        let work = work.map(|output| -> Then<A> { Box::new(move |actor, ctx| then(actor, output, ctx)) });
        self.work.push(work.boxed_local());
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// An actor that has [`Completions`].
pub trait Completes: Actor {
    fn completions(&mut self) -> &mut Completions<Self>;
}

/// Polls an actor's completions, for as long as it lives.
pub struct Completing;

impl<A: Completes> ActorFuture<A> for Completing {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut A::Context,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let completions = actor.completions();
        if completions.waker.as_ref().is_none_or(|waker| !waker.will_wake(task.waker())) {
            completions.waker = Some(task.waker().clone());
        }
        while let Poll::Ready(Some(then)) = actor.completions().work.poll_next_unpin(task) {
            then(actor, ctx);
        }
        Poll::Pending
    }
}
