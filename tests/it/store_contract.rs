//! What every store does, whatever it is made of: one suite, run for each.

#![expect(clippy::unwrap_used, reason = "these are tests; clippy takes their helpers for something else")]

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use duologue::{
    core::{
        command::{CommandKey, Done, Remember},
        error::{ErrorCode, Problem},
        event::{
            AgentResponse, CloseReason, Decision, Durable, Entry, Event, FinishReason, Outcome, Progress,
            Queued, TaskChange, Timestamp, Trigger, Usage,
        },
        ids::{CommandId, Epoch, MessageId, Principal, RunId, Seq, SessionId, Topic},
        log::KEPT_EVENTS,
        ports::{
            Append, AppendError, Appended, Checkpoint, Fork, Head, Hit, Hits, PageLimit, Partial, ReadFrom,
            Remembered, Search, SessionFilter, SessionKind, Store,
        },
        search::Words,
        session::{SessionState, SessionStatus, TaskStatus},
    },
    store::{
        memory::MemoryStore,
        sqlite::{SqliteOptions, SqliteStore},
    },
};

use crate::support::{scratch_dir, until};

mod model;

pub const ALL: PageLimit = PageLimit { events: usize::MAX, bytes: usize::MAX };

/// A folder that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        Self(scratch_dir())
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("store.db")
    }

    pub fn open(&self) -> SqliteStore {
        let options = SqliteOptions { path: self.file(), sync_every_commit: false };
        SqliteStore::open(options).expect("the store opens")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store, and the time that its events say.
pub struct Fixture {
    pub store: Box<dyn Store>,
    now: i64,
    epochs: HashMap<Topic, Epoch>,
    /// Whose events say that their sessions are tasks'.
    tasks: HashSet<Topic>,
    dir: Option<Scratch>,
}

impl Fixture {
    pub fn memory() -> Self {
        Self::of(MemoryStore::new(usize::MAX), None)
    }

    pub fn sqlite(sync_every_commit: bool) -> Self {
        let dir = Scratch::new();
        let options = SqliteOptions { path: dir.file(), sync_every_commit };
        Self::of(SqliteStore::open(options).expect("the store opens"), Some(dir))
    }

    pub fn of(store: impl Store, dir: Option<Scratch>) -> Self {
        Self { store: Box::new(store), now: 0, epochs: HashMap::new(), tasks: HashSet::new(), dir }
    }

    /// The same store after a restart; one in memory has none.
    pub async fn restarted(mut self) -> Self {
        if let Some(dir) = &self.dir {
            self.store.close().await;
            // The file is locked for as long as the store lives.
            self.store = Box::new(MemoryStore::new(0));
            self.store = Box::new(dir.open());
        }
        self
    }

    /// The next events of a log.
    pub fn events(&mut self, topic: &Topic, after: Seq, entries: Vec<Entry>) -> Vec<Arc<Event>> {
        self.now += 1;
        let incarnation = self.store.incarnation();
        if after == 0 {
            let epoch = match topic {
                Topic::Session(_) => Epoch::of_new_log(incarnation),
                Topic::Agent(_) | Topic::System => Epoch::of_only_log(incarnation),
            };
            self.epochs.insert(topic.clone(), epoch);
            // As the bus has it: from the first event on.
            if entries.iter().any(|entry| is_task_created(&entry.body)) {
                self.tasks.insert(topic.clone());
            } else {
                self.tasks.remove(topic);
            }
        }
        let of_task = self.tasks.contains(topic);
        let epoch = self.epochs.get(topic).cloned().unwrap_or_else(|| "nowhere".into());
        let events = (after + 1..).zip(entries).map(|(seq, entry)| {
            let event = Event::durable(topic.clone(), epoch.clone(), seq, Timestamp(self.now), entry);
            Arc::new(event.of_task(of_task))
        });
        events.collect()
    }

    pub async fn append(&mut self, topic: &Topic, entries: Vec<Entry>) -> Result<Appended, AppendError> {
        self.append_with(topic, entries, Vec::new()).await
    }

    pub async fn append_with(
        &mut self,
        topic: &Topic,
        entries: Vec<Entry>,
        commands: Vec<Remember>,
    ) -> Result<Appended, AppendError> {
        let expected_seq = self.head(topic).await.map_or(0, |head| head.last);
        let events = self.events(topic, expected_seq, entries);
        self.store.append(Append { topic: topic.clone(), expected_seq, events, commands }).await
    }

    pub async fn create(&mut self, number: u64) -> Topic {
        let topic = session(number);
        self.append(&topic, vec![created(None)]).await.unwrap();
        topic
    }

    /// A task that has come to this.
    async fn task(&mut self, number: u64, name: &str, changes: Vec<TaskChange>) -> Topic {
        let topic = session(number);
        let mut entries = vec![created(None), task_created(name, "the input")];
        entries.extend(changes.into_iter().map(task));
        self.append(&topic, entries).await.unwrap();
        topic
    }

    /// A question and its answer.
    pub async fn turn(&mut self, topic: &Topic, question: &str, answer: &str) -> RunId {
        let run_id = RunId::new();
        let turn = vec![
            user(run_id, question, Queued::No),
            started(run_id),
            response(run_id, answer),
            finished(run_id),
        ];
        self.append(topic, turn).await.unwrap();
        run_id
    }

    pub async fn head(&self, topic: &Topic) -> Option<Head> {
        self.store.head(topic).await.unwrap()
    }

    pub async fn state(&self, topic: &Topic) -> Option<SessionState> {
        self.store.session(id(topic)).await.unwrap()
    }

    pub async fn read(&self, topic: &Topic, from: ReadFrom, limit: PageLimit) -> (Vec<Seq>, bool) {
        let page = self.store.read(topic, from, limit).await.unwrap().unwrap();
        (page.events.iter().map(|event| event.seq()).collect(), page.more)
    }

    /// What a fork of a log's first events looks like.
    pub async fn fork_of(&mut self, from: &Topic, to: &Topic, head: Seq) -> Fork {
        let created = self.events(to, 0, vec![created(Some("a fork"))]).remove(0);
        let mut state = SessionState::begin(&created).unwrap();
        let past = PageLimit { events: head as usize, bytes: usize::MAX };
        let past = self.store.read(from, ReadFrom::After(0), past).await.unwrap().unwrap();
        let epoch = state.record.epoch.clone();
        for event in past.events.iter().skip(1) {
            state.apply(&event.copied_to(to.clone(), epoch.clone()).unwrap());
        }
        state.record.head = head;
        // As the core has it: a fork is a conversation.
        state.record.task = None;
        Fork { from: id(from).clone(), created, state, commands: Vec::new() }
    }

    async fn list(&self, filter: impl FnOnce(&mut SessionFilter)) -> Vec<String> {
        let mut all = all_sessions();
        filter(&mut all);
        let records = self.store.sessions(all).await.unwrap();
        records.iter().map(|record| record.session_id.to_string()).collect()
    }

    /// Searches once the index has come to the end.
    pub async fn search(&self, search: Search) -> Hits {
        self.indexed().await;
        self.store.search(search).await.unwrap()
    }

    pub async fn indexed(&self) {
        until("all messages to be indexed", async || {
            self.store.search(search("x")).await.unwrap().indexed_to.is_none()
        })
        .await;
    }
}

pub fn all_sessions() -> SessionFilter {
    let kind = SessionKind::Chats;
    SessionFilter {
        owner: Principal::local(),
        kind,
        agent_id: None,
        query: None,
        after: None,
        limit: usize::MAX,
    }
}

pub fn search(query: &str) -> Search {
    Search { owner: Principal::local(), words: Words::of(query).expect("words"), after: None, limit: 100 }
}

pub fn session(number: u64) -> Topic {
    Topic::Session(SessionId::new(&"helper".parse().unwrap(), number))
}

pub fn id(topic: &Topic) -> &SessionId {
    topic.session().expect("a session")
}

pub fn created(title: Option<&str>) -> Entry {
    created_by(&Principal::local(), title)
}

pub fn created_by(owner: &Principal, title: Option<&str>) -> Entry {
    let (owner, title) = (owner.clone(), title.map(str::to_owned));
    Durable::SessionCreated { owner, agent_name: "Helper".to_owned(), title, forked_from: None }.into()
}

pub fn task(change: TaskChange) -> Entry {
    Durable::Task(Box::new(change)).into()
}

pub fn task_created(name: &str, input: &str) -> Entry {
    task(TaskChange::Created { name: name.to_owned(), input: input.to_owned() })
}

fn is_task_created(body: &Durable) -> bool {
    matches!(body, Durable::Task(change) if matches!(**change, TaskChange::Created { .. }))
}

pub fn failed() -> TaskChange {
    TaskChange::Failed { problem: Problem::new(ErrorCode::ToolError, "it broke") }
}

pub fn progressed(progress: Option<f64>, message: Option<&str>) -> Entry {
    let message = message.map(str::to_owned);
    Durable::Progressed(Box::new(Progress { progress, message, confidence: Some(0.5) })).into()
}

/// The document gets another field; `version` is the one that this makes.
pub fn patched(version: u64, field: &str, value: &serde_json::Value) -> Entry {
    let patch = serde_json::json!([{ "op": "add", "path": format!("/{field}"), "value": value }]);
    Durable::StatePatched { version, patch: Box::new(patch) }.into()
}

pub fn suggested(items: &[&str]) -> Entry {
    Durable::Suggested { items: items.iter().map(|item| (*item).to_owned()).collect() }.into()
}

pub fn asked(run_id: RunId, call: &str) -> Entry {
    let (tool_call_id, tool_name) = (call.to_owned(), "delete_everything".to_owned());
    Entry::of_run(
        run_id,
        Durable::ApprovalRequested { tool_call_id, tool_name, expires_at: Timestamp(9_000) },
    )
}

pub fn allowed(run_id: RunId, call: &str) -> Entry {
    let resolved = Durable::ApprovalResolved {
        tool_call_id: call.to_owned(),
        decision: Decision::Approved,
        by: Some(Principal::local()),
        reason: None,
        args: None,
    };
    Entry::of_run(run_id, resolved)
}

pub fn closed() -> Entry {
    Durable::SessionClosed { reason: CloseReason::Closed, replaced_by: None }.into()
}

pub fn renamed(title: &str) -> Entry {
    Durable::SessionUpdated { title: title.to_owned() }.into()
}

pub fn system(text: &str) -> Entry {
    Durable::SystemMessage { content: text.to_owned() }.into()
}

pub fn user(run_id: RunId, text: &str, queue: Queued) -> Entry {
    let message = Durable::UserMessage {
        message_id: MessageId::new(),
        command_id: None,
        content: text.to_owned(),
        author: Principal::local(),
        queue,
    };
    Entry::of_run(run_id, message)
}

pub fn started(run_id: RunId) -> Entry {
    Entry::of_run(run_id, Durable::RunStarted { trigger: Trigger::UserMessage })
}

pub fn response(run_id: RunId, text: &str) -> Entry {
    response_as(run_id, MessageId::new(), text)
}

pub fn response_as(run_id: RunId, message_id: MessageId, text: &str) -> Entry {
    let response = AgentResponse {
        message_id,
        content: text.to_owned(),
        model: "demo".to_owned(),
        finish_reason: FinishReason::Stop,
        usage: None,
        incomplete: false,
        provider_state: None,
    };
    Entry::of_run(run_id, Durable::AgentResponse(Box::new(response)))
}

pub fn finished(run_id: RunId) -> Entry {
    let finished = Durable::RunFinished {
        outcome: Outcome::Completed,
        reason: None,
        usage: Usage::default(),
        duration_ms: 1,
    };
    Entry::of_run(run_id, finished)
}

pub fn remember(id: &str) -> Remember {
    let command_id: CommandId = id.parse().unwrap();
    let key = CommandKey { principal: Principal::local(), client_id: None, command_id };
    Remember { key, digest: [7; 16], done: Done::Noted }
}

pub fn remembered() -> Remembered {
    Remembered { digest: [7; 16], done: Done::Noted }
}

fn duplicate() -> AppendError {
    AppendError::Duplicate(Box::new(remembered()))
}

fn checkpoint(topic: &Topic, run_id: RunId, message_id: MessageId, text: &str) -> Checkpoint {
    Checkpoint { session_id: id(topic).clone(), run_id, message_id, text: text.to_owned() }
}

/// A test of each of these for each store.
macro_rules! for_each_store {
    ($($case:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $case() { super::$case(super::Fixture::memory()).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $case() { super::$case(super::Fixture::sqlite(false)).await; })*
        }
        mod sqlite_synced {
            $(#[tokio::test] async fn $case() { super::$case(super::Fixture::sqlite(true)).await; })*
        }
    };
}

for_each_store! {
    an_append_at_another_head_is_a_conflict
    a_command_is_remembered_with_its_events_or_not_at_all
    what_is_written_one_after_the_other_is_written_in_that_order
    an_event_is_read_as_it_was_written
    a_log_is_read_in_pages_either_way
    a_page_ends_at_its_bytes_but_has_one_event
    only_logs_of_sessions_are_kept_whole
    a_tail_has_the_preamble_and_the_newest_messages
    a_session_is_the_fold_of_its_log
    sessions_are_listed_by_their_last_change
    a_list_passes_over_more_sessions_than_a_slice
    what_is_unfinished_is_found_page_by_page
    a_run_that_has_ended_is_known
    a_message_that_streams_is_saved_piece_by_piece
    a_fork_is_a_copy_of_a_logs_beginning
    a_fork_that_cannot_be_is_a_conflict
    a_long_fork_is_whole_when_it_is_there
    a_deleted_session_is_gone_and_its_id_free
    a_deleted_source_does_not_spoil_its_fork
    messages_are_found_by_their_words
    a_search_is_read_page_by_page
    tasks_are_listed_apart_from_conversations
    what_is_of_a_task_says_so
    what_is_left_of_tasks_is_unfinished
    a_task_is_the_fold_of_its_log
    approvals_and_suggestions_are_part_of_the_state
    a_shared_document_is_kept_with_its_session
    a_fork_of_a_task_is_a_conversation
    nothing_is_written_after_close
}

async fn an_append_at_another_head_is_a_conflict(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    let append = |expected_seq| Append {
        topic: topic.clone(),
        expected_seq,
        events: Vec::new(),
        commands: Vec::new(),
    };

    assert_eq!(fixture.store.append(append(0)).await, Err(AppendError::Conflict));
    assert_eq!(fixture.store.append(append(2)).await, Err(AppendError::Conflict));
    assert_eq!(fixture.store.append(append(1)).await, Ok(Appended::default()));
    let nowhere = Append { topic: session(999), ..append(0) };
    assert_eq!(fixture.store.append(nowhere).await, Err(AppendError::Conflict));
    let events = fixture.events(&topic, 0, vec![created(None)]);
    let again = Append { events, ..append(0) };
    assert_eq!(fixture.store.append(again).await, Err(AppendError::Conflict));
    assert_eq!(fixture.head(&topic).await.unwrap().last, 1);
    assert_eq!(fixture.head(&session(999)).await, None);
}

async fn a_command_is_remembered_with_its_events_or_not_at_all(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    fixture.append_with(&topic, vec![system("once")], vec![remember("c1")]).await.unwrap();

    let again = fixture.append_with(&topic, vec![system("twice")], vec![remember("c1")]).await;

    assert_eq!(again, Err(duplicate()));
    assert_eq!(fixture.head(&topic).await.unwrap().last, 2);
    assert_eq!(fixture.store.recall(&remember("c1").key).await, Ok(Some(remembered())));
    assert_eq!(fixture.store.recall(&remember("c2").key).await, Ok(None));

    let refused =
        Append { topic: topic.clone(), expected_seq: 9, events: Vec::new(), commands: vec![remember("c3")] };
    assert_eq!(fixture.store.append(refused).await, Err(AppendError::Conflict));
    assert_eq!(fixture.store.recall(&remember("c3").key).await, Ok(None));

    // Without an event, and by a key that differs in its client only.
    let mut other = remember("c1");
    other.key.client_id = Some("tab".parse().unwrap());
    other.done = Done::Stopped { outcome: Outcome::Cancelled };
    fixture.append_with(&topic, Vec::new(), vec![other.clone(), remember("c4")]).await.unwrap();
    assert_eq!(fixture.store.recall(&other.key).await.unwrap().unwrap().done, other.done);
    assert_eq!(fixture.append_with(&topic, Vec::new(), vec![remember("c4")]).await, Err(duplicate()));

    // Two copies at once: one of them is carried out.
    let copies = [0, 1].map(|_| Append {
        topic: topic.clone(),
        expected_seq: 2,
        events: Vec::new(),
        commands: vec![remember("c5")],
    });
    let [first, second] = copies.map(|copy| fixture.store.append(copy));
    assert_eq!((first.await, second.await), (Ok(Appended::default()), Err(duplicate())));
}

async fn what_is_written_one_after_the_other_is_written_in_that_order(mut fixture: Fixture) {
    let topic = session(100);
    let mut answers = Vec::new();
    for seq in 0..100 {
        let entry = if seq == 0 { created(None) } else { system("x") };
        let events = fixture.events(&topic, seq, vec![entry]);
        let append = Append { topic: topic.clone(), expected_seq: seq, events, commands: Vec::new() };
        answers.push(fixture.store.append(append));
        // One that conflicts does not spoil the others.
        let late =
            Append { topic: topic.clone(), expected_seq: seq, events: Vec::new(), commands: Vec::new() };
        assert_eq!(fixture.store.append(late).await, Err(AppendError::Conflict));
    }

    for answer in answers {
        assert_eq!(answer.await, Ok(Appended::default()));
    }
    assert_eq!(fixture.head(&topic).await.unwrap().last, 100);
}

async fn an_event_is_read_as_it_was_written(mut fixture: Fixture) {
    let topic = session(100);
    let run_id = RunId::new();
    let entries = vec![created(Some("Ü \"quoted\" 日本")), user(run_id, "\u{0}\n💧", Queued::First)];
    let events = fixture.events(&topic, 0, entries);
    let append =
        Append { topic: topic.clone(), expected_seq: 0, events: events.clone(), commands: Vec::new() };
    fixture.store.append(append).await.unwrap();

    let page = fixture.store.read(&topic, ReadFrom::After(0), ALL).await.unwrap().unwrap();

    assert_eq!(page.events.len(), 2);
    for (read, written) in page.events.iter().zip(&events) {
        assert_eq!((read.id, read.at, &read.topic), (written.id, written.at, &written.topic));
        assert_eq!((&read.position, read.run_id), (&written.position, written.run_id));
        assert_eq!(read.as_durable(), written.as_durable());
    }
    let head = fixture.head(&topic).await.unwrap();
    assert_eq!(
        head,
        Head { epoch: events[0].position.as_ref().unwrap().epoch.clone(), first: 1, last: 2, of_task: false }
    );
    assert_eq!(page.head, head);
}

async fn a_log_is_read_in_pages_either_way(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    for _ in 0..9 {
        fixture.append(&topic, vec![system("x")]).await.unwrap();
    }
    let three = PageLimit { events: 3, bytes: usize::MAX };
    let page = async |from| fixture.read(&topic, from, three).await;

    assert_eq!(page(ReadFrom::After(0)).await, (vec![1, 2, 3], true));
    assert_eq!(page(ReadFrom::After(7)).await, (vec![8, 9, 10], false));
    assert_eq!(page(ReadFrom::After(10)).await, (vec![], false));
    assert_eq!(page(ReadFrom::After(Seq::MAX)).await, (vec![], false));
    assert_eq!(page(ReadFrom::Before(5)).await, (vec![2, 3, 4], true));
    assert_eq!(page(ReadFrom::Before(3)).await, (vec![1, 2], false));
    assert_eq!(page(ReadFrom::Before(Seq::MAX)).await, (vec![8, 9, 10], true));
    assert_eq!(page(ReadFrom::Before(0)).await, (vec![], false));
    assert!(fixture.store.read(&session(999), ReadFrom::After(0), three).await.unwrap().is_none());
}

async fn a_page_ends_at_its_bytes_but_has_one_event(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    for _ in 0..3 {
        fixture.append(&topic, vec![system(&"x".repeat(10_000))]).await.unwrap();
    }
    let limit = |bytes| PageLimit { events: 100, bytes };

    assert_eq!(fixture.read(&topic, ReadFrom::After(1), limit(25_000)).await, (vec![2, 3], true));
    assert_eq!(fixture.read(&topic, ReadFrom::After(1), limit(1)).await, (vec![2], true));
    assert_eq!(fixture.read(&topic, ReadFrom::Before(5), limit(1)).await, (vec![4], true));
}

async fn only_logs_of_sessions_are_kept_whole(mut fixture: Fixture) {
    let agent = Topic::Agent("helper".parse().unwrap());
    for topic in [Topic::System, agent] {
        fixture.append(&topic, vec![system("x")]).await.unwrap();
        for _ in 0..KEPT_EVENTS / 100 {
            fixture.append(&topic, vec![system("x"); 100]).await.unwrap();
        }
        fixture.append(&topic, vec![system("x"); 4]).await.unwrap();

        let head = fixture.head(&topic).await.unwrap();

        assert_eq!((head.first, head.last), (6, KEPT_EVENTS as u64 + 5));
        assert_eq!(fixture.read(&topic, ReadFrom::After(0), ALL).await.0.len(), KEPT_EVENTS);
        assert_eq!(fixture.read(&topic, ReadFrom::Before(7), ALL).await, (vec![6], false));
    }
    assert!(fixture.list(|_| {}).await.is_empty());
}

async fn a_tail_has_the_preamble_and_the_newest_messages(mut fixture: Fixture) {
    let topic = session(100);
    fixture.append(&topic, vec![created(None), system("be kind")]).await.unwrap();
    for _ in 0..10 {
        fixture.turn(&topic, "q", "a").await;
    }
    let tail = async |events, bytes| {
        let tail = fixture.store.tail(id(&topic), PageLimit { events, bytes }).await.unwrap().unwrap();
        let seqs: Vec<_> = tail.messages.iter().map(|event| event.seq()).collect();
        (seqs, tail.truncated, tail.state.record.head)
    };

    assert_eq!(tail(3, usize::MAX).await, (vec![2, 37, 39, 41], true, 42));
    assert_eq!(tail(3, 1).await, (vec![2, 41], true, 42));
    let (all, truncated, _) = tail(20, usize::MAX).await;
    assert_eq!((all.len(), truncated), (21, false));
    assert!(fixture.store.tail(id(&session(999)), ALL).await.unwrap().is_none());
}

async fn a_session_is_the_fold_of_its_log(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    let (first, second, third) = (RunId::new(), RunId::new(), RunId::new());

    fixture.append(&topic, vec![user(first, "1", Queued::No), started(first)]).await.unwrap();
    fixture.append(&topic, vec![user(second, "2", Queued::Last)]).await.unwrap();
    fixture.append(&topic, vec![user(third, "3", Queued::First)]).await.unwrap();

    let running = fixture.state(&topic).await.unwrap();
    assert_eq!((running.record.status, running.run), (SessionStatus::Running, Some(first)));
    assert_eq!((running.record.head, &running.record.epoch), (5, &fixture.epochs[&topic]));
    let queue: Vec<_> = running.queue.iter().map(|queued| queued.run_id).collect();
    assert_eq!(queue, [third, second], "one that interrupts goes first");

    fixture.append(&topic, vec![finished(first)]).await.unwrap();
    fixture.append(&topic, vec![started(third), response(third, "x")]).await.unwrap();
    fixture.append(&topic, vec![finished(third), finished(second), closed()]).await.unwrap();
    let closed = fixture.state(&topic).await.unwrap();
    assert_eq!((closed.record.status, closed.run, closed.queue.len()), (SessionStatus::Closed, None, 0));
    assert_eq!(closed.messages, 3);
    assert_eq!(fixture.state(&session(999)).await, None);
}

async fn sessions_are_listed_by_their_last_change(mut fixture: Fixture) {
    for number in [100, 101, 102] {
        fixture.create(number).await;
    }
    fixture.append(&session(100), vec![renamed("Holiday in Ümea")]).await.unwrap();
    fixture.append(&session(101), vec![system("changes nothing that a list shows")]).await.unwrap();
    let other: Principal = "other".parse().unwrap();
    fixture.append(&session(103), vec![created_by(&other, None)]).await.unwrap();

    assert_eq!(fixture.list(|_| {}).await, ["helper_100", "helper_102", "helper_101"]);
    assert_eq!(fixture.list(|filter| filter.limit = 2).await, ["helper_100", "helper_102"]);
    let after = Some((Timestamp(3), "helper_102".parse().unwrap()));
    assert_eq!(fixture.list(|filter| filter.after = after).await, ["helper_101"]);
    assert_eq!(fixture.list(|filter| filter.query = Some("ÜMEA".to_owned())).await, ["helper_100"]);
    assert_eq!(fixture.list(|filter| filter.query = Some("_102".to_owned())).await, ["helper_102"]);
    assert!(fixture.list(|filter| filter.query = Some("%".to_owned())).await.is_empty());
    assert!(fixture.list(|filter| filter.agent_id = Some("other".parse().unwrap())).await.is_empty());
    assert_eq!(fixture.list(|filter| filter.owner = other.clone()).await, ["helper_103"]);
    let record = fixture.store.sessions(SessionFilter { owner: other, ..all_sessions() }).await.unwrap();
    assert_eq!(record[0], fixture.state(&session(103)).await.unwrap().record);
}

async fn a_list_passes_over_more_sessions_than_a_slice(mut fixture: Fixture) {
    let mut answers = Vec::new();
    // In the order of neither their ids nor of when they change.
    for number in (100..1_300).rev() {
        fixture.now = (number % 7) as i64;
        let topic = session(number);
        let events = fixture.events(&topic, 0, vec![created(None)]);
        answers.push(fixture.store.append(Append { topic, expected_seq: 0, events, commands: Vec::new() }));
    }
    for answer in answers {
        answer.await.unwrap();
    }
    let mut expected: Vec<_> =
        (100..1_300).map(|number| (-(number % 7), format!("helper_{number}"))).collect();
    expected.sort();

    let all = fixture.list(|_| {}).await;
    assert!(all.iter().eq(expected.iter().map(|(_, id)| id)), "{all:?}");
    assert_eq!(fixture.list(|filter| filter.query = Some("_105".to_owned())).await.len(), 11);
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let filter = SessionFilter { after, limit: 130, ..all_sessions() };
        let page = fixture.store.sessions(filter).await.unwrap();
        paged.extend(page.iter().map(|record| record.session_id.to_string()));
        let Some(last) = page.last() else { break };
        after = Some((last.updated_at, last.session_id.clone()));
    }
    assert_eq!(paged, all);
}

async fn what_is_unfinished_is_found_page_by_page(mut fixture: Fixture) {
    let run_id = RunId::new();
    for number in [100, 101, 102, 103] {
        fixture.create(number).await;
    }
    fixture.append(&session(103), vec![user(run_id, "q", Queued::No), started(run_id)]).await.unwrap();
    fixture.append(&session(100), vec![user(run_id, "q", Queued::Last)]).await.unwrap();
    fixture.append(&session(101), vec![user(run_id, "q", Queued::No), started(run_id)]).await.unwrap();
    fixture.append(&session(102), vec![user(run_id, "q", Queued::No), started(run_id)]).await.unwrap();
    fixture.append(&session(102), vec![finished(run_id)]).await.unwrap();
    let unfinished = async |after: Option<&str>, limit| {
        let after = after.map(|id| id.parse().unwrap());
        let ids = fixture.store.unfinished(after, limit).await.unwrap();
        ids.iter().map(SessionId::to_string).collect::<Vec<_>>()
    };

    assert_eq!(unfinished(None, 2).await, ["helper_100", "helper_101"]);
    assert_eq!(unfinished(Some("helper_101"), 2).await, ["helper_103"]);
    assert!(unfinished(Some("helper_103"), 2).await.is_empty());
}

async fn a_run_that_has_ended_is_known(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    let ended = fixture.turn(&topic, "q", "a").await;
    let (open, never_begun) = (RunId::new(), RunId::new());
    fixture.append(&topic, vec![user(open, "q", Queued::No), started(open)]).await.unwrap();
    fixture.append(&topic, vec![user(never_begun, "q", Queued::Last), finished(never_begun)]).await.unwrap();
    let has_ended = async |topic: &Topic, run_id| fixture.store.has_ended(id(topic), run_id).await.unwrap();

    assert!(has_ended(&topic, ended).await);
    assert!(has_ended(&topic, never_begun).await);
    assert!(!has_ended(&topic, open).await);
    assert!(!has_ended(&topic, RunId::new()).await);
    assert!(!has_ended(&session(999), ended).await);
}

async fn a_message_that_streams_is_saved_piece_by_piece(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    let (run_id, queued) = (RunId::new(), RunId::new());
    let (first, second) = (MessageId::new(), MessageId::new());
    let save = async |fixture: &Fixture, message_id, text| {
        fixture.store.checkpoint(checkpoint(&topic, run_id, message_id, text)).await.unwrap();
    };
    let partial = async |fixture: &Fixture| fixture.store.partial(id(&topic)).await.unwrap();
    fixture.append(&topic, vec![user(run_id, "q", Queued::No), started(run_id)]).await.unwrap();
    assert_eq!(partial(&fixture).await, None);

    save(&fixture, first, "Once ").await;
    save(&fixture, first, "upon").await;
    let saved = Partial { run_id, message_id: first, text: "Once upon".to_owned() };
    assert_eq!(partial(&fixture).await, Some(saved.clone()));

    // The end of another run is none of its business.
    fixture.append(&topic, vec![user(queued, "q", Queued::Last)]).await.unwrap();
    fixture.append(&topic, vec![finished(queued)]).await.unwrap();
    assert_eq!(partial(&fixture).await, Some(saved));

    // A message that is whole takes its pieces with it; the next one begins anew.
    fixture.append(&topic, vec![response_as(run_id, first, "Once upon a time")]).await.unwrap();
    assert_eq!(partial(&fixture).await, None);
    save(&fixture, second, "The ").await;
    save(&fixture, second, "end").await;
    assert_eq!(partial(&fixture).await.unwrap().text, "The end");

    fixture.append(&topic, vec![finished(run_id)]).await.unwrap();
    assert_eq!(partial(&fixture).await, None);

    // A session may go while something is on its way to it.
    fixture.store.checkpoint(checkpoint(&session(999), run_id, first, "x")).await.unwrap();
    assert_eq!(fixture.store.partial(id(&session(999))).await, Ok(None));
}

async fn a_fork_is_a_copy_of_a_logs_beginning(mut fixture: Fixture) {
    let (from, to) = (fixture.create(100).await, session(200));
    let ended = fixture.turn(&from, "the question", "the answer").await;
    fixture.turn(&from, "another", "one").await;
    let mut fork = fixture.fork_of(&from, &to, 5).await;
    fork.commands.push(remember("f1"));
    let state = fork.state.clone();

    fixture.store.fork(fork).await.unwrap();

    assert_eq!(fixture.state(&to).await, Some(state.clone()));
    let head = fixture.head(&to).await.unwrap();
    assert_eq!((head.first, head.last, &head.epoch), (1, 5, &state.record.epoch));
    let old = fixture.store.read(&from, ReadFrom::After(1), ALL).await.unwrap().unwrap();
    let new = fixture.store.read(&to, ReadFrom::After(1), ALL).await.unwrap().unwrap();
    assert_eq!(new.events.len(), 4);
    for (old, new) in old.events.iter().zip(&new.events) {
        assert_eq!((new.id, new.seq(), new.at, new.run_id), (old.id, old.seq(), old.at, old.run_id));
        assert_eq!((&new.topic, new.as_durable()), (&to, old.as_durable()));
    }
    assert!(fixture.store.has_ended(id(&to), ended).await.unwrap());
    assert_eq!(fixture.store.recall(&remember("f1").key).await, Ok(Some(remembered())));
    assert_eq!(fixture.list(|_| {}).await, ["helper_200", "helper_100"]);

    // Each goes its own way.
    fixture.turn(&to, "a third", "way").await;
    assert_eq!(fixture.head(&to).await.unwrap().last, 9);
    assert_eq!(fixture.head(&from).await.unwrap().last, 9);
    assert_eq!(fixture.search(search("the question")).await.hits.len(), 2);
}

async fn a_fork_that_cannot_be_is_a_conflict(mut fixture: Fixture) {
    let from = fixture.create(100).await;
    fixture.turn(&from, "q", "a").await;
    fixture.append_with(&from, Vec::new(), vec![remember("f1")]).await.unwrap();
    let taken = fixture.create(200).await;
    let fork = fixture.fork_of(&from, &taken, 5).await;
    assert_eq!(fixture.store.fork(fork).await, Err(AppendError::Conflict));

    let too_long = fixture.fork_of(&from, &session(201), 6).await;
    assert_eq!(fixture.store.fork(too_long).await, Err(AppendError::Conflict));
    let mut from_nowhere = fixture.fork_of(&from, &session(201), 5).await;
    from_nowhere.from = id(&session(999)).clone();
    assert_eq!(fixture.store.fork(from_nowhere).await, Err(AppendError::Conflict));
    let mut again = fixture.fork_of(&from, &session(201), 5).await;
    again.commands.push(remember("f1"));
    assert_eq!(fixture.store.fork(again).await, Err(duplicate()));

    assert_eq!(fixture.head(&session(201)).await, None);
    assert_eq!(fixture.list(|_| {}).await, ["helper_200", "helper_100"]);
}

async fn a_long_fork_is_whole_when_it_is_there(mut fixture: Fixture) {
    let from = fixture.create(100).await;
    for _ in 0..20 {
        fixture.append(&from, vec![system("x"); 128]).await.unwrap();
    }
    let other = fixture.create(101).await;
    let fork = fixture.fork_of(&from, &session(200), 2_500).await;

    let mut answer = fixture.store.fork(fork);
    let mut turns = 0;
    let forked = loop {
        tokio::select! {
            biased;
            forked = &mut answer => break forked,
            // Others write meanwhile.
            () = async { fixture.turn(&other, "q", "a").await; } => turns += 1,
        }
        let seen = fixture.store.read(&session(200), ReadFrom::After(0), ALL).await.unwrap();
        assert!(seen.is_none_or(|page| page.events.len() == 2_500), "seen before it was whole");
    };

    assert_eq!(forked, Ok(()));
    let (seqs, more) = fixture.read(&session(200), ReadFrom::After(0), ALL).await;
    assert_eq!((seqs, more), ((1..=2_500).collect(), false));
    assert!(fixture.head(&other).await.unwrap().last > 4 * turns);
}

async fn a_deleted_session_is_gone_and_its_id_free(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    let run_id = fixture.turn(&topic, "a needle", "and hay").await;
    fixture.append(&topic, vec![user(RunId::new(), "q", Queued::Last)]).await.unwrap();
    fixture.store.checkpoint(checkpoint(&topic, run_id, MessageId::new(), "x")).await.unwrap();
    let epoch = fixture.head(&topic).await.unwrap().epoch;
    fixture.indexed().await;

    fixture.store.delete(id(&topic), vec![remember("d1")]).await.unwrap();

    assert_eq!(fixture.head(&topic).await, None);
    assert_eq!(fixture.state(&topic).await, None);
    assert!(fixture.store.read(&topic, ReadFrom::After(0), ALL).await.unwrap().is_none());
    assert!(fixture.store.tail(id(&topic), ALL).await.unwrap().is_none());
    assert_eq!(fixture.store.partial(id(&topic)).await, Ok(None));
    assert!(!fixture.store.has_ended(id(&topic), run_id).await.unwrap());
    assert!(fixture.list(|_| {}).await.is_empty());
    assert!(fixture.store.unfinished(None, 9).await.unwrap().is_empty());
    assert!(fixture.search(search("needle")).await.hits.is_empty());
    assert_eq!(fixture.store.recall(&remember("d1").key).await, Ok(Some(remembered())));
    assert_eq!(fixture.store.delete(id(&topic), Vec::new()).await, Err(AppendError::Conflict));
    assert_eq!(fixture.store.delete(id(&topic), vec![remember("d1")]).await, Err(duplicate()));
    let stale = fixture.events(&topic, 6, vec![system("x")]);
    let stale = Append { topic: topic.clone(), expected_seq: 6, events: stale, commands: Vec::new() };
    assert_eq!(fixture.store.append(stale).await, Err(AppendError::Conflict));

    let again = fixture.create(100).await;
    let head = fixture.head(&again).await.unwrap();
    assert_eq!(head.last, 1);
    assert_ne!(head.epoch, epoch);
    fixture.turn(&again, "another needle", "x").await;
    assert_eq!(fixture.search(search("needle")).await.hits.len(), 1);
}

async fn a_deleted_source_does_not_spoil_its_fork(mut fixture: Fixture) {
    let from = fixture.create(100).await;
    for _ in 0..16 {
        fixture.append(&from, vec![system("x"); 128]).await.unwrap();
    }
    let fork = fixture.fork_of(&from, &session(200), 2_000).await;

    let forked = fixture.store.fork(fork);
    let deleted = fixture.store.delete(id(&from), Vec::new());

    assert_eq!(deleted.await, Ok(()));
    assert_eq!(forked.await, Ok(()));
    assert_eq!(fixture.read(&session(200), ReadFrom::After(0), ALL).await.0.len(), 2_000);
    assert_eq!(fixture.head(&from).await, None);
}

async fn messages_are_found_by_their_words(mut fixture: Fixture) {
    let topic = session(100);
    fixture.append(&topic, vec![created(Some("Baking")), system("be a needle")]).await.unwrap();
    fixture.turn(&topic, "How do I bake bread?", "With flour; see also: \"bread\"").await;
    let other: Principal = "other".parse().unwrap();
    fixture.append(&session(101), vec![created_by(&other, None)]).await.unwrap();
    fixture.turn(&session(101), "My bread is secret", "It is").await;
    let found = async |query| {
        let hits = fixture.search(search(query)).await.hits;
        hits.iter().map(|hit| (hit.session_id.to_string(), hit.seq)).collect::<Vec<_>>()
    };
    let hit = |seq| ("helper_100".to_owned(), seq);

    assert_eq!(found("bread").await, [hit(5), hit(3)], "newest first");
    assert_eq!(found("BAKE bre").await, [hit(3)]);
    assert_eq!(found("bre bake").await, [], "only the last word may be cut");
    assert_eq!(found("bread f").await, [hit(5)]);
    assert_eq!(found("ba").await, [hit(3)]);
    assert_eq!(found("z").await, []);
    assert_eq!(found("needle").await, [], "what nobody said is not found");
    assert_eq!(found("secret").await, [], "what is somebody else's is not found");
    assert_eq!(found("bread AND flour").await, [], "words are words");
    let theirs = Search { owner: other, ..search("secret") };
    let expected = Hit {
        session_id: id(&session(101)).clone(),
        title: None,
        seq: 2,
        excerpt: "My bread is secret".to_owned(),
    };
    assert_eq!(fixture.search(theirs).await.hits, [expected]);
    assert_eq!(fixture.search(search("flour")).await.hits[0].title.as_deref(), Some("Baking"));
}

async fn a_search_is_read_page_by_page(mut fixture: Fixture) {
    let (one, two) = (fixture.create(100).await, fixture.create(101).await);
    for _ in 0..5 {
        fixture.turn(&one, "a needle", "hay").await;
        fixture.turn(&two, "a needle", "hay").await;
    }
    let mut after = None;
    let mut found = Vec::new();
    loop {
        let page = fixture.search(Search { after, limit: 3, ..search("needle") }).await;
        assert!(page.hits.len() <= 3);
        found.extend(page.hits.iter().map(|hit| (hit.session_id.to_string(), hit.seq)));
        // What comes meanwhile is newer than what is still to be seen.
        fixture.turn(&one, "a needle", "hay").await;
        after = page.next;
        if after.is_none() {
            break;
        }
    }

    let expected =
        [18, 14, 10, 6, 2].map(|seq| [("helper_101".to_owned(), seq), ("helper_100".to_owned(), seq)]);
    assert_eq!(found, expected.concat());
}

async fn tasks_are_listed_apart_from_conversations(mut fixture: Fixture) {
    fixture.create(100).await;
    fixture.task(101, "Count the ravens", vec![]).await;
    fixture.task(102, "Fetch", vec![TaskChange::Started]).await;
    fixture.task(103, "Tidy", vec![TaskChange::Started, TaskChange::Completed]).await;
    fixture.task(104, "Count the SHEEP", vec![TaskChange::Started, failed()]).await;
    fixture.task(105, "Wait", vec![TaskChange::Paused]).await;
    let other: Principal = "other".parse().unwrap();
    fixture.append(&session(106), vec![created_by(&other, None), task_created("x", "y")]).await.unwrap();
    let tasks = async |fixture: &Fixture, status, filter: fn(&mut SessionFilter)| {
        let list = fixture.list(|all| {
            all.kind = SessionKind::Tasks { status };
            filter(all);
        });
        list.await.join(" ")
    };

    assert_eq!(fixture.list(|_| {}).await, ["helper_100"]);
    let all = "helper_105 helper_104 helper_103 helper_102 helper_101";
    assert_eq!(tasks(&fixture, None, |_| {}).await, all);
    for (status, expected) in [
        (TaskStatus::Pending, "helper_101"),
        (TaskStatus::Running, "helper_102"),
        (TaskStatus::Paused, "helper_105"),
        (TaskStatus::Completed, "helper_103"),
        (TaskStatus::Failed, "helper_104"),
        (TaskStatus::Cancelled, ""),
    ] {
        assert_eq!(tasks(&fixture, Some(status), |_| {}).await, expected);
    }
    let counting = |all: &mut SessionFilter| all.query = Some("COUNT the".to_owned());
    assert_eq!(tasks(&fixture, None, counting).await, "helper_104 helper_101", "by name");
    assert_eq!(tasks(&fixture, Some(TaskStatus::Failed), counting).await, "helper_104");
    let of_other = |all: &mut SessionFilter| all.agent_id = Some("other".parse().unwrap());
    assert_eq!(tasks(&fixture, None, of_other).await, "");
    let owned = |all: &mut SessionFilter| all.owner = "other".parse().unwrap();
    assert_eq!(tasks(&fixture, Some(TaskStatus::Pending), owned).await, "helper_106");
    assert_eq!(fixture.list(owned).await.join(" "), "");

    // A task that changes moves to the front, and to another status.
    fixture.append(&session(101), vec![task(TaskChange::Started)]).await.unwrap();
    assert_eq!(tasks(&fixture, Some(TaskStatus::Running), |_| {}).await, "helper_101 helper_102");
    fixture.append(&session(102), vec![progressed(Some(0.1), None)]).await.unwrap();
    assert_eq!(tasks(&fixture, Some(TaskStatus::Running), |_| {}).await, "helper_102 helper_101");
    assert_eq!(tasks(&fixture, Some(TaskStatus::Pending), |_| {}).await, "");

    // More of them than a store looks at at once, in pages, of one status among others.
    for number in 200..2_300 {
        fixture.now = (number % 7) as i64;
        let changes = if number % 3 == 0 { vec![TaskChange::Cancelled] } else { vec![] };
        fixture.task(number, "One of many", changes).await;
    }
    let mut expected: Vec<_> = (200..2_300)
        .filter(|number| number % 3 == 0)
        .map(|number| (-(number % 7), format!("helper_{number}")))
        .collect();
    expected.sort();
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let kind = SessionKind::Tasks { status: Some(TaskStatus::Cancelled) };
        let page = SessionFilter { kind, after, limit: 130, ..all_sessions() };
        let page = fixture.store.sessions(page).await.unwrap();
        paged.extend(page.iter().map(|record| record.session_id.to_string()));
        let Some(last) = page.last() else { break };
        after = Some((last.updated_at, last.session_id.clone()));
    }
    assert!(paged.iter().eq(expected.iter().map(|(_, id)| id)), "{paged:?}");
    assert_eq!(tasks(&fixture, Some(TaskStatus::Cancelled), counting).await, "");
}

