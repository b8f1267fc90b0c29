//! One oracle for every fault test. Witnesses are clients that come back whatever happens to them, and note down
//! all that they are shown and told; the oracle judges their notes afterwards, against each other and against
//! the logs. It complains, and does not panic: a test shows all that was wrong, and tests of its own show
//! that it can.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use duologue::{
    core::{
        ids::Topic,
        ports::{PageLimit, ReadFrom},
    },
    doors::wire::events::past_payload,
    store::sqlite::SqliteReader,
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::support::{Client, Server, Socket, assert_well_formed, scratch_dir, topic, unique, until, within};

/// Logs by topic, each from its first event.
pub type Logs = BTreeMap<String, Vec<Value>>;

// ---- what a client notes down ----

/// What one client was shown and told over all its connections.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    pub client: String,
    pub topics: BTreeMap<String, TopicNotes>,
    /// Messages that were seen streaming, by their ids.
    pub texts: BTreeMap<String, Streamed>,
    /// By their `message_id`.
    pub commands: BTreeMap<String, Asked>,
    /// The codes that its connections ended with.
    pub closes: Vec<u16>,
    /// What was wrong at the moment that it came.
    pub complaints: Vec<String>,
    /// What lists were told, in the order of arrival.
    pub list_changes: Vec<Value>,
    /// Runs whose end was shown.
    pub ended: BTreeSet<String>,
}

#[derive(Debug, Clone, Default)]
pub struct TopicNotes {
    pub epoch: String,
    pub seq: u64,
    /// In the order of arrival.
    pub events: Vec<Noted>,
}

/// A durable event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    pub epoch: String,
    pub seq: u64,
    pub kind: String,
    pub digest: u64,
    /// Shown within a snapshot, where others may be missing.
    pub in_snapshot: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Streamed {
    pub topic: String,
    pub run_id: String,
    pub text: String,
    /// It comes in on this connection.
    live: bool,
    /// It came in up to its end, on one connection: nothing of it was missed.
    whole: bool,
    /// When so many bytes had been shown.
    shown: Vec<(usize, Instant)>,
    /// When the last connection that it came in on ended.
    cut: Option<Instant>,
}

impl Streamed {
    /// How long before the end everything after so many bytes was shown.
    fn age_of(&self, bytes: usize) -> Duration {
        let first = self.shown.iter().find(|(shown, _)| *shown > bytes);
        match (first, self.cut) {
            (Some((_, at)), Some(cut)) => cut.duration_since(*at),
            _ => Duration::MAX,
        }
    }
}

/// A command, and what became of it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub frame: Value,
    pub sent: usize,
    pub replies: Vec<Value>,
}

impl Asked {
    /// The data of the first reply that accepts it.
    pub fn accepted(&self) -> Option<&Value> {
        self.replies.iter().find(|reply| reply["ok"] == true).map(|reply| &reply["data"])
    }
}

/// Tells one event from another.
pub fn digest(event: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    event.to_string().hash(&mut hasher);
    hasher.finish()
}

impl Notes {
    pub fn of(client: &str) -> Self {
        Self { client: client.to_owned(), ..Self::default() }
    }

    /// A command goes out, perhaps again.
    pub fn sends(&mut self, id: &str, frame: &Value) {
        let asked = self.commands.entry(id.to_owned()).or_default();
        asked.frame = frame.clone();
        asked.sent += 1;
    }

    /// The connection has ended: what was streaming must be shown anew.
    pub fn disconnected(&mut self, code: u16) {
        self.closes.push(code);
        for text in self.texts.values_mut().filter(|text| text.live) {
            text.live = false;
            text.cut = Some(Instant::now());
        }
    }

    /// A topic that is to be followed from its beginning.
    pub fn follow(&mut self, topic: &str, epoch: &str) {
        self.topics
            .entry(topic.to_owned())
            .or_insert_with(|| TopicNotes { epoch: epoch.to_owned(), ..TopicNotes::default() });
    }

    /// A subscription to all that was followed, from where it was left.
    pub fn resume(&self) -> Option<Value> {
        let positions: serde_json::Map<_, _> = self
            .topics
            .iter()
            .map(|(topic, seen)| (topic.clone(), json!({ "epoch": seen.epoch, "seq": seen.seq })))
            .collect();
        let topics: Vec<_> = positions.keys().cloned().collect();
        (!topics.is_empty()).then(|| {
            json!({
                "type": "subscribe", "message_id": unique("resume"),
                "data": { "topics": topics, "positions": positions },
            })
        })
    }

    fn complain(&mut self, what: String) {
        let complaint = format!("{}: {what}", self.client);
        self.complaints.push(complaint);
    }

    /// Takes a frame in, of either socket.
    pub fn take(&mut self, frame: &Value) {
        let kind = frame["type"].as_str().unwrap_or_default();
        match kind {
            "reply" => self.take_reply(frame),
            "subscribe_ack" => {
                for ack in frame["data"]["topics"].as_array().into_iter().flatten() {
                    self.take_ack(ack);
                }
            }
            "subscribe_error" => self.complain(format!("was refused a subscription: {frame}")),
            "session_list_changed" => self.list_changes.push(frame.clone()),
            "session_snapshot" => self.take_snapshot(frame),
            "message.delta" | "message.snapshot" => self.take_text(kind, frame),
            _ if frame["seq"].is_u64() => self.take_durable(frame),
            _ => {}
        }
    }

    fn take_reply(&mut self, frame: &Value) {
        let id = frame["reply_to"].as_str().unwrap_or_default().to_owned();
        match self.commands.get_mut(&id) {
            Some(asked) => asked.replies.push(frame.clone()),
            None => self.complain(format!("was answered what it had not asked: {frame}")),
        }
    }

    fn take_ack(&mut self, ack: &Value) {
        let topic = ack["topic"].as_str().unwrap_or_default().to_owned();
        let epoch = ack["epoch"].as_str().unwrap_or_default();
        let known = self.topics.get(&topic).map(|seen| seen.epoch.clone());
        match known {
            Some(known) if known != epoch => {
                self.complain(format!("{topic} is numbered anew: {known} has become {epoch}"));
            }
            Some(_) => {}
            None => self.follow(&topic, epoch),
        }
        if ack["recovered"] == false && ack["reason"] != "new" {
            self.complain(format!("could not resume: {ack}"));
        }
    }

