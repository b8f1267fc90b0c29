//! What a terminal shows of a session: frames in, pieces of text out (pure).
//!
//! Keeps the position and how much of the streaming message has been shown, so that after a reconnect it goes
//! on where it was, and nothing is shown twice.

use serde_json::Value;

/// One session, as far as it has been shown.
#[derive(Debug, Default)]
pub struct Transcript {
    epoch: String,
    /// Number of the last durable event.
    seq: u64,
    open: Option<Open>,
}

/// The message that is being shown.
#[derive(Debug)]
struct Open {
    message_id: String,
    /// Code points that have been shown.
    points: u64,
}

/// Something to show, or to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A piece of an answer.
    Text(String),
    /// The end of an answer.
    EndOfText,
    /// A whole message of somebody.
    Message {
        speaker: Speaker,
        content: String,
    },
    /// Something beside the conversation.
    Note(String),
    /// Somebody must allow a call.
    Asks(Asked),
    /// Nobody must any more.
    Settled {
        tool_call_id: String,
    },
    RunEnded {
        run_id: String,
        outcome: String,
    },
    SessionEnded(String),
    /// Something was missed: subscribe again, from the position.
    Missed,
}

/// A call that waits for somebody to allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub tool_call_id: String,
    pub tool_name: String,
}

impl Asked {
    fn of(data: &Value) -> Shown {
        let text = |field: &str| data[field].as_str().unwrap_or("").to_owned();
        Shown::Asks(Self { tool_call_id: text("tool_call_id"), tool_name: text("tool_name") })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    User,
    Agent,
    System,
}

impl Transcript {
    /// From where to go on: epoch and number.
    pub fn position(&self) -> (&str, u64) {
        (&self.epoch, self.seq)
    }

    /// Takes in a frame of the frontend socket that is about the session.
    pub fn apply(&mut self, frame: &Value) -> Vec<Shown> {
        let data = &frame["data"];
        match frame["type"].as_str().unwrap_or("") {
            "message.delta" => self.delta(data),
            "message.snapshot" => {
                let text = data["text"].as_str().unwrap_or("");
                self.show_rest(data["message_id"].as_str().unwrap_or(""), text)
            }
            "session_snapshot" => self.snapshot(frame),
            _ if frame["seq"].is_u64() => self.durable(frame),
            _ => Vec::new(),
        }
    }

    fn delta(&mut self, data: &Value) -> Vec<Shown> {
        let (message_id, text) =
            (data["message_id"].as_str().unwrap_or(""), data["text"].as_str().unwrap_or(""));
        let offset = data["offset"].as_u64().unwrap_or(0);
        let points =
            self.open.as_ref().filter(|open| open.message_id == message_id).map_or(0, |open| open.points);
        if offset > points {
            return vec![Shown::Missed];
        }
        // What was shown already is passed over.
        let new: String = text.chars().skip(usize::try_from(points - offset).unwrap_or(usize::MAX)).collect();
        self.open = Some(Open {
            message_id: message_id.to_owned(),
            points: points.max(offset + text.chars().count() as u64),
        });
        if new.is_empty() { Vec::new() } else { vec![Shown::Text(new)] }
    }

    /// Shows what of a message's whole text has not been shown.
    fn show_rest(&mut self, message_id: &str, text: &str) -> Vec<Shown> {
        let delta = serde_json::json!({ "message_id": message_id, "offset": 0, "text": text });
        self.delta(&delta)
    }

    fn snapshot(&mut self, frame: &Value) -> Vec<Shown> {
        let data = &frame["data"];
        self.epoch = frame["epoch"].as_str().unwrap_or("").to_owned();
        self.seq = data["head"].as_u64().unwrap_or(0);
        self.open = None;
        let messages = data["messages"].as_array().into_iter().flatten();
        let mut shown: Vec<_> = messages.flat_map(message).collect();
        shown.extend(data["approvals"].as_array().into_iter().flatten().map(Asked::of));
        if data["truncated"] == true {
            shown.insert(0, Shown::Note("older messages are not shown".to_owned()));
        }
        shown
    }