async fn what_is_of_a_task_says_so(mut fixture: Fixture) {
    let (chat, of_task) = (fixture.create(100).await, fixture.task(101, "x", vec![]).await);
    for topic in [&chat, &of_task] {
        fixture.append(topic, vec![system("be kind")]).await.unwrap();
        fixture.turn(topic, "q", "a").await;
    }

    let check = async |fixture: &Fixture| {
        for (topic, expected) in [(&chat, false), (&of_task, true)] {
            assert_eq!(fixture.head(topic).await.unwrap().of_task, expected);
            for from in [ReadFrom::After(0), ReadFrom::Before(Seq::MAX)] {
                let page = fixture.store.read(topic, from, ALL).await.unwrap().unwrap();
                assert_eq!(page.head.of_task, expected);
                assert!(page.events.iter().all(|event| event.of_task == expected));
            }
            let tail = fixture.store.tail(id(topic), ALL).await.unwrap().unwrap();
            assert!(!tail.messages.is_empty());
            assert!(tail.messages.iter().all(|event| event.of_task == expected));
        }
    };

    check(&fixture).await;
    check(&fixture.restarted().await).await;
}

async fn what_is_left_of_tasks_is_unfinished(mut fixture: Fixture) {
    fixture.task(100, "pending", vec![]).await;
    fixture.task(101, "running", vec![TaskChange::Started]).await;
    fixture.task(102, "on its way to a pause", vec![TaskChange::Started, TaskChange::Pausing]).await;
    fixture.task(103, "paused", vec![TaskChange::Started, TaskChange::Pausing, TaskChange::Paused]).await;
    fixture.task(104, "resumed", vec![TaskChange::Paused, TaskChange::Resumed]).await;
    fixture.task(105, "completed", vec![TaskChange::Started, TaskChange::Completed]).await;
    fixture.task(106, "failed", vec![failed()]).await;
    fixture.task(107, "cancelled", vec![TaskChange::Cancelled]).await;

    let fixture = fixture.restarted().await;

    let unfinished = fixture.store.unfinished(None, 99).await.unwrap();
    let unfinished: Vec<_> = unfinished.iter().map(SessionId::as_str).collect();
    assert_eq!(unfinished, ["helper_100", "helper_101", "helper_102", "helper_104"]);
}