    fn take_snapshot(&mut self, frame: &Value) {
        let topic = frame["topic"].as_str().unwrap_or_default();
        let seen = self.topics.entry(topic.to_owned()).or_default();
        seen.epoch = frame["epoch"].as_str().unwrap_or_default().to_owned();
        seen.seq = frame["data"]["head"].as_u64().unwrap_or_default();
        for event in frame["data"]["messages"].as_array().into_iter().flatten() {
            seen.events.push(Noted::of(event, true));
        }
    }

    fn take_durable(&mut self, event: &Value) {
        let topic = event["topic"].as_str().unwrap_or_default();
        let noted = Noted::of(event, false);
        if event["type"] == "run_finished" {
            self.ended.insert(event["run_id"].as_str().unwrap_or_default().to_owned());
        }
        if event["type"] == "agent_response" {
            let message_id = event["data"]["message_id"].as_str().unwrap_or_default();
            if let Some(streamed) = self.texts.get_mut(message_id) {
                streamed.whole = std::mem::take(&mut streamed.live);
            }
        }
        let seen = self.topics.entry(topic.to_owned()).or_default();
        (seen.epoch, seen.seq) = (noted.epoch.clone(), noted.seq);
        seen.events.push(noted);
    }

    fn take_text(&mut self, kind: &str, frame: &Value) {
        let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
        let said = frame["data"]["text"].as_str().unwrap_or_default();
        let message_id = frame["data"]["message_id"].as_str().unwrap_or_default();
        let mut wrong = None;
        let is_new = !self.texts.contains_key(message_id);
        let streamed = self.texts.entry(message_id.to_owned()).or_default();
        (streamed.topic, streamed.run_id) = (text("topic"), text("run_id"));
        if streamed.whole {
            wrong = Some("comes after the message's end");
        } else if kind == "message.snapshot" {
            if !said.starts_with(&streamed.text) {
                wrong = Some("is not what was shown before");
            }
            streamed.text = said.to_owned();
            streamed.live = true;
        } else {
            if !is_new && !streamed.live {
                wrong = Some("comes before the message was shown anew");
            } else if frame["data"]["offset"] != streamed.text.chars().count() as u64 {
                wrong = Some("does not follow what was shown before");
            }
            streamed.text.push_str(said);
            streamed.live = true;
        }
        streamed.shown.push((streamed.text.len(), Instant::now()));
        if let Some(wrong) = wrong {
            self.complain(format!("{wrong}: {frame}"));
        }
    }
}

impl Noted {
    fn of(event: &Value, in_snapshot: bool) -> Self {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        Self {
            epoch: text("epoch"),
            seq: event["seq"].as_u64().unwrap_or_default(),
            kind: text("type"),
            digest: digest(event),
            in_snapshot,
        }
    }
}

// ---- what is made of it ----

/// What may have happened.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// Codes that connections may end with.
    pub closes: BTreeSet<u16>,
    /// What a crash may take from a text that was shown: so much,
    pub lost_bytes: usize,
    /// or what was shown in the last moment.
    pub lost_time: Duration,
}

impl Oracle {
    /// What a crash may take at most: a checkpoint, and the longest piece of what these tests have said.
    pub const CHECKPOINT: usize = 2048 + 64;
    /// A checkpoint by the clock, and as much again for a busy machine.
    pub const CHECKPOINT_TIME: Duration = Duration::from_secs(2);

    pub fn expecting(closes: &[u16]) -> Self {
        let closes = closes.iter().copied().collect();
        Self { closes, lost_bytes: Self::CHECKPOINT, lost_time: Self::CHECKPOINT_TIME }
    }

    /// All that is wrong with what these clients saw, and with the logs that were kept.
    pub fn judge(&self, witnesses: &[Notes], logs: &Logs) -> Vec<String> {
        let mut complaints = Vec::new();
        let done = Done::of(logs);
        for notes in witnesses {
            complaints.extend(notes.complaints.iter().cloned());
            let unexpected = notes.closes.iter().filter(|code| !self.closes.contains(code));
            complaints.extend(unexpected.map(|code| format!("{}: closed with {code}", notes.client)));
            for (topic, seen) in &notes.topics {
                judge_events(notes, topic, seen, logs, &mut complaints);
            }
            for (message_id, streamed) in &notes.texts {
                self.judge_text(notes, message_id, streamed, logs, &mut complaints);
            }
            for (id, asked) in &notes.commands {
                judge_command(notes, id, asked, logs, &done, &mut complaints);
            }
        }
        let known: BTreeMap<&str, &Value> = witnesses
            .iter()
            .flat_map(|notes| notes.commands.iter().map(|(id, asked)| (id.as_str(), &asked.frame)))
            .collect();
        for (topic, log) in logs {
            judge_log(topic, log, &known, &mut complaints);
        }
        complaints
    }

    #[track_caller]
    pub fn assert(&self, witnesses: &[Notes], logs: &Logs) {
        assert_no(&self.judge(witnesses, logs));
        let events: usize =
            witnesses.iter().flat_map(|notes| notes.topics.values()).map(|seen| seen.events.len()).sum();
        let commands: usize = witnesses.iter().map(|notes| notes.commands.len()).sum();
        let resent: usize =
            witnesses.iter().flat_map(|notes| notes.commands.values()).filter(|asked| asked.sent > 1).count();
        let texts: usize = witnesses.iter().map(|notes| notes.texts.len()).sum();
        println!(
            "{} logs, {} clients, {events} events and {texts} texts seen, {commands} commands ({resent} sent again)",
            logs.len(),
            witnesses.len()
        );
    }

