//! Frames that are not events of a topic: replies, acknowledgements, snapshots, the life of a socket.

use bytestring::ByteString;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    VERSION,
    events::{
        Agent, ContextUpdate, Session, display, encode, object, outcome_name, past_payload, rfc3339,
        rfc3339_some, session_status_name,
    },
};
use crate::{
    core::{
        command::{Answer, Done},
        error::Problem,
        event::{AgentCard, Timestamp},
        ids::{ClientId, ConnectionId, Epoch, EventId, MessageId, RunId, Seq, Topic},
        ports::{Hits, Page, ReadFrom, SessionTail},
        session::{SessionRecord, is_preamble},
    },
    doors::reply::{Close, row},
};

// ---- replies ----

/// The answer to a command.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct Reply<'a, D> {
    v: u8,
    #[serde(rename = "type")]
    #[cfg_attr(test, ts(type = "'reply'"))]
    kind: &'static str,
    /// The command's `message_id`; null where it had none, or could not be read.
    #[cfg_attr(test, ts(optional = false))]
    reply_to: Option<&'a str>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal<'a>>,
}

/// Why a command, or a subscription, was refused.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Refusal<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(serialize_with = "object")]
    #[cfg_attr(test, ts(type = "Record<string, unknown>"))]
    details: &'a Value,
    /// Whether the same command may succeed later, unchanged.
    retryable: bool,
}

/// `data` of the reply to `create` and to `agent_refresh`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Created<'a> {
    session_id: &'a str,
    epoch: &'a str,
    seq: Seq,
    duplicate: bool,
}

/// `data` of the reply to `chat_message`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Accepted {
    #[cfg_attr(test, ts(type = "string"))]
    run_id: RunId,
    /// Of its `user_message`.
    seq: Seq,
    duplicate: bool,
}

/// `data` of the reply to `stop_run`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Stopped {
    #[cfg_attr(test, ts(type = "RunOutcome"))]
    outcome: &'static str,
    duplicate: bool,
}

/// `data` of the reply to `update_state`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct StateUpdated {
    version: u64,
    duplicate: bool,
}

/// `data` of the reply to `get_tools`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct ToolList<'a> {
    tools: &'a [Tool],
}

/// A tool that agents have.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Tool {
    pub name: String,
    pub description: String,
    /// JSON Schema of its arguments.
    #[cfg_attr(test, ts(type = "unknown"))]
    pub parameters: Value,
    /// `builtin`, or `mcp:` and the server's name.
    pub source: String,
    /// A person must allow each call.
    pub needs_approval: bool,
    /// It can be called now.
    pub available: bool,
    pub agent_id: String,
}

/// `data` of the reply to a command that has nothing else to say.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Noted {
    duplicate: bool,
}

/// `data` of the reply to `list`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SessionList<'a> {
    sessions: Vec<Session<'a>>,
    next_cursor: Option<String>,
}

/// `data` of the reply to `history`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct History<'a> {
    #[cfg_attr(test, ts(type = "Array<EventEnvelope>"))]
    events: Vec<&'a RawValue>,
    epoch: &'a str,
    head: Seq,
    /// There are more in the direction that was read.
    more: bool,
}

/// `data` of the reply to `search`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct SearchHits<'a> {
    hits: Vec<SearchHit<'a>>,
    #[cfg_attr(test, ts(optional = false))]
    next_cursor: Option<String>,
    /// Messages after this time are not found yet; absent where all are.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339_some")]
    #[cfg_attr(test, ts(type = "string", optional))]
    indexed_to: Option<Timestamp>,
}

/// A message that has the words of a search.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SearchHit<'a> {
    session_id: &'a str,
    /// Of the session.
    title: Option<&'a str>,
    seq: Seq,
    /// A piece of its text, on one line.
    excerpt: &'a str,
}

/// The events of a page, of history or of a snapshot, come to this much JSON at most.
const MAX_PAGE_BYTES: usize = 512 * 1024;

/// `data` of the reply to `get_agents`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct AgentList<'a> {
    agents: Vec<Agent<'a>>,
}

/// `data` of the reply to `get_models`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct ModelList<'a> {
    models: &'a [Model],
}

/// A model that agents use.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Model {
    pub id: String,
    pub provider: String,
    pub context_window: u64,
    /// Its provider needs no key, or has one.
    pub available: bool,
}

fn accepted<D: Serialize>(reply_to: Option<&str>, data: D) -> ByteString {
    encode(&Reply { v: VERSION, kind: "reply", reply_to, ok: true, data: Some(data), error: None })
}

