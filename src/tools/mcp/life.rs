//! Whether a connection lives, and whether programs run.

use std::sync::Arc;

use tokio::sync::watch;

/// The life of one connection: whoever finds it ended says so, and why; the first word counts.
#[derive(Debug, Clone)]
pub struct Life(watch::Sender<Option<Arc<str>>>);

impl Life {
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub fn end(&self, why: &str) {
        self.0.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(why.into());
            }
            first
        });
    }

    /// Why it has ended, if it has.
    pub fn ended(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Why it ends, once it does.
    pub async fn end_of(&self) -> Arc<str> {
        let mut changes = self.0.subscribe();
        // The sender is in our own hands: this does not fail.
        let end = changes.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_default()
    }
}

/// How many programs run, for whoever waits until none does.
#[derive(Debug, Clone)]
pub struct Count(watch::Sender<usize>);

/// A program runs.
#[derive(Debug)]
pub struct Running(watch::Sender<usize>);

impl Count {
    pub fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub fn one_more(&self) -> Running {
        self.0.send_modify(|count| *count += 1);
        Running(self.0.clone())
    }

    pub async fn none(&self) {
        let mut changes = self.0.subscribe();
        let _ = changes.wait_for(|count| *count == 0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