    /// What was shown of a message, and what was kept of it.
    fn judge_text(
        &self,
        notes: &Notes,
        message_id: &str,
        streamed: &Streamed,
        logs: &Logs,
        complaints: &mut Vec<String>,
    ) {
        let log = logs.get(&streamed.topic).map_or(&[][..], Vec::as_slice);
        let is_answer =
            |event: &&Value| event["type"] == "agent_response" && event["data"]["message_id"] == message_id;
        let answer = log.iter().find(is_answer);
        let kept = answer.and_then(|event| event["data"]["content"].as_str()).unwrap_or_default();
        let is_end =
            |event: &&Value| event["type"] == "run_finished" && event["run_id"] == streamed.run_id.as_str();
        let crashed = log.iter().find(is_end).is_some_and(is_crash);
        let shown = streamed.text.as_str();
        let fits = if streamed.whole {
            kept == shown
        } else if crashed && shown.len() > kept.len() {
            let lost = shown.len() - kept.len();
            let age = streamed.age_of(kept.len());
            if streamed.cut.is_some() {
                println!("a crash took {lost} bytes, shown in the last {age:?}");
            }
            shown.starts_with(kept) && (lost <= self.lost_bytes || age <= self.lost_time)
        } else {
            kept.starts_with(shown)
        };
        if !fits {
            complaints.push(format!(
                "{}: message {message_id} of run {} in {} was shown {} bytes, kept {} (crashed: {crashed}, shown whole: {}): \
                 shown …{:?}, kept …{:?}",
                notes.client,
                streamed.run_id,
                streamed.topic,
                shown.len(),
                kept.len(),
                streamed.whole,
                end_of(shown),
                end_of(kept),
            ));
        }
    }
}

fn is_crash(run_finished: &Value) -> bool {
    run_finished["data"]["outcome"] == "interrupted" && run_finished["data"]["reason"] == "crashed"
}

fn end_of(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(40);
    text.chars().skip(skipped).collect()
}

#[track_caller]
pub fn assert_no(complaints: &[String]) {
    let shown: Vec<_> = complaints.iter().take(20).map(String::as_str).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), shown.join("\n"));
}

/// Numbered without a gap or a duplicate, over all connections; each the same as in the log.
fn judge_events(notes: &Notes, topic: &str, seen: &TopicNotes, logs: &Logs, complaints: &mut Vec<String>) {
    let mut complain = |what: String| complaints.push(format!("{}: {topic}: {what}", notes.client));
    let Some(log) = logs.get(topic) else {
        if let Some(event) = seen.events.first() {
            complain(format!("{} was shown, and there is no log", event.kind));
        }
        return;
    };
    let mut last: Option<&Noted> = None;
    for event in &seen.events {
        if event.in_snapshot {
            last = None;
        } else {
            match last {
                Some(last) if last.epoch != event.epoch => {
                    complain(format!("epoch {} became {} at {}", last.epoch, event.epoch, event.seq));
                }
                Some(last) if last.seq + 1 != event.seq => {
                    complain(format!("{} came after {}", event.seq, last.seq));
                }
                _ => {}
            }
            last = Some(event);
        }
        let kept = usize::try_from(event.seq).ok().and_then(|seq| log.get(seq.checked_sub(1)?));
        match kept {
            None => complain(format!("{} {} was shown, and is not in the log", event.seq, event.kind)),
            Some(kept) if digest(kept) != event.digest => {
                complain(format!("{} {} is in the log as {kept}", event.seq, event.kind));
            }
            Some(_) => {}
        }
    }
    // All of these tests follow sessions from their beginning.
    if let Some(first) = seen.events.first()
        && first.seq != 1
        && !first.in_snapshot
    {
        complain(format!("the first event shown is {}", first.seq));
    }
}

/// What the logs say was done, by what tells one command from another.
#[derive(Default)]
struct Done<'a>(HashMap<(&'static str, &'a str), Vec<&'a Value>>);

impl<'a> Done<'a> {
    fn of(logs: &'a Logs) -> Self {
        let mut done = Self::default();
        for event in logs.values().flatten() {
            let data = &event["data"];
            let (what, of) = match event["type"].as_str().unwrap_or_default() {
                "user_message" => ("said", &data["command_id"]),
                "session_created" => ("created", &data["title"]),
                "session_updated" => ("renamed", &data["title"]),
                "session_closed" => ("closed", &event["session_id"]),
                "run_finished" => ("ended", &event["run_id"]),
                "approval_resolved" => ("settled", &data["reason"]),
                "state.patch" => ("patched", &data["patch"][0]["value"]),
                _ => continue,
            };
            done.0.entry((what, of.as_str().unwrap_or_default())).or_default().push(event);
        }
        done
    }

    fn find<'b>(&self, what: &'static str, of: &'b str) -> Vec<&'a Value>
    where
        'a: 'b,
    {
        let found: &HashMap<(&'static str, &'b str), _> = &self.0;
        found.get(&(what, of)).cloned().unwrap_or_default()
    }
}