/// The reply to a command that was refused.
pub fn refused(reply_to: Option<&str>, problem: &Problem) -> ByteString {
    let error = Some(Refusal::of(problem));
    encode(&Reply::<()> { v: VERSION, kind: "reply", reply_to, ok: false, data: None, error })
}

/// The reply to a command that the core has carried out, or refused.
pub fn answered(reply_to: Option<&str>, answer: &Answer) -> ByteString {
    let duplicate = answer.duplicate;
    match &answer.result {
        Ok(Done::Created { session_id, epoch, seq }) => accepted(
            reply_to,
            Created { session_id: session_id.as_str(), epoch: epoch.as_str(), seq: *seq, duplicate },
        ),
        Ok(Done::Accepted { run_id, seq }) => {
            accepted(reply_to, Accepted { run_id: *run_id, seq: *seq, duplicate })
        }
        Ok(Done::Stopped { outcome }) => {
            accepted(reply_to, Stopped { outcome: outcome_name(*outcome), duplicate })
        }
        Ok(Done::StateUpdated { version }) => {
            accepted(reply_to, StateUpdated { version: *version, duplicate })
        }
        Ok(Done::Noted) => accepted(reply_to, Noted { duplicate }),
        Err(problem) => refused(reply_to, problem),
    }
}

pub fn session_list(
    reply_to: Option<&str>,
    records: &[SessionRecord],
    next_cursor: Option<String>,
) -> ByteString {
    let sessions = records.iter().map(Session::of).collect();
    accepted(reply_to, SessionList { sessions, next_cursor })
}

/// The reply to `search`.
pub fn search_hits(reply_to: Option<&str>, found: &Hits, next_cursor: Option<String>) -> ByteString {
    let hits = found.hits.iter().map(|hit| SearchHit {
        session_id: hit.session_id.as_str(),
        title: hit.title.as_deref(),
        seq: hit.seq,
        excerpt: &hit.excerpt,
    });
    accepted(reply_to, SearchHits { hits: hits.collect(), next_cursor, indexed_to: found.indexed_to })
}

/// The reply to `history`. Of a page that is too long as JSON, the end that was not asked for is left out.
pub fn history(reply_to: Option<&str>, page: &Page, from: ReadFrom) -> ByteString {
    let all: Vec<_> = page.events.iter().map(|event| past_payload(event)).collect();
    let events = match from {
        ReadFrom::After(_) => &all[..fitting(all.iter())],
        ReadFrom::Before(_) => &all[all.len() - fitting(all.iter().rev())..],
    };
    let more = page.more || events.len() < all.len();
    let (epoch, head) = (page.head.epoch.as_str(), page.head.last);
    accepted(reply_to, History { events: events.iter().map(raw).collect(), epoch, head, more })
}

/// How many of the payloads, from the first, make a page that is not too long; one at least, if there is one.
fn fitting<'a>(payloads: impl ExactSizeIterator<Item = &'a ByteString>) -> usize {
    let (mut bytes, all) = (0, payloads.len());
    let fit = |payload: &&ByteString| {
        bytes += payload.len();
        bytes <= MAX_PAGE_BYTES
    };
    payloads.take_while(fit).count().max(1).min(all)
}

pub fn agent_list(reply_to: Option<&str>, cards: &[AgentCard]) -> ByteString {
    accepted(reply_to, AgentList { agents: cards.iter().map(Agent::of).collect() })
}

pub fn tool_list(reply_to: Option<&str>, tools: &[Tool]) -> ByteString {
    accepted(reply_to, ToolList { tools })
}

pub fn model_list(reply_to: Option<&str>, models: &[Model]) -> ByteString {
    accepted(reply_to, ModelList { models })
}

/// An event's payload, to be put into another frame as it is.
fn raw(payload: &ByteString) -> &RawValue {
    serde_json::from_str(payload).expect("a payload is JSON")
}

impl<'a> Refusal<'a> {
    fn of(problem: &'a Problem) -> Self {
        let row = row(problem.code);
        Self {
            code: row.code,
            message: &problem.message,
            details: &problem.details,
            retryable: row.retryable,
        }
    }
}

// ---- subscriptions ----

/// The topics of a `subscribe` that were accepted.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct SubscribeAck<'a> {
    v: u8,
    #[serde(rename = "type")]
    #[cfg_attr(test, ts(type = "'subscribe_ack'"))]
    kind: &'static str,
    /// Absent where the server subscribed the connection by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    data: Subscriptions<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Subscriptions<'a> {
    topics: &'a [Subscribed],
}

