//! A topic as the bus holds it.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::oneshot;

use super::{Attach, Attached, Batch, Deletion, Failed, Held, Show};
use crate::core::{
    command::Caller,
    event::{AgentStatus, Ephemeral, Event},
    ids::{ConnectionId, MessageId, RunId, Topic},
    log::Window,
    ports::{AppendError, Checkpoint, StoreError, Subscriber},
};

/// A topic in memory: while an agent holds it, somebody watches it, or something waits in it.
#[derive(Default)]
pub(super) struct TopicState {
    /// `None` while the log's head is being read from the store.
    pub(super) window: Option<Window>,
    /// Its session is a task's.
    pub(super) of_task: bool,
    pub(super) held: bool,
    pub(super) in_flight: bool,
    /// What waits for the batch in flight, or for the window, oldest first.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) open: Option<OpenText>,
    /// The newest status, for those who attach.
    pub(super) status: Option<Arc<Event>>,
    pub(super) subscribers: Vec<(ConnectionId, Arc<dyn Subscriber>)>,
}

/// A message that is still streaming.
pub(super) struct OpenText {
    pub(super) message_id: MessageId,
    pub(super) run_id: Option<RunId>,
    pub(super) text: String,
    /// The event that shows it to those who attach: made when needed, void after the next delta.
    pub(super) snapshot: Option<Arc<Event>>,
}

pub(super) enum Waiting {
    Batch(Batch),
    Show(Show),
    /// Whether this one is typing: the newest word of each.
    Typing(Caller, bool),
    Save(Checkpoint, oneshot::Sender<Result<(), StoreError>>),
    Attach(Attach, oneshot::Sender<Result<Attached, StoreError>>),
    Hold(oneshot::Sender<Result<Held, StoreError>>),
    Delete(Deletion),
}

impl TopicState {
    pub(super) fn is_unused(&self) -> bool {
        let TopicState { window, held, in_flight, waiting, subscribers, .. } = self;
        window.is_some() && !held && !in_flight && waiting.is_empty() && subscribers.is_empty()
    }

    /// Takes in the next text of a streaming message. A session streams one message at a time.
    pub(super) fn stream(&mut self, message_id: MessageId, run_id: Option<RunId>, text: &str) {
        let open = match &mut self.open {
            Some(open) if open.message_id == message_id => open,
            open => open.insert(OpenText { message_id, run_id, text: String::new(), snapshot: None }),
        };
        open.text.push_str(text);
        open.snapshot = None;
    }

    /// What the agent is doing; without an agent, a session is idle.
    pub(super) fn status(&self, topic: &Topic) -> Option<Arc<Event>> {
        topic.session()?;
        let idle = || {
            let body = Ephemeral::AgentStatus(AgentStatus::Idle);
            Arc::new(Event::ephemeral(topic.clone(), None, body).of_task(self.of_task))
        };
        Some(self.status.clone().unwrap_or_else(idle))
    }
}

impl OpenText {
    pub(super) fn snapshot(&mut self, topic: &Topic, of_task: bool) -> Arc<Event> {
        let OpenText { message_id, run_id, text, snapshot } = self;
        let make = || {
            let body = Ephemeral::MessageSnapshot { message_id: *message_id, text: text.clone() };
            Arc::new(Event::ephemeral(topic.clone(), *run_id, body).of_task(of_task))
        };
        snapshot.get_or_insert_with(make).clone()
    }
}

impl Batch {
    pub(super) fn fail(self, error: AppendError) {
        let Batch { entries, commands, committed, .. } = self;
        let _ = committed.send(Err(Failed { error, entries, commands }));
    }
}

impl Waiting {
    pub(super) fn is_typing_of(&self, is_of: impl FnOnce(&Caller) -> bool) -> bool {
        matches!(self, Waiting::Typing(by, _) if is_of(by))
    }

    pub(super) fn fail(self, error: &AppendError) {
        match self {
            Waiting::Batch(batch) => batch.fail(error.clone()),
            Waiting::Show(_) | Waiting::Typing(..) => {}
            Waiting::Save(_, saved) => {
                let _ = saved.send(Err(StoreError(error.to_string())));
            }
            Waiting::Attach(_, reply) => {
                let _ = reply.send(match error {
                    AppendError::Failed(error) => Err(error.clone()),
                    _ => Ok(Attached::Gone),
                });
            }
            Waiting::Hold(reply) => {
                let _ = reply.send(match error {
                    AppendError::Failed(error) => Err(error.clone()),
                    _ => Ok(Held::NoLog),
                });
            }
            Waiting::Delete(Deletion { deleted, .. }) => {
                let _ = deleted.send(Err(error.clone()));
            }
        }
    }
}