/// Done once if it was accepted, never if it was refused, at most once if nobody knows.
fn judge_command(
    notes: &Notes,
    id: &str,
    asked: &Asked,
    logs: &Logs,
    done: &Done<'_>,
    complaints: &mut Vec<String>,
) {
    let mut complain =
        |what: String| complaints.push(format!("{}: command {id} ({}): {what}", notes.client, asked.frame));
    let frame = &asked.frame;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (session, title) = (text(&frame["session_id"]), text(&frame["data"]["title"]));
    let action = frame["data"]["action"].as_str().unwrap_or_default();
    let done = match (frame["type"].as_str().unwrap_or_default(), action) {
        ("chat_message", _) => done.find("said", id),
        // Each has a title that no other has.
        ("session_management", "create" | "rename") if title.is_empty() => {
            return complain("has no title by which its effect could be told".to_owned());
        }
        ("session_management", "create") => done.find("created", &title),
        ("session_management", "rename") => done.find("renamed", &title),
        ("session_management", "close") | ("agent_refresh", _) => done.find("closed", &session),
        ("stop_run", _) => done.find("ended", &text(&frame["data"]["run_id"])),
        // Each has a reason, or puts in a value, that no other has.
        ("tool_approval", _) => done.find("settled", &text(&frame["data"]["reason"])),
        ("update_state", _) => done.find("patched", &text(&frame["data"]["patch"][0]["value"])),
        _ => return,
    };
    if done.len() > 1 {
        complain(format!("was done {} times", done.len()));
    }
    let accepted: Vec<&Value> = asked.replies.iter().filter(|reply| reply["ok"] == true).collect();
    let Some(first) = accepted.first() else {
        // A stop that is refused finds its run ended.
        if asked.replies.len() == asked.sent
            && !done.is_empty()
            && frame["type"] != "stop_run"
            && action != "close"
        {
            complain(format!("was refused each time, and done: {}", asked.replies[0]["error"]));
        }
        return;
    };
    let Some(done) = done.first() else {
        complain(format!("was accepted ({}), and is not in the log", first["data"]));
        return;
    };
    if accepted.iter().filter(|reply| reply["data"]["duplicate"] == false).count() > 1 {
        complain("was told twice that it was done just now".to_owned());
    }
    for key in ["run_id", "seq", "session_id", "epoch", "outcome", "version"] {
        if let Some(other) = accepted.iter().find(|reply| reply["data"][key] != first["data"][key]) {
            complain(format!("was answered {} and {}", first["data"], other["data"]));
        }
    }
    let data = &first["data"];
    let agrees = match (frame["type"].as_str().unwrap_or_default(), action) {
        ("chat_message", _) => {
            data["run_id"] == done["run_id"]
                && data["seq"] == done["seq"]
                && frame["session_id"] == done["session_id"]
                && frame["data"]["content"] == done["data"]["content"]
        }
        ("session_management", "create") => {
            data["session_id"] == done["session_id"] && data["epoch"] == done["epoch"]
        }
        ("agent_refresh", _) => {
            data["session_id"] == done["data"]["replaced_by"]
                && logs.contains_key(&topic(data["session_id"].as_str().unwrap_or_default()))
        }
        ("stop_run", _) => data["outcome"] == done["data"]["outcome"],
        ("update_state", _) => data["version"] == done["data"]["version"],
        _ => true,
    };
    if !agrees {
        complain(format!("was answered {data}, and is in the log as {done}"));
    }
}

/// A log that is well formed, says nothing that nobody asked, runs what was queued in order, and has the
/// answers that the demo model gives.
fn judge_log(topic: &str, log: &[Value], known: &BTreeMap<&str, &Value>, complaints: &mut Vec<String>) {
    let mut complain = |what: String| complaints.push(format!("the log of {topic}: {what}"));
    if log.is_empty() {
        return complain("is empty".to_owned());
    }
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| assert_well_formed(log))) {
        let why = panic.downcast_ref::<String>().cloned();
        complain(why.unwrap_or_else(|| "is not well formed".to_owned()));
    }
    let mut ids = BTreeSet::new();
    let mut asked: BTreeMap<&str, (&str, u64, bool)> = BTreeMap::new();
    let mut last_begun = 0;
    for event in log {
        let run_id = event["run_id"].as_str().unwrap_or_default();
        if !ids.insert(event["message_id"].as_str().unwrap_or_default()) {
            complain(format!("an event that has another one's id: {event}"));
        }
        match event["type"].as_str().unwrap_or_default() {
            "user_message" => {
                let command = event["data"]["command_id"].as_str().and_then(|id| known.get(id));
                if command.is_none() {
                    complain(format!("nobody has said {event}"));
                }
                let interrupts = command.is_some_and(|frame| frame["data"]["on_busy"] == "interrupt");
                let content = event["data"]["content"].as_str().unwrap_or_default();
                asked.insert(run_id, (content, event["seq"].as_u64().unwrap_or_default(), interrupts));
            }
            "run_started" => {
                let Some((_, seq, interrupts)) = asked.get(run_id) else { continue };
                if !interrupts {
                    if *seq < last_begun {
                        complain(format!("run {run_id} of message {seq} began after that of {last_begun}"));
                    }
                    last_begun = *seq;
                }
            }
            "agent_response" => {
                let expected = asked.get(run_id).and_then(|(content, ..)| answer_to(content));
                let said = event["data"]["content"].as_str().unwrap_or_default();
                if let Some(expected) = expected {
                    let whole = event["data"]["incomplete"] == false;
                    let fits = if whole { said == expected } else { expected.starts_with(said) };
                    if !fits {
                        complain(format!(
                            "the answer of {} bytes (whole: {whole}) is not that of the model: …{:?}",
                            said.len(),
                            end_of(said)
                        ));
                    }
                }
            }
            _ => {}
        }
    }
}

/// What the demo model answers, where it can be told beforehand.
fn answer_to(message: &str) -> Option<String> {
    if let Some(text) = message.strip_prefix("/echo ") {
        return Some(text.trim().to_owned());
    }
    let count: u64 = message.strip_prefix("/count ")?.split(' ').next()?.parse().ok()?;
    Some((1..=count).map(|number| number.to_string()).collect::<Vec<_>>().join(" "))
}

/// What differs between the logs as they were told and as they are kept.
pub fn differences(told: &Logs, kept: &Logs) -> Vec<String> {
    let topics: BTreeSet<_> = told.keys().chain(kept.keys()).collect();
    let none = Vec::new();
    let mut differences = Vec::new();
    for topic in topics {
        let (told, kept) = (told.get(topic).unwrap_or(&none), kept.get(topic).unwrap_or(&none));
        if told.len() != kept.len() {
            differences.push(format!("{topic}: {} events were told, {} are kept", told.len(), kept.len()));
        }
        let different = told.iter().zip(kept).find(|(told, kept)| told != kept);
        differences.extend(different.map(|(told, kept)| format!("{topic}: told {told}, kept {kept}")));
    }
    differences
}

// ---- the logs ----

/// All sessions of a server, as lists show them.
pub async fn all_sessions(client: &mut Client) -> Vec<Value> {
    let mut sessions = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let mut list = json!({ "type": "session_management", "data": { "action": "list", "limit": 200 } });
        if cursor.is_string() {
            list["data"]["cursor"] = cursor;
        }
        let page = client.must(list).await;
        sessions.extend(page["sessions"].as_array().expect("sessions").clone());
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return sessions;
        }
    }
}