/// How a topic was subscribed.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct Subscribed {
    #[serde(serialize_with = "display")]
    #[cfg_attr(test, ts(type = "string"))]
    pub topic: Topic,
    /// The name that was asked for, where that is another one of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    #[cfg_attr(test, ts(type = "string"))]
    pub epoch: Epoch,
    pub head: Seq,
    /// Every event after the position follows; otherwise a snapshot does.
    pub recovered: bool,
    /// Events between the position and `head`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(type = "'new' | 'epoch' | 'trimmed' | 'ahead'", optional))]
    pub reason: Option<&'static str>,
    /// The connection was subscribed before; nothing has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub already: Option<bool>,
}

/// A topic of a `subscribe` that was refused: `details.topic`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct SubscribeError<'a> {
    v: u8,
    #[serde(rename = "type")]
    #[cfg_attr(test, ts(type = "'subscribe_error'"))]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    error: Refusal<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct UnsubscribeAck<'a> {
    v: u8,
    #[serde(rename = "type")]
    #[cfg_attr(test, ts(type = "'unsubscribe_ack'"))]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    data: Unsubscribed<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Unsubscribed<'a> {
    topics: &'a [String],
}

pub fn subscribe_ack(reply_to: Option<&str>, topics: &[Subscribed]) -> ByteString {
    encode(&SubscribeAck { v: VERSION, kind: "subscribe_ack", reply_to, data: Subscriptions { topics } })
}

pub fn subscribe_error(reply_to: Option<&str>, problem: &Problem) -> ByteString {
    encode(&SubscribeError { v: VERSION, kind: "subscribe_error", reply_to, error: Refusal::of(problem) })
}

pub fn unsubscribe_ack(reply_to: Option<&str>, topics: &[String]) -> ByteString {
    encode(&UnsubscribeAck { v: VERSION, kind: "unsubscribe_ack", reply_to, data: Unsubscribed { topics } })
}

/// A session as it is at `head`, for whoever cannot resume.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SnapshotFrame<'a> {
    v: u8,
    #[serde(rename = "type")]
    #[cfg_attr(test, ts(type = "'session_snapshot'"))]
    kind: &'static str,
    #[serde(serialize_with = "display")]
    #[cfg_attr(test, ts(type = "string"))]
    topic: &'a Topic,
    epoch: &'a str,
    #[cfg_attr(test, ts(type = "string"))]
    message_id: EventId,
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    timestamp: Timestamp,
    agent_id: &'a str,
    session_id: &'a str,
    data: Snapshot<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Snapshot<'a> {
    session: Session<'a>,
    /// The newest, oldest first; system and seed messages always. Older ones by `history`.
    #[cfg_attr(test, ts(type = "Array<EventEnvelope>"))]
    messages: Vec<&'a RawValue>,
    run: Option<SnapshotRun>,
    queue: Vec<SnapshotQueued>,
    approvals: Vec<PendingApproval<'a>>,
    context: Option<ContextUpdate>,
    suggestions: &'a [String],
    state: SharedState<'a>,
    head: Seq,
    /// There are older messages than these.
    truncated: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SnapshotRun {
    #[cfg_attr(test, ts(type = "string"))]
    run_id: RunId,
    #[cfg_attr(test, ts(type = "SessionStatus"))]
    status: &'static str,
}

/// A message that waits for its run; its text is among the messages.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SnapshotQueued {
    #[cfg_attr(test, ts(type = "string"))]
    run_id: RunId,
    #[cfg_attr(test, ts(type = "string"))]
    message_id: MessageId,
    seq: Seq,
}

/// The document that agents and clients share: empty as long as nobody changes it.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SharedState<'a> {
    version: u64,
    #[cfg_attr(test, ts(type = "unknown"))]
    value: &'a Value,
}

/// A call that waits for somebody to allow it.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct PendingApproval<'a> {
    #[cfg_attr(test, ts(type = "string"))]
    run_id: RunId,
    tool_call_id: &'a str,
    tool_name: &'a str,
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    expires_at: Timestamp,
}

