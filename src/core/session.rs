//! What a session's log says about the session itself: the fold behind lists and snapshots (pure).
//!
//! A store keeps one beside each session's log, brought up to date in the transaction of each append,
//! so that a list or a snapshot never reads a log from its beginning.

use serde::{Deserialize, Serialize};

use super::{
    event::{ContextUse, Durable, Event, Queued, Timestamp},
    ids::{Epoch, MessageId, Principal, RunId, Seq, SessionId},
};

/// A session as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    pub session_id: SessionId,
    pub owner: Principal,
    pub title: Option<String>,
    pub status: SessionStatus,
    pub created_at: Timestamp,
    /// When the session last began, ended or changed something.
    pub updated_at: Timestamp,
    pub epoch: Epoch,
    pub head: Seq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    Idle,
    Running,
    Closed,
}

/// The whole fold: the record, and what a snapshot needs beside the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    pub record: SessionRecord,
    /// The run that has begun and not ended.
    pub run: Option<RunId>,
    /// What will run next, in this order.
    pub queue: Vec<QueuedRun>,
    pub context: Option<ContextUse>,
    /// Messages that a model would be told of, were there room for all.
    pub messages: u64,
}

/// A user's message that waits for its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRun {
    pub run_id: RunId,
    pub message_id: MessageId,
    /// Of its `user_message`.
    pub seq: Seq,
    /// It goes before the others: it interrupted a run.
    pub first: bool,
}

impl SessionState {
    /// The fold of a log that begins with `event`; `None` unless that is a `session_created`.
    pub fn begin(event: &Event) -> Option<Self> {
        let session_id = event.topic.session()?.clone();
        let position = event.position.as_ref()?;
        let Durable::SessionCreated { owner, title, .. } = event.as_durable()? else { return None };
        Some(Self {
            record: SessionRecord {
                session_id,
                owner: owner.clone(),
                title: title.clone(),
                status: SessionStatus::Idle,
                created_at: event.at,
                updated_at: event.at,
                epoch: position.epoch.clone(),
                head: position.seq,
            },
            run: None,
            queue: Vec::new(),
            context: None,
            messages: 0,
        })
    }

    /// Takes in the next event of the log.
    pub fn apply(&mut self, event: &Event) {
        let Some(body) = event.as_durable() else { return };
        self.record.head = event.seq();
        if changes_record(body) {
            // However the clock was set meanwhile.
            self.record.updated_at = self.record.updated_at.max(event.at);
        }
        match body {
            // Its run begins with it.
            Durable::UserMessage { queue: Queued::No, .. } => self.run = event.run_id,
            Durable::UserMessage { message_id, queue, .. } => {
                if let Some(run_id) = event.run_id {
                    let first = *queue == Queued::First;
                    let queued = QueuedRun { run_id, message_id: *message_id, seq: event.seq(), first };
                    enqueue(&mut self.queue, queued);
                }
            }
            Durable::RunStarted { .. } => {
                self.run = event.run_id;
                self.queue.retain(|queued| Some(queued.run_id) != event.run_id);
                self.record.status = SessionStatus::Running;
                self.messages += 1;
            }
            Durable::RunFinished { .. } => {
                self.queue.retain(|queued| Some(queued.run_id) != event.run_id);
                if self.run == event.run_id {
                    self.run = None;
                    self.record.status = SessionStatus::Idle;
                }
            }
            Durable::ContextUpdated(context) => self.context = Some(*context),
            Durable::SessionUpdated { title } => self.record.title = Some(title.clone()),
            Durable::SessionClosed { .. } => self.record.status = SessionStatus::Closed,
            Durable::AgentResponse(_) | Durable::ToolCallStarted { .. } => self.messages += 1,
            Durable::SessionCreated { .. }
            | Durable::SystemMessage { .. }
            | Durable::SeedMessage { .. }
            | Durable::ToolCallEnded { .. }
            | Durable::Error { .. } => {}
        }
    }

    /// Something is left to do: a run is open, or messages wait for theirs.
    pub fn is_unfinished(&self) -> bool {
        self.run.is_some() || !self.queue.is_empty()
    }
}

/// Puts a run where it will go: those that interrupt before the others, each kind in its order.
pub fn enqueue(queue: &mut Vec<QueuedRun>, queued: QueuedRun) {
    let place = if queued.first { queue.iter().take_while(|other| other.first).count() } else { queue.len() };
    queue.insert(place, queued);
}

/// Whether what a list shows of the session changes with this event.
pub fn changes_record(body: &Durable) -> bool {
    matches!(
        body,
        Durable::SessionCreated { .. }
            | Durable::UserMessage { .. }
            | Durable::RunStarted { .. }
            | Durable::RunFinished { .. }
            | Durable::SessionUpdated { .. }
            | Durable::SessionClosed { .. }
    )
}

/// Whether the event is one that a conversation is shown from.
pub fn is_message(body: &Durable) -> bool {
    is_preamble(body)
        || matches!(
            body,
            Durable::UserMessage { .. }
                | Durable::AgentResponse(_)
                | Durable::ToolCallStarted { .. }
                | Durable::ToolCallEnded { .. }
                | Durable::Error { .. }
        )
}

/// Whether the event is one that a conversation begins with, and that is always shown.
pub fn is_preamble(body: &Durable) -> bool {
    matches!(body, Durable::SystemMessage { .. } | Durable::SeedMessage { .. })
}
