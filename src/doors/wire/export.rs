//! A session as a file: JSON Lines for programs, Markdown for people.

use std::fmt::Write;

use super::events::{past_payload, role_name, time_text};
use crate::core::{
    error::Problem,
    event::{Decision, Durable, Event, Outcome, TaskChange},
    session::SessionRecord,
};

/// Of a tool's result, or its arguments, so many characters are shown to people.
const MAX_JSON_CHARS: usize = 2_000;

/// What an export is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Every event as clients get it, one a line.
    JsonLines,
    /// What was said.
    Markdown,
}

impl Format {
    /// The formats that there are, by name.
    pub const NAMES: &str = "jsonl or markdown";

    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "jsonl" => Some(Self::JsonLines),
            "markdown" => Some(Self::Markdown),
            _ => None,
        }
    }

    pub const fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/jsonl; charset=utf-8",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }

    pub const fn extension(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Markdown => "md",
        }
    }

    /// What the file begins with.
    pub fn head(self, record: &SessionRecord) -> String {
        match self {
            Self::JsonLines => String::new(),
            Self::Markdown => {
                let title = record.title.as_deref().unwrap_or(record.session_id.as_str());
                let (id, created) = (&record.session_id, time_text(record.created_at));
                format!(
                    "# {title}\n\nSession {id} with {}, begun {created}.\n",
                    record.session_id.agent_str()
                )
            }
        }
    }

    /// An event's part of the file.
    pub fn event(self, event: &Event) -> String {
        match self {
            Self::JsonLines => format!("{}\n", past_payload(event)),
            Self::Markdown => markdown(event),
        }
    }
}

fn markdown(event: &Event) -> String {
    let Some(body) = event.as_durable() else { return String::new() };
    let at = time_text(event.at);
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = match body {
        Durable::SystemMessage { content } => write!(text, "\n## System\n\n{content}\n"),
        Durable::SeedMessage { role, content } => {
            write!(text, "\n## {} (seed)\n\n{content}\n", capitalised(role_name(*role)))
        }
        Durable::UserMessage { content, author, .. } => write!(text, "\n## {author}, {at}\n\n{content}\n"),
        Durable::AgentResponse(response) => {
            let cut = if response.incomplete { ", incomplete" } else { "" };
            write!(text, "\n## Assistant, {at}{cut}\n\n{}\n", response.content)
        }
        Durable::ToolCallStarted { tool_name, args, .. } => {
            write!(text, "\n**Tool {tool_name}**\n\n{}", fenced(&args.to_string()))
        }
        Durable::ToolCallEnded { tool_name, outcome: Ok(result), .. } => {
            write!(text, "\n**Result of {tool_name}**\n\n{}", fenced(&result.to_string()))
        }
        Durable::ToolCallEnded { tool_name, outcome: Err(problem), .. } => {
            write!(text, "\n**{tool_name} failed:** {}\n", one_line(problem))
        }
        Durable::ApprovalResolved { decision, by, reason, .. } => {
            let decision = match decision {
                Decision::Approved => "Allowed",
                Decision::Denied => "Denied",
            };
            let by = by.as_ref().map_or("nobody answered in time", |by| by.as_str());
            let reason =
                reason.as_ref().map_or_else(String::new, |reason| format!(": {}", in_one_line(reason)));
            write!(text, "\n*{decision} ({by}){reason}*\n")
        }
        Durable::Task(change) => match change.as_ref() {
            TaskChange::Created { name, input } => write!(text, "\n## Task {name}, {at}\n\n{input}\n"),
            TaskChange::Failed { problem } => write!(text, "\n**The task failed:** {}\n", one_line(problem)),
            TaskChange::Cancelled => write!(text, "\n*The task was cancelled.*\n"),
            TaskChange::Started
            | TaskChange::Renamed { .. }
            | TaskChange::Pausing
            | TaskChange::Paused
            | TaskChange::Resumed
            | TaskChange::Completed => Ok(()),
        },
        Durable::Error { problem } => write!(text, "\n**Error:** {}\n", one_line(problem)),
        Durable::RunFinished { outcome: Outcome::Cancelled, .. } => write!(text, "\n*Stopped.*\n"),
        Durable::RunFinished { .. }
        | Durable::SessionCreated { .. }
        | Durable::RunStarted { .. }
        | Durable::ApprovalRequested { .. }
        | Durable::StatePatched { .. }
        | Durable::Suggested { .. }
        | Durable::Progressed(_)
        | Durable::ContextUpdated(_)
        | Durable::SessionUpdated { .. }
        | Durable::SessionClosed { .. } => Ok(()),
    };
    text
}

/// A block of code; the fence is longer than any in it.
fn fenced(json: &str) -> String {
    let shown: String = json.chars().take(MAX_JSON_CHARS).collect();
    let cut = if shown.len() < json.len() { "…" } else { "" };
    let longest = shown.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}json\n{shown}{cut}\n{fence}\n")
}

fn one_line(problem: &Problem) -> String {
    in_one_line(&problem.message)
}

pub(super) fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::{
        event::Timestamp,
        ids::{MessageId, RunId, SessionId, Topic},
    };

    fn event(body: Durable) -> Event {
        let session_id: SessionId = "helper_417".parse().unwrap();
        let entry = crate::core::event::Entry::of_run(RunId::new(), body);
        Event::durable(Topic::Session(session_id), "e".into(), 7, Timestamp(0), entry)
    }

    #[test]
    fn json_lines_are_the_events_as_clients_get_them() {
        let line = Format::JsonLines.event(&event(Durable::SystemMessage { content: "a\nb".into() }));

        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["seq"], &value["data"]["content"]), (&json!(7), &json!("a\nb")));
    }

    #[test]
    fn a_fence_is_longer_than_any_within() {
        let text = Format::Markdown.event(&event(Durable::ToolCallStarted {
            message_id: MessageId::new(),
            tool_call_id: "c".into(),
            tool_name: "write".into(),
            args: Box::new(json!("```` x")),
            provider_state: None,
        }));

        assert!(text.contains("\n`````json\n\"```` x\"\n`````\n"), "{text}");
    }
}
