//! Commands on the wire: a client's JSON becomes what it asks for, or a refusal that names the field.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::json;
use crate::{
    core::{
        command::{Caller, Command, CommandKey, Idempotency, OnBusy},
        error::{ErrorCode, Problem},
        event::{Decision, Timestamp},
        ids::{AgentId, CommandId, Epoch, Position, RunId, Seq, SessionId},
        run::MAX_ANSWER_BYTES,
        search::Words,
        shared_state::json_bytes,
    },
    doors::Path,
};

/// Bytes of a message's `content`, at most.
pub const MAX_CONTENT_BYTES: usize = 256 * 1024;
/// Bytes of what a model is told with an approval, at most.
const MAX_REASON_BYTES: usize = 4 * 1024;
/// Characters of a title, or of a task's name, at most.
const MAX_NAME_CHARS: usize = 200;
/// Topics that one `subscribe` names, at most.
const MAX_SUBSCRIBE_TOPICS: usize = 1024;

/// A client's frame.
#[derive(Debug)]
pub struct Inbound {
    /// The frame's `message_id`, for the reply.
    pub reply_to: Option<String>,
    /// What it asks for, or why that could not be understood.
    pub request: Result<Request, Problem>,
}

/// What a client may ask for.
#[derive(Debug, PartialEq)]
pub enum Request {
    /// The core carries it out.
    Command(Command),
    List(List),
    History(History),
    Search(Search),
    GetAgents,
    GetModels,
    GetTools,
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Ping,
    Heartbeat,
}

#[derive(Debug, PartialEq)]
pub struct List {
    pub agent_id: Option<AgentId>,
    pub query: Option<String>,
    pub cursor: Option<(Timestamp, SessionId)>,
    pub limit: usize,
}

#[derive(Debug, PartialEq)]
pub struct History {
    pub session_id: SessionId,
    pub from: HistoryFrom,
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    After(Seq),
    Before(Seq),
}

#[derive(Debug, PartialEq)]
pub struct Search {
    pub words: Words,
    pub cursor: Option<u64>,
}

#[derive(Debug, PartialEq)]
pub struct Subscribe {
    /// As they were asked for, with the position given for each.
    pub topics: Vec<(String, Option<Resume>)>,
}

/// From where a client wants a topic's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// From the first there is.
    Beginning,
    After(Position),
}

#[derive(Debug, PartialEq)]
pub struct Unsubscribe {
    pub topics: Vec<String>,
}

