//! What threads of the store are asked to do, in the order in which they were asked.
//!
//! Owns: the bound, and the news that nothing more will come.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// A bounded queue that many threads may fill and empty. Filling it never waits.
pub(super) struct Queue<T> {
    capacity: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

pub(super) enum Popped<T> {
    Item(T),
    /// Nothing came in the time given.
    Nothing,
    /// Nothing is left, and nothing more will come.
    Closed,
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), closed: false };
        Self { capacity, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn push(&self, item: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= self.capacity {
            return Err(Refused::Full);
        }
        state.items.push_back(item);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The oldest item; waits for one as long as said, or for ever.
    pub(super) fn pop(&self, patience: Option<Duration>) -> Popped<T> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Popped::Item(item);
            }
            if state.closed {
                return Popped::Closed;
            }
            state = match deadline {
                None => self.changed.wait(state).expect("no panic while locked"),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Popped::Nothing;
                    }
                    self.changed.wait_timeout(state, left).expect("no panic while locked").0
                }
            };
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// Takes nothing more; what is there is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no panic while locked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_takes_what_it_has_room_for_until_it_is_closed() {
        let queue = Queue::new(2);

        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push(2), Ok(()));
        assert_eq!(queue.push(3), Err(Refused::Full));
        assert!(matches!(queue.pop(None), Popped::Item(1)));
        assert_eq!(queue.push(3), Ok(()));
        queue.close();
        assert_eq!(queue.push(4), Err(Refused::Closed));

        assert!(matches!(queue.pop(None), Popped::Item(2)));
        assert!(matches!(queue.pop(Some(Duration::ZERO)), Popped::Item(3)));
        assert!(matches!(queue.pop(None), Popped::Closed));
    }

    #[test]
    fn who_waits_is_told_of_the_end() {
        let queue: Queue<()> = Queue::new(1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(queue.pop(None), Popped::Closed));
            queue.close();
            assert!(waiting.join().unwrap());
        });
    }
}
