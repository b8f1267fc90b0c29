//! Events: what happened in a session (durable), and what is happening (ephemeral).
//!
//! The serde here is the storage format; what clients see is made in `doors::wire`. A new event is a
//! variant here: the compiler then points at each place that must know it.

use std::sync::{Mutex, MutexGuard};

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    error::Problem,
    ids::{
        AgentId, ClientId, CommandId, Epoch, EventId, MessageId, Position, Principal, RunId, Seq, SessionId,
        Topic,
    },
};

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 is wrong anyway; 0 keeps the server going.
        Self(since.map_or(0, |duration| duration.as_millis() as i64))
    }
}

/// One event, shared by the log, the replay window and every outbox that it waits in.
#[derive(Debug)]
pub struct Event {
    pub id: EventId,
    pub at: Timestamp,
    pub topic: Topic,
    /// `None` for an ephemeral event.
    pub position: Option<Position>,
    pub run_id: Option<RunId>,
    /// Its session is a task's.
    pub of_task: bool,
    pub body: Body,
    /// The JSON payload, the same for every client: made once, by the first door that needs it. Held for as
    /// long as the event is being delivered, as it is larger than the event.
    encoded: Mutex<Option<ByteString>>,
    /// Given back when nobody needs the event any more.
    _held: Option<OwnedSemaphorePermit>,
}

impl Event {
    pub fn durable(topic: Topic, epoch: Epoch, seq: Seq, at: Timestamp, entry: Entry) -> Self {
        Self {
            id: EventId::new(),
            at,
            topic,
            position: Some(Position { epoch, seq }),
            run_id: entry.run_id,
            of_task: false,
            body: Body::Durable(entry.body),
            encoded: Mutex::default(),
            _held: None,
        }
    }

    /// An event as it was stored.
    pub fn stored(
        id: EventId,
        at: Timestamp,
        topic: Topic,
        position: Position,
        run_id: Option<RunId>,
        body: Durable,
    ) -> Self {
        Self {
            id,
            at,
            topic,
            position: Some(position),
            run_id,
            of_task: false,
            body: Body::Durable(body),
            encoded: Mutex::default(),
            _held: None,
        }
    }

    /// The same event in another log.
    pub fn copied_to(&self, topic: Topic, epoch: Epoch) -> Option<Self> {
        let position = Position { epoch, seq: self.seq() };
        Some(Self::stored(self.id, self.at, topic, position, self.run_id, self.as_durable()?.clone()))
    }

    pub fn ephemeral(topic: Topic, run_id: Option<RunId>, body: Ephemeral) -> Self {
        Self {
            id: EventId::new(),
            at: Timestamp::now(),
            topic,
            position: None,
            run_id,
            of_task: false,
            body: Body::Ephemeral(body),
            encoded: Mutex::default(),
            _held: None,
        }
    }

    /// The event, of a task's session or not.
    pub fn of_task(mut self, of_task: bool) -> Self {
        self.of_task = of_task;
        self
    }

    /// The event, with a permit that it gives back when the last who has it drops it.
    pub fn holding(mut self, permit: Option<OwnedSemaphorePermit>) -> Self {
        self._held = permit;
        self
    }

    /// The position's number; 0 for an ephemeral event.
    pub fn seq(&self) -> Seq {
        self.position.as_ref().map_or(0, |position| position.seq)
    }

    pub fn as_durable(&self) -> Option<&Durable> {
        match &self.body {
            Body::Durable(durable) => Some(durable),
            Body::Ephemeral(_) => None,
        }
    }

    /// The encoded payload, kept for who needs it next.
    pub fn encoded(&self, encode: impl FnOnce(&Event) -> ByteString) -> ByteString {
        self.lock_encoded().get_or_insert_with(|| encode(self)).clone()
    }

    /// The encoded payload; not kept if it was not.
    pub fn encoded_once(&self, encode: impl FnOnce(&Event) -> ByteString) -> ByteString {
        let kept = self.lock_encoded().clone();
        kept.unwrap_or_else(|| encode(self))
    }

    /// The event has been delivered.
    pub fn forget_encoded(&self) {
        *self.lock_encoded() = None;
    }

    fn lock_encoded(&self) -> MutexGuard<'_, Option<ByteString>> {
        self.encoded.lock().expect("no panic while locked")
    }

    /// Roughly the bytes that this event occupies, for limits: its texts and a constant for the rest.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 320;
        FIXED
            + match &self.body {
                Body::Durable(durable) => durable.text_bytes(),
                Body::Ephemeral(ephemeral) => ephemeral.text_bytes(),
            }
    }
}

/// What an event says.
#[derive(Debug)]
pub enum Body {
    Durable(Durable),
    Ephemeral(Ephemeral),
}

/// A durable event on its way to the log: not numbered yet.
#[derive(Debug, Clone)]
pub struct Entry {
    pub run_id: Option<RunId>,
    pub body: Durable,
}

