//! What only this store does: its bounds. The rest is in `tests/it/store_contract.rs`.

use super::*;
use crate::core::{
    command::Done,
    event::{AgentResponse, CloseReason, Entry, FinishReason, Outcome, Queued, Trigger, Usage},
    ids::{CommandId, MessageId, RunId},
};

/// A store, and the time that its events say.
struct Fixture {
    store: MemoryStore,
    now: i64,
}

impl Fixture {
    fn with_room(bytes: usize) -> Self {
        Self { store: MemoryStore::new(bytes), now: 0 }
    }

    fn append(&mut self, topic: &Topic, entries: Vec<Entry>) -> Result<Appended, AppendError> {
        self.now += 1;
        let expected_seq = self.head(topic).map_or(0, |head| head.last);
        let events = (expected_seq + 1..).zip(entries).map(|(seq, entry)| {
            Arc::new(Event::durable(topic.clone(), "e".into(), seq, Timestamp(self.now), entry))
        });
        let append =
            Append { topic: topic.clone(), expected_seq, events: events.collect(), commands: Vec::new() };
        ready(self.store.append(append))
    }

    fn create(&mut self, number: u64) -> Topic {
        let topic = session(number);
        self.append(&topic, vec![created(None)]).unwrap();
        topic
    }

    fn head(&self, topic: &Topic) -> Option<Head> {
        ready(self.store.head(topic)).unwrap()
    }

    fn list(&self) -> Vec<String> {
        let (owner, limit) = (Principal::local(), usize::MAX);
        let kind = crate::core::ports::SessionKind::Chats;
        let all = SessionFilter { owner, kind, agent_id: None, query: None, after: None, limit };
        let records = ready(self.store.sessions(all)).unwrap();
        records.iter().map(|record| record.session_id.to_string()).collect()
    }
}

fn ready<T>(future: BoxFuture<'static, T>) -> T {
    future.now_or_never().expect("a store in memory has every answer at once")
}

fn session(number: u64) -> Topic {
    Topic::Session(SessionId::new(&"helper".parse().unwrap(), number))
}

fn created(title: Option<&str>) -> Entry {
    let title = title.map(str::to_owned);
    Durable::SessionCreated {
        owner: Principal::local(),
        agent_name: "Helper".to_owned(),
        title,
        forked_from: None,
    }
    .into()
}

fn closed() -> Entry {
    Durable::SessionClosed { reason: CloseReason::Closed, replaced_by: None }.into()
}

fn system(text: &str) -> Entry {
    Durable::SystemMessage { content: text.to_owned() }.into()
}

fn user(run_id: RunId, text: &str, queue: Queued) -> Entry {
    let message = Durable::UserMessage {
        message_id: MessageId::new(),
        command_id: None,
        content: text.to_owned(),
        author: Principal::local(),
        queue,
    };
    Entry::of_run(run_id, message)
}

fn started(run_id: RunId) -> Entry {
    Entry::of_run(run_id, Durable::RunStarted { trigger: Trigger::UserMessage })
}

fn response(run_id: RunId, text: &str) -> Entry {
    let response = AgentResponse {
        message_id: MessageId::new(),
        content: text.to_owned(),
        model: "demo".to_owned(),
        finish_reason: FinishReason::Stop,
        usage: None,
        incomplete: false,
        provider_state: None,
    };
    Entry::of_run(run_id, Durable::AgentResponse(Box::new(response)))
}

fn finished(run_id: RunId) -> Entry {
    let finished = Durable::RunFinished {
        outcome: Outcome::Completed,
        reason: None,
        usage: Usage::default(),
        duration_ms: 1,
    };
    Entry::of_run(run_id, finished)
}

fn remember(id: &str) -> Remember {
    let command_id: CommandId = id.parse().unwrap();
    let key = CommandKey { principal: Principal::local(), client_id: None, command_id };
    Remember { key, digest: [7; 16], done: Done::Noted }
}

