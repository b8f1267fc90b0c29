use super::*;
use crate::core::{
    command::Done,
    event::{AgentResponse, CloseReason, Entry, FinishReason, Outcome, Queued, Trigger, Usage},
    ids::{CommandId, MessageId, RunId},
};

const ALL: PageLimit = PageLimit { events: usize::MAX, bytes: usize::MAX };

/// A store, and the time that its events say.
struct Fixture {
    store: MemoryStore,
    now: i64,
}

impl Fixture {
    fn new() -> Self {
        Self::with_room(usize::MAX)
    }

    fn with_room(bytes: usize) -> Self {
        Self { store: MemoryStore::new(bytes), now: 0 }
    }

    fn append(&mut self, topic: &Topic, entries: Vec<Entry>) -> Result<Appended, AppendError> {
        self.append_with(topic, entries, Vec::new())
    }

    fn append_with(
        &mut self,
        topic: &Topic,
        entries: Vec<Entry>,
        commands: Vec<Remember>,
    ) -> Result<Appended, AppendError> {
        self.now += 1;
        let expected_seq = self.head(topic).map_or(0, |head| head.last);
        let events = (expected_seq + 1..).zip(entries).map(|(seq, entry)| {
            Arc::new(Event::durable(topic.clone(), "e".into(), seq, Timestamp(self.now), entry))
        });
        let append = Append { topic: topic.clone(), expected_seq, events: events.collect(), commands };
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

    fn read(&self, topic: &Topic, from: ReadFrom, limit: PageLimit) -> (Vec<Seq>, bool) {
        let page = ready(self.store.read(topic, from, limit)).unwrap().unwrap();
        (page.events.iter().map(|event| event.seq()).collect(), page.more)
    }

    fn list(&self, filter: impl FnOnce(&mut SessionFilter)) -> Vec<String> {
        let mut all = SessionFilter {
            owner: Principal::local(),
            agent_id: None,
            query: None,
            after: None,
            limit: usize::MAX,
        };
        filter(&mut all);
        // A search lets others have their turn.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let records = runtime.block_on(self.store.sessions(all)).unwrap();
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
fn an_append_at_another_head_is_a_conflict() {
    let mut fixture = Fixture::new();
    let topic = fixture.create(100);
    let append = |expected_seq| Append {
        topic: topic.clone(),
        expected_seq,
        events: Vec::new(),
        commands: Vec::new(),
    };

    assert_eq!(ready(fixture.store.append(append(0))), Err(AppendError::Conflict));
    assert_eq!(ready(fixture.store.append(append(2))), Err(AppendError::Conflict));
    assert_eq!(ready(fixture.store.append(append(1))), Ok(Appended::default()));
    let nowhere = Append { topic: session(999), ..append(0) };
    assert_eq!(ready(fixture.store.append(nowhere)), Err(AppendError::Conflict));
}

#[test]
fn a_command_is_remembered_with_its_events_or_not_at_all() {
    let mut fixture = Fixture::new();
    let topic = fixture.create(100);
    fixture.append_with(&topic, vec![system("once")], vec![remember("c1")]).unwrap();

    let again = fixture.append_with(&topic, vec![system("twice")], vec![remember("c1")]);

    let remembered = Remembered { digest: [7; 16], done: Done::Noted };
    assert_eq!(again, Err(AppendError::Duplicate(Box::new(remembered.clone()))));
    assert_eq!(fixture.head(&topic).unwrap().last, 2);
    assert_eq!(ready(fixture.store.recall(&remember("c1").key)), Ok(Some(remembered)));
    assert_eq!(ready(fixture.store.recall(&remember("c2").key)), Ok(None));
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
fn a_log_is_read_in_pages_either_way() {
    let mut fixture = Fixture::new();
    let topic = fixture.create(100);
    for _ in 0..9 {
        fixture.append(&topic, vec![system("x")]).unwrap();
    }
    let three = PageLimit { events: 3, bytes: usize::MAX };

    assert_eq!(fixture.read(&topic, ReadFrom::After(0), three), (vec![1, 2, 3], true));
    assert_eq!(fixture.read(&topic, ReadFrom::After(7), three), (vec![8, 9, 10], false));
    assert_eq!(fixture.read(&topic, ReadFrom::After(10), three), (vec![], false));
    assert_eq!(fixture.read(&topic, ReadFrom::After(Seq::MAX), three), (vec![], false));
    assert_eq!(fixture.read(&topic, ReadFrom::Before(5), three), (vec![2, 3, 4], true));
    assert_eq!(fixture.read(&topic, ReadFrom::Before(3), three), (vec![1, 2], false));
    assert_eq!(fixture.read(&topic, ReadFrom::Before(Seq::MAX), three), (vec![8, 9, 10], true));
    assert_eq!(fixture.read(&topic, ReadFrom::Before(0), three), (vec![], false));
    assert!(ready(fixture.store.read(&session(999), ReadFrom::After(0), three)).unwrap().is_none());
}

#[test]
fn a_page_ends_at_its_bytes_but_has_one_event() {
    let mut fixture = Fixture::new();
    let topic = fixture.create(100);
    for _ in 0..3 {
        fixture.append(&topic, vec![system(&"x".repeat(10_000))]).unwrap();
    }
    let limit = |bytes| PageLimit { events: 100, bytes };

    assert_eq!(fixture.read(&topic, ReadFrom::After(1), limit(25_000)), (vec![2, 3], true));
    assert_eq!(fixture.read(&topic, ReadFrom::After(1), limit(1)), (vec![2], true));
}

#[test]
fn only_logs_of_sessions_are_kept_whole() {
    let mut fixture = Fixture::new();
    for _ in 0..KEPT_EVENTS + 5 {
        fixture.append(&Topic::System, vec![system("x")]).unwrap();
    }

    let head = fixture.head(&Topic::System).unwrap();

    assert_eq!((head.first, head.last), (6, KEPT_EVENTS as u64 + 5));
    assert_eq!(fixture.read(&Topic::System, ReadFrom::After(0), ALL).0.len(), KEPT_EVENTS);
}

#[test]
fn a_tail_has_the_preamble_and_the_newest_messages() {
    let mut fixture = Fixture::new();
    let topic = session(100);
    fixture.append(&topic, vec![created(None), system("be kind")]).unwrap();
    for _ in 0..10 {
        let run_id = RunId::new();
        let turn =
            vec![user(run_id, "q", Queued::No), started(run_id), response(run_id, "a"), finished(run_id)];
        fixture.append(&topic, turn).unwrap();
    }
    let tail = |events| {
        let limit = PageLimit { events, bytes: usize::MAX };
        let tail = ready(fixture.store.tail(topic.session().unwrap(), limit)).unwrap().unwrap();
        let seqs: Vec<_> = tail.messages.iter().map(|event| event.seq()).collect();
        (seqs, tail.truncated, tail.state.record.head)
    };

    assert_eq!(tail(3), (vec![2, 37, 39, 41], true, 42));
    let (all, truncated, _) = tail(20);
    assert_eq!((all.len(), truncated), (21, false));
}

#[test]
fn a_session_is_the_fold_of_its_log() {
    let mut fixture = Fixture::new();
    let topic = fixture.create(100);
    let (first, second, third) = (RunId::new(), RunId::new(), RunId::new());
    let state = |fixture: &Fixture| ready(fixture.store.session(topic.session().unwrap())).unwrap().unwrap();

    fixture.append(&topic, vec![user(first, "1", Queued::No), started(first)]).unwrap();
    fixture.append(&topic, vec![user(second, "2", Queued::Last)]).unwrap();
    fixture.append(&topic, vec![user(third, "3", Queued::First)]).unwrap();

    let running = state(&fixture);
    assert_eq!((running.record.status, running.run), (SessionStatus::Running, Some(first)));
    let queue: Vec<_> = running.queue.iter().map(|queued| queued.run_id).collect();
    assert_eq!(queue, [third, second], "one that interrupts goes first");

    fixture.append(&topic, vec![finished(first)]).unwrap();
    fixture.append(&topic, vec![started(third)]).unwrap();
    fixture.append(&topic, vec![finished(third), finished(second), closed()]).unwrap();
    let closed = state(&fixture);
    assert_eq!((closed.record.status, closed.run, closed.queue.len()), (SessionStatus::Closed, None, 0));
}

#[test]
fn sessions_are_listed_by_their_last_change() {
    let mut fixture = Fixture::new();
    for number in [100, 101, 102] {
        fixture.create(number);
    }
    let renamed = Durable::SessionUpdated { title: "Holiday in Ümea".to_owned() };
    fixture.append(&session(100), vec![renamed.into()]).unwrap();
    fixture.append(&session(101), vec![system("changes nothing that a list shows")]).unwrap();

    assert_eq!(fixture.list(|_| {}), ["helper_100", "helper_102", "helper_101"]);
    assert_eq!(fixture.list(|filter| filter.limit = 2), ["helper_100", "helper_102"]);
    let after = Some((Timestamp(3), "helper_102".parse().unwrap()));
    assert_eq!(fixture.list(|filter| filter.after = after), ["helper_101"]);
    assert_eq!(fixture.list(|filter| filter.query = Some("ÜMEA".to_owned())), ["helper_100"]);
    assert_eq!(fixture.list(|filter| filter.query = Some("_102".to_owned())), ["helper_102"]);
    assert!(fixture.list(|filter| filter.agent_id = Some("other".parse().unwrap())).is_empty());
    assert!(fixture.list(|filter| filter.owner = "other".parse().unwrap()).is_empty());
}

#[test]
fn a_search_passes_over_more_sessions_than_a_slice() {
    let mut fixture = Fixture::new();
    for number in 100..900 {
        fixture.create(number);
    }

    assert_eq!(fixture.list(|filter| filter.query = Some("_100".to_owned())), ["helper_100"]);
    assert_eq!(fixture.list(|_| {}).len(), 800);
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
    assert!(!fixture.list(|_| {}).contains(&"helper_101".to_owned()));
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