impl Entry {
    pub fn of_run(run_id: RunId, body: Durable) -> Self {
        Self { run_id: Some(run_id), body }
    }
}

impl From<Durable> for Entry {
    fn from(body: Durable) -> Self {
        Self { run_id: None, body }
    }
}

/// What is kept in a log and numbered. Parts that are rare or large are boxed: the size of every event is that of
/// the largest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Durable {
    SessionCreated {
        owner: Principal,
        agent_name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forked_from: Option<Box<ForkedFrom>>,
    },
    SystemMessage {
        content: String,
    },
    SeedMessage {
        role: Role,
        content: String,
    },
    UserMessage {
        message_id: MessageId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command_id: Option<CommandId>,
        content: String,
        author: Principal,
        queue: Queued,
    },
    RunStarted {
        trigger: Trigger,
    },
    ToolCallStarted {
        /// Of the step: parallel calls of one step share it.
        message_id: MessageId,
        tool_call_id: String,
        tool_name: String,
        args: Box<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_state: Option<Box<ProviderState>>,
    },
    ToolCallEnded {
        message_id: MessageId,
        tool_call_id: String,
        tool_name: String,
        outcome: Result<Box<Value>, Box<Problem>>,
        duration_ms: u64,
    },
    /// A person must allow the call before it is made.
    ApprovalRequested {
        tool_call_id: String,
        tool_name: String,
        /// Unanswered by then, it counts as denied.
        expires_at: Timestamp,
    },
    ApprovalResolved {
        tool_call_id: String,
        decision: Decision,
        /// `None` where nobody answered in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Principal>,
        /// For the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What the tool is called with in place of the model's arguments.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        args: Option<Box<Value>>,
    },
    AgentResponse(Box<AgentResponse>),
    ContextUpdated(ContextUse),
    /// The session's shared document has changed.
    StatePatched {
        version: u64,
        /// RFC 6902.
        patch: Box<Value>,
    },
    /// What the user may want to say next.
    Suggested {
        items: Vec<String>,
    },
    /// Something has become of the session's task.
    Task(Box<TaskChange>),
    /// How far the session's task has come, as its agent says.
    Progressed(Box<Progress>),
    Error {
        problem: Box<Problem>,
    },
    RunFinished {
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<EndReason>,
        usage: Usage,
        duration_ms: u64,
    },
    SessionUpdated {
        title: String,
    },
    SessionClosed {
        reason: CloseReason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced_by: Option<SessionId>,
    },
}

/// The past that a session has taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedFrom {
    pub session_id: SessionId,
    /// The last event of it.
    pub at_seq: Seq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Approved,
    Denied,
}

/// What has become of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum TaskChange {
    Created {
        name: String,
        input: String,
    },
    /// It runs, for the first time or again.
    Started,
    Renamed {
        name: String,
    },
    /// It is to be paused at its next step.
    Pausing,
    Paused,
    /// It waits for its turn to run again.
    Resumed,
    Completed,
    Failed {
        problem: Problem,
    },
    Cancelled,
}

impl TaskChange {
    /// Nothing more becomes of the task after it.
    pub fn ends_task(&self) -> bool {
        matches!(self, TaskChange::Completed | TaskChange::Failed { .. } | TaskChange::Cancelled)
    }
}

/// Each part is `None` where the agent did not say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// What a step of a run said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentResponse {
    pub message_id: MessageId,
    pub content: String,
    pub model: String,
    pub finish_reason: FinishReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The text is a part of what the model would have said.
    pub incomplete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_state: Option<ProviderState>,
}

/// What a provider demands back with the next prompt (signatures, say). Clients never see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderState {
    /// The provider that made it, the only one that it is given back to.
    pub provider: String,
    pub state: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
}

/// Where a user's message stood when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queued {
    /// Its run began at once.
    No,
    /// At the end of the queue.
    Last,
    /// Before the queue: it interrupted the run that was going.
    First,
}

/// Why a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    UserMessage,
    /// A task began.
    Task,
    /// A task goes on after a run that a stop of the server interrupted.
    Resumed,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    /// The run was stopped before the model was done.
    Cancelled,
    /// The provider failed before the model was done.
    Error,
}

/// Tokens, as counted by the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

impl Usage {
    pub fn total(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_add(other.completion_tokens),
        }
    }
}

/// How full the model's context is, once an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextUse {
    /// Prompt and answer, as the next prompt would start.
    pub tokens_used: u64,
    pub context_window: u64,
    /// Messages too old to fit in the prompt.
    pub omitted_messages: u64,
    pub source: TokenSource,
}

