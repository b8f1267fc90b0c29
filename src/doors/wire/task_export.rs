//! Tasks as files: JSON for programs, CSV for spreadsheets, Markdown for people.

use std::{borrow::Cow, fmt::Write};

use super::{
    events::{Task, TaskTexts, encode, past_payload, rfc3339_text, time_text},
    export::{self, in_one_line},
};
use crate::{
    core::{
        event::{Event, Timestamp},
        session::{SessionRecord, TaskRecord},
    },
    doors::reply::row,
};

/// Of a task's result, or of why it failed, so many characters stand in a table for people.
const MAX_CELL_CHARS: usize = 200;

/// The columns of CSV. What is added later goes to the end.
const COLUMNS: [&str; 16] = [
    "task_id",
    "agent_id",
    "name",
    "status",
    "pausing",
    "progress",
    "confidence",
    "message",
    "created_at",
    "updated_at",
    "started_at",
    "ended_at",
    "error_code",
    "error_message",
    "input",
    "result",
];

/// What an export is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
    Markdown,
}

impl Format {
    /// The formats that there are, by name.
    pub const NAMES: &str = "json, csv or markdown";

    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "markdown" => Some(Self::Markdown),
            _ => None,
        }
    }

    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }

    pub const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Markdown => "md",
        }
    }

    /// What an export of one task has of its events: none where it is a row of a table.
    pub const fn has_events(self) -> bool {
        !matches!(self, Self::Csv)
    }

    // ---- many tasks ----

    pub fn list_head(self) -> String {
        match self {
            Self::Json => r#"{"tasks":["#.to_owned(),
            Self::Csv => csv_row(COLUMNS.map(Cow::Borrowed)),
            Self::Markdown => "# Tasks\n\n\
                | Task | Name | Agent | Status | Progress | Confidence | Created | Ended | Result |\n\
                |---|---|---|---|---|---|---|---|---|\n"
                .to_owned(),
        }
    }

    /// A task's part of the file.
    pub fn list_item(self, record: &SessionRecord, texts: &TaskTexts, is_first: bool) -> String {
        let Some(task) = &record.task else { return String::new() };
        match self {
            Self::Json => format!("{}\n{}", comma_unless(is_first), json(record, texts)),
            Self::Csv => csv_task(record, task, texts),
            Self::Markdown => markdown_row(record, task),
        }
    }

    pub const fn list_tail(self) -> &'static str {
        match self {
            Self::Json => "\n]}\n",
            Self::Csv | Self::Markdown => "",
        }
    }

    // ---- one task ----

    pub fn head(self, record: &SessionRecord, texts: &TaskTexts) -> String {
        let Some(task) = &record.task else { return String::new() };
        match self {
            Self::Json => format!("{{\"task\":{},\n\"events\":[", json(record, texts)),
            Self::Csv => csv_row(COLUMNS.map(Cow::Borrowed)) + &csv_task(record, task, texts),
            Self::Markdown => markdown_head(record, task),
        }
    }

    /// An event's part of the file.
    pub fn event(self, event: &Event, is_first: bool) -> String {
        match self {
            Self::Json => format!("{}\n{}", comma_unless(is_first), past_payload(event)),
            Self::Csv => String::new(),
            Self::Markdown => export::Format::Markdown.event(event),
        }
    }

    pub const fn tail(self) -> &'static str {
        self.list_tail()
    }
}

fn json(record: &SessionRecord, texts: &TaskTexts) -> bytestring::ByteString {
    encode(&Task::of(record).map(|task| task.with(texts)))
}

const fn comma_unless(is_first: bool) -> &'static str {
    if is_first { "" } else { "," }
}

// ---- CSV (RFC 4180) ----

fn csv_task(record: &SessionRecord, task: &TaskRecord, texts: &TaskTexts) -> String {
    let time = |at: Option<Timestamp>| at.map_or(Cow::default(), |at| Cow::Owned(rfc3339_text(at)));
    let part = |part: Option<f64>| part.map_or(Cow::default(), |part| Cow::Owned(part.to_string()));
    let text = |text: Option<&'_ String>| text.map_or("", String::as_str).to_owned().into();
    csv_row([
        record.session_id.as_str().into(),
        record.session_id.agent_str().into(),
        task.name.as_str().into(),
        task.status.name().into(),
        if task.pausing { "true" } else { "false" }.into(),
        part(task.progress.progress),
        part(task.progress.confidence),
        text(task.progress.message.as_ref()),
        time(Some(record.created_at)),
        time(Some(record.updated_at)),
        time(task.started_at),
        time(task.ended_at),
        task.problem.as_ref().map_or("", |problem| row(problem.code).code).into(),
        text(task.problem.as_ref().map(|problem| &problem.message)),
        text(texts.input.as_ref().or(Some(&task.input))),
        text(texts.result.as_ref().or(task.result.as_ref())),
    ])
}

fn csv_row<'a>(cells: [Cow<'a, str>; COLUMNS.len()]) -> String {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::with_capacity(256));
    let cells = cells.map(harmless);
    // Writing to memory does not fail, and all rows have as many cells.
    writer.write_record(cells.iter().map(|cell| cell.as_bytes())).expect("a row can be written");
    let row = writer.into_inner().expect("a row can be written");
    String::from_utf8(row).expect("cells are UTF-8, and so is what stands between them")
}

/// A cell that no spreadsheet takes for a formula: what could begin one has an apostrophe before it (OWASP, "CSV
/// Injection").
fn harmless(cell: Cow<'_, str>) -> Cow<'_, str> {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        true => Cow::Owned(format!("'{cell}")),
        false => cell,
    }
}

