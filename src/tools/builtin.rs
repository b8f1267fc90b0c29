//! The tools that need nobody else: the time, and what concerns the session itself.
//!
//! Those that concern the session say what is to become of it; the core does it, and refuses what cannot be.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::{Value, json};

use super::schema::ArgumentCheck;
use crate::core::{
    error::{ErrorCode, Problem},
    event::Progress,
    ports::{ToolDescription, ToolOutput, ToolSource, ToolSpec, Tools},
    shared_state::MAX_OPERATIONS,
};

pub const CLOCK: &str = "clock";
pub const UPDATE_STATE: &str = "update_state";
pub const REPORT_PROGRESS: &str = "report_progress";
pub const SUGGEST: &str = "suggest";

/// Suggestions are shown side by side, under an answer.
const MAX_SUGGESTIONS: usize = 8;
/// Letters of a suggestion: it is a button, and then a message.
const MAX_SUGGESTION: usize = 200;
/// Letters of a word on how far a task has come: it is shown beside its bar.
const MAX_PROGRESS_MESSAGE: usize = 500;

/// The built-in tools; the same for everyone.
pub struct BuiltinTools {
    in_tasks: Arc<Kit>,
    in_chats: Arc<Kit>,
}

impl Default for BuiltinTools {
    fn default() -> Self {
        let all = [clock(), update_state(), report_progress(), suggest()];
        let chats = all.iter().filter(|spec| spec.name != REPORT_PROGRESS).cloned().collect();
        Self { in_chats: Arc::new(Kit::new(chats)), in_tasks: Arc::new(Kit::new(all.into())) }
    }
}

impl ToolSource for BuiltinTools {
    fn open(&self, of_task: bool) -> Arc<dyn Tools> {
        if of_task { self.in_tasks.clone() } else { self.in_chats.clone() }
    }

    fn describe(&self) -> BoxFuture<'static, Vec<ToolDescription>> {
        let specs = self.in_tasks.specs.iter().cloned();
        let tools = specs.map(|spec| ToolDescription { spec, available: true }).collect();
        async move { tools }.boxed()
    }
}

/// Some of the built-in tools.
struct Kit {
    specs: Arc<[ToolSpec]>,
    checks: Vec<ArgumentCheck>,
}

impl Kit {
    fn new(specs: Vec<ToolSpec>) -> Self {
        let checks = specs.iter().map(|spec| ArgumentCheck::new(&spec.name, &spec.parameters)).collect();
        Self { specs: specs.into(), checks }
    }

    fn call(&self, name: &str, args: Value) -> Result<ToolOutput, Problem> {
        if !self.specs.iter().any(|spec| spec.name == name) {
            return Err(Problem::new(ErrorCode::ToolError, format!("there is no tool {name:?} here")));
        }
        self.check(name, &args)?;
        match name {
            CLOCK => Ok(ToolOutput::Value(now(&parse::<Clock>(args)?, Timestamp::now())?)),
            UPDATE_STATE => {
                let UpdateState { patch, if_version } = parse(args)?;
                Ok(ToolOutput::PatchState { patch, if_version })
            }
            REPORT_PROGRESS => {
                let Report { progress, message, confidence } = parse(args)?;
                Ok(ToolOutput::Report(Progress { progress, message, confidence }))
            }
            SUGGEST => Ok(ToolOutput::Suggest(parse::<Suggest>(args)?.items)),
            _ => Err(Problem::internal()),
        }
    }
}

impl Tools for Kit {
    fn list(&self) -> BoxFuture<'static, Arc<[ToolSpec]>> {
        let specs = self.specs.clone();
        async move { specs }.boxed()
    }

    fn call(&self, name: &str, args: Value) -> BoxFuture<'static, Result<ToolOutput, Problem>> {
        let outcome = self.call(name, args);
        async move { outcome }.boxed()
    }

    fn check(&self, name: &str, args: &Value) -> Result<(), Problem> {
        let mut tools = self.specs.iter().zip(&self.checks);
        tools.find(|(spec, _)| spec.name == name).map_or(Ok(()), |(_, check)| check.check(args))
    }
}

/// What the schema has let through is of this shape; should the two differ, that is a fault of ours.
fn parse<T: for<'de> Deserialize<'de>>(args: Value) -> Result<T, Problem> {
    serde_json::from_value(args).map_err(|error| Problem::invalid_field("args", error))
}

fn spec(name: &str, description: &str, parameters: Value) -> ToolSpec {
    ToolSpec { name: name.to_owned(), description: description.to_owned(), parameters }
}

// ---- clock ----

#[derive(Deserialize)]
struct Clock {
    timezone: Option<String>,
}