pub fn session_snapshot(tail: &SessionTail) -> ByteString {
    let record = &tail.state.record;
    let preamble =
        tail.messages.iter().take_while(|event| event.as_durable().is_some_and(is_preamble)).count();
    let payloads: Vec<_> = tail.messages.iter().map(|event| past_payload(event)).collect();
    let (always, newest) = payloads.split_at(preamble);
    let left_out = newest.len() - fitting(newest.iter().rev());
    let messages = always.iter().chain(&newest[left_out..]);
    encode(&SnapshotFrame {
        v: VERSION,
        kind: "session_snapshot",
        topic: &Topic::Session(record.session_id.clone()),
        epoch: record.epoch.as_str(),
        message_id: EventId::new(),
        timestamp: Timestamp::now(),
        agent_id: record.session_id.agent_str(),
        session_id: record.session_id.as_str(),
        data: Snapshot {
            session: Session::of(record),
            messages: messages.map(raw).collect(),
            run: tail
                .state
                .run
                .map(|run_id| SnapshotRun { run_id, status: session_status_name(record.status) }),
            queue: tail
                .state
                .queue
                .iter()
                .map(|queued| SnapshotQueued {
                    run_id: queued.run_id,
                    message_id: queued.message_id,
                    seq: queued.seq,
                })
                .collect(),
            approvals: tail
                .state
                .approvals
                .iter()
                .map(|approval| PendingApproval {
                    run_id: approval.run_id,
                    tool_call_id: &approval.tool_call_id,
                    tool_name: &approval.tool_name,
                    expires_at: approval.expires_at,
                })
                .collect(),
            context: tail.state.context.as_ref().map(ContextUpdate::of),
            suggestions: &tail.state.suggestions,
            state: SharedState { version: tail.state.shared.version, value: &tail.state.shared.value },
            head: record.head,
            truncated: tail.truncated || left_out > 0,
        },
    })
}

// ---- the life of a socket ----

/// A frame about the socket itself.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SocketFrame<D> {
    v: u8,
    #[serde(flatten)]
    body: D,
    #[cfg_attr(test, ts(type = "string"))]
    message_id: EventId,
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, ts(type = "string"))]
    timestamp: Timestamp,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum SocketBody<'a> {
    ConnectionEstablished(Established<'a>),
    ConnectionClosed(Closed),
    Heartbeat(Empty),
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Empty {}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Established<'a> {
    #[cfg_attr(test, ts(type = "string"))]
    connection_id: ConnectionId,
    client_id: Option<&'a str>,
    heartbeat_secs: u32,
    limits: Limits,
}

/// What a client may send and how much it may leave unread.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Limits {
    pub max_frame_bytes: usize,
    /// Over all fragments of a message.
    pub max_message_bytes: usize,
    pub max_content_bytes: usize,
    pub outbox_bytes: usize,
    pub max_topics: usize,
    pub max_commands_in_flight: usize,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Closed {
    code: u16,
    reason: &'static str,
}

/// The answer to `ping` and to `heartbeat`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Pong<'a> {
    v: u8,
    #[serde(rename = "type")]
    #[cfg_attr(test, ts(type = "'pong'"))]
    kind: &'static str,
    reply_to: Option<&'a str>,
}

pub fn connection_established(
    connection_id: ConnectionId,
    client_id: Option<&ClientId>,
    heartbeat_secs: u32,
    limits: Limits,
) -> ByteString {
    socket_frame(SocketBody::ConnectionEstablished(Established {
        connection_id,
        client_id: client_id.map(|id| id.as_str()),
        heartbeat_secs,
        limits,
    }))
}

pub fn connection_closed(close: Close) -> ByteString {
    socket_frame(SocketBody::ConnectionClosed(Closed { code: close.code(), reason: close.reason() }))
}

pub fn heartbeat() -> ByteString {
    socket_frame(SocketBody::Heartbeat(Empty {}))
}

pub fn pong(reply_to: Option<&str>) -> ByteString {
    encode(&Pong { v: VERSION, kind: "pong", reply_to })
}

fn socket_frame(body: SocketBody<'_>) -> ByteString {
    encode(&SocketFrame { v: VERSION, body, message_id: EventId::new(), timestamp: Timestamp::now() })
}

/// Declarations of the types above, for the web UI.
#[cfg(test)]
pub(super) fn typescript(config: &ts_rs::Config) -> Vec<String> {
    use ts_rs::TS;
    vec![
        Refusal::decl(config),
        Reply::<'static, ()>::decl(config),
        Created::decl(config),
        Accepted::decl(config),
        Stopped::decl(config),
        StateUpdated::decl(config),
        ToolList::decl(config),
        Tool::decl(config),
        PendingApproval::decl(config),
        Noted::decl(config),
        SessionList::decl(config),
        History::decl(config),
        SearchHits::decl(config),
        SearchHit::decl(config),
        AgentList::decl(config),
        ModelList::decl(config),
        Model::decl(config),
        Subscribed::decl(config),
        Subscriptions::decl(config),
        SubscribeAck::decl(config),
        SubscribeError::decl(config),
        Unsubscribed::decl(config),
        UnsubscribeAck::decl(config),
        SnapshotRun::decl(config),
        SnapshotQueued::decl(config),
        SharedState::decl(config),
        Snapshot::decl(config),
        SnapshotFrame::decl(config),
        Limits::decl(config),
        Established::decl(config),
        Closed::decl(config),
        Empty::decl(config),
        SocketBody::decl(config),
        SocketFrame::<SocketBody<'static>>::decl(config),
        Pong::decl(config),
    ]
}