async fn a_task_is_the_fold_of_its_log(mut fixture: Fixture) {
    let (topic, run_id) = (session(100), RunId::new());
    let input = "é".repeat(2_000);
    fixture.append(&topic, vec![created(None), task_created("Count", &input)]).await.unwrap();
    fixture
        .append(
            &topic,
            vec![
                task(TaskChange::Started),
                user(run_id, &input, Queued::No),
                Entry::of_run(run_id, Durable::RunStarted { trigger: Trigger::Task }),
                Entry { run_id: Some(run_id), ..progressed(Some(0.25), Some("a quarter")) },
                Entry { run_id: Some(run_id), ..progressed(None, None) },
                // Of another run in its session.
                progressed(Some(0.75), Some("nothing of it")),
                task(TaskChange::Renamed { name: "Count again".to_owned() }),
                response(run_id, &"ü".repeat(5_000)),
                task(failed()),
                finished(run_id),
            ],
        )
        .await
        .unwrap();
    let expected = fixture.state(&topic).await.unwrap();

    let fixture = fixture.restarted().await;

    let state = fixture.state(&topic).await.unwrap();
    assert_eq!(state, expected);
    let task = state.record.task.as_ref().unwrap();
    assert_eq!((task.name.as_str(), task.status), ("Count again", TaskStatus::Failed));
    assert_eq!((task.progress.progress, task.progress.message.as_deref()), (Some(0.25), Some("a quarter")));
    assert_eq!((task.started_at, task.ended_at), (Some(Timestamp(2)), Some(Timestamp(2))));
    assert_eq!(task.problem.as_ref().unwrap().message, "it broke");
    assert!(!task.has_whole_input() && !task.has_whole_result());
    assert_eq!((task.input.chars().count(), task.result.as_ref().unwrap().chars().count()), (1_001, 4_001));
    let kind = SessionKind::Tasks { status: None };
    let records = fixture.store.sessions(SessionFilter { kind, ..all_sessions() }).await.unwrap();
    assert_eq!(records, [state.record]);
}