fn clock() -> ToolSpec {
    spec(
        CLOCK,
        "Tells the current date and time. Use it whenever an answer depends on what day or time it is now; do not \
         guess. Without a timezone it tells UTC.",
        json!({
            "type": "object",
            "properties": {
                "timezone": {
                    "type": "string",
                    "description": "IANA name of the time zone, for example Europe/Berlin, America/New_York or UTC",
                },
            },
            "additionalProperties": false,
        }),
    )
}

fn now(clock: &Clock, now: Timestamp) -> Result<Value, Problem> {
    let name = clock.timezone.as_deref().unwrap_or("UTC");
    let zone = TimeZone::get(name).map_err(|_| {
        let expected = format!(
            "the IANA name of a time zone, such as Europe/Berlin, America/New_York or UTC; there is no {:?}",
            name.chars().take(64).collect::<String>()
        );
        Problem::invalid_field("/timezone", expected)
    })?;
    let now = now.to_zoned(zone);
    Ok(json!({
        "time": now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        "date": now.strftime("%Y-%m-%d").to_string(),
        "weekday": now.strftime("%A").to_string(),
        "timezone": name,
        "utc_offset": now.strftime("%:z").to_string(),
        "unix_seconds": now.timestamp().as_second(),
    }))
}

// ---- update_state ----

#[derive(Deserialize)]
struct UpdateState {
    patch: Value,
    if_version: Option<u64>,
}

fn update_state() -> ToolSpec {
    spec(
        UPDATE_STATE,
        "Changes the JSON document that you and the user share and that the user sees all the time. Send a JSON Patch \
         (RFC 6902): a list of operations that are applied in order, all of them or none. Change only what must \
         change. Paths are JSON Pointers: /combatants/0/hp is the hp of the first element of combatants, and a path \
         that ends in /- adds to the end of a list. The result is the version that this makes.",
        json!({
            "type": "object",
            "properties": {
                "patch": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_OPERATIONS,
                    "description": "The operations",
                    "items": {
                        "type": "object",
                        "properties": {
                            "op": {
                                "type": "string",
                                "enum": ["add", "remove", "replace", "move", "copy", "test"],
                            },
                            "path": {
                                "type": "string",
                                "description": "JSON Pointer to what is changed; \"\" is the whole document",
                            },
                            "value": { "description": "For add, replace and test: any JSON" },
                            "from": {
                                "type": "string",
                                "description": "For move and copy: JSON Pointer to what is taken",
                            },
                        },
                        "required": ["op", "path"],
                    },
                },
                "if_version": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "The patch is refused unless the document is at this version; leave it out to \
                                    patch it as it is",
                },
            },
            "required": ["patch"],
            "additionalProperties": false,
        }),
    )
}

// ---- report_progress ----

#[derive(Deserialize)]
struct Report {
    progress: Option<f64>,
    message: Option<String>,
    confidence: Option<f64>,
}

fn report_progress() -> ToolSpec {
    spec(
        REPORT_PROGRESS,
        "Tells whoever waits for this task how far it has come. Call it after each step that took a while. Give at \
         least one of progress, message and confidence.",
        json!({
            "type": "object",
            "properties": {
                "progress": {
                    "type": "number", "minimum": 0, "maximum": 1,
                    "description": "How much of the task is done: 0 is nothing, 1 is all",
                },
                "message": {
                    "type": "string", "minLength": 1, "maxLength": MAX_PROGRESS_MESSAGE,
                    "description": "What is being done now, in a few words",
                },
                "confidence": {
                    "type": "number", "minimum": 0, "maximum": 1,
                    "description": "How sure you are that the result will be right: 0 is not at all, 1 is certain",
                },
            },
            "minProperties": 1,
            "additionalProperties": false,
        }),
    )
}

// ---- suggest ----

#[derive(Deserialize)]
struct Suggest {
    items: Vec<String>,
}