#[test]
fn the_oldest_commands_are_forgotten_first() {
    let mut catalog = Catalog::default();
    for number in 0..MAX_COMMANDS + 2 {
        catalog.remember(remember(&format!("c{number}")));
    }

    assert_eq!(catalog.commands.len(), MAX_COMMANDS);
    assert_eq!(catalog.bytes, MAX_COMMANDS * COMMAND_BYTES);
    assert!(!catalog.commands.contains_key(&remember("c1").key));
    assert!(catalog.commands.contains_key(&remember("c2").key));
}

#[test]
fn a_full_store_lets_closed_sessions_go_then_refuses_new_work() {
    let mut fixture = Fixture::with_room(100_000);
    let text = "x".repeat(20_000);
    for number in 100..104 {
        let topic = fixture.create(number);
        fixture.append(&topic, vec![system(&text)]).unwrap();
    }
    let run_id = RunId::new();
    fixture.append(&session(103), vec![user(run_id, "q", Queued::No), started(run_id)]).unwrap();
    fixture.append(&session(101), vec![closed()]).unwrap();
    fixture.append(&session(100), vec![closed()]).unwrap();

    // What would not fit even so makes nobody go.
    let too_much = fixture.append(&session(102), vec![user(RunId::new(), &"x".repeat(100_000), Queued::No)]);
    assert_eq!(too_much, Err(AppendError::Full));
    assert!(fixture.head(&session(101)).is_some());

    // Room is made by the sessions that were closed first.
    let appended = fixture.append(&session(104), vec![created(None), system(&text)]).unwrap();
    let removed: Vec<_> = appended.removed.iter().map(|record| record.session_id.to_string()).collect();
    assert_eq!(removed, ["helper_101"]);
    assert!(fixture.head(&session(101)).is_none());
    assert!(!fixture.list().contains(&"helper_101".to_owned()));
    fixture.append(&session(105), vec![created(None), system(&text)]).unwrap();

    // With none left, new work is refused, and what has begun may end.
    let refused = fixture.append(&session(106), vec![created(None), system(&text)]);
    assert_eq!(refused, Err(AppendError::Full));
    let refused = fixture.append(&session(102), vec![user(RunId::new(), &text, Queued::No)]);
    assert_eq!(refused, Err(AppendError::Full));
    assert!(fixture.append(&session(103), vec![response(run_id, &text), finished(run_id)]).is_ok());
    assert!(fixture.append(&session(103), vec![closed()]).is_ok());
    assert!(fixture.append(&session(106), vec![created(None), system(&text)]).is_ok());
}

fn patched(version: u64, patch: serde_json::Value) -> Entry {
    Durable::StatePatched { version, patch: Box::new(patch) }.into()
}

/// A document, made as long as it may be by patches of a few bytes each.
fn grow(fixture: &mut Fixture, topic: &Topic) -> u64 {
    let seed = "x".repeat(1_000);
    let first = patched(1, serde_json::json!([{ "op": "add", "path": "/a", "value": { "x": seed } }]));
    fixture.append(topic, vec![first]).unwrap();
    let mut version = 1;
    for name in ["b", "c", "d", "e", "f", "g"] {
        version += 1;
        let path = format!("/a/{name}");
        let double = serde_json::json!([{ "op": "copy", "from": "/a", "path": path }]);
        fixture.append(topic, vec![patched(version, double)]).unwrap();
    }
    version
}

#[test]
fn a_document_that_has_grown_by_little_counts_as_long_as_it_is() {
    let mut fixture = Fixture::with_room(usize::MAX);
    let topic = fixture.create(100);
    let bytes = |fixture: &Fixture| lock(&fixture.store.shared.catalog).bytes;
    let before = bytes(&fixture);

    let version = grow(&mut fixture, &topic);

    let state = ready(fixture.store.session(topic.session().unwrap())).unwrap().unwrap();
    assert!(state.shared.bytes() > 60_000, "{}", state.shared.bytes());
    assert!(bytes(&fixture) - before > state.shared.bytes());
    let full = bytes(&fixture);
    // It gives back what is taken from it.
    let emptied = patched(version + 1, serde_json::json!([{ "op": "remove", "path": "/a" }]));
    fixture.append(&topic, vec![emptied]).unwrap();
    assert!(bytes(&fixture) + 60_000 < full);
}

