//! Names of things: checked where they enter, cheap to clone ever after.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a name was refused: what it must look like, in words for the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidId {
    pub expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId { expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id (UUIDv7, RFC 9562: ids made later sort later).
            #[expect(clippy::new_without_default, reason = "each call gives another id")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl $name {
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::from_str(text)
                    .map(Self)
                    .map_err(|_| InvalidId { expected: "an id that the server gave out" })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

text_id!(
    /// An agent's name in `agents.toml`, and the prefix of its sessions' ids.
    AgentId,
    "1 to 64 characters of a-z, 0-9 and '-'",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(is_agent_byte)
);

text_id!(
    /// A session's name: its agent's id, `_`, a number, as in `helper_417`.
    SessionId,
    "an agent's id, '_' and a number, as in helper_417",
    |text| text.rsplit_once('_').is_some_and(|(agent, number)| {
        agent.parse::<AgentId>().is_ok()
            && (3..=18).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && !number.starts_with('0')
    })
);

text_id!(
    /// Who acts: the owner of sessions, known from a connection's credentials.
    Principal,
    "1 to 128 printable characters",
    |text| is_printable(text, 128)
);

text_id!(
    /// A client's own name for itself, one a tab: ties its two sockets together.
    ClientId,
    "1 to 128 printable characters",
    |text| is_printable(text, 128)
);

text_id!(
    /// The client's own id of a command (`message_id` on the wire); makes it idempotent.
    CommandId,
    "1 to 128 printable characters",
    |text| is_printable(text, 128)
);

uuid_id!(
    /// One run: everything from a user's message to its `run_finished`.
    RunId
);
uuid_id!(
    /// One message of a conversation; the messages of a run's steps have one each.
    MessageId
);
uuid_id!(
    /// One event, durable or not.
    EventId
);
uuid_id!(
    /// One open socket.
    ConnectionId
);

impl Principal {
    /// The one principal there is while authentication is off.
    pub fn local() -> Self {
        Self("local".into())
    }
}

impl ClientId {
    /// What requests over HTTP have in the place of a client's name. No socket can be called so.
    pub fn of_requests() -> Self {
        Self("\u{1}requests".into())
    }
}

impl SessionId {
    /// Joins an agent's id and a number of at least three digits.
    pub fn new(agent: &AgentId, number: u64) -> Self {
        debug_assert!(number >= 100);
        Self(format!("{agent}_{number}").into())
    }

    pub fn agent_id(&self) -> AgentId {
        AgentId(self.0[..self.separator()].into())
    }

    /// The agent's id, borrowed.
    pub fn agent_str(&self) -> &str {
        &self.0[..self.separator()]
    }

    /// How many digits its number has.
    pub fn digits(&self) -> usize {
        self.0.len() - self.separator() - 1
    }

    fn separator(&self) -> usize {
        self.0.rfind('_').expect("checked on construction")
    }
}

fn is_agent_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

fn is_printable(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Position of a durable event within its topic and epoch: from 1, without a gap.
pub type Seq = u64;

/// Names one continuous numbering of a topic; another epoch means that continuity was lost.
///
/// It has a part of the log, so that a log made anew is told from the one before it, and a part of the
/// store's incarnation, so that a store which may have lost events is told from the one that had them.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// The epoch of a log that begins now.
    pub fn of_new_log(incarnation: &str) -> Self {
        Self::of_log(&random_tag(), incarnation)
    }

    /// The epoch of a log that there is exactly one of in a store (`system`, `agent:…`).
    pub fn of_only_log(incarnation: &str) -> Self {
        Self::of_log("0", incarnation)
    }

    /// The epoch of a log, of which the store keeps this part.
    pub fn of_log(part: &str, incarnation: &str) -> Self {
        Self(format!("{part}.{incarnation}").into())
    }

    /// The part of the log, whatever the store's incarnation.
    pub fn log_part(&self) -> &str {
        self.0.split_once('.').map_or(&self.0, |(part, _)| part)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Epoch {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Six random characters of 0-9 and a-z.
pub fn random_tag() -> String {
    (0..6).map(|_| char::from_digit(rand::random_range(0..36), 36).expect("a digit of base 36")).collect()
}

/// A place in a topic's log: everything up to and including `seq` has been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub epoch: Epoch,
    pub seq: Seq,
}

/// A log of events that can be subscribed to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    Session(SessionId),
    Agent(AgentId),
    System,
}

impl Topic {
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Topic::Session(id) => Some(id),
            Topic::Agent(_) | Topic::System => None,
        }
    }
}

impl FromStr for Topic {
    type Err = InvalidId;

    /// Reads a topic's name; `thread:` and `task:` are other names of a session's topic.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const FORMS: InvalidId = InvalidId { expected: "session:ID, agent:ID or system" };
        match text.split_once(':') {
            Some(("session" | "thread" | "task", id)) => id.parse().map(Topic::Session),
            Some(("agent", id)) => id.parse().map(Topic::Agent),
            None if text == "system" => Ok(Topic::System),
            _ => Err(FORMS),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Session(id) => write!(f, "session:{id}"),
            Topic::Agent(id) => write!(f, "agent:{id}"),
            Topic::System => f.write_str("system"),
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_names_its_agent() {
        let id: SessionId = "code-helper_417".parse().unwrap();

        assert_eq!(id.agent_id().as_str(), "code-helper");
        assert_eq!(id.digits(), 3);
        assert_eq!(SessionId::new(&id.agent_id(), 417), id);
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in
            ["", "helper", "helper_", "helper_42", "helper_042", "Helper_417", "a_b_417", "helper_4x7"]
        {
            assert!(text.parse::<SessionId>().is_err(), "{text:?}");
        }
        for text in ["", "Helper", "help er", "help_er", "ü"] {
            assert!(text.parse::<AgentId>().is_err(), "{text:?}");
        }
        assert!("a\nb".parse::<CommandId>().is_err());
        assert!(ClientId::of_requests().as_str().parse::<ClientId>().is_err());
    }

    #[test]
    fn topics_round_trip_and_aliases_mean_the_session() {
        for text in ["session:helper_417", "agent:helper", "system"] {
            assert_eq!(text.parse::<Topic>().unwrap().to_string(), text);
        }
        for text in ["thread:helper_417", "task:helper_417"] {
            assert_eq!(text.parse::<Topic>().unwrap().to_string(), "session:helper_417");
        }
        for text in ["", "systems", "system:", "session:", "session:helper", "room:1"] {
            assert!(text.parse::<Topic>().is_err(), "{text:?}");
        }
    }
}