// ---- Markdown ----

fn markdown_row(record: &SessionRecord, task: &TaskRecord) -> String {
    let result = match &task.problem {
        Some(problem) => Some(problem.message.as_str()),
        None => task.result.as_deref(),
    };
    let cells = [
        record.session_id.as_str().to_owned(),
        task.name.clone(),
        record.session_id.agent_str().to_owned(),
        task.status.name().to_owned(),
        percent(task.progress.progress),
        percent(task.progress.confidence),
        time_text(record.created_at),
        task.ended_at.map_or_else(String::new, time_text),
        result.map_or_else(String::new, shortened),
    ];
    let mut row = String::new();
    for cell in cells {
        row.push_str("| ");
        row.push_str(&in_cell(&cell));
        row.push(' ');
    }
    row + "|\n"
}

fn markdown_head(record: &SessionRecord, task: &TaskRecord) -> String {
    let mut text = format!("# {}\n\n", in_one_line(&task.name));
    let id = &record.session_id;
    let started = task.started_at.map_or_else(String::new, |at| format!("\n- Started: {}", time_text(at)));
    let ended = task.ended_at.map_or_else(String::new, |at| format!("\n- Ended: {}", time_text(at)));
    let optional = |name: &str, value: String| match value.is_empty() {
        true => value,
        false => format!("\n- {name}: {value}"),
    };
    // Writing to a text does not fail.
    let _ = writeln!(
        text,
        "- Task: {id}\n- Agent: {agent}\n- Status: {status}{progress}{confidence}{message}\n- Created: {created}\
         {started}{ended}{error}",
        agent = id.agent_str(),
        status = task.status.name(),
        progress = optional("Progress", percent(task.progress.progress)),
        confidence = optional("Confidence", percent(task.progress.confidence)),
        message = optional("Message", task.progress.message.as_deref().map_or_else(String::new, in_one_line)),
        created = time_text(record.created_at),
        error = optional(
            "Error",
            task.problem.as_ref().map_or_else(String::new, |problem| in_one_line(&problem.message))
        ),
    );
    text
}

fn percent(part: Option<f64>) -> String {
    part.map_or_else(String::new, |part| format!("{:.0}%", part * 100.0))
}

fn shortened(text: &str) -> String {
    let text = in_one_line(text);
    match text.char_indices().nth(MAX_CELL_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A text that stays within its cell of a table (GitHub Flavored Markdown, section 4.10).
fn in_cell(text: &str) -> String {
    in_one_line(text).replace('\\', "\\\\").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        error::{ErrorCode, Problem},
        event::{Durable, Entry, TaskChange},
        ids::{Principal, SessionId, Topic},
        session::SessionState,
    };

    fn record(name: &str, input: &str) -> SessionRecord {
        let session_id: SessionId = "helper_417".parse().unwrap();
        let topic = Topic::Session(session_id);
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: "Helper".into(),
            title: None,
            forked_from: None,
        };
        let task = Durable::Task(Box::new(TaskChange::Created { name: name.into(), input: input.into() }));
        let failed = Durable::Task(Box::new(TaskChange::Failed {
            problem: Problem::new(ErrorCode::ToolError, "=1+1, it \"broke\""),
        }));
        let event = |seq, body: Durable| {
            Event::durable(topic.clone(), "e".into(), seq, Timestamp(1_000), Entry::from(body))
        };
        let mut state = SessionState::begin(&event(1, created)).unwrap();
        state.apply(&event(2, task));
        state.apply(&event(3, failed));
        state.record
    }

    fn read(file: &str) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file.as_bytes());
        let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect());
        rows.collect()
    }

    #[test]
    fn a_row_of_csv_is_read_as_it_was_written() {
        let record = record("Müller, \"the\" one", "two\r\nlines");

        let rows = read(&Format::Csv.head(&record, &TaskTexts::default()));

        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0], COLUMNS);
        let cell = |name: &str| &rows[1][COLUMNS.iter().position(|column| *column == name).unwrap()];
        assert_eq!(cell("task_id"), "helper_417");
        assert_eq!(cell("name"), "Müller, \"the\" one");
        assert_eq!(cell("input"), "two\r\nlines");
        assert_eq!((cell("status").as_str(), cell("error_code").as_str()), ("failed", "tool_error"));
        assert_eq!(cell("created_at"), "1970-01-01T00:00:01.000Z");
        assert_eq!(cell("progress"), "");
        assert_eq!(cell("error_message"), "'=1+1, it \"broke\"", "no formula");
    }

    #[test]
    fn no_cell_begins_a_formula() {
        for start in ["=", "+", "-", "@", "\t", "\r", "\n"] {
            let texts = TaskTexts { input: None, result: Some(format!("{start}cmd|' /C calc'!A0")) };
            let rows = read(&Format::Csv.head(&record("x", &format!("{start}1")), &texts));

            assert_eq!(rows[1][14], format!("'{start}1"));
            assert_eq!(rows[1][15], format!("'{start}cmd|' /C calc'!A0"));
        }
    }

    #[test]
    fn a_row_of_a_table_has_its_cells_whatever_is_in_them() {
        let row = Format::Markdown.list_item(&record("a | b \\| c\nd", "x"), &TaskTexts::default(), true);

        assert!(row.starts_with("| helper_417 | a \\| b \\\\\\| c d | helper | failed |"), "{row}");
        assert_eq!(row.matches('\n').count(), 1);
    }
}