/// All logs of a server, over the protocol, once every run has ended.
pub async fn settled_logs(server: &Server) -> Logs {
    let mut client = server.client().await;
    let mut sessions = Vec::new();
    until("every session to be at rest", async || {
        sessions = all_sessions(&mut client).await;
        let busy =
            sessions.iter().find(|session| session["status"] != "idle" && session["status"] != "closed");
        busy.is_none()
    })
    .await;
    let mut logs = Logs::new();
    for session in &sessions {
        let id = session["session_id"].as_str().expect("an id");
        // Between two runs of a queue a session is idle.
        let mut log = Vec::new();
        within("every run to end", async {
            loop {
                log = client.history(id).await;
                if all_ended(&log) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        logs.insert(topic(id), log);
    }
    logs
}

fn all_ended(log: &[Value]) -> bool {
    let mut open = BTreeSet::new();
    for event in log {
        match event["type"].as_str() {
            Some("user_message") => drop(open.insert(event["run_id"].as_str())),
            Some("run_finished") => drop(open.remove(&event["run_id"].as_str())),
            _ => {}
        }
    }
    open.is_empty()
}

/// All logs of sessions in a dead server's file. Read from a copy: reading would leave its traces, and a file may
/// be where only its server sees it.
pub fn logs_in_file(path: &Path) -> Logs {
    let copy = scratch_dir().join("copy.db");
    std::fs::copy(path, &copy).expect("a copy");
    let with = |path: &Path, suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    if with(path, "-wal").exists() {
        std::fs::copy(with(path, "-wal"), with(&copy, "-wal")).expect("a copy");
    }
    let path = copy.as_path();
    let reader = SqliteReader::open(path).expect("it can be read");
    reader.verify().expect("its pages are sound");
    let mut logs = Logs::new();
    for topic in topics_in_file(path) {
        let parsed: Topic = topic.parse().expect("a topic");
        let mut log: Vec<Value> = Vec::new();
        loop {
            let from = ReadFrom::After(log.len() as u64);
            let limit = PageLimit { events: 1000, bytes: 1 << 20 };
            let page = reader.read(&parsed, from, limit).expect("it can be read").expect("a log");
            let events =
                page.events.iter().map(|event| serde_json::from_str(&past_payload(event)).expect("JSON"));
            log.extend(events);
            if !page.more {
                break;
            }
        }
        logs.insert(topic, log);
    }
    logs
}

/// The topics of all sessions in a file.
fn topics_in_file(path: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
    let connection = connection.expect("a database");
    let mut statement =
        connection.prepare("SELECT topic FROM logs WHERE owner IS NOT NULL AND topic IS NOT NULL");
    let statement = statement.as_mut().expect("the table is there");
    let topics = statement.query_map([], |row| row.get(0)).expect("rows");
    topics.collect::<Result<_, _>>().expect("texts")
}

// ---- witnesses ----

/// A client with two sockets that comes back whatever happens, goes on from where it was, and sends again, under
/// the same id, what was not answered.
pub struct Witness {
    pub name: String,
    notes: Arc<Mutex<Notes>>,
    orders: mpsc::UnboundedSender<Order>,
    next: std::sync::atomic::AtomicU64,
    task: JoinHandle<()>,
}

enum Order {
    Ask { id: String, frame: Value, answer: oneshot::Sender<Result<Value, Value>> },
    Follow { topic: String, epoch: String },
    Leave,
}

struct Pending {
    id: String,
    frame: Value,
    answer: oneshot::Sender<Result<Value, Value>>,
    /// It was refused for now.
    again: bool,
}

impl Witness {
    /// One that finds its server where `address` says.
    pub fn start(name: &str, address: watch::Receiver<SocketAddr>) -> Self {
        let notes = Arc::new(Mutex::new(Notes::of(name)));
        let (orders, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(witness(name.to_owned(), notes.clone(), address, inbox));
        Self { name: name.to_owned(), notes, orders, next: 1.into(), task }
    }

    /// One of a server that stays where it is.
    pub fn of(server: &Server, name: &str) -> Self {
        // The value stays when its sender goes.
        Self::start(name, watch::channel(server.addr).1)
    }

    /// A new id for a command.
    pub fn command_id(&self) -> String {
        format!("{}-{}", self.name, self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    /// Sends a command until it is accepted, or refused for good; what comes of it can be waited for.
    pub fn send(&self, mut frame: Value) -> oneshot::Receiver<Result<Value, Value>> {
        let id = self.command_id();
        frame["message_id"] = id.as_str().into();
        let (answer, result) = oneshot::channel();
        // Where the task is no more, the receiver says so.
        let _ = self.orders.send(Order::Ask { id, frame, answer });
        result
    }

    /// Sends a command until it is accepted, or refused for good: its data, or the error.
    pub async fn ask(&self, frame: Value) -> Result<Value, Value> {
        let what = frame.to_string();
        within(&format!("the answer to {what}"), self.send(frame)).await.expect("the witness lives")
    }

    /// The data of the reply to a command that must be accepted in the end.
    pub async fn must(&self, frame: Value) -> Value {
        let what = frame.to_string();
        self.ask(frame).await.unwrap_or_else(|error| panic!("{what} was answered {error}"))
    }

    /// Opens a session, with a title that no other has.
    pub async fn create(&self, agent: &str) -> String {
        let data = self.must(create_titled(agent, &unique(&self.name))).await;
        data["session_id"].as_str().expect("an id").to_owned()
    }

    /// Follows somebody else's session from its beginning.
    pub fn follow(&self, topic: &str, epoch: &str) {
        let _ = self.orders.send(Order::Follow { topic: topic.to_owned(), epoch: epoch.to_owned() });
    }

    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to be in the notes.
    pub async fn until(&self, what: &str, condition: impl Fn(&Notes) -> bool) {
        until(&format!("{}: {what}", self.name), async || {
            assert!(!self.task.is_finished(), "{} is no more", self.name);
            condition(&self.notes())
        })
        .await;
    }

    /// Waits for some text of a run.
    pub async fn until_streaming(&self, run_id: &str, bytes: usize) {
        let streams = |notes: &Notes| {
            notes.texts.values().any(|streamed| streamed.run_id == run_id && streamed.text.len() >= bytes)
        };
        self.until(&format!("{bytes} bytes of {run_id}"), streams).await;
    }

    /// Waits for the end of a run.
    pub async fn until_ended(&self, run_id: &str) {
        self.until(&format!("the end of {run_id}"), |notes| notes.ended.contains(run_id)).await;
    }

    /// Waits until all that is followed was shown as far as the logs go.
    pub async fn until_caught_up(&self, logs: &Logs) {
        self.until("all that is in the logs", |notes| {
            notes.topics.iter().all(|(topic, seen)| {
                seen.seq >= logs.get(topic).map_or(0, |log| log.len() as u64) || !logs.contains_key(topic)
            })
        })
        .await;
    }

    /// Goes; what it has noted down.
    pub async fn leave(self) -> Notes {
        let _ = self.orders.send(Order::Leave);
        within("a witness to go", self.task).await.expect("it did not panic");
        Arc::try_unwrap(self.notes).map_or_else(
            |shared| shared.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            |notes| notes.into_inner().unwrap_or_else(PoisonError::into_inner),
        )
    }
}

pub fn create_titled(agent: &str, title: &str) -> Value {
    json!({ "type": "session_management", "agent_id": agent, "data": { "action": "create", "title": title } })
}

/// Once all is at rest and every witness has seen it: the logs, and the notes.
pub async fn testimony(server: &Server, witnesses: Vec<Witness>) -> (Logs, Vec<Notes>) {
    let logs = settled_logs(server).await;
    let mut notes = Vec::new();
    for witness in witnesses {
        witness.until_caught_up(&logs).await;
        notes.push(witness.leave().await);
    }
    (logs, notes)
}

async fn witness(
    name: String,
    notes: Arc<Mutex<Notes>>,
    address: watch::Receiver<SocketAddr>,
    mut inbox: mpsc::UnboundedReceiver<Order>,
) {
    let mut pending = Vec::new();
    loop {
        let addr = *address.borrow();
        if let Some(sockets) = Sockets::open(addr, &name).await {
            match sockets.serve(&notes, &mut pending, &mut inbox).await {
                Some(code) => lock(&notes).disconnected(code),
                None => return,
            }
        }
        // What a good client waits is longer, and random; there are few of us.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Sockets {
    frontend: Socket,
    backend: Socket,
}

impl Sockets {
    async fn open(addr: SocketAddr, client_id: &str) -> Option<Self> {
        let url = |door: &str| format!("ws://{addr}/ws/{door}?client_id={client_id}");
        let frontend = Socket::try_open(&url("frontend-api")).await?;
        let backend = Socket::try_open(&url("backend-api")).await?;
        Some(Self { frontend, backend })
    }

    /// Does what is ordered, until a connection ends: its code. `None` where the witness is to go.
    async fn serve(
        mut self,
        notes: &Mutex<Notes>,
        pending: &mut Vec<Pending>,
        inbox: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Option<u16> {
        const BROKEN: u16 = 1006;
        let resume = lock(notes).resume();
        if let Some(resume) = &resume
            && !self.frontend.try_send(resume).await
        {
            return Some(BROKEN);
        }
        // A create that is sent again subscribes from the beginning, unless the resume was there first.
        let mut resuming = resume.map(|resume| resume["message_id"].clone());
        pending.iter_mut().for_each(|command| command.again = true);
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                frame = self.frontend.next_or_code() => match frame {
                    Ok(frame) => {
                        resuming.take_if(|id| frame["reply_to"] == *id);
                        lock(notes).take(&frame);
                    }
                    Err(code) => return Some(code),
                },
                frame = self.backend.next_or_code() => match frame {
                    Ok(frame) => {
                        lock(notes).take(&frame);
                        settle(&frame, notes, pending);
                    }
                    Err(code) => return Some(code),
                },
                order = inbox.recv() => match order {
                    Some(Order::Ask { id, frame, answer }) => {
                        lock(notes).sends(&id, &frame);
                        let sent = self.backend.try_send(&frame).await;
                        pending.push(Pending { id, frame, answer, again: false });
                        if !sent {
                            return Some(BROKEN);
                        }
                    }
                    Some(Order::Follow { topic, epoch }) => {
                        let subscribe = json!({
                            "type": "subscribe", "message_id": unique("follow"),
                            "data": { "topics": [topic], "positions": { (topic.as_str()): { "epoch": epoch, "seq": 0 } } },
                        });
                        lock(notes).follow(&topic, &epoch);
                        if !self.frontend.try_send(&subscribe).await {
                            return Some(BROKEN);
                        }
                    }
                    Some(Order::Leave) | None => {
                        self.frontend.close().await;
                        self.backend.close().await;
                        return None;
                    }
                },
                _ = looks.tick(), if resuming.is_none() => {
                    for command in pending.iter_mut().filter(|command| command.again) {
                        command.again = false;
                        lock(notes).sends(&command.id, &command.frame);
                        if !self.backend.try_send(&command.frame).await {
                            return Some(BROKEN);
                        }
                    }
                }
            }
        }
    }
}

/// A command was answered: that is what becomes of it, unless it is to be sent again.
fn settle(reply: &Value, notes: &Mutex<Notes>, pending: &mut Vec<Pending>) {
    let Some(at) = pending.iter().position(|command| reply["reply_to"] == command.id.as_str()) else {
        return;
    };
    if reply["ok"] == false && reply["error"]["retryable"] == true {
        pending[at].again = true;
        return;
    }
    let Pending { answer, .. } = pending.remove(at);
    if reply["ok"] == true
        && let (Some(session), Some(epoch)) =
            (reply["data"]["session_id"].as_str(), reply["data"]["epoch"].as_str())
    {
        // The server has subscribed us, or will.
        lock(notes).follow(&topic(session), epoch);
    }
    let result = if reply["ok"] == true { Ok(reply["data"].clone()) } else { Err(reply["error"].clone()) };
    // Nobody may wait for it.
    let _ = answer.send(result);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "session:a_1";
    const RUN: &str = "run-1";

    fn event(seq: u64, kind: &str, run_id: Option<&str>, data: Value) -> Value {
        let mut event = json!({
            "v": 1, "type": kind, "topic": TOPIC, "epoch": "e", "seq": seq, "message_id": format!("event-{seq}"),
            "session_id": "a_1", "data": data,
        });
        if let Some(run_id) = run_id {
            event["run_id"] = run_id.into();
        }
        event
    }

    /// The log of a session with one run: counted to three, `incomplete` and ended as said.
    fn log(content: &str, outcome: &str, reason: Value) -> Vec<Value> {
        let failed = outcome == "interrupted";
        let said = json!({ "message_id": "m", "command_id": "c-2", "content": "/count 3", "queued": false });
        let answer = json!({ "message_id": "answer", "content": content, "incomplete": failed });
        let mut log = vec![
            event(1, "session_created", None, json!({ "session_id": "a_1", "title": "one" })),
            event(2, "user_message", Some(RUN), said),
            event(3, "run_started", Some(RUN), json!({})),
            event(4, "agent_response", Some(RUN), answer),
        ];
        if failed {
            log.push(event(5, "error", Some(RUN), json!({})));
        }
        let seq = log.len() as u64 + 1;
        log.push(event(seq, "run_finished", Some(RUN), json!({ "outcome": outcome, "reason": reason })));
        log
    }

    fn good_log() -> Vec<Value> {
        log("1 2 3", "completed", Value::Null)
    }

    fn delta(offset: u64, text: &str) -> Value {
        json!({
            "v": 1, "type": "message.delta", "topic": TOPIC, "session_id": "a_1", "run_id": RUN,
            "data": { "message_id": "answer", "offset": offset, "text": text },
        })
    }

    fn reply(id: &str, data: Value) -> Value {
        json!({ "v": 1, "type": "reply", "reply_to": id, "ok": true, "data": data })
    }

    fn create_reply() -> Value {
        reply("c-1", json!({ "session_id": "a_1", "epoch": "e", "seq": 1, "duplicate": false }))
    }

    fn chat_reply() -> Value {
        reply("c-2", json!({ "run_id": RUN, "seq": 2, "duplicate": false }))
    }

    /// One who was there from the beginning to the end.
    fn told(log: &[Value], texts: &[Value]) -> Notes {
        let mut notes = Notes::of("one");
        notes.sends("c-1", &create_titled("a", "one"));
        notes.take(&create_reply());
        notes.sends(
            "c-2",
            &json!({ "type": "chat_message", "session_id": "a_1", "data": { "content": "/count 3" } }),
        );
        for (at, event) in log.iter().enumerate() {
            if at == 3 {
                texts.iter().for_each(|text| notes.take(text));
            }
            notes.take(event);
            if at == 1 {
                notes.take(&chat_reply());
            }
        }
        notes
    }

    fn texts() -> [Value; 2] {
        [delta(0, "1 2"), delta(3, " 3")]
    }

    fn judge(notes: Notes, log: Vec<Value>) -> Vec<String> {
        Oracle::expecting(&[1006]).judge(&[notes], &Logs::from([(TOPIC.to_owned(), log)]))
    }

    #[track_caller]
    fn assert_complains(complaints: &[String], of: &str) {
        assert!(complaints.iter().any(|complaint| complaint.contains(of)), "{complaints:#?}");
    }

    #[test]
    fn what_is_right_is_not_complained_of() {
        let mut over_two_connections = told(&good_log()[..3], &[]);
        over_two_connections.take(&delta(0, "1"));
        over_two_connections.disconnected(1006);
        good_log()[3..].iter().for_each(|event| over_two_connections.take(event));

        assert_no(&judge(told(&good_log(), &texts()), good_log()));
        assert_no(&judge(over_two_connections, good_log()));
    }

    #[test]
    fn gaps_and_duplicates_are_found() {
        let mut gap = good_log();
        gap.remove(2);
        let mut twice = good_log();
        twice.insert(3, twice[2].clone());
        let late = &good_log()[1..];

        assert_complains(&judge(told(&gap, &texts()), good_log()), "4 came after 2");
        assert_complains(&judge(told(&twice, &texts()), good_log()), "3 came after 3");
        assert_complains(&judge(told(late, &texts()), good_log()), "the first event shown is 2");
        assert_complains(&judge(told(&good_log(), &texts()), gap), "the log of");
    }

    #[test]
    fn what_is_shown_and_kept_must_be_the_same() {
        let mut other = good_log();
        other[2]["timestamp"] = "2026-11-21T10:00:00.123Z".into();
        let shorter = good_log()[..4].to_vec();
        let mut anew = good_log();
        anew[3]["epoch"] = "f".into();
        let logs = |log: &[Value]| Logs::from([(TOPIC.to_owned(), log.to_vec())]);

        assert_complains(&judge(told(&other, &texts()), good_log()), "3 run_started is in the log as");
        assert_complains(&judge(told(&good_log(), &texts()), shorter.clone()), "5 run_finished was shown");
        assert_complains(&judge(told(&anew, &texts()), good_log()), "epoch e became f at 4");
        assert_complains(
            &Oracle::expecting(&[]).judge(&[told(&good_log(), &[])], &Logs::new()),
            "there is no log",
        );
        assert_complains(&differences(&logs(&good_log()), &logs(&other)), "kept");
        assert_complains(&differences(&logs(&good_log()), &logs(&shorter)), "5 events were told, 4 are kept");
        assert_no(&differences(&logs(&good_log()), &logs(&good_log())));
    }

    #[test]
    fn texts_must_follow_and_be_what_is_kept() {
        let overlapping = [delta(0, "1 2"), delta(2, " 3")];
        let shorter = [delta(0, "1 2")];
        let wrong = [delta(0, "1 3"), delta(3, " 3")];
        let mut unannounced = told(&good_log()[..3], &[]);
        unannounced.take(&delta(0, "1"));
        unannounced.disconnected(1006);
        unannounced.take(&delta(1, " 2"));

        assert_complains(&judge(told(&good_log(), &overlapping), good_log()), "does not follow");
        for texts in [&shorter[..], &wrong[..]] {
            assert_complains(&judge(told(&good_log(), texts), good_log()), "was shown");
        }
        assert_complains(&judge(unannounced, good_log()), "before the message was shown anew");
        let unlike_the_model = log("1 2 4", "completed", Value::Null);
        assert_complains(&judge(told(&unlike_the_model, &[]), unlike_the_model), "is not that of the model");
    }

    #[test]
    fn a_crash_may_take_a_little_of_a_text_and_no_more() {
        let cut = |log: &[Value], text: &str| {
            let mut notes = told(&log[..3], &[]);
            notes.take(&delta(0, text));
            notes.disconnected(1006);
            log[3..].iter().for_each(|event| notes.take(event));
            notes
        };
        let crashed = log("1 2", "interrupted", json!("crashed"));
        let drained = log("1 2", "interrupted", json!("drained"));
        let long = format!("1 2{}", "x".repeat(Oracle::CHECKPOINT + 1));

        assert_no(&judge(cut(&crashed, "1 2 3"), crashed.clone()));
        assert_no(&judge(cut(&crashed, "1"), crashed.clone()));
        let logs = Logs::from([(TOPIC.to_owned(), crashed.clone())]);
        let strict = Oracle { lost_time: Duration::ZERO, ..Oracle::expecting(&[1006]) };
        assert_complains(&strict.judge(&[cut(&crashed, &long)], &logs), "was shown");
        assert_no(&judge(cut(&crashed, &long), crashed.clone()));
        assert_complains(&judge(cut(&crashed, "1 3"), crashed), "was shown");
        assert_complains(&judge(cut(&drained, "1 2 3"), drained), "was shown");
    }

    #[test]
    fn commands_are_done_once_or_not_at_all() {
        let lost = {
            let mut log = good_log();
            log[1]["data"]["command_id"] = "c-3".into();
            log
        };
        let twice = {
            let mut log = good_log();
            let mut again = log[1].clone();
            (again["seq"], again["message_id"], again["run_id"]) =
                (6.into(), "event-6".into(), "run-2".into());
            log.push(again);
            log
        };
        let mut told_twice = told(&good_log(), &texts());
        told_twice.take(&chat_reply());
        let mut two_answers = told(&good_log(), &texts());
        two_answers.take(&reply("c-2", json!({ "run_id": "run-2", "seq": 7, "duplicate": true })));
        let refused = {
            let mut notes = told(&good_log(), &texts());
            let error = json!({ "code": "unavailable", "retryable": true });
            let asked = notes.commands.get_mut("c-2").expect("it was sent");
            asked.replies = vec![json!({ "reply_to": "c-2", "ok": false, "error": error })];
            notes
        };
        let elsewhere = {
            let mut notes = told(&good_log(), &texts());
            let asked = notes.commands.get_mut("c-1").expect("it was sent");
            asked.replies =
                vec![reply("c-1", json!({ "session_id": "a_2", "epoch": "e", "duplicate": false }))];
            notes
        };

        let of_lost = judge(told(&lost, &texts()), lost);
        assert_complains(&of_lost, "is not in the log");
        assert_complains(&of_lost, "nobody has said");
        assert_complains(&judge(told(&twice, &texts()), twice), "was done 2 times");
        assert_complains(&judge(told_twice, good_log()), "told twice");
        assert_complains(&judge(two_answers, good_log()), "was answered");
        assert_complains(&judge(refused, good_log()), "was refused each time, and done");
        assert_complains(&judge(elsewhere, good_log()), "was answered");
    }

    #[test]
    fn runs_end_once_and_in_order() {
        let mut ended_twice = good_log();
        let mut end = ended_twice[4].clone();
        (end["seq"], end["message_id"]) = (6.into(), "event-6".into());
        ended_twice.push(end);
        let unended = good_log()[..4].to_vec();
        let call = json!({ "tool_call_id": "t", "tool_name": "clock" });
        let open_call = {
            let mut log = good_log();
            log[3] = event(4, "tool_call.start", Some(RUN), call);
            log
        };
        let out_of_order = {
            let said = |seq, run, id| {
                let data = json!({ "command_id": id, "content": "/echo a", "queued": true });
                event(seq, "user_message", Some(run), data)
            };
            let of = |seq, kind, run| event(seq, kind, Some(run), json!({ "outcome": "completed" }));
            let mut log = good_log();
            log.extend([said(6, "run-2", "c-2"), said(7, "run-3", "c-2")]);
            log.extend([of(8, "run_started", "run-3"), of(9, "run_finished", "run-3")]);
            log.extend([of(10, "run_started", "run-2"), of(11, "run_finished", "run-2")]);
            log
        };

        assert_complains(&judge(told(&ended_twice, &texts()), ended_twice), "after the run's end");
        assert_complains(&judge(told(&unended, &texts()), unended), "has no end");
        assert_complains(&judge(told(&open_call, &[]), open_call), "are open at");
        assert_complains(&judge(told(&out_of_order, &texts()), out_of_order), "began after that of");
    }

    #[test]
    fn closes_and_lost_continuity_are_noticed() {
        let mut slow = told(&good_log(), &texts());
        slow.disconnected(4002);
        let ack = |epoch: &str, recovered: bool| {
            let topic = json!({ "topic": TOPIC, "epoch": epoch, "head": 5, "recovered": recovered, "reason": "epoch" });
            json!({ "v": 1, "type": "subscribe_ack", "data": { "topics": [topic] } })
        };
        let mut refused = told(&good_log(), &texts());
        refused.take(&ack("f", false));
        let mut forgotten = told(&good_log(), &texts());
        forgotten
            .take(&json!({ "v": 1, "type": "subscribe_error", "error": { "code": "session_not_found" } }));

        assert_complains(&judge(slow, good_log()), "closed with 4002");
        let of_refused = judge(refused, good_log());
        assert_complains(&of_refused, "numbered anew");
        assert_complains(&of_refused, "could not resume");
        assert_complains(&judge(forgotten, good_log()), "was refused a subscription");
    }
}
