//! Tasks over HTTP: what clients ask for, and how lists of them are shown.

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    commands::{
        self, Resume, check_text, checked_limit, checked_name, parse_agent_id, parse_cursor, read_fields,
    },
    events::{Task, TaskTexts, encode},
};
use crate::core::{
    command::Command,
    error::Problem,
    event::Timestamp,
    ids::{AgentId, CommandId, SessionId},
    session::{SessionRecord, TaskStatus},
};

/// What a task is created from.
#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct CreateTaskData {
    agent_id: String,
    name: String,
    /// What its agent is told.
    input: String,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct RenameTaskData {
    name: String,
}

/// Which tasks are asked for.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    pub status: Option<TaskStatus>,
    pub agent_id: Option<AgentId>,
    /// Part of the name or of the id, in any case.
    pub query: Option<String>,
}

/// Which part of a list is asked for.
#[derive(Debug, PartialEq)]
pub struct Part {
    pub cursor: Option<(Timestamp, SessionId)>,
    pub limit: usize,
}

/// Reads what a task is to be created from.
pub fn create(fields: Map<String, Value>) -> Result<Command, Problem> {
    let CreateTaskData { agent_id, name, input } = read_fields(fields, "")?;
    let agent_id = parse_agent_id(&agent_id)?;
    let name = checked_name("name", &name)?;
    check_text("input", &input, "make several tasks of it, or have the agent fetch it by a tool")?;
    Ok(Command::CreateTask { agent_id, name, input })
}

pub fn rename(session_id: SessionId, fields: Map<String, Value>) -> Result<Command, Problem> {
    let RenameTaskData { name } = read_fields(fields, "")?;
    Ok(Command::RenameTask { session_id, name: checked_name("name", &name)? })
}

/// Parameters of a query.
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn of(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    pub fn wanted(&self) -> Result<Wanted, Problem> {
        let status = self.one("status")?.map(|name| {
            let all = [
                TaskStatus::Pending,
                TaskStatus::Running,
                TaskStatus::Paused,
                TaskStatus::Completed,
                TaskStatus::Failed,
                TaskStatus::Cancelled,
            ];
            let expected = "pending, running, paused, completed, failed or cancelled";
            let status = all.into_iter().find(|status| status.name() == name);
            status.ok_or_else(|| Problem::invalid_field("status", expected))
        });
        Ok(Wanted {
            status: status.transpose()?,
            agent_id: self.one("agent_id")?.map(parse_agent_id).transpose()?,
            query: self.one("q")?.filter(|query| !query.trim().is_empty()).map(str::to_owned),
        })
    }

    pub fn part(&self) -> Result<Part, Problem> {
        // What is no number is none of those that are allowed.
        let limit = self.one("limit")?.map(|limit| limit.parse().unwrap_or(u64::MAX));
        let limit = checked_limit("limit", limit, 50, 200)?;
        let cursor = self.one("cursor")?.map(|cursor| parse_cursor("cursor", cursor)).transpose()?;
        Ok(Part { cursor, limit })
    }

    /// From where the events of a task are wanted.
    pub fn position(&self) -> Result<Option<Resume>, Problem> {
        let number =
            |seq: &str| seq.parse().map_err(|_| Problem::invalid_field("seq", "a whole number, 0 or more"));
        match (self.one("epoch")?, self.one("seq")?.map(number).transpose()?) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(Problem::invalid_field("seq", "a number with each epoch")),
            (epoch, Some(seq)) => match Resume::at(epoch, seq) {
                None => Err(Problem::invalid_field("epoch", "an epoch with each seq but 0")),
                resume => Ok(resume),
            },
        }
    }

    /// A parameter that may stand once; one without a value is as one that is not there.
    fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = values.next().filter(|value| !value.is_empty());
        if values.next().is_some() {
            return Err(Problem::invalid_field(name, "one value"));
        }
        Ok(value)
    }
}

/// Reads an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a string of RFC 8941, in quotes. Many
/// clients leave these out.
pub fn idempotency_key(header: &[u8]) -> Result<String, Problem> {
    let wrong =
        || Problem::invalid_field("Idempotency-Key", "one text of 1 to 128 printable characters, in quotes");
    let text = std::str::from_utf8(header).map_err(|_| wrong())?.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unquoted(rest).ok_or_else(wrong)?,
        None => text.to_owned(),
    };
    key.parse::<CommandId>().map(|_| key).map_err(|_| wrong())
}

/// The rest of a quoted string after its first quote; what follows it are parameters, of which none is defined.
fn unquoted(rest: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => text.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            character => text.push(character),
        }
    }
    let after = characters.as_str().trim_start();
    (after.is_empty() || after.starts_with(';')).then_some(text)
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct TaskList<'a> {
    tasks: Vec<Task<'a>>,
    next_cursor: Option<String>,
}

/// A page of a list.
pub fn list(records: &[SessionRecord], more: bool) -> ByteString {
    let last = records.last().filter(|_| more);
    let next_cursor = last.map(|last| commands::cursor(last.updated_at, &last.session_id));
    encode(&TaskList { tasks: records.iter().filter_map(Task::of).collect(), next_cursor })
}

/// One task; `None` if the session was made for none.
pub fn task(record: &SessionRecord, texts: &TaskTexts) -> Option<ByteString> {
    Some(encode(&Task::of(record)?.with(texts)))
}

/// Declarations of the types above, for the web UI.
#[cfg(test)]
pub(super) fn typescript(config: &ts_rs::Config) -> Vec<String> {
    use ts_rs::TS;
    vec![CreateTaskData::decl(config), RenameTaskData::decl(config), TaskList::decl(config)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::error::ErrorCode;

    #[test]
    fn an_idempotency_key_is_a_text_in_quotes_or_without() {
        for (header, key) in [
            (r#""8e03978e-40d5""#, "8e03978e-40d5"),
            (r#" "with \"quotes\" and \\" "#, r#"with "quotes" and \"#),
            (r#""one";of=two"#, "one"),
            ("bare-1", "bare-1"),
        ] {
            assert_eq!(idempotency_key(header.as_bytes()).as_deref(), Ok(key), "{header}");
        }
        let long = format!("\"{}\"", "x".repeat(129));
        for header in ["", "\"\"", "\"open", r#""a\b""#, r#""a", "b""#, "\"a\"b", "a\u{7}", &long] {
            let problem = idempotency_key(header.as_bytes()).unwrap_err();
            assert_eq!(problem.code, ErrorCode::InvalidField, "{header}");
        }
        assert!(idempotency_key(b"\xff").is_err());
    }

    #[test]
    fn a_position_needs_its_epoch_unless_it_is_the_beginning() {
        let position = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Query::of(pairs.collect()).position()
        };

        assert_eq!(position(&[]), Ok(None));
        assert_eq!(position(&[("seq", "0")]), Ok(Some(Resume::Beginning)));
        assert_eq!(position(&[("epoch", "e"), ("seq", "7")]), Ok(Resume::at(Some("e"), 7)));
        for pairs in [
            &[("seq", "7")][..],
            &[("epoch", "e")],
            &[("epoch", "e"), ("seq", "-1")],
            &[("epoch", "e"), ("seq", "x")],
            &[("seq", "0"), ("seq", "0")],
        ] {
            assert_eq!(position(pairs).unwrap_err().code, ErrorCode::InvalidField, "{pairs:?}");
        }
    }
}