#[test]
fn a_full_store_takes_no_more_patches_of_clients_nor_names() {
    let mut fixture = Fixture::with_room(100_000);
    let (topic, other) = (fixture.create(100), fixture.create(101));
    let run_id = RunId::new();
    fixture.append(&other, vec![user(run_id, "q", Queued::No), started(run_id)]).unwrap();
    let last = grow(&mut fixture, &topic);
    fixture.append(&topic, vec![system(&"x".repeat(30_000))]).unwrap();

    let add = |value: &str| serde_json::json!([{ "op": "add", "path": "/more", "value": value }]);
    assert_eq!(fixture.append(&topic, vec![patched(last + 1, add("x"))]), Err(AppendError::Full));
    let renamed = Durable::SessionUpdated { title: "x".to_owned() };
    assert_eq!(fixture.append(&topic, vec![renamed.into()]), Err(AppendError::Full));
    // A run that has begun goes on to its end.
    let by_tool = Entry::of_run(run_id, patched(1, add("x")).body);
    assert!(fixture.append(&other, vec![by_tool]).is_ok());
    assert!(fixture.append(&other, vec![response(run_id, "x"), finished(run_id)]).is_ok());
}

#[test]
fn a_full_store_takes_no_more_of_clients_on_tasks_but_their_end() {
    let mut fixture = Fixture::with_room(50_000);
    let (topic, run_id) = (session(100), RunId::new());
    let task = |change: TaskChange| Entry::from(Durable::Task(Box::new(change)));
    let begun = TaskChange::Created { name: "Count".to_owned(), input: "to ten".to_owned() };
    fixture.append(&topic, vec![created(None), task(begun)]).unwrap();
    fixture.append(&topic, vec![task(TaskChange::Started), started(run_id)]).unwrap();
    fixture.append(&topic, vec![system(&"x".repeat(50_000))]).unwrap();

    let name = "x".to_owned();
    for change in [TaskChange::Renamed { name }, TaskChange::Pausing, TaskChange::Paused, TaskChange::Resumed]
    {
        let refused = fixture.append(&topic, vec![task(change.clone())]);
        assert_eq!(refused, Err(AppendError::Full), "{change:?}");
    }
    // What its run does, and its end.
    let paused = Entry::of_run(run_id, task(TaskChange::Paused).body);
    assert!(fixture.append(&topic, vec![paused]).is_ok());
    assert!(fixture.append(&topic, vec![task(TaskChange::Cancelled)]).is_ok());
}

#[test]
fn all_bytes_are_given_back_with_the_sessions() {
    let mut fixture = Fixture::with_room(usize::MAX);
    let topic = fixture.create(100);
    grow(&mut fixture, &topic);
    let (name, input) = ("Count".to_owned(), "x".repeat(5_000));
    let task = Durable::Task(Box::new(crate::core::event::TaskChange::Created { name, input }));
    fixture.append(&session(101), vec![created(None), task.into()]).unwrap();
    let topic_of_fork = session(102);
    let begin = created(Some("a fork"));
    let begin = Event::durable(topic_of_fork.clone(), "f".into(), 1, Timestamp(9), begin);
    let mut state = ready(fixture.store.session(topic.session().unwrap())).unwrap().unwrap();
    state.record.session_id = topic_of_fork.session().unwrap().clone();
    state.record.epoch = "f".into();
    let fork = Fork {
        from: topic.session().unwrap().clone(),
        created: Arc::new(begin),
        state,
        commands: Vec::new(),
    };
    ready(fixture.store.fork(fork)).unwrap();
    let bytes = |fixture: &Fixture| lock(&fixture.store.shared.catalog).bytes;
    assert!(bytes(&fixture) > 2 * 60_000, "{}", bytes(&fixture));

    for number in [102, 101, 100] {
        let id = session(number).session().unwrap().clone();
        ready(fixture.store.delete(&id, Vec::new())).unwrap();
    }

    assert_eq!(bytes(&fixture), 0);
}
