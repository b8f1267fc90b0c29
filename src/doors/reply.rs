//! The one error table: what each kind of problem is called on the wire, and what it means there.

use crate::core::error::ErrorCode;

/// What a client is told of a kind of problem.
pub struct Row {
    /// Name on the wire.
    pub code: &'static str,
    /// HTTP status, where the problem answers a request.
    pub status: u16,
    /// Whether the same command may succeed later, unchanged.
    pub retryable: bool,
}

pub const fn row(code: ErrorCode) -> Row {
    let (code, status, retryable) = match code {
        ErrorCode::BadRequest => ("bad_request", 400, false),
        ErrorCode::UnknownType => ("unknown_type", 400, false),
        ErrorCode::InvalidField => ("invalid_field", 422, false),
        ErrorCode::PayloadTooLarge => ("payload_too_large", 413, false),
        ErrorCode::Forbidden => ("forbidden", 403, false),
        ErrorCode::AgentNotFound => ("agent_not_found", 404, false),
        ErrorCode::SessionNotFound => ("session_not_found", 404, false),
        ErrorCode::SessionClosed => ("session_closed", 410, false),
        ErrorCode::TaskNotFound => ("task_not_found", 404, false),
        ErrorCode::RunNotFound => ("run_not_found", 404, false),
        ErrorCode::Conflict => ("conflict", 409, false),
        ErrorCode::Busy => ("busy", 409, true),
        ErrorCode::Unavailable => ("unavailable", 503, true),
        ErrorCode::ProviderAuth => ("provider_auth", 502, false),
        ErrorCode::ProviderRateLimited => ("provider_rate_limited", 502, true),
        ErrorCode::ProviderTimeout => ("provider_timeout", 504, true),
        ErrorCode::ProviderError => ("provider_error", 502, true),
        ErrorCode::ContextOverflow => ("context_overflow", 422, false),
        ErrorCode::ToolError => ("tool_error", 502, false),
        ErrorCode::Interrupted => ("interrupted", 503, true),
        ErrorCode::Internal => ("internal", 500, true),
    };
    Row { code, status, retryable }
}

/// Why a socket is closed, by its close code (RFC 6455, section 7.4; ours from 4000).
///
/// 4000-4399: reconnect and resume. 4400-4999: do not retry as is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    Normal,
    ProtocolError,
    BinaryFrame,
    InvalidUtf8,
    TooLarge,
    HeartbeatMissed,
    SlowConsumer,
    /// The bus can no longer vouch for continuity; a resume finds out.
    CutOff,
    Drain,
    Flood,
    /// What the socket was opened for is no more.
    Gone,
    Replaced,
}

impl Close {
    pub const fn code(self) -> u16 {
        match self {
            Close::Normal => 1000,
            Close::ProtocolError => 1002,
            Close::BinaryFrame => 1003,
            Close::InvalidUtf8 => 1007,
            Close::TooLarge => 1009,
            Close::HeartbeatMissed => 4001,
            Close::SlowConsumer => 4002,
            Close::CutOff => 4003,
            Close::Drain => 4004,
            Close::Flood => 4400,
            Close::Gone => 4404,
            Close::Replaced => 4409,
        }
    }

    /// For people; at most 123 bytes, as a close frame has no room for more.
    pub const fn reason(self) -> &'static str {
        match self {
            Close::Normal => "closed",
            Close::ProtocolError => "not WebSocket as RFC 6455 has it",
            Close::BinaryFrame => "binary frames are not understood; send JSON as text",
            Close::InvalidUtf8 => "text must be UTF-8",
            Close::TooLarge => "the frame or message is larger than connection_established allows",
            Close::HeartbeatMissed => "nothing was heard for too long; reconnect and resume",
            Close::SlowConsumer => "events were read too slowly; reconnect and resume",
            Close::CutOff => "the stream was interrupted; reconnect and resume",
            Close::Drain => "the server is about to stop; reconnect and resume",
            Close::Flood => "too many malformed or control frames",
            Close::Gone => "the task was deleted",
            Close::Replaced => "a newer connection has the same client_id",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_reasons_fit_their_frame() {
        for close in [
            Close::Normal,
            Close::ProtocolError,
            Close::BinaryFrame,
            Close::InvalidUtf8,
            Close::TooLarge,
            Close::HeartbeatMissed,
            Close::SlowConsumer,
            Close::CutOff,
            Close::Drain,
            Close::Flood,
            Close::Gone,
            Close::Replaced,
        ] {
            assert!(close.reason().len() <= 123, "{close:?}");
        }
    }
}