impl ContextUse {
    /// Part of the window in use, 0 to 100, rounded up: only an empty context shows 0.
    pub fn percentage(&self) -> u64 {
        self.tokens_used.saturating_mul(100).div_ceil(self.context_window.max(1)).min(100)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    Provider,
    Estimate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Cancelled,
    Failed,
    Interrupted,
}

/// Why a run ended otherwise than by completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A user stopped it.
    Stopped,
    /// A message with `on_busy` `interrupt` took its place.
    Replaced,
    /// Its session was closed.
    Closed,
    /// It was taken from the queue before it began.
    Cleared,
    /// The server shut down in an orderly way.
    Shutdown,
    /// The server, or the session's actor, died.
    Crashed,
    /// The `error` event before it says why.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    Closed,
    Refreshed,
}

/// What is shown as it happens and never stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Ephemeral {
    MessageDelta {
        message_id: MessageId,
        /// Unicode code points of the message that came before this text.
        offset: u64,
        text: String,
    },
    /// All the text so far of a message that is still streaming.
    MessageSnapshot {
        message_id: MessageId,
        text: String,
    },
    AgentStatus(AgentStatus),
    Typing {
        author: Principal,
        client_id: Option<ClientId>,
        typing: bool,
    },
    SessionListChanged(Box<super::session::SessionRecord>),
    /// A session's log went from the store.
    SessionListRemoved(SessionId),
    /// The same, for those who watched it.
    SessionDeleted,
    AgentList(Vec<AgentCard>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentStatus {
    Idle,
    Thinking,
    Responding,
    CallingTool,
    WaitingApproval,
}

/// An agent as clients may know it.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentCard {
    pub id: AgentId,
    pub name: String,
    pub description: String,
    pub model: String,
    pub context_window: u64,
}

impl Durable {
    fn text_bytes(&self) -> usize {
        match self {
            Durable::SessionCreated { title, .. } => title.as_ref().map_or(0, String::len),
            Durable::SystemMessage { content }
            | Durable::SeedMessage { content, .. }
            | Durable::UserMessage { content, .. } => content.len(),
            Durable::ToolCallStarted { args, provider_state, .. } => {
                json_bytes(args) + state_bytes(provider_state.as_deref())
            }
            Durable::ToolCallEnded { outcome, .. } => match outcome {
                Ok(result) => json_bytes(result),
                Err(problem) => problem.message.len(),
            },
            Durable::AgentResponse(response) => {
                response.content.len() + state_bytes(response.provider_state.as_ref())
            }
            Durable::Error { problem } => problem.message.len() + json_bytes(&problem.details),
            Durable::SessionUpdated { title } => title.len(),
            Durable::ApprovalResolved { reason, args, .. } => {
                reason.as_ref().map_or(0, String::len) + args.as_deref().map_or(0, json_bytes)
            }
            Durable::StatePatched { patch, .. } => json_bytes(patch),
            Durable::Suggested { items } => items.iter().map(|item| item.len() + 32).sum(),
            Durable::Task(change) => match change.as_ref() {
                TaskChange::Created { name, input } => name.len() + input.len(),
                TaskChange::Renamed { name } => name.len(),
                TaskChange::Failed { problem } => problem.message.len() + json_bytes(&problem.details),
                TaskChange::Started
                | TaskChange::Pausing
                | TaskChange::Paused
                | TaskChange::Resumed
                | TaskChange::Completed
                | TaskChange::Cancelled => 64,
            },
            Durable::Progressed(progress) => 64 + progress.message.as_ref().map_or(0, String::len),
            Durable::RunStarted { .. }
            | Durable::ApprovalRequested { .. }
            | Durable::ContextUpdated(_)
            | Durable::RunFinished { .. }
            | Durable::SessionClosed { .. } => 0,
        }
    }
}

impl Ephemeral {
    fn text_bytes(&self) -> usize {
        match self {
            Ephemeral::MessageDelta { text, .. } | Ephemeral::MessageSnapshot { text, .. } => text.len(),
            Ephemeral::SessionListChanged(record) => record.weight(),
            Ephemeral::AgentList(cards) => {
                cards.iter().map(|card| card.name.len() + card.description.len() + 128).sum()
            }
            Ephemeral::AgentStatus(_)
            | Ephemeral::Typing { .. }
            | Ephemeral::SessionListRemoved(_)
            | Ephemeral::SessionDeleted => 0,
        }
    }
}

/// Roughly the heap bytes of a JSON value.
pub(super) fn json_bytes(value: &Value) -> usize {
    const NODE: usize = 32;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => NODE,
        Value::String(text) => NODE + text.len(),
        Value::Array(items) => NODE + items.iter().map(json_bytes).sum::<usize>(),
        Value::Object(fields) => {
            NODE + fields.iter().map(|(key, value)| NODE + key.len() + json_bytes(value)).sum::<usize>()
        }
    }
}

fn state_bytes(state: Option<&ProviderState>) -> usize {
    state.map_or(0, |state| json_bytes(&state.state))
}