// ---- data, as clients send it ----

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct CreateData {
    title: Option<String>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct ListData {
    query: Option<String>,
    cursor: Option<String>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct HistoryData {
    after: Option<u64>,
    before: Option<u64>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct RenameData {
    title: String,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct SearchData {
    query: String,
    cursor: Option<String>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct ForkData {
    at_seq: u64,
    title: Option<String>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct ChatData {
    content: String,
    #[cfg_attr(test, ts(type = "'queue' | 'reject' | 'interrupt'", optional))]
    on_busy: Option<OnBusy>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct StopData {
    run_id: Option<String>,
    clear_queue: Option<bool>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct TypingData {
    typing: bool,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct ApprovalData {
    tool_call_id: String,
    #[cfg_attr(test, ts(type = "'approve' | 'deny'"))]
    decision: Answer,
    /// For the model.
    reason: Option<String>,
    /// What the tool is called with in place of the model's arguments.
    #[cfg_attr(test, ts(type = "Record<string, unknown>", optional))]
    args: Option<Map<String, Value>>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Approve,
    Deny,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct StateData {
    #[cfg_attr(test, ts(type = "PatchOperation[]"))]
    patch: Value,
    /// The version that the patch was made for.
    if_version: u64,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct SubscribeData {
    topics: Vec<String>,
    #[cfg_attr(test, ts(optional))]
    positions: Option<std::collections::BTreeMap<String, PositionData>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
struct PositionData {
    epoch: Option<String>,
    seq: u64,
}

#[derive(Deserialize)]
struct UnsubscribeData {
    topics: Vec<String>,
}

// ---- decoding ----

/// Reads a frame that a client has sent on this path.
pub fn decode(text: &str, path: &Path) -> Inbound {
    let reject = |problem| Inbound { reply_to: None, request: Err(problem) };
    let fields = match json::parse(text) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return reject(bad_request("expected a JSON object".to_owned())),
        Err(why) => return reject(bad_request(format!("expected a JSON object: {why}"))),
    };
    let reply_to = match fields.get("message_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if id.parse::<CommandId>().is_ok() => Some(id.clone()),
        Some(_) => {
            let expected = "a text of 1 to 128 printable characters";
            return reject(Problem::invalid_field("message_id", expected));
        }
    };
    Inbound { reply_to, request: Frame::new(fields).and_then(|frame| frame.request(path)) }
}

/// What makes a command idempotent: its sender's id for it, and what it says.
pub fn idempotency(caller: &Caller, reply_to: Option<&str>, command: &Command) -> Option<Idempotency> {
    // Typing changes nothing that could be done twice.
    if matches!(command, Command::SetTyping { .. }) {
        return None;
    }
    let command_id: CommandId = reply_to?.parse().ok()?;
    let content = serde_json::to_vec(command).expect("a command is JSON");
    let digest = Sha256::digest(content)[..16].try_into().expect("half of 32 bytes");
    let Caller { principal, client_id } = caller.clone();
    Some(Idempotency { key: CommandKey { principal, client_id, command_id }, digest })
}

/// A frame's parts.
struct Frame {
    kind: String,
    /// The envelope without `type` and `data`.
    envelope: Map<String, Value>,
    data: Map<String, Value>,
}

impl Frame {
    fn new(mut envelope: Map<String, Value>) -> Result<Self, Problem> {
        let Some(Value::String(kind)) = envelope.remove("type") else {
            return Err(bad_request("expected a text \"type\"".to_owned()));
        };
        let data = match envelope.remove("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data,
            Some(_) => return Err(Problem::invalid_field("data", "an object")),
        };
        Ok(Self { kind, envelope, data })
    }

    fn request(self, path: &Path) -> Result<Request, Problem> {
        match (self.kind.as_str(), path) {
            ("ping", _) => Ok(Request::Ping),
            ("heartbeat", _) => Ok(Request::Heartbeat),
            ("subscribe" | "unsubscribe", Path::Frontend) => self.subscription(),
            ("subscribe" | "unsubscribe", Path::Backend | Path::Task(_)) => {
                Err(forbidden("subscriptions are made on /ws/frontend-api"))
            }
            _ => match (self.command(), path) {
                // Whatever else may be wrong with it.
                (Err(problem), _) if problem.code == ErrorCode::UnknownType => Err(problem),
                (_, Path::Frontend | Path::Task(_)) => Err(forbidden("commands are sent on /ws/backend-api")),
                (command, Path::Backend) => command,
            },
        }
    }

    fn command(self) -> Result<Request, Problem> {
        match self.kind.as_str() {
            "session_management" => self.session_management(),
            "agent_refresh" => Ok(Request::Command(Command::RefreshAgent {
                agent_id: self.agent_id()?,
                session_id: self.optional_id("session_id")?.and_then(|id| id.parse().ok()),
            })),
            "chat_message" => {
                let session_id = self.session_id()?;
                let ChatData { content, on_busy } = self.data()?;
                check_text("data.content", &content, "send it in several messages")?;
                Ok(Request::Command(Command::SendMessage { session_id, content, on_busy }))
            }
            "stop_run" => {
                let session_id = self.session_id()?;
                let StopData { run_id, clear_queue } = self.data()?;
                let run_id = run_id.map(|id| parse_run_id(&id)).transpose()?;
                let clear_queue = clear_queue.unwrap_or(false);
                Ok(Request::Command(Command::StopRun { session_id, run_id, clear_queue }))
            }
            "typing" => {
                let session_id = self.session_id()?;
                let TypingData { typing } = self.data()?;
                Ok(Request::Command(Command::SetTyping { session_id, typing }))
            }
            "tool_approval" => self.tool_approval(),
            "update_state" => {
                let session_id = self.session_id()?;
                let StateData { patch, if_version } = self.data()?;
                check_json("data.patch", &patch, "send it in several patches")?;
                Ok(Request::Command(Command::UpdateState { session_id, patch, if_version }))
            }
            "get_tools" => Ok(Request::GetTools),
            "get_agents" => Ok(Request::GetAgents),
            "get_models" => Ok(Request::GetModels),
            other => {
                let other = short(other);
                Err(unknown_type(&format!("unknown type {other:?}"), json!({ "type": other })))
            }
        }
    }

    fn tool_approval(self) -> Result<Request, Problem> {
        let session_id = self.session_id()?;
        let ApprovalData { tool_call_id, decision, reason, args } = self.data()?;
        let reason = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
        if reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
            let expected = format!("at most {MAX_REASON_BYTES} bytes");
            return Err(Problem::invalid_field("data.reason", expected));
        }
        if decision == Answer::Deny && args.is_some() {
            return Err(Problem::invalid_field("data.args", "nothing, where the call is denied"));
        }
        let decision = match decision {
            Answer::Approve => Decision::Approved,
            Answer::Deny => Decision::Denied,
        };
        let args = args.map(Value::Object);
        args.iter().try_for_each(|args| check_json("data.args", args, "have the tool called with less"))?;
        Ok(Request::Command(Command::SettleApproval { session_id, tool_call_id, decision, reason, args }))
    }

    fn session_management(self) -> Result<Request, Problem> {
        let action = match self.data.get("action") {
            Some(Value::String(action)) => action.clone(),
            _ => {
                let expected = "one of create, close, list, history, rename, delete, search, fork";
                return Err(Problem::invalid_field("data.action", expected));
            }
        };
        match action.as_str() {
            "create" => {
                let agent_id = self.agent_id()?;
                let CreateData { title } = self.data()?;
                let title = title.map(|title| checked_name("data.title", &title)).transpose()?;
                Ok(Request::Command(Command::CreateSession { agent_id, title }))
            }
            "close" => Ok(Request::Command(Command::CloseSession { session_id: self.session_id()? })),
            "rename" => {
                let session_id = self.session_id()?;
                let RenameData { title } = self.data()?;
                let title = checked_name("data.title", &title)?;
                Ok(Request::Command(Command::RenameSession { session_id, title }))
            }
            "delete" => Ok(Request::Command(Command::DeleteSession { session_id: self.session_id()? })),
            "fork" => {
                let session_id = self.session_id()?;
                let ForkData { at_seq, title } = self.data()?;
                let title = title.map(|title| checked_name("data.title", &title)).transpose()?;
                Ok(Request::Command(Command::ForkSession { session_id, at_seq, title }))
            }
            "search" => {
                let SearchData { query, cursor } = self.data()?;
                let words = Words::of(&query)
                    .ok_or_else(|| Problem::invalid_field("data.query", "a word or more"))?;
                let cursor = cursor.map(|cursor| parse_search_cursor(&cursor)).transpose()?;
                Ok(Request::Search(Search { words, cursor }))
            }
            "list" => {
                let agent_id = self.optional_id("agent_id")?.map(|id| parse_agent_id(&id)).transpose()?;
                let ListData { query, cursor, limit } = self.data()?;
                let query = query.filter(|query| !query.trim().is_empty());
                let cursor = cursor.map(|cursor| parse_cursor("data.cursor", &cursor)).transpose()?;
                let limit = checked_limit("data.limit", limit, 50, 200)?;
                Ok(Request::List(List { agent_id, query, cursor, limit }))
            }
            "history" => {
                let session_id = self.session_id()?;
                let HistoryData { after, before, limit } = self.data()?;
                let from = match (after, before) {
                    (Some(_), Some(_)) => {
                        let expected = "only one of after and before";
                        return Err(Problem::invalid_field("data.before", expected));
                    }
                    (None, Some(before)) => HistoryFrom::Before(before),
                    (after, None) => HistoryFrom::After(after.unwrap_or(0)),
                };
                let limit = checked_limit("data.limit", limit, 100, 1000)?;
                Ok(Request::History(History { session_id, from, limit }))
            }
            other => {
                let other = short(other);
                let message = format!("unknown action {other:?} of session_management");
                Err(unknown_type(&message, json!({ "type": "session_management", "action": other })))
            }
        }
    }

    fn subscription(self) -> Result<Request, Problem> {
        if self.kind == "subscribe" {
            return self.subscribe();
        }
        let UnsubscribeData { topics } = self.topic_data()?;
        check_topic_count(topics.len())?;
        Ok(Request::Unsubscribe(Unsubscribe { topics }))
    }

    /// `topics` may stand in `data` or in the envelope; or one session, or one agent, is named.
    fn subscribe(self) -> Result<Request, Problem> {
        let has_topics = self.data.contains_key("topics") || self.envelope.contains_key("topics");
        if !has_topics {
            let topic = match (self.optional_id("session_id")?, self.optional_id("agent_id")?) {
                (Some(session_id), _) => format!("session:{session_id}"),
                (None, Some(agent_id)) => format!("agent:{agent_id}"),
                (None, None) => {
                    let expected = "a list of topics, as [\"session:helper_417\"]";
                    return Err(Problem::invalid_field("data.topics", expected));
                }
            };
            return Ok(Request::Subscribe(Subscribe { topics: vec![(topic, None)] }));
        }
        let SubscribeData { topics, positions } = self.topic_data()?;
        check_topic_count(topics.len())?;
        let mut positions = positions.unwrap_or_default();
        let topics = topics.into_iter().map(|topic| {
            let position = positions.remove(&topic).map(|PositionData { epoch, seq }| {
                Resume::at(epoch.as_deref(), seq)
                    .ok_or_else(|| Problem::invalid_field("data.positions", "an epoch with each seq"))
            });
            Ok((topic, position.transpose()?))
        });
        Ok(Request::Subscribe(Subscribe { topics: topics.collect::<Result<_, Problem>>()? }))
    }

    /// The data of a subscription: what is not in `data` is looked for in the envelope.
    fn topic_data<T: DeserializeOwned>(mut self) -> Result<T, Problem> {
        for field in ["topics", "positions"] {
            if let Some(value) = self.envelope.remove(field) {
                self.data.entry(field).or_insert(value);
            }
        }
        self.data()
    }

    fn data<T: DeserializeOwned>(self) -> Result<T, Problem> {
        read_fields(self.data, "data.")
    }

    fn agent_id(&self) -> Result<AgentId, Problem> {
        match self.optional_id("agent_id")? {
            Some(id) => parse_agent_id(&id),
            None => Err(Problem::invalid_field("agent_id", "an agent's id; get_agents lists them")),
        }
    }

    fn session_id(&self) -> Result<SessionId, Problem> {
        match self.optional_id("session_id")? {
            // What no session can be called is no session.
            Some(id) => id.parse().map_err(|_| Problem::session_not_found(&short(&id))),
            None => Err(Problem::invalid_field("session_id", "a session's id, as helper_417")),
        }
    }

    /// An id that may stand in the envelope or in `data`.
    fn optional_id(&self, field: &str) -> Result<Option<String>, Problem> {
        let here = |fields: &Map<String, Value>| fields.get(field).cloned().filter(|id| !id.is_null());
        match here(&self.envelope).or_else(|| here(&self.data)) {
            None => Ok(None),
            Some(Value::String(id)) => Ok(Some(id)),
            Some(_) => Err(Problem::invalid_field(field, "a text")),
        }
    }
}

impl Resume {
    /// A position as clients give it; `None` if it needs an epoch and has none.
    pub fn at(epoch: Option<&str>, seq: Seq) -> Option<Self> {
        match (epoch, seq) {
            (_, 0) => Some(Self::Beginning),
            (Some(epoch), seq) => Some(Self::After(Position { epoch: Epoch::from(epoch), seq })),
            (None, _) => None,
        }
    }
}

/// Reads fields that stand at `place`: `data.`, say.
pub(super) fn read_fields<T: DeserializeOwned>(
    fields: Map<String, Value>,
    place: &str,
) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        wrong_field(place, &path, &error.into_inner().to_string())
    })
}

/// Makes serde's words for a wrong field ours: which field, and what was expected.
fn wrong_field(place: &str, path: &str, message: &str) -> Problem {
    let join = |field: &str| match path {
        "." => format!("{place}{field}"),
        path => format!("{place}{}.{field}", short(path)),
    };
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return Problem::invalid_field(&join(field), "a value; it is missing");
    }
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    let expected = if expected == "u64" { "a whole number, 0 or more" } else { expected };
    Problem::invalid_field(&format!("{place}{}", short(path)), short(expected))
}

/// Checks a text that is for a model; `advice` is for whoever sent too much of it.
pub(super) fn check_text(field: &str, text: &str, advice: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::invalid_field(field, "a text that is not empty"));
    }
    // The second bound holds for texts of characters that JSON escapes: their event must stay within 1 MiB.
    let json_bytes = || serde_json::to_string(text).map_or(usize::MAX, |json| json.len());
    let bytes = text.len();
    if bytes > MAX_CONTENT_BYTES || (bytes > MAX_ANSWER_BYTES / 6 && json_bytes() > MAX_ANSWER_BYTES) {
        let message = format!("{field} has {bytes} bytes; the limit is {MAX_CONTENT_BYTES}: {advice}");
        return Err(Problem::new(ErrorCode::PayloadTooLarge, message)
            .with(json!({ "field": field, "bytes": bytes, "limit": MAX_CONTENT_BYTES })));
    }
    Ok(())
}

/// Checks a value that is kept as it is; `advice` is for whoever sent too much of it.
fn check_json(field: &str, value: &Value, advice: &str) -> Result<(), Problem> {
    let bytes = json_bytes(value);
    if bytes <= MAX_CONTENT_BYTES {
        return Ok(());
    }
    let message = format!("{field} has {bytes} bytes as JSON; the limit is {MAX_CONTENT_BYTES}: {advice}");
    Err(Problem::new(ErrorCode::PayloadTooLarge, message)
        .with(json!({ "field": field, "bytes": bytes, "limit": MAX_CONTENT_BYTES })))
}

/// A title, or another name that people give, without what surrounds it.
pub(super) fn checked_name(field: &str, name: &str) -> Result<String, Problem> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        let expected = format!("1 to {MAX_NAME_CHARS} printable characters");
        return Err(Problem::invalid_field(field, expected));
    }
    Ok(name.to_owned())
}

pub(super) fn checked_limit(
    field: &str,
    limit: Option<u64>,
    default: usize,
    max: usize,
) -> Result<usize, Problem> {
    let Some(limit) = limit else { return Ok(default) };
    match usize::try_from(limit) {
        Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
        _ => Err(Problem::invalid_field(field, format!("a number from 1 to {max}"))),
    }
}

fn check_topic_count(count: usize) -> Result<(), Problem> {
    if (1..=MAX_SUBSCRIBE_TOPICS).contains(&count) {
        return Ok(());
    }
    Err(Problem::invalid_field("data.topics", format!("1 to {MAX_SUBSCRIBE_TOPICS} topics")))
}

pub(super) fn parse_agent_id(id: &str) -> Result<AgentId, Problem> {
    // What no agent can be called is no agent.
    id.parse().map_err(|_| Problem::agent_not_found(&short(id)))
}

fn parse_run_id(id: &str) -> Result<RunId, Problem> {
    id.parse().map_err(|_| {
        Problem::new(ErrorCode::RunNotFound, format!("no run {:?} in this session", short(id)))
            .with(json!({ "run_id": short(id) }))
    })
}

/// The place of a session in the list: when it changed, and its id.
pub(super) fn parse_cursor(field: &str, cursor: &str) -> Result<(Timestamp, SessionId), Problem> {
    let parts = cursor.split_once('~').and_then(|(at, id)| {
        let at = i64::from_str_radix(at, 36).ok()?;
        Some((Timestamp(at), id.parse().ok()?))
    });
    parts.ok_or_else(|| wrong_cursor(field))
}

fn parse_search_cursor(cursor: &str) -> Result<u64, Problem> {
    u64::from_str_radix(cursor, 36).map_err(|_| wrong_cursor("data.cursor"))
}

fn wrong_cursor(field: &str) -> Problem {
    Problem::invalid_field(field, "the next_cursor of an earlier page")
}

/// A search's cursor as clients get it.
pub fn search_cursor(place: u64) -> String {
    to_base36(place)
}

/// A cursor as clients get it. They must not look inside.
pub fn cursor(updated_at: Timestamp, session_id: &SessionId) -> String {
    format!("{}~{session_id}", to_base36(updated_at.0.unsigned_abs()))
}

fn to_base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).expect("a digit of base 36"));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// As much of a client's text as goes back to it in an error.
pub fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

fn bad_request(message: String) -> Problem {
    Problem::new(ErrorCode::BadRequest, message)
}

fn forbidden(message: &str) -> Problem {
    Problem::new(ErrorCode::Forbidden, message)
}

fn unknown_type(message: &str, details: Value) -> Problem {
    Problem::new(ErrorCode::UnknownType, message).with(details)
}

/// Declarations of what clients send, for the web UI.
#[cfg(test)]
pub(super) fn typescript(config: &ts_rs::Config) -> Vec<String> {
    use ts_rs::TS;
    vec![
        CreateData::decl(config),
        ListData::decl(config),
        HistoryData::decl(config),
        RenameData::decl(config),
        SearchData::decl(config),
        ForkData::decl(config),
        ChatData::decl(config),
        StopData::decl(config),
        TypingData::decl(config),
        ApprovalData::decl(config),
        StateData::decl(config),
        PositionData::decl(config),
        SubscribeData::decl(config),
    ]
}

#[cfg(test)]
mod tests;
