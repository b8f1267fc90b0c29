//! What can go wrong in a way that a client is told about.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ids::{AgentId, RunId, SessionId};

/// The kinds of refusal and failure that clients know. `doors::reply` has what each means on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadRequest,
    UnknownType,
    InvalidField,
    PayloadTooLarge,
    Forbidden,
    AgentNotFound,
    SessionNotFound,
    SessionClosed,
    TaskNotFound,
    RunNotFound,
    Conflict,
    Busy,
    Unavailable,
    ProviderAuth,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderError,
    ContextOverflow,
    ToolError,
    Interrupted,
    Internal,
}

/// A refusal, or a failure, as a client sees it: what was wrong and what to do about it.
///
/// Never holds a secret, a path of the server or another principal's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub code: ErrorCode,
    pub message: String,
    /// Facts for programs, an object; empty where there are none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl Problem {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Value::Null }
    }

    /// Adds facts that programs can read.
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    pub fn invalid_field(field: &str, expected: impl fmt::Display) -> Self {
        Self::new(ErrorCode::InvalidField, format!("{field}: expected {expected}"))
            .with(json!({ "field": field, "expected": expected.to_string() }))
    }

    pub fn agent_not_found(id: &str) -> Self {
        Self::new(ErrorCode::AgentNotFound, format!("no agent {id:?}; get_agents lists them"))
            .with(json!({ "agent_id": id }))
    }

    /// Also the answer about a session that is somebody else's: ids are guessable and tell nothing.
    pub fn session_not_found(id: &str) -> Self {
        Self::new(ErrorCode::SessionNotFound, format!("no session {id}")).with(json!({ "session_id": id }))
    }

    pub fn session_closed(id: &SessionId) -> Self {
        Self::new(ErrorCode::SessionClosed, format!("session {id} is closed; create a new one"))
            .with(json!({ "session_id": id }))
    }

    /// Also the answer about a session that is no task's.
    pub fn task_not_found(id: &str) -> Self {
        Self::new(ErrorCode::TaskNotFound, format!("no task {id}")).with(json!({ "task_id": id }))
    }

    pub fn run_not_found(id: RunId) -> Self {
        Self::new(ErrorCode::RunNotFound, format!("no run {id} in this session"))
            .with(json!({ "run_id": id }))
    }

    /// The agent of a session that still exists has gone from the configuration.
    pub fn agent_gone(id: &AgentId) -> Self {
        Self::new(
            ErrorCode::AgentNotFound,
            format!("agent {id} is no longer configured; its sessions can be read, not continued"),
        )
        .with(json!({ "agent_id": id }))
    }

    pub fn unavailable(why: &str) -> Self {
        Self::new(ErrorCode::Unavailable, why)
    }

    /// For faults of ours: the log has the details, the client does not.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "the server failed; its log says more")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
