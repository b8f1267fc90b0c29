//! How far a model may run ahead of what becomes of its words.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What an agent may have shown that waits for the store, in bytes; then it stops reading its model.
const UNRELEASED_BYTES: usize = 64 * 1024;
/// What of an answer may be on its way to clients, in bytes; then its model is read no faster than they read,
/// so that a client that keeps up is not overrun by a burst…
const UNDELIVERED_BYTES: usize = 128 * 1024;
/// …or for as long as this each time: a client that does not keep up must not hold up the others.
const DELIVERY_PATIENCE: Duration = Duration::from_millis(5);

/// An agent's allowance.
#[derive(Debug, Clone)]
pub struct Pace {
    released: Arc<Semaphore>,
    delivered: Arc<Semaphore>,
}

/// What goes with a piece of an answer, and comes back as it gets on.
#[derive(Debug, Default)]
pub struct Permits {
    /// Comes back once the piece has left the bus's queue.
    pub released: Option<OwnedSemaphorePermit>,
    /// Comes back once every subscriber has taken the piece from its outbox.
    pub delivered: Option<OwnedSemaphorePermit>,
}

impl Pace {
    /// Waits while too much of what was said before has not got where it goes.
    pub async fn permits(self, bytes: usize) -> Permits {
        let acquire = |semaphore: Arc<Semaphore>, limit: usize| {
            semaphore.acquire_many_owned(u32::try_from(bytes.min(limit)).unwrap_or(u32::MAX))
        };
        // The semaphores are never closed.
        let released = acquire(self.released, UNRELEASED_BYTES).await.ok();
        let delivered = timeout(DELIVERY_PATIENCE, acquire(self.delivered, UNDELIVERED_BYTES)).await;
        Permits { released, delivered: delivered.ok().and_then(Result::ok) }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            released: Arc::new(Semaphore::new(UNRELEASED_BYTES)),
            delivered: Arc::new(Semaphore::new(UNDELIVERED_BYTES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_released_holds_up_without_end() {
        let pace = Pace::default();
        let first = pace.clone().permits(UNRELEASED_BYTES).await;

        let second = pace.clone().permits(1);
        assert!(timeout(Duration::from_secs(3600), second).await.is_err());

        drop(first);
        assert!(pace.permits(1).await.released.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_delivered_holds_up_for_a_moment() {
        let pace = Pace::default();
        let mut held = Vec::new();
        for _ in 0..UNDELIVERED_BYTES / UNRELEASED_BYTES {
            held.push(pace.clone().permits(UNRELEASED_BYTES).await.delivered);
        }

        let began = tokio::time::Instant::now();
        let late = pace.clone().permits(1).await;
        assert!(late.delivered.is_none() && late.released.is_some());
        assert_eq!(began.elapsed(), DELIVERY_PATIENCE);

        held.clear();
        assert!(pace.permits(1).await.delivered.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_larger_than_the_allowance_passes_alone() {
        let permits = Pace::default().permits(usize::MAX).await;

        assert!(permits.released.is_some() && permits.delivered.is_some());
    }
}
