//! Events on the wire: the envelope and each event's `data`.

use std::fmt;

use bytestring::ByteString;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::VERSION;
use crate::{
    core::{
        error::Problem,
        event::{
            AgentCard, AgentResponse as Response, AgentStatus, Body, CloseReason, ContextUse, Decision,
            Durable, EndReason, Ephemeral, Event, FinishReason, Outcome, Progress, Queued, Role, TaskChange,
            Timestamp, TokenSource, Trigger, Usage,
        },
        ids::{EventId, MessageId, RunId, SessionId, Topic},
        session::{SessionRecord, SessionStatus, TaskRecord, TaskStatus},
    },
    doors::reply::row,
};

/// The event as clients get it while it is delivered; encoded once, whoever asks first.
pub fn payload(event: &Event) -> ByteString {
    event.encoded(|event| encode(&Envelope::of(event)))
}

/// The event as a client gets it that reads what was.
pub fn past_payload(event: &Event) -> ByteString {
    event.encoded_once(|event| encode(&Envelope::of(event)))
}

/// JSON text of a value of ours.
pub fn encode(value: &impl Serialize) -> ByteString {
    // Fails only for maps with keys that are not text, and there are none.
    serde_json::to_string(value).expect("values of the wire are JSON").into()
}

/// What every event comes in.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(rename = "EventEnvelope", optional_fields))]
pub struct Envelope<'a> {
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_some")]
    #[cfg_attr(test, ts(type = "string", optional))]
    topic: Option<&'a Topic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    /// Number of a durable event in its topic and epoch; ephemeral events have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Names this event.
    #[serde(serialize_with = "display")]
    #[cfg_attr(test, ts(type = "string"))]
    message_id: EventId,
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    /// Of the task that the session was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<&'a str>,
    /// The event's `type` once more, where its session is a task's.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(type = "string", optional))]
    run_id: Option<RunId>,
    #[serde(flatten)]
    body: EventBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
}