async fn approvals_and_suggestions_are_part_of_the_state(mut fixture: Fixture) {
    let (topic, run_id) = (fixture.create(100).await, RunId::new());
    fixture.append(&topic, vec![user(run_id, "q", Queued::No), started(run_id)]).await.unwrap();
    fixture.append(&topic, vec![asked(run_id, "c1"), asked(run_id, "c2")]).await.unwrap();
    fixture.append(&topic, vec![suggested(&["Yes", "No, \"never\""])]).await.unwrap();

    let mut fixture = fixture.restarted().await;

    let state = fixture.state(&topic).await.unwrap();
    assert_eq!(state.record.status, SessionStatus::WaitingApproval);
    let calls: Vec<_> = state.approvals.iter().map(|approval| approval.tool_call_id.as_str()).collect();
    assert_eq!(calls, ["c1", "c2"]);
    assert_eq!(state.approvals[0].expires_at, Timestamp(9_000));
    assert_eq!(state.suggestions, ["Yes", "No, \"never\""]);

    fixture.append(&topic, vec![allowed(run_id, "c1")]).await.unwrap();
    let state = fixture.state(&topic).await.unwrap();
    assert_eq!((state.approvals.len(), state.record.status), (1, SessionStatus::WaitingApproval));
    fixture.append(&topic, vec![allowed(run_id, "c2"), suggested(&[])]).await.unwrap();
    let state = fixture.restarted().await.state(&topic).await.unwrap();
    assert_eq!((state.approvals.len(), state.record.status), (0, SessionStatus::Running));
    assert!(state.suggestions.is_empty());
}