    fn durable(&mut self, frame: &Value) -> Vec<Shown> {
        let (epoch, seq) = (frame["epoch"].as_str().unwrap_or(""), frame["seq"].as_u64().unwrap_or(0));
        if epoch == self.epoch && seq <= self.seq {
            return Vec::new();
        }
        if (epoch != self.epoch && seq != 1) || (epoch == self.epoch && seq != self.seq + 1) {
            return vec![Shown::Missed];
        }
        (self.epoch, self.seq) = (epoch.to_owned(), seq);

        let data = &frame["data"];
        let text = |field: &str| data[field].as_str().unwrap_or("").to_owned();
        match frame["type"].as_str().unwrap_or("") {
            "agent_response" => {
                let mut shown = self.show_rest(&text("message_id"), &text("content"));
                self.open = None;
                shown.push(Shown::EndOfText);
                shown
            }
            "run_finished" => {
                self.open = None;
                let run_id = frame["run_id"].as_str().unwrap_or("").to_owned();
                let mut shown = Vec::new();
                match (text("outcome").as_str(), text("reason").as_str()) {
                    ("cancelled", "cleared" | "closed") => {}
                    ("cancelled", "replaced") => {
                        shown.push(Shown::Note("replaced by another message".to_owned()))
                    }
                    ("cancelled", _) => shown.push(Shown::Note("stopped".to_owned())),
                    _ => {}
                }
                shown.push(Shown::RunEnded { run_id, outcome: text("outcome") });
                shown
            }
            "session_closed" => vec![Shown::SessionEnded(match data["replaced_by"].as_str() {
                Some(other) => format!("the session was replaced by {other}"),
                None => "the session was closed".to_owned(),
            })],
            "approval_requested" => vec![Asked::of(data)],
            "approval_resolved" => {
                let why = match (data["by"].as_str(), data["decision"].as_str()) {
                    (None, _) => "nobody answered in time".to_owned(),
                    (Some(by), decision) => format!("{} by {by}", decision.unwrap_or("settled")),
                };
                vec![Shown::Settled { tool_call_id: text("tool_call_id") }, Shown::Note(why)]
            }
            "tool_call.end" => {
                let mut shown = message(frame);
                shown.push(Shown::Settled { tool_call_id: text("tool_call_id") });
                shown
            }
            // What one types oneself is on the screen already.
            "user_message" => Vec::new(),
            _ => message(frame),
        }
    }
}

/// A durable event that is a message by itself.
fn message(event: &Value) -> Vec<Shown> {
    let data = &event["data"];
    let text = |field: &str| data[field].as_str().unwrap_or("").to_owned();
    let said = |speaker| vec![Shown::Message { speaker, content: text("content") }];
    match event["type"].as_str().unwrap_or("") {
        "system_message" => said(Speaker::System),
        "user_message" => said(Speaker::User),
        "agent_response" => said(Speaker::Agent),
        "seed_message" if data["role"] == "user" => said(Speaker::User),
        "seed_message" => said(Speaker::Agent),
        "tool_call.start" => vec![Shown::Note(format!("calls {} {}", text("tool_name"), data["args"]))],
        "tool_call.end" => vec![Shown::Note(match data["error"]["message"].as_str() {
            Some(why) => format!("{} failed: {why}", text("tool_name")),
            None => format!("{} is done", text("tool_name")),
        })],
        "error" => {
            let error = &event["error"];
            let (code, why) = (error["code"].as_str().unwrap_or(""), error["message"].as_str().unwrap_or(""));
            vec![Shown::Note(format!("{code}: {why}"))]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn durable(seq: u64, kind: &str, data: Value) -> Value {
        json!({ "type": kind, "epoch": "e", "seq": seq, "run_id": "r", "data": data })
    }

    fn delta(offset: u64, text: &str) -> Value {
        json!({ "type": "message.delta", "data": { "message_id": "m", "offset": offset, "text": text } })
    }

    fn text(shown: &[Shown]) -> String {
        let texts = shown.iter().filter_map(|shown| match shown {
            Shown::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn a_call_that_waits_is_asked_about_until_it_is_settled() {
        let mut transcript = Transcript::default();
        let asked =
            json!({ "tool_call_id": "c", "tool_name": "clock", "expires_at": "2026-11-21T10:00:00Z" });
        let first = transcript.apply(&durable(1, "approval_requested", asked.clone()));
        let resolved = json!({ "tool_call_id": "c", "decision": "denied", "by": "local" });
        let settled = transcript.apply(&durable(2, "approval_resolved", resolved));

        let call = Asked { tool_call_id: "c".to_owned(), tool_name: "clock".to_owned() };
        assert_eq!(first, [Shown::Asks(call.clone())]);
        assert_eq!(settled[0], Shown::Settled { tool_call_id: "c".to_owned() });
        assert_eq!(settled[1], Shown::Note("denied by local".to_owned()));
        let data = json!({ "head": 9, "messages": [], "approvals": [asked], "truncated": false });
        let snapshot = json!({ "type": "session_snapshot", "epoch": "e", "data": data });
        assert_eq!(transcript.apply(&snapshot), [Shown::Asks(call)]);
    }

    #[test]
    fn an_answer_is_shown_once_however_it_comes() {
        let mut transcript = Transcript::default();
        let response = json!({ "message_id": "m", "content": "日本 hello 😀!" });
        let frames = [
            durable(1, "run_started", json!({})),
            delta(0, "日本 "),
            delta(3, "hello"),
            // The connection broke, and the resume brings the text so far.
            json!({ "type": "message.snapshot", "data": { "message_id": "m", "text": "日本 hello 😀" } }),
            delta(8, " 😀"),
            durable(2, "agent_response", response.clone()),
            durable(2, "agent_response", response),
        ];

        let shown: Vec<_> = frames.iter().flat_map(|frame| transcript.apply(frame)).collect();

        assert_eq!(text(&shown), "日本 hello 😀!");
        assert_eq!(shown.iter().filter(|shown| **shown == Shown::EndOfText).count(), 1);
    }

    #[test]
    fn what_is_missing_is_noticed() {
        let mut transcript = Transcript::default();
        assert!(transcript.apply(&durable(1, "run_started", json!({}))).is_empty());

        assert_eq!(transcript.apply(&durable(3, "context_update", json!({}))), [Shown::Missed]);
        assert_eq!(transcript.apply(&delta(5, "x")), [Shown::Missed]);
        assert_eq!(transcript.position(), ("e", 1));
    }

    #[test]
    fn a_snapshot_shows_what_was_said() {
        let mut transcript = Transcript::default();
        let snapshot = json!({
            "type": "session_snapshot", "epoch": "e",
            "data": {
                "head": 7, "truncated": true,
                "messages": [
                    durable(5, "user_message", json!({ "content": "hi" })),
                    durable(6, "agent_response", json!({ "content": "hello" })),
                ],
            },
        });

        let shown = transcript.apply(&snapshot);

        assert_eq!(shown.len(), 3);
        assert_eq!(shown[2], Shown::Message { speaker: Speaker::Agent, content: "hello".to_owned() });
        assert_eq!(transcript.position(), ("e", 7));
    }

    #[test]
    fn the_end_of_a_run_is_told_with_its_outcome() {
        let mut transcript = Transcript::default();
        let failed = json!({ "outcome": "failed", "reason": "failed" });
        let error =
            json!({ "type": "error", "epoch": "e", "seq": 1, "error": { "code": "c", "message": "why" } });

        assert_eq!(transcript.apply(&error), [Shown::Note("c: why".to_owned())]);
        let ended = Shown::RunEnded { run_id: "r".to_owned(), outcome: "failed".to_owned() };
        assert_eq!(transcript.apply(&durable(2, "run_finished", failed)), [ended]);
    }
}