fn suggest() -> ToolSpec {
    spec(
        SUGGEST,
        "Offers the user things to say next, as buttons under your answer; a click sends the text as the user's \
         message. Write them as the user would say them, each different, short and useful now.",
        json!({
            "type": "object",
            "properties": {
                "items": {
                    "type": "array", "minItems": 1, "maxItems": MAX_SUGGESTIONS,
                    "items": { "type": "string", "minLength": 1, "maxLength": MAX_SUGGESTION, "pattern": "\\S" },
                    "description": "What the user may want to say next, the most likely first",
                },
            },
            "required": ["items"],
            "additionalProperties": false,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, args: Value) -> Result<ToolOutput, Problem> {
        BuiltinTools::default().in_tasks.call(name, args)
    }

    fn refusal(name: &str, args: Value) -> String {
        let problem = call(name, args).expect_err("refused");
        assert_eq!(problem.code, ErrorCode::InvalidField);
        problem.message
    }

    #[test]
    fn the_clock_tells_the_time_of_a_place() {
        let moment: Timestamp = "2026-11-21T23:30:00Z".parse().unwrap();

        let utc = now(&Clock { timezone: None }, moment).unwrap();
        assert_eq!(utc["time"], "2026-11-21T23:30:00+00:00");
        assert_eq!(utc["weekday"], "Saturday");

        let berlin = now(&Clock { timezone: Some("Europe/Berlin".into()) }, moment).unwrap();
        assert_eq!(berlin["time"], "2026-11-22T00:30:00+01:00");
        assert_eq!(berlin["date"], "2026-11-22");
        assert_eq!(berlin["weekday"], "Sunday");
        assert_eq!(berlin["utc_offset"], "+01:00");
        assert_eq!(berlin["unix_seconds"], utc["unix_seconds"]);
    }

    #[test]
    fn the_clock_knows_no_other_place() {
        for zone in ["Europe/Atlantis", "", "../../etc/passwd", "/etc/passwd"] {
            let message = refusal(CLOCK, json!({ "timezone": zone }));
            assert!(message.starts_with("/timezone: expected the IANA name of a time zone"), "{message}");
        }
        assert_eq!(refusal(CLOCK, json!({ "timezone": 1 })), "/timezone: expected a text");
        assert_eq!(refusal(CLOCK, json!({ "zone": "UTC" })), "/zone: expected no such argument");
    }

    #[test]
    fn what_concerns_the_session_is_said_to_the_core() {
        let patch = json!([{ "op": "add", "path": "/round", "value": 1 }]);

        assert_eq!(
            call(UPDATE_STATE, json!({ "patch": patch, "if_version": 3 })).unwrap(),
            ToolOutput::PatchState { patch, if_version: Some(3) }
        );
        assert_eq!(
            call(REPORT_PROGRESS, json!({ "progress": 0.5, "message": "half" })).unwrap(),
            ToolOutput::Report(Progress {
                progress: Some(0.5),
                message: Some("half".into()),
                confidence: None
            })
        );
        assert_eq!(
            call(SUGGEST, json!({ "items": ["Go on", "Stop"] })).unwrap(),
            ToolOutput::Suggest(vec!["Go on".into(), "Stop".into()])
        );
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused_by_name() {
        for (name, args, expected) in [
            (UPDATE_STATE, json!({}), "/patch: expected a value; it is required"),
            (UPDATE_STATE, json!({ "patch": {} }), "/patch: expected a list"),
            (UPDATE_STATE, json!({ "patch": [] }), "/patch: expected at least 1 items"),
            (
                UPDATE_STATE,
                json!({ "patch": [{ "op": "add" }] }),
                "/patch/0/path: expected a value; it is required",
            ),
            (
                UPDATE_STATE,
                json!({ "patch": [{ "op": "add", "path": "/a" }], "if_version": -1 }),
                "/if_version: expected at least 0",
            ),
            (REPORT_PROGRESS, json!({ "progress": 1.5 }), "/progress: expected at most 1"),
            (REPORT_PROGRESS, json!({}), "args: expected at least one argument"),
            (SUGGEST, json!({ "items": [] }), "/items: expected at least 1 items"),
            (SUGGEST, json!({ "items": vec!["a"; 9] }), "/items: expected at most 8 items"),
            (SUGGEST, json!({ "items": ["  "] }), "/items/0: expected a text that matches \\S"),
            (SUGGEST, json!({ "items": ["x".repeat(201)] }), "/items/0: expected at most 200 characters"),
        ] {
            assert_eq!(refusal(name, args.clone()), expected, "{name} {args}");
        }
    }

    #[tokio::test]
    async fn only_a_task_reports_its_progress() {
        let names = async |of_task| {
            let specs = BuiltinTools::default().open(of_task).list().await;
            specs.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>()
        };

        assert_eq!(names(false).await, [CLOCK, UPDATE_STATE, SUGGEST]);
        assert_eq!(names(true).await, [CLOCK, UPDATE_STATE, REPORT_PROGRESS, SUGGEST]);
        let chat = BuiltinTools::default().open(false);
        let problem = chat.call(REPORT_PROGRESS, json!({ "progress": 1 })).await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::ToolError);
    }

    #[test]
    fn each_tool_has_a_schema_that_is_checked() {
        let tools = BuiltinTools::default();
        for spec in tools.in_tasks.specs.iter() {
            assert!(tools.in_tasks.check(&spec.name, &json!(1)).is_err(), "{}", spec.name);
            assert!(spec.parameters["type"] == "object", "{}", spec.name);
        }
    }
}
