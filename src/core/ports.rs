//! What the core needs from outside: models, tools, a store, and whoever watches.
//!
//! Plain traits, because none of these has a life of its own. Adapters live in `providers`, `tools` and
//! `store`; the doors implement [`Subscriber`].

use std::{sync::Arc, time::Duration};

use futures_util::{future::BoxFuture, stream::BoxStream};
use serde_json::Value;

use super::{
    command::{CommandKey, Digest, Done, Remember},
    conversation::Prompt,
    error::{ErrorCode, Problem},
    event::{Event, FinishReason, Progress, ProviderState, Timestamp, Usage},
    ids::{AgentId, Epoch, MessageId, Principal, RunId, Seq, SessionId, Topic},
    search::Words,
    session::{SessionRecord, SessionState, TaskStatus},
};

// ---- models ----

/// Something that speaks for a family of models.
pub trait ModelProvider: Send + Sync + 'static {
    /// Starts an answer. Dropping the stream stops it, and closes the provider's connection, at once.
    ///
    /// The stream ends after [`ModelEvent::End`] or an error; one that ends without either was cut.
    fn stream(&self, request: ModelRequest) -> BoxStream<'static, Result<ModelEvent, ModelError>>;
}

/// One call of a model.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// The model's name as the provider knows it.
    pub model: String,
    pub prompt: Prompt,
    pub temperature: Option<f64>,
    /// Upper bound of the answer, in tokens.
    pub max_tokens: Option<u32>,
    pub tools: Arc<[ToolSpec]>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PromptMessage {
    /// What the user said; several texts where earlier ones got no answer.
    User(Vec<String>),
    Assistant {
        text: String,
        calls: Vec<ToolCall>,
        provider_state: Option<ProviderState>,
    },
    /// The results of the calls of the message before, in their order.
    ToolResults(Vec<ToolResult>),
}

/// A model's wish to have a tool called.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub args: Value,
    pub provider_state: Option<ProviderState>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    pub id: String,
    pub name: String,
    pub outcome: Result<Value, String>,
}

/// What a model sends while it answers.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    Text(String),
    ToolCall(ToolCall),
    End {
        finish_reason: FinishReason,
        /// `None` where the provider did not count.
        usage: Option<Usage>,
        provider_state: Option<ProviderState>,
    },
}

/// How a model failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    pub kind: ModelErrorKind,
    /// For people: which provider, what it said, what to do. Never a key.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelErrorKind {
    Auth,
    RateLimited {
        retry_after: Option<Duration>,
    },
    Timeout,
    ContextOverflow,
    /// The provider failed, or broke off.
    Other,
}

impl ModelError {
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A stream that ended without saying so.
    pub fn cut() -> Self {
        Self::new(ModelErrorKind::Other, "the provider broke off in the middle of its answer; try again")
    }
}

impl From<ModelError> for Problem {
    fn from(error: ModelError) -> Self {
        let code = match error.kind {
            ModelErrorKind::Auth => ErrorCode::ProviderAuth,
            ModelErrorKind::RateLimited { .. } => ErrorCode::ProviderRateLimited,
            ModelErrorKind::Timeout => ErrorCode::ProviderTimeout,
            ModelErrorKind::ContextOverflow => ErrorCode::ContextOverflow,
            ModelErrorKind::Other => ErrorCode::ProviderError,
        };
        let problem = Problem::new(code, error.message);
        match error.kind {
            ModelErrorKind::RateLimited { retry_after: Some(wait) } => {
                let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                problem.with(serde_json::json!({ "retry_after_ms": wait }))
            }
            _ => problem,
        }
    }
}

// ---- tools ----

/// Where tools come from: what is built in, or a server of them.
pub trait ToolSource: Send + Sync + 'static {
    /// The tools as one session has them. What is held for that session alone ends when this is dropped.
    /// Some tools are only of use in a task.
    fn open(&self, of_task: bool) -> Arc<dyn Tools>;

    /// The tools there are, or were when they were last looked at. Starts what must be started.
    fn describe(&self) -> BoxFuture<'static, Vec<ToolDescription>>;
}

/// The tools that a session has from one source. Every future here ends by itself, within the source's limits.
pub trait Tools: Send + Sync + 'static {
    /// Those that can be called now. Starts what must be started; a source that cannot be had has none, and says
    /// why in the log.
    fn list(&self) -> BoxFuture<'static, Arc<[ToolSpec]>>;

    /// Calls one. Dropping the future gives up on the call.
    fn call(&self, name: &str, args: Value) -> BoxFuture<'static, Result<ToolOutput, Problem>>;

    /// Whether the arguments are such as the tool was last listed with; a tool that is not known takes any.
    ///
    /// # Errors
    /// `invalid_field`, saying which argument is wrong and what was expected.
    fn check(&self, name: &str, args: &Value) -> Result<(), Problem>;
}