/// An event's type and data.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum EventBody<'a> {
    SessionCreated(SessionCreated<'a>),
    SystemMessage(SystemMessage<'a>),
    SeedMessage(SeedMessage<'a>),
    UserMessage(UserMessage<'a>),
    RunStarted(RunStarted),
    #[serde(rename = "tool_call.start")]
    ToolCallStart(ToolCallStart<'a>),
    #[serde(rename = "tool_call.end")]
    ToolCallEnd(ToolCallEnd<'a>),
    ApprovalRequested(ApprovalRequested<'a>),
    ApprovalResolved(ApprovalResolved<'a>),
    AgentResponse(AgentResponse<'a>),
    ContextUpdate(ContextUpdate),
    #[serde(rename = "state.patch")]
    StatePatch(StatePatch<'a>),
    Suggestions(Suggestions<'a>),
    TaskCreated(TaskCreated<'a>),
    TaskStarted(TaskChanged<'a>),
    TaskUpdated(TaskUpdated<'a>),
    TaskPaused(TaskChanged<'a>),
    TaskResumed(TaskChanged<'a>),
    TaskCompleted(TaskChanged<'a>),
    TaskFailed(TaskChanged<'a>),
    TaskCancelled(TaskChanged<'a>),
    ProgressUpdate(ProgressUpdate<'a>),
    ConfidenceUpdate(ConfidenceUpdate<'a>),
    Error(Nothing),
    RunFinished(RunFinished),
    SessionUpdated(SessionUpdated<'a>),
    SessionClosed(SessionClosed<'a>),
    #[serde(rename = "message.delta")]
    MessageDelta(MessageDelta<'a>),
    #[serde(rename = "message.snapshot")]
    MessageSnapshot(MessageSnapshot<'a>),
    AgentStatusChange(AgentStatusChange),
    Typing(Typing<'a>),
    SessionListChanged(ListChange<'a>),
    AgentListUpdate(AgentListUpdate<'a>),
}

/// No data.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Nothing {}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct SessionCreated<'a> {
    session_id: &'a str,
    agent_name: &'a str,
    #[cfg_attr(test, ts(optional = false))]
    title: Option<&'a str>,
    /// The past that it began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    forked_from: Option<ForkedFrom<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ForkedFrom<'a> {
    session_id: &'a str,
    at_seq: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SystemMessage<'a> {
    content: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SeedMessage<'a> {
    #[cfg_attr(test, ts(type = "'user' | 'assistant'"))]
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct UserMessage<'a> {
    #[cfg_attr(test, ts(type = "string"))]
    message_id: MessageId,
    /// The `message_id` of the command that brought it.
    command_id: Option<&'a str>,
    content: &'a str,
    author: &'a str,
    /// It waits for the run that is going.
    queued: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RunStarted {
    #[cfg_attr(test, ts(type = "'user_message' | 'task' | 'resumed'"))]
    trigger: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ToolCallStart<'a> {
    /// Of the step that asked for the call.
    #[cfg_attr(test, ts(type = "string"))]
    message_id: MessageId,
    tool_call_id: &'a str,
    tool_name: &'a str,
    #[cfg_attr(test, ts(type = "unknown"))]
    args: &'a Value,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct ToolCallEnd<'a> {
    #[cfg_attr(test, ts(type = "string"))]
    message_id: MessageId,
    tool_call_id: &'a str,
    tool_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(type = "unknown", optional))]
    result: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
    duration_ms: u64,
}

/// A person must allow the call before it is made: `tool_approval`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ApprovalRequested<'a> {
    tool_call_id: &'a str,
    tool_name: &'a str,
    /// Unanswered by then, it counts as denied.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct ApprovalResolved<'a> {
    tool_call_id: &'a str,
    #[cfg_attr(test, ts(type = "'approved' | 'denied'"))]
    decision: &'static str,
    /// Null where nobody answered in time.
    #[cfg_attr(test, ts(optional = false))]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// What the tool is called with in place of the model's arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(type = "unknown", optional))]
    args: Option<&'a Value>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct StatePatch<'a> {
    version: u64,
    /// RFC 6902.
    #[cfg_attr(test, ts(type = "PatchOperation[]"))]
    patch: &'a Value,
}

/// What the user may want to say next.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Suggestions<'a> {
    items: &'a [String],
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TaskCreated<'a> {
    task_id: &'a str,
    #[cfg_attr(test, ts(type = "TaskStatus"))]
    status: &'static str,
    name: &'a str,
    input: &'a str,
}

/// Why a task failed is in `error`, beside `data`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TaskChanged<'a> {
    task_id: &'a str,
    #[cfg_attr(test, ts(type = "TaskStatus"))]
    status: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct TaskUpdated<'a> {
    task_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// It is to be paused at its next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pausing: Option<bool>,
}

/// Each part is null where the agent did not say.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ProgressUpdate<'a> {
    task_id: &'a str,
    /// 0 to 1.
    progress: Option<f64>,
    message: Option<&'a str>,
    /// 0 to 1.
    confidence: Option<f64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ConfidenceUpdate<'a> {
    task_id: &'a str,
    /// 0 to 1.
    confidence: f64,
    message: Option<&'a str>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AgentResponse<'a> {
    #[cfg_attr(test, ts(type = "string"))]
    message_id: MessageId,
    content: &'a str,
    model: &'a str,
    #[cfg_attr(
        test,
        ts(type = "'stop' | 'length' | 'tool_calls' | 'content_filter' | 'cancelled' | 'error'")
    )]
    finish_reason: &'static str,
    usage: Option<TokenUsage>,
    /// The text is a part of what the model would have said.
    incomplete: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TokenUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ContextUpdate {
    /// Prompt and answer, as the next prompt would start.
    tokens_used: u64,
    context_window: u64,
    /// 0 to 100.
    percentage: u64,
    omitted_messages: u64,
    #[cfg_attr(test, ts(type = "'provider' | 'estimate'"))]
    source: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RunFinished {
    #[cfg_attr(test, ts(type = "RunOutcome"))]
    outcome: &'static str,
    #[cfg_attr(
        test,
        ts(
            type = "'stopped' | 'replaced' | 'closed' | 'cleared' | 'shutdown' | 'crashed' | 'failed' | null"
        )
    )]
    reason: Option<&'static str>,
    usage: TokenUsage,
    duration_ms: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SessionUpdated<'a> {
    title: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SessionClosed<'a> {
    #[cfg_attr(test, ts(type = "'closed' | 'refreshed' | 'deleted'"))]
    reason: &'static str,
    replaced_by: Option<&'a str>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct MessageDelta<'a> {
    #[cfg_attr(test, ts(type = "string"))]
    message_id: MessageId,
    /// Unicode code points of the message that came before `text`.
    offset: u64,
    text: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct MessageSnapshot<'a> {
    #[cfg_attr(test, ts(type = "string"))]
    message_id: MessageId,
    text: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AgentStatusChange {
    #[cfg_attr(test, ts(type = "'idle' | 'thinking' | 'responding' | 'calling_tool' | 'waiting_approval'"))]
    status: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Typing<'a> {
    author: &'a str,
    client_id: Option<&'a str>,
    typing: bool,
    /// Not said again within this time, it is over.
    expires_in_ms: u64,
}

/// How long somebody is typing who does not say so again.
const TYPING_MS: u64 = 6_000;

/// The list's record of a session, or that it has gone from the list.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(untagged)]
pub enum ListChange<'a> {
    Session(Session<'a>),
    Removed { session_id: &'a str, removed: bool },
}

/// A session as lists show it.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Session<'a> {
    session_id: &'a str,
    agent_id: &'a str,
    title: Option<&'a str>,
    #[cfg_attr(test, ts(type = "SessionStatus"))]
    status: &'static str,
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    updated_at: Timestamp,
    epoch: &'a str,
    head: u64,
    /// What the session was made for, where that is a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    task: Option<Box<Task<'a>>>,
}

/// A task as lists show it.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Task<'a> {
    /// That of its session.
    task_id: &'a str,
    session_id: &'a str,
    agent_id: &'a str,
    name: &'a str,
    /// The first 1,000 characters of it; all where it is asked for by its id, and in exports.
    input: &'a str,
    #[cfg_attr(test, ts(type = "TaskStatus"))]
    status: &'static str,
    /// It is to be paused at its next step.
    pausing: bool,
    /// It goes on once somebody has allowed or denied a call.
    waiting_approval: bool,
    /// 0 to 1.
    progress: Option<f64>,
    message: Option<&'a str>,
    /// 0 to 1.
    confidence: Option<f64>,
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    updated_at: Timestamp,
    #[serde(serialize_with = "rfc3339_some")]
    #[cfg_attr(test, ts(type = "string | null"))]
    started_at: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339_some")]
    #[cfg_attr(test, ts(type = "string | null"))]
    ended_at: Option<Timestamp>,
    /// Why it failed.
    error: Option<ErrorBody<'a>>,
    /// The first 4,000 characters of its agent's last answer, or all of it as of the input.
    result: Option<&'a str>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AgentListUpdate<'a> {
    agents: Vec<Agent<'a>>,
}

/// An agent that sessions can be opened with.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Agent<'a> {
    id: &'a str,
    name: &'a str,
    description: &'a str,
    model: &'a str,
    context_window: u64,
}

/// What went wrong, in an event.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ErrorBody<'a> {
    pub code: &'static str,
    pub message: &'a str,
    #[serde(serialize_with = "object")]
    #[cfg_attr(test, ts(type = "Record<string, unknown>"))]
    pub details: &'a Value,
}

impl<'a> Envelope<'a> {
    fn of(event: &'a Event) -> Self {
        let (body, problem) = EventBody::of(event);
        let session_id = event.topic.session().map(SessionId::as_str);
        // These are about a session, or about agents, but do not belong to a topic that was subscribed to.
        let topic = match body {
            EventBody::SessionListChanged(_) | EventBody::AgentListUpdate(_) => None,
            _ => Some(&event.topic),
        };
        let agent_id = match &event.topic {
            Topic::Session(id) => Some(id.agent_str()),
            Topic::Agent(id) => Some(id.as_str()),
            Topic::System => None,
        };
        let event_type = event.of_task.then(|| body.name());
        Self {
            v: VERSION,
            topic,
            epoch: event.position.as_ref().map(|position| position.epoch.as_str()),
            seq: event.position.as_ref().map(|position| position.seq),
            message_id: event.id,
            timestamp: event.at,
            agent_id,
            session_id,
            task_id: session_id.filter(|_| event.of_task),
            event_type,
            run_id: event.run_id,
            body,
            error: problem.map(ErrorBody::of),
        }
    }
}

impl<'a> EventBody<'a> {
    /// The event's data, and the error that stands beside it.
    fn of(event: &'a Event) -> (Self, Option<&'a Problem>) {
        let body = match &event.body {
            Body::Durable(Durable::Error { problem }) => {
                return (EventBody::Error(Nothing {}), Some(problem));
            }
            Body::Durable(Durable::Task(change)) => {
                let problem = match change.as_ref() {
                    TaskChange::Failed { problem } => Some(problem),
                    _ => None,
                };
                return (Self::of_task_change(change, event), problem);
            }
            Body::Durable(durable) => Self::of_durable(durable, event),
            Body::Ephemeral(ephemeral) => Self::of_ephemeral(ephemeral),
        };
        (body, None)
    }

    /// The event's type.
    fn name(&self) -> &'static str {
        match self {
            EventBody::SessionCreated(_) => "session_created",
            EventBody::SystemMessage(_) => "system_message",
            EventBody::SeedMessage(_) => "seed_message",
            EventBody::UserMessage(_) => "user_message",
            EventBody::RunStarted(_) => "run_started",
            EventBody::ToolCallStart(_) => "tool_call.start",
            EventBody::ToolCallEnd(_) => "tool_call.end",
            EventBody::ApprovalRequested(_) => "approval_requested",
            EventBody::ApprovalResolved(_) => "approval_resolved",
            EventBody::AgentResponse(_) => "agent_response",
            EventBody::ContextUpdate(_) => "context_update",
            EventBody::StatePatch(_) => "state.patch",
            EventBody::Suggestions(_) => "suggestions",
            EventBody::TaskCreated(_) => "task_created",
            EventBody::TaskStarted(_) => "task_started",
            EventBody::TaskUpdated(_) => "task_updated",
            EventBody::TaskPaused(_) => "task_paused",
            EventBody::TaskResumed(_) => "task_resumed",
            EventBody::TaskCompleted(_) => "task_completed",
            EventBody::TaskFailed(_) => "task_failed",
            EventBody::TaskCancelled(_) => "task_cancelled",
            EventBody::ProgressUpdate(_) => "progress_update",
            EventBody::ConfidenceUpdate(_) => "confidence_update",
            EventBody::Error(_) => "error",
            EventBody::RunFinished(_) => "run_finished",
            EventBody::SessionUpdated(_) => "session_updated",
            EventBody::SessionClosed(_) => "session_closed",
            EventBody::MessageDelta(_) => "message.delta",
            EventBody::MessageSnapshot(_) => "message.snapshot",
            EventBody::AgentStatusChange(_) => "agent_status_change",
            EventBody::Typing(_) => "typing",
            EventBody::SessionListChanged(_) => "session_list_changed",
            EventBody::AgentListUpdate(_) => "agent_list_update",
        }
    }

    fn of_task_change(change: &'a TaskChange, event: &'a Event) -> Self {
        let task_id = event.topic.session().map_or("", SessionId::as_str);
        let changed = |status: TaskStatus| TaskChanged { task_id, status: status.name() };
        match change {
            TaskChange::Created { name, input } => {
                let status = TaskStatus::Pending.name();
                EventBody::TaskCreated(TaskCreated { task_id, status, name, input })
            }
            TaskChange::Started => EventBody::TaskStarted(changed(TaskStatus::Running)),
            TaskChange::Renamed { name } => {
                EventBody::TaskUpdated(TaskUpdated { task_id, name: Some(name), pausing: None })
            }
            TaskChange::Pausing => {
                EventBody::TaskUpdated(TaskUpdated { task_id, name: None, pausing: Some(true) })
            }
            TaskChange::Paused => EventBody::TaskPaused(changed(TaskStatus::Paused)),
            TaskChange::Resumed => EventBody::TaskResumed(changed(TaskStatus::Pending)),
            TaskChange::Completed => EventBody::TaskCompleted(changed(TaskStatus::Completed)),
            TaskChange::Failed { .. } => EventBody::TaskFailed(changed(TaskStatus::Failed)),
            TaskChange::Cancelled => EventBody::TaskCancelled(changed(TaskStatus::Cancelled)),
        }
    }

    fn of_progress(progress: &'a Progress, event: &'a Event) -> Self {
        let task_id = event.topic.session().map_or("", SessionId::as_str);
        let message = progress.message.as_deref();
        match *progress {
            Progress { progress: None, confidence: Some(confidence), .. } => {
                EventBody::ConfidenceUpdate(ConfidenceUpdate { task_id, confidence, message })
            }
            Progress { progress, confidence, .. } => {
                EventBody::ProgressUpdate(ProgressUpdate { task_id, progress, message, confidence })
            }
        }
    }

    fn of_durable(durable: &'a Durable, event: &'a Event) -> Self {
        match durable {
            Durable::SessionCreated { agent_name, title, forked_from, owner: _ } => {
                EventBody::SessionCreated(SessionCreated {
                    session_id: event.topic.session().map_or("", SessionId::as_str),
                    agent_name,
                    title: title.as_deref(),
                    forked_from: forked_from
                        .as_ref()
                        .map(|past| ForkedFrom { session_id: past.session_id.as_str(), at_seq: past.at_seq }),
                })
            }
            Durable::SystemMessage { content } => EventBody::SystemMessage(SystemMessage { content }),
            Durable::SeedMessage { role, content } => {
                EventBody::SeedMessage(SeedMessage { role: role_name(*role), content })
            }
            Durable::UserMessage { message_id, command_id, content, author, queue } => {
                EventBody::UserMessage(UserMessage {
                    message_id: *message_id,
                    command_id: command_id.as_ref().map(|id| id.as_str()),
                    content,
                    author: author.as_str(),
                    queued: *queue != Queued::No,
                })
            }
            Durable::RunStarted { trigger } => {
                EventBody::RunStarted(RunStarted { trigger: trigger_name(*trigger) })
            }
            Durable::ToolCallStarted { message_id, tool_call_id, tool_name, args, provider_state: _ } => {
                EventBody::ToolCallStart(ToolCallStart {
                    message_id: *message_id,
                    tool_call_id,
                    tool_name,
                    args,
                })
            }
            Durable::ToolCallEnded { message_id, tool_call_id, tool_name, outcome, duration_ms } => {
                EventBody::ToolCallEnd(ToolCallEnd {
                    message_id: *message_id,
                    tool_call_id,
                    tool_name,
                    result: outcome.as_deref().ok(),
                    error: outcome.as_ref().err().map(|problem| ErrorBody::of(problem)),
                    duration_ms: *duration_ms,
                })
            }
            Durable::ApprovalRequested { tool_call_id, tool_name, expires_at } => {
                EventBody::ApprovalRequested(ApprovalRequested {
                    tool_call_id,
                    tool_name,
                    expires_at: *expires_at,
                })
            }
            Durable::ApprovalResolved { tool_call_id, decision, by, reason, args } => {
                EventBody::ApprovalResolved(ApprovalResolved {
                    tool_call_id,
                    decision: match decision {
                        Decision::Approved => "approved",
                        Decision::Denied => "denied",
                    },
                    by: by.as_ref().map(|by| by.as_str()),
                    reason: reason.as_deref(),
                    args: args.as_deref(),
                })
            }
            Durable::AgentResponse(response) => EventBody::AgentResponse(AgentResponse::of(response)),
            Durable::ContextUpdated(context) => EventBody::ContextUpdate(ContextUpdate::of(context)),
            Durable::StatePatched { version, patch } => {
                EventBody::StatePatch(StatePatch { version: *version, patch })
            }
            Durable::Suggested { items } => EventBody::Suggestions(Suggestions { items }),
            Durable::Task(change) => Self::of_task_change(change, event),
            Durable::Progressed(progress) => Self::of_progress(progress, event),
            Durable::Error { .. } => EventBody::Error(Nothing {}),
            Durable::RunFinished { outcome, reason, usage, duration_ms } => {
                EventBody::RunFinished(RunFinished {
                    outcome: outcome_name(*outcome),
                    reason: reason.map(reason_name),
                    usage: TokenUsage::of(usage),
                    duration_ms: *duration_ms,
                })
            }
            Durable::SessionUpdated { title } => EventBody::SessionUpdated(SessionUpdated { title }),
            Durable::SessionClosed { reason, replaced_by } => EventBody::SessionClosed(SessionClosed {
                reason: match reason {
                    CloseReason::Closed => "closed",
                    CloseReason::Refreshed => "refreshed",
                },
                replaced_by: replaced_by.as_ref().map(SessionId::as_str),
            }),
        }
    }

    fn of_ephemeral(ephemeral: &'a Ephemeral) -> Self {
        match ephemeral {
            Ephemeral::MessageDelta { message_id, offset, text } => {
                EventBody::MessageDelta(MessageDelta { message_id: *message_id, offset: *offset, text })
            }
            Ephemeral::MessageSnapshot { message_id, text } => {
                EventBody::MessageSnapshot(MessageSnapshot { message_id: *message_id, text })
            }
            Ephemeral::AgentStatus(status) => {
                EventBody::AgentStatusChange(AgentStatusChange { status: status_name(*status) })
            }
            Ephemeral::Typing { author, client_id, typing } => EventBody::Typing(Typing {
                author: author.as_str(),
                client_id: client_id.as_ref().map(|id| id.as_str()),
                typing: *typing,
                expires_in_ms: TYPING_MS,
            }),
            Ephemeral::SessionListChanged(record) => {
                EventBody::SessionListChanged(ListChange::Session(Session::of(record)))
            }
            Ephemeral::SessionListRemoved(session_id) => EventBody::SessionListChanged(ListChange::Removed {
                session_id: session_id.as_str(),
                removed: true,
            }),
            Ephemeral::SessionDeleted => {
                EventBody::SessionClosed(SessionClosed { reason: "deleted", replaced_by: None })
            }
            Ephemeral::AgentList(cards) => {
                EventBody::AgentListUpdate(AgentListUpdate { agents: cards.iter().map(Agent::of).collect() })
            }
        }
    }
}

impl<'a> AgentResponse<'a> {
    fn of(response: &'a Response) -> Self {
        Self {
            message_id: response.message_id,
            content: &response.content,
            model: &response.model,
            finish_reason: match response.finish_reason {
                FinishReason::Stop => "stop",
                FinishReason::Length => "length",
                FinishReason::ToolCalls => "tool_calls",
                FinishReason::ContentFilter => "content_filter",
                FinishReason::Cancelled => "cancelled",
                FinishReason::Error => "error",
            },
            usage: response.usage.as_ref().map(TokenUsage::of),
            incomplete: response.incomplete,
        }
    }
}

impl TokenUsage {
    fn of(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total(),
        }
    }
}

impl ContextUpdate {
    pub fn of(context: &ContextUse) -> Self {
        Self {
            tokens_used: context.tokens_used,
            context_window: context.context_window,
            percentage: context.percentage(),
            omitted_messages: context.omitted_messages,
            source: match context.source {
                TokenSource::Provider => "provider",
                TokenSource::Estimate => "estimate",
            },
        }
    }
}

impl<'a> Session<'a> {
    pub fn of(record: &'a SessionRecord) -> Self {
        Self {
            session_id: record.session_id.as_str(),
            agent_id: record.session_id.agent_str(),
            title: record.title.as_deref(),
            status: session_status_name(record.status),
            created_at: record.created_at,
            updated_at: record.updated_at,
            epoch: record.epoch.as_str(),
            head: record.head,
            task: Task::of(record).map(Box::new),
        }
    }
}

/// What a task's record keeps only the beginnings of, whole; `None` where the record has all of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TaskTexts {
    pub input: Option<String>,
    pub result: Option<String>,
}

impl<'a> Task<'a> {
    /// The same with these texts in the place of their beginnings.
    pub fn with(mut self, texts: &'a TaskTexts) -> Self {
        self.input = texts.input.as_deref().unwrap_or(self.input);
        self.result = texts.result.as_deref().or(self.result);
        self
    }

    /// The task that a session was made for, if it was.
    pub fn of(record: &'a SessionRecord) -> Option<Self> {
        let task: &TaskRecord = record.task.as_ref()?;
        Some(Self {
            task_id: record.session_id.as_str(),
            session_id: record.session_id.as_str(),
            agent_id: record.session_id.agent_str(),
            name: &task.name,
            input: &task.input,
            status: task.status.name(),
            pausing: task.pausing,
            waiting_approval: record.status == SessionStatus::WaitingApproval,
            progress: task.progress.progress,
            message: task.progress.message.as_deref(),
            confidence: task.progress.confidence,
            created_at: record.created_at,
            updated_at: record.updated_at,
            started_at: task.started_at,
            ended_at: task.ended_at,
            error: task.problem.as_ref().map(ErrorBody::of),
            result: task.result.as_deref(),
        })
    }
}

impl<'a> Agent<'a> {
    pub fn of(card: &'a AgentCard) -> Self {
        Self {
            id: card.id.as_str(),
            name: &card.name,
            description: &card.description,
            model: &card.model,
            context_window: card.context_window,
        }
    }
}

impl<'a> ErrorBody<'a> {
    pub fn of(problem: &'a Problem) -> Self {
        Self { code: row(problem.code).code, message: &problem.message, details: &problem.details }
    }
}

pub const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Cancelled => "cancelled",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    }
}

pub const fn session_status_name(status: SessionStatus) -> &'static str {
    match status {
        SessionStatus::Idle => "idle",
        SessionStatus::Running => "running",
        SessionStatus::WaitingApproval => "waiting_approval",
        SessionStatus::Closed => "closed",
    }
}

const fn reason_name(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Stopped => "stopped",
        EndReason::Replaced => "replaced",
        EndReason::Closed => "closed",
        EndReason::Cleared => "cleared",
        EndReason::Shutdown => "shutdown",
        EndReason::Crashed => "crashed",
        EndReason::Failed => "failed",
    }
}

pub(super) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

const fn trigger_name(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::UserMessage => "user_message",
        Trigger::Task => "task",
        Trigger::Resumed => "resumed",
    }
}

const fn status_name(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Idle => "idle",
        AgentStatus::Thinking => "thinking",
        AgentStatus::Responding => "responding",
        AgentStatus::CallingTool => "calling_tool",
        AgentStatus::WaitingApproval => "waiting_approval",
    }
}

pub(super) fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn display_some<S: Serializer>(value: &Option<impl fmt::Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// A time as RFC 3339 has it, in UTC, with milliseconds.
pub(super) fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339_text(*at))
}

pub(super) fn rfc3339_text(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    format!("{at:.3}")
}

/// A time for people, to the second, in UTC.
pub(super) fn time_text(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

pub(super) fn rfc3339_some<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => rfc3339(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// Details are an object, empty where there are none.
pub(super) fn object<S: Serializer>(details: &&Value, serializer: S) -> Result<S::Ok, S::Error> {
    match details {
        Value::Null => serializer.collect_map(std::iter::empty::<(&str, &str)>()),
        details => details.serialize(serializer),
    }
}

/// Declarations of the types above, for the web UI.
#[cfg(test)]
pub(super) fn typescript(config: &ts_rs::Config) -> Vec<String> {
    use ts_rs::TS;
    vec![
        EventBody::decl(config),
        Nothing::decl(config),
        SessionCreated::decl(config),
        ForkedFrom::decl(config),
        SystemMessage::decl(config),
        SeedMessage::decl(config),
        UserMessage::decl(config),
        RunStarted::decl(config),
        ToolCallStart::decl(config),
        ToolCallEnd::decl(config),
        ApprovalRequested::decl(config),
        ApprovalResolved::decl(config),
        StatePatch::decl(config),
        Suggestions::decl(config),
        TaskCreated::decl(config),
        TaskChanged::decl(config),
        TaskUpdated::decl(config),
        ProgressUpdate::decl(config),
        ConfidenceUpdate::decl(config),
        AgentResponse::decl(config),
        TokenUsage::decl(config),
        ContextUpdate::decl(config),
        RunFinished::decl(config),
        SessionUpdated::decl(config),
        SessionClosed::decl(config),
        MessageDelta::decl(config),
        MessageSnapshot::decl(config),
        AgentStatusChange::decl(config),
        Typing::decl(config),
        ListChange::decl(config),
        Session::decl(config),
        Task::decl(config),
        AgentListUpdate::decl(config),
        Agent::decl(config),
        ErrorBody::decl(config),
        Envelope::decl(config),
    ]
}