async fn a_shared_document_is_kept_with_its_session(mut fixture: Fixture) {
    let (one, two) = (fixture.create(100).await, fixture.create(101).await);
    let goblin = serde_json::json!({ "name": "Göblin", "hp": 7 });
    fixture.append(&one, vec![patched(1, "round", &1.into()), patched(2, "goblin", &goblin)]).await.unwrap();
    let shared = async |fixture: &Fixture, topic: &Topic| {
        let shared = fixture.state(topic).await.unwrap().shared;
        (shared.version, (*shared.value).clone())
    };
    let expected = (2, serde_json::json!({ "round": 1, "goblin": goblin }));
    assert_eq!(shared(&fixture, &one).await, expected);
    assert_eq!(shared(&fixture, &two).await, (0, serde_json::json!({})));

    let mut fixture = fixture.restarted().await;
    assert_eq!(shared(&fixture, &one).await, expected);
    let tail = fixture.store.tail(id(&one), ALL).await.unwrap().unwrap();
    assert_eq!(tail.state.shared.version, 2);

    // It goes on where it was, with what a client sees in between.
    fixture.turn(&one, "q", "a").await;
    fixture.append(&one, vec![patched(3, "round", &2.into())]).await.unwrap();
    let third = (3, serde_json::json!({ "round": 2, "goblin": goblin }));
    assert_eq!(shared(&fixture, &one).await, third);

    // A fork has its own.
    let fork = fixture.fork_of(&one, &session(200), 8).await;
    fixture.store.fork(fork).await.unwrap();
    fixture.append(&session(200), vec![patched(4, "round", &9.into())]).await.unwrap();
    let fixture = fixture.restarted().await;
    assert_eq!(shared(&fixture, &one).await, third);
    assert_eq!(shared(&fixture, &session(200)).await.1["round"], 9);

    // Deleted with its session: the next one of that name begins without.
    fixture.store.delete(id(&one), Vec::new()).await.unwrap();
    let mut fixture = fixture.restarted().await;
    let again = fixture.create(100).await;
    assert_eq!(shared(&fixture, &again).await, (0, serde_json::json!({})));
    fixture.append(&again, vec![patched(1, "new", &true.into())]).await.unwrap();
    let fixture = fixture.restarted().await;
    assert_eq!(shared(&fixture, &again).await, (1, serde_json::json!({ "new": true })));
}