/// What has come of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolOutput {
    Value(Value),
    /// The session's shared document is to be patched (RFC 6902). The result is the version that this makes.
    PatchState {
        patch: Value,
        if_version: Option<u64>,
    },
    /// This is how far the session's task has come.
    Report(Progress),
    /// This is what the user may want to say next.
    Suggest(Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolDescription {
    pub spec: ToolSpec,
    pub available: bool,
}

/// A tool as models are told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Value,
}

// ---- store ----

/// Keeps logs, and what must change together with them.
///
/// Every method may be called from any thread, and begins its work when it is called, not when its future is
/// first polled: what one thread asks to have written is written in that order. A future that is ready at once
/// costs its caller no thread switch; none of them blocks.
///
/// What has been written can be read by everybody before the writer is told so.
pub trait Store: Send + Sync + 'static {
    /// Names this life of the store: another one may have lost events that clients saw. It is the second part
    /// of every epoch that the store gives out.
    fn incarnation(&self) -> &str;

    /// Appends events, and remembers commands, in one transaction. A finished message, and the end of its run,
    /// take what was saved of it by `checkpoint` with them.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>>;

    /// Saves the next piece of a message that is still streaming, for whoever has to end its run.
    fn checkpoint(&self, checkpoint: Checkpoint) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Begins a session with a copy of another one's first events, in one transaction.
    fn fork(&self, fork: Fork) -> BoxFuture<'static, Result<(), AppendError>>;

    /// Removes a session with its log, and remembers the commands that asked for it.
    /// [`AppendError::Conflict`] where there is no such session.
    fn delete(&self, id: &SessionId, commands: Vec<Remember>) -> BoxFuture<'static, Result<(), AppendError>>;

    /// The accepted command of this key, if it is still remembered.
    fn recall(&self, key: &CommandKey) -> BoxFuture<'static, Result<Option<Remembered>, StoreError>>;

    /// Where a log stands; `None` if there is none.
    fn head(&self, topic: &Topic) -> BoxFuture<'static, Result<Option<Head>, StoreError>>;

    /// A part of a log; `None` if there is no such log.
    fn read(
        &self,
        topic: &Topic,
        from: ReadFrom,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<Page>, StoreError>>;

    /// A session's state.
    fn session(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<SessionState>, StoreError>>;

    /// A session's state with the newest of its messages, as of one moment.
    fn tail(
        &self,
        id: &SessionId,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<SessionTail>, StoreError>>;

    /// What was saved of the message that a session's open run was streaming.
    fn partial(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<Partial>, StoreError>>;

    /// Whether a run of the session has ended, begun or not.
    fn has_ended(&self, id: &SessionId, run_id: RunId) -> BoxFuture<'static, Result<bool, StoreError>>;

    /// A page of a principal's sessions: newest `updated_at` first, then by id.
    fn sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>>;

    /// Sessions with an open run or a queue that come after this one by id: what a crash, or a stop, has left
    /// undone.
    fn unfinished(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, StoreError>>;

    /// A page of a principal's messages that have all these words, newest first.
    fn search(&self, search: Search) -> BoxFuture<'static, Result<Hits, StoreError>>;

    /// Finishes what is being written; nothing is written after it.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// Events for one log, numbered by the bus.
#[derive(Debug)]
pub struct Append {
    pub topic: Topic,
    /// Number of the log's last event as the bus knows it; 0 begins a log. Another one is a conflict.
    pub expected_seq: Seq,
    /// Numbered from `expected_seq + 1`. May be empty: then only the commands are remembered.
    pub events: Vec<Arc<Event>>,
    pub commands: Vec<Remember>,
}

/// A piece of a message that is still streaming; it continues the pieces before it.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub session_id: SessionId,
    pub run_id: RunId,
    pub message_id: MessageId,
    pub text: String,
}

/// All that was saved of a message that was never finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    pub run_id: RunId,
    pub message_id: MessageId,
    pub text: String,
}

/// A session that begins with another one's past.
#[derive(Debug)]
pub struct Fork {
    pub from: SessionId,
    /// The first event of the new log, in place of the old one's.
    pub created: Arc<Event>,
    /// The fold of the new log: its head is the last event that is copied. Numbers and ids of the events stay.
    pub state: SessionState,
    pub commands: Vec<Remember>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Appended {
    /// Closed sessions whose logs were removed to make room.
    pub removed: Vec<SessionRecord>,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AppendError {
    #[error("the log's head is not the expected one")]
    Conflict,
    #[error("the command was carried out before")]
    Duplicate(Box<Remembered>),
    #[error("the store is full")]
    Full,
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// The store could not do its work; it may again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreError(pub String);

impl StoreError {
    /// What a client is told of a read that failed; the log has the details.
    pub fn unreadable(self) -> Problem {
        log::error!("{self}");
        Problem::unavailable("the server's store cannot be read now; try again later")
    }
}

/// An accepted command, as it was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    pub digest: Digest,
    pub done: Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub epoch: Epoch,
    /// Number of the oldest event kept; 1 unless the log is trimmed.
    pub first: Seq,
    /// Number of the newest event; `first - 1` if there is none.
    pub last: Seq,
    /// It is the log of a task's session.
    pub of_task: bool,
}

/// Where a page begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Events after this number, the first of them first.
    After(Seq),
    /// The last events before this number.
    Before(Seq),
}

/// A page ends at whichever comes first; it has one event at least, however heavy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    pub events: usize,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct Page {
    /// Oldest first, whichever end the page was read from.
    pub events: Vec<Arc<Event>>,
    pub head: Head,
    /// There are more in the direction that was read.
    pub more: bool,
}

#[derive(Debug)]
pub struct SessionTail {
    pub state: SessionState,
    /// Oldest first: system and seed messages always, and the newest that the limit allows of the
    /// events that a conversation is shown from.
    pub messages: Vec<Arc<Event>>,
    pub truncated: bool,
}

/// Which sessions a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    Chats,
    Tasks { status: Option<TaskStatus> },
}

impl SessionKind {
    pub fn takes(self, record: &SessionRecord) -> bool {
        match (self, &record.task) {
            (SessionKind::Chats, task) => task.is_none(),
            (SessionKind::Tasks { status }, Some(task)) => status.is_none_or(|status| status == task.status),
            (SessionKind::Tasks { .. }, None) => false,
        }
    }
}

#[derive(Debug, Clone)]
pub struct SessionFilter {
    pub owner: Principal,
    pub kind: SessionKind,
    pub agent_id: Option<AgentId>,
    /// Part of the title or of the id, in any case.
    pub query: Option<String>,
    /// The last record of the page before.
    pub after: Option<(Timestamp, SessionId)>,
    pub limit: usize,
}

#[derive(Debug, Clone)]
pub struct Search {
    pub owner: Principal,
    pub words: Words,
    /// Where the page before ended.
    pub after: Option<u64>,
    pub limit: usize,
}

#[derive(Debug, Default)]
pub struct Hits {
    pub hits: Vec<Hit>,
    /// Where the next page begins, if there is one.
    pub next: Option<u64>,
    /// Messages after this moment are not found yet; `None` where all are.
    pub indexed_to: Option<Timestamp>,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub session_id: SessionId,
    pub title: Option<String>,
    pub seq: Seq,
    pub excerpt: String,
}

// ---- subscribers ----

/// Whoever receives events: an open socket, seen from the core.
pub trait Subscriber: Send + Sync + 'static {
    /// Hands over events, in order. Never waits; the subscriber looks at them once it is woken.
    fn offer(&self, events: &[Arc<Event>]) -> Result<(), Overflow>;

    /// There is something to look at.
    fn wake(&self);

    /// Hands over what a subscription begins with. Bounded by the bus, so never refused. Wakes by itself, as
    /// do the following.
    fn hand_over(&self, events: &[Arc<Event>]);

    /// Announces a subscription that was made on the subscriber's behalf, before its first event.
    fn announce(&self, topic: &Topic, epoch: &Epoch, head: Seq);

    /// Asks the subscriber to subscribe to `topic`.
    fn invite(&self, topic: &Topic, from: InvitedFrom);

    /// The topic's log is no more, and with it the subscription.
    fn end_subscription(&self, topic: &Topic);

    /// Continuity is broken: the subscriber must end its connection and resume from what it has.
    fn cut_off(&self);
}

/// Where a subscription that somebody is invited to begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitedFrom {
    Beginning,
    /// A snapshot of what there is.
    Snapshot,
}

/// The subscriber's queue is full. It is on its way out and takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;