async fn a_fork_of_a_task_is_a_conversation(mut fixture: Fixture) {
    let from = fixture.task(100, "Count", vec![TaskChange::Started]).await;
    fixture.turn(&from, "q", "a").await;
    fixture.append(&from, vec![task(TaskChange::Completed)]).await.unwrap();
    let to = session(200);

    let fork = fixture.fork_of(&from, &to, 8).await;
    fixture.store.fork(fork).await.unwrap();
    let mut fixture = fixture.restarted().await;
    fixture.turn(&to, "and then?", "that was all").await;

    assert_eq!(fixture.list(|_| {}).await, ["helper_200"]);
    assert_eq!(fixture.list(|all| all.kind = SessionKind::Tasks { status: None }).await, ["helper_100"]);
    let state = fixture.state(&to).await.unwrap();
    assert_eq!((state.record.task, state.record.head), (None, 12));
    let page = fixture.store.read(&to, ReadFrom::After(0), ALL).await.unwrap().unwrap();
    assert!(!page.head.of_task);
    assert!(page.events.iter().all(|event| !event.of_task));
    // What happened in the task is still told.
    assert!(page.events.iter().any(|event| event.as_durable().is_some_and(is_task_created)));
}

async fn nothing_is_written_after_close(mut fixture: Fixture) {
    let topic = fixture.create(100).await;
    let events = fixture.events(&topic, 1, vec![system("x")]);
    let append = Append { topic: topic.clone(), expected_seq: 1, events, commands: Vec::new() };

    let appended = fixture.store.append(append);
    let closed = fixture.store.close();

    assert_eq!(appended.await, Ok(Appended::default()), "what was asked for before is finished");
    closed.await;
    fixture.store.close().await;
}
