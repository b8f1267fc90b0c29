use futures_util::{StreamExt, stream, stream::BoxStream};

use super::*;
use crate::{
    core::{
        bus::EventBus,
        command::{CommandKey, OnBusy},
        event::{AgentCard, EndReason, Event, FinishReason, Outcome, Queued, Timestamp, Trigger},
        ids::{MessageId, RunId},
        ports::{
            Append, Checkpoint, Head, ModelError, ModelEvent, ModelProvider, ModelRequest, PageLimit,
            PromptMessage, ReadFrom,
        },
        testing::{GatedStore, Verdict, caller, settle},
    },
    providers::scripted::ScriptedModel,
};

/// The demo model, and one that panics when told to.
struct Brittle;

impl ModelProvider for Brittle {
    fn stream(&self, request: ModelRequest) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        match request.prompt.last_message() {
            Some(PromptMessage::User(texts)) if texts.last().is_some_and(|text| text == "/panic") => {
                panic!("asked to, by a test")
            }
            Some(PromptMessage::User(texts)) if texts.last().is_some_and(|text| text == "/panic later") => {
                let text = Ok(ModelEvent::Text("half an ans".to_owned()));
                let broken = stream::once(async { panic!("asked to, by a test") });
                // The text is out before the end comes.
                let pause =
                    stream::once(tokio::time::sleep(Duration::from_secs(1))).filter_map(|()| async { None });
                stream::iter([text]).chain(pause).chain(broken).boxed()
            }
            _ => ScriptedModel.stream(request),
        }
    }
}

struct Fixture {
    store: Arc<GatedStore>,
    manager: Manager,
}

impl Fixture {
    fn new() -> Self {
        Self::with_idle(Duration::from_secs(900))
    }

    fn with_idle(idle_after: Duration) -> Self {
        Self::over(GatedStore::new(), idle_after)
    }

    /// A manager that finds this in its store when it starts.
    fn over(store: Arc<GatedStore>, idle_after: Duration) -> Self {
        let bus = Bus::new(EventBus::new(store.clone()).start());
        let profile = AgentProfile {
            card: AgentCard {
                id: "helper".parse().unwrap(),
                name: "Helper".to_owned(),
                description: String::new(),
                model: "demo".to_owned(),
                context_window: 8192,
            },
            system_prompt: Some("Help.".to_owned()),
            seeds: Vec::new(),
            provider: Arc::new(Brittle),
            model: "demo".to_owned(),
            temperature: None,
            max_tokens: None,
            on_busy: OnBusy::Queue,
            max_steps: 16,
            initial_state: None,
            tools: Vec::new(),
        };
        let profiles = Arc::new(Profiles::new(vec![profile]));
        let manager = AgentManager::new(profiles, store.clone(), bus, idle_after, 2).start();
        Self { store, manager: Manager::new(manager) }
    }

    async fn execute(&self, command: Command) -> Result<Done, Problem> {
        self.manager.execute(caller("me"), command, None).await.unwrap().result
    }

    async fn create(&self) -> SessionId {
        match self.execute(create()).await {
            Ok(Done::Created { session_id, .. }) => session_id,
            other => panic!("{other:?}"),
        }
    }

    async fn send(&self, session_id: &SessionId, content: &str) -> RunId {
        match self.execute(message(session_id, content, None)).await {
            Ok(Done::Accepted { run_id, .. }) => run_id,
            other => panic!("{other:?}"),
        }
    }

    async fn log(&self, session_id: &SessionId) -> Vec<Arc<Event>> {
        let limit = PageLimit { events: usize::MAX, bytes: usize::MAX };
        let topic = Topic::Session(session_id.clone());
        self.store.read(&topic, ReadFrom::After(0), limit).await.unwrap().unwrap().events
    }

    /// How a run ended, once it has.
    async fn end_of(&self, session_id: &SessionId, run_id: RunId) -> (Outcome, Option<EndReason>) {
        loop {
            let log = self.log(session_id).await;
            let ends: Vec<_> = log
                .iter()
                .filter(|event| event.run_id == Some(run_id))
                .filter_map(|event| match event.as_durable()? {
                    Durable::RunFinished { outcome, reason, .. } => Some((*outcome, *reason)),
                    _ => None,
                })
                .collect();
            match ends[..] {
                [] => tokio::time::sleep(Duration::from_millis(10)).await,
                [end] => return end,
                _ => panic!("a run has one end: {ends:?}"),
            }
        }
    }
}

fn create() -> Command {
    Command::CreateSession { agent_id: "helper".parse().unwrap(), title: None }
}

fn message(session_id: &SessionId, content: &str, on_busy: Option<OnBusy>) -> Command {
    Command::SendMessage { session_id: session_id.clone(), content: content.to_owned(), on_busy }
}

fn stop(session_id: &SessionId) -> Command {
    Command::StopRun { session_id: session_id.clone(), run_id: None, clear_queue: false }
}

fn idempotency(id: &str) -> Option<Idempotency> {
    let Caller { principal, client_id } = caller("me");
    let key = CommandKey { principal, client_id, command_id: id.parse().unwrap() };
    Some(Idempotency { key, digest: [1; 16] })
}

fn code(result: Result<Done, Problem>) -> ErrorCode {
    result.expect_err("refused").code
}

#[actix::test]
async fn an_agent_is_loaded_when_it_is_first_told_something() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    assert_eq!(fixture.manager.count_live().await, 0);

    let run_id = fixture.send(&session_id, "/echo hi").await;

    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
    assert_eq!(fixture.manager.count_live().await, 1);
}

#[actix::test]
async fn an_idle_agent_leaves_memory_and_comes_back_as_it_was() {
    tokio::time::pause();
    let fixture = Fixture::with_idle(Duration::from_secs(60));
    let session_id = fixture.create().await;
    let first = fixture.send(&session_id, "/echo one").await;
    fixture.end_of(&session_id, first).await;

    tokio::time::advance(Duration::from_secs(120)).await;
    settle().await;
    assert_eq!(fixture.manager.count_live().await, 0);

    let second = fixture.send(&session_id, "/echo two").await;
    fixture.end_of(&session_id, second).await;
    let late_stop =
        Command::StopRun { session_id: session_id.clone(), run_id: Some(first), clear_queue: false };
    assert_eq!(code(fixture.execute(late_stop).await), ErrorCode::Conflict, "it knows what it was before");
}

#[actix::test]
async fn a_busy_agent_stays() {
    tokio::time::pause();
    let fixture = Fixture::with_idle(Duration::from_secs(60));
    let session_id = fixture.create().await;
    let run_id = fixture.send(&session_id, "/think 300000").await;

    tokio::time::advance(Duration::from_secs(120)).await;
    settle().await;

    assert_eq!(fixture.manager.count_live().await, 1);
    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
}

#[actix::test]
async fn a_run_whose_agent_dies_ends_as_interrupted_and_the_session_goes_on() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;

    let run_id = fixture.send(&session_id, "/panic").await;
    let interrupted = (Outcome::Interrupted, Some(EndReason::Crashed));
    assert_eq!(fixture.end_of(&session_id, run_id).await, interrupted);

    let run_id = fixture.send(&session_id, "/panic later").await;
    assert_eq!(fixture.end_of(&session_id, run_id).await, interrupted);
    let log = fixture.log(&session_id).await;
    let kept = log.iter().find_map(|event| match event.as_durable()? {
        Durable::AgentResponse(response) => Some((response.content.as_str(), response.incomplete)),
        _ => None,
    });
    assert_eq!(kept, Some(("half an ans", true)), "what was shown is kept");

    let run_id = fixture.send(&session_id, "/echo hi").await;
    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
}

#[actix::test]
async fn messages_that_waited_when_their_agent_died_are_run() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    fixture.send(&session_id, "/panic later").await;

    let second = fixture.send(&session_id, "/echo two").await;
    let third = fixture.send(&session_id, "/echo three").await;

    for run_id in [second, third] {
        assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
    }
}

#[actix::test]
async fn a_session_of_somebody_else_is_not_found() {
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    fixture.send(&session_id, "/echo hi").await;
    let other = Caller { principal: "somebody-else".parse().unwrap(), client_id: None };

    for command in [
        message(&session_id, "hi", None),
        stop(&session_id),
        Command::CloseSession { session_id: session_id.clone() },
        Command::RenameSession { session_id: session_id.clone(), title: "mine".to_owned() },
        Command::SetTyping { session_id: session_id.clone(), typing: true },
    ] {
        let answer = fixture.manager.execute(other.clone(), command, None).await.unwrap();
        assert_eq!(code(answer.result), ErrorCode::SessionNotFound);
    }
}

#[actix::test]
async fn a_command_is_not_acknowledged_before_its_commit() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    fixture.store.close_gate();

    let command = message(&session_id, "/echo hi", None);
    let mut answer = fixture.manager.execute(caller("me"), command, idempotency("c1"));
    settle().await;
    assert!(answer.try_recv().is_err());
    fixture.store.decide(Verdict::Append);

    assert!(answer.await.unwrap().result.is_ok());
}

#[actix::test]
async fn a_message_that_cannot_be_stored_is_refused_and_may_be_sent_again() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    fixture.store.close_gate();
    let send = || {
        let command = message(&session_id, "/echo hi", None);
        fixture.manager.execute(caller("me"), command, idempotency("c1"))
    };

    let refused = send();
    settle().await;
    fixture.store.decide(Verdict::Fail);
    assert_eq!(code(refused.await.unwrap().result), ErrorCode::Unavailable);

    fixture.store.open_gate();
    let Ok(Done::Accepted { run_id, .. }) = send().await.unwrap().result else { panic!() };
    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
}

#[actix::test]
async fn the_end_of_a_run_is_stored_however_long_that_takes() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    let run_id = fixture.send(&session_id, "/think 1000").await;
    fixture.store.close_gate();

    for _ in 0..5 {
        // Each time it is tried again, later and later.
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert!(fixture.store.decide(Verdict::Fail));
        settle().await;
    }
    fixture.store.open_gate();

    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
    let run_id = fixture.send(&session_id, "/echo hi").await;
    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
}

/// A session as a crash leaves it: a run that had said something, and a message that waited for its end.
async fn left_by_a_crash(store: &GatedStore) -> (SessionId, RunId, RunId) {
    let session_id: SessionId = "helper_417".parse().unwrap();
    let (running, queued) = (RunId::new(), RunId::new());
    let message = |content: &str, queue| Durable::UserMessage {
        message_id: MessageId::new(),
        command_id: None,
        content: content.to_owned(),
        author: Principal::local(),
        queue,
    };
    let created = Durable::SessionCreated {
        owner: Principal::local(),
        agent_name: "Helper".to_owned(),
        title: None,
        forked_from: None,
    };
    let entries = [
        Entry::from(created),
        Entry::of_run(running, message("/count 1000 100", Queued::No)),
        Entry::of_run(running, Durable::RunStarted { trigger: Trigger::UserMessage }),
        Entry::of_run(queued, message("/echo next", Queued::Last)),
    ];
    let topic = Topic::Session(session_id.clone());
    let epoch = Epoch::of_new_log(store.incarnation());
    let events = (1..).zip(entries).map(|(seq, entry)| {
        Arc::new(Event::durable(topic.clone(), epoch.clone(), seq, Timestamp::now(), entry))
    });
    let events = events.collect();
    store.append(Append { topic, expected_seq: 0, events, commands: Vec::new() }).await.unwrap();
    for text in ["1 2 ", "3 "] {
        let (session_id, message_id) = (session_id.clone(), MessageId::from_bytes([1; 16]));
        let checkpoint = Checkpoint { session_id, run_id: running, message_id, text: text.to_owned() };
        store.checkpoint(checkpoint).await.unwrap();
    }
    (session_id, running, queued)
}

#[actix::test]
async fn what_a_crash_left_undone_is_taken_up_at_start() {
    tokio::time::pause();
    let store = GatedStore::new();
    let (session_id, running, queued) = left_by_a_crash(&store).await;

    let fixture = Fixture::over(store, Duration::from_secs(900));

    let crashed = (Outcome::Interrupted, Some(EndReason::Crashed));
    assert_eq!(fixture.end_of(&session_id, running).await, crashed);
    assert_eq!(fixture.end_of(&session_id, queued).await, (Outcome::Completed, None));
    let log = fixture.log(&session_id).await;
    let said: Vec<_> = log
        .iter()
        .filter_map(|event| match event.as_durable()? {
            Durable::AgentResponse(response) => Some((response.content.as_str(), response.incomplete)),
            _ => None,
        })
        .collect();
    assert_eq!(said, [("1 2 3 ", true), ("next", false)], "what was saved is kept");
    assert_eq!(fixture.store.partial(&session_id).await.unwrap(), None);
}

#[actix::test]
async fn a_refresh_that_was_cut_in_two_is_healed_by_its_retry() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let refresh = |session_id: &SessionId| Command::RefreshAgent {
        agent_id: "helper".parse().unwrap(),
        session_id: Some(session_id.clone()),
    };
    let old = fixture.create().await;
    let state = fixture.store.session(&old).await.unwrap().unwrap();
    let promised: SessionId = "helper_987654".parse().unwrap();
    let closed =
        Durable::SessionClosed { reason: CloseReason::Refreshed, replaced_by: Some(promised.clone()) };
    let Head { epoch, last, .. } = fixture.store.head(&Topic::Session(old.clone())).await.unwrap().unwrap();
    let topic = Topic::Session(old.clone());
    let event = Event::durable(topic.clone(), epoch, last + 1, state.record.updated_at, closed.into());
    let append = Append { topic, expected_seq: last, events: vec![Arc::new(event)], commands: Vec::new() };
    fixture.store.append(append).await.unwrap();

    let Ok(Done::Created { session_id, .. }) = fixture.execute(refresh(&old)).await else { panic!() };
    assert_eq!(session_id, promised, "the one that the old log names");
    let Ok(Done::Created { session_id, .. }) = fixture.execute(refresh(&old)).await else { panic!() };
    assert_ne!(session_id, promised, "that is there now");
}

#[actix::test]
async fn what_cannot_be_read_at_start_is_read_later() {
    tokio::time::pause();
    let store = GatedStore::new();
    let (session_id, running, _) = left_by_a_crash(&store).await;
    store.fail_reads(true);

    let fixture = Fixture::over(store, Duration::from_secs(900));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let refused = fixture.execute(message(&session_id, "hi", None));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(code(refused.await), ErrorCode::Unavailable);
    assert_eq!(fixture.log(&session_id).await.len(), 4);
    fixture.store.fail_reads(false);

    let crashed = (Outcome::Interrupted, Some(EndReason::Crashed));
    assert_eq!(fixture.end_of(&session_id, running).await, crashed);
}

#[actix::test]
async fn a_command_that_is_looked_up_holds_up_its_session_and_no_other() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let (held, free) = (fixture.create().await, fixture.create().await);
    fixture.store.hold_recalls();
    let send = |session_id: &SessionId, content: &str, id: Option<&str>| {
        let command = message(session_id, content, None);
        fixture.manager.execute(caller("me"), command, id.and_then(idempotency))
    };

    let first = send(&held, "/echo first", Some("c1"));
    let mut second = send(&held, "/echo second", None);
    let other = send(&free, "/echo other", None);

    assert!(other.await.unwrap().result.is_ok());
    assert!(second.try_recv().is_err(), "it comes after the first");
    fixture.store.release_recalls();
    let seq = |answer: Answer| match answer.result {
        Ok(Done::Accepted { seq, .. }) => seq,
        other => panic!("{other:?}"),
    };
    assert!(seq(first.await.unwrap()) < seq(second.await.unwrap()));
}

#[actix::test]
async fn an_answer_that_cannot_be_saved_ends_and_commands_are_refused_until_its_end_is_stored() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    fixture.store.lose_checkpoints();
    let run_id = fixture.send(&session_id, "/count 100000 10").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.store.close_gate();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(fixture.store.decide(Verdict::Fail), "the run is ended");
    settle().await;

    assert_eq!(code(fixture.execute(message(&session_id, "hi", None)).await), ErrorCode::Unavailable);
    assert_eq!(code(fixture.execute(stop(&session_id)).await), ErrorCode::Unavailable);
    fixture.store.open_gate();

    let failed = (Outcome::Failed, Some(EndReason::Failed));
    assert_eq!(fixture.end_of(&session_id, run_id).await, failed);
    let run_id = fixture.send(&session_id, "/echo hi").await;
    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
}

#[actix::test]
async fn who_waits_for_what_the_store_refuses_is_told_so() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    let run_id = fixture.send(&session_id, "/think 100000").await;
    fixture.store.close_gate();
    let execute = |command| fixture.manager.execute(caller("me"), command, None);

    let stopped = execute(stop(&session_id));
    settle().await;
    let closed = execute(Command::CloseSession { session_id: session_id.clone() });
    let deleted = execute(Command::DeleteSession { session_id: session_id.clone() });
    settle().await;
    assert!(fixture.store.decide(Verdict::Fail));

    for answer in [stopped, closed, deleted] {
        assert_eq!(code(answer.await.unwrap().result), ErrorCode::Unavailable);
    }
    fixture.store.open_gate();
    let cancelled = (Outcome::Cancelled, Some(EndReason::Stopped));
    assert_eq!(fixture.end_of(&session_id, run_id).await, cancelled);
    let run_id = fixture.send(&session_id, "/echo on").await;
    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
}

#[actix::test]
async fn a_deletion_waits_for_the_end_that_is_on_its_way() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    fixture.send(&session_id, "/think 100000").await;
    let execute = |command| fixture.manager.execute(caller("me"), command, None);

    let closed = execute(Command::CloseSession { session_id: session_id.clone() });
    let deleted = execute(Command::DeleteSession { session_id: session_id.clone() });

    assert_eq!(closed.await.unwrap().result, Ok(Done::Noted));
    assert_eq!(deleted.await.unwrap().result, Ok(Done::Noted));
    assert_eq!(fixture.store.session(&session_id).await.unwrap(), None);
}

#[actix::test]
async fn a_session_whose_end_cannot_be_stored_stays_open() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    fixture.store.close_gate();
    let close = Command::CloseSession { session_id: session_id.clone() };
    let closed = fixture.manager.execute(caller("me"), close, None);
    settle().await;
    assert!(fixture.store.decide(Verdict::Fail));
    assert_eq!(code(closed.await.unwrap().result), ErrorCode::Unavailable);
    fixture.store.open_gate();

    let run_id = fixture.send(&session_id, "/echo hi").await;
    assert_eq!(fixture.end_of(&session_id, run_id).await, (Outcome::Completed, None));
}

#[actix::test]
async fn ids_get_another_digit_when_half_of_them_are_taken() {
    let fixture = Fixture::new();
    let mut digits = Vec::new();
    for _ in 0..460 {
        digits.push(fixture.create().await.digits());
    }

    assert_eq!(digits.iter().filter(|digits| **digits == 3).count(), 450);
    assert_eq!(digits.iter().filter(|digits| **digits == 4).count(), 10);
}

#[actix::test]
async fn draining_lets_runs_end_and_leaves_the_queue() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    let running = fixture.send(&session_id, "/think 3000").await;
    let queued = fixture.send(&session_id, "/echo next").await;

    fixture.manager.drain(Duration::from_secs(10)).await;

    assert_eq!(fixture.end_of(&session_id, running).await, (Outcome::Completed, None));
    let state = fixture.store.session(&session_id).await.unwrap().unwrap();
    assert_eq!(state.queue.iter().map(|queued| queued.run_id).collect::<Vec<_>>(), [queued]);
    assert_eq!(code(fixture.execute(create()).await), ErrorCode::Unavailable);
}

#[actix::test]
async fn a_drain_that_has_waited_long_enough_interrupts() {
    tokio::time::pause();
    let fixture = Fixture::new();
    let session_id = fixture.create().await;
    let run_id = fixture.send(&session_id, "/count 100000 10").await;

    fixture.manager.drain(Duration::from_secs(10)).await;

    let interrupted = (Outcome::Interrupted, Some(EndReason::Shutdown));
    assert_eq!(fixture.end_of(&session_id, run_id).await, interrupted);
    let log = fixture.log(&session_id).await;
    let response = log.iter().find_map(|event| match event.as_durable()? {
        Durable::AgentResponse(response) => Some(response),
        _ => None,
    });
    let response = response.expect("what had come is kept");
    assert!(response.incomplete && response.finish_reason == FinishReason::Cancelled);
    assert!(response.content.starts_with("1 2 3 "));
}

#[actix::test]
async fn a_refresh_closes_the_old_session_and_names_the_new_one() {
    let fixture = Fixture::new();
    let old = fixture.create().await;
    let refresh = |session_id: Option<SessionId>| Command::RefreshAgent {
        agent_id: "helper".parse().unwrap(),
        session_id,
    };

    let Ok(Done::Created { session_id: new, .. }) = fixture.execute(refresh(Some(old.clone()))).await else {
        panic!()
    };

    let log = fixture.log(&old).await;
    let Some(Durable::SessionClosed { reason, replaced_by }) = log.last().unwrap().as_durable() else {
        panic!("{log:?}")
    };
    assert_eq!((*reason, replaced_by.as_ref()), (CloseReason::Refreshed, Some(&new)));
    // An unknown one, and one that is closed already, are no errors.
    for session_id in [Some("helper_999".parse().unwrap()), Some(old), None] {
        assert!(fixture.execute(refresh(session_id)).await.is_ok());
    }
}

// ---- a store that takes its time ----

#[actix::test]
async fn more_creates_at_once_than_there_are_short_numbers_are_all_answered() {
    const CREATES: usize = 2_000;
    let fixture = Fixture::new();
    fixture.store.hesitate();

    // All of them are in the mailbox before the first is looked at.
    let answers: Vec<_> =
        (0..CREATES).map(|_| fixture.manager.execute(caller("me"), create(), None)).collect();
    let mut ids = HashSet::new();
    for answer in answers {
        let Ok(Done::Created { session_id, .. }) = answer.await.unwrap().result else {
            panic!("it is created")
        };
        ids.insert(session_id);
    }

    assert_eq!(ids.len(), CREATES);
}

#[actix::test]
async fn creates_that_fail_use_no_numbers_up() {
    let fixture = Fixture::new();
    fixture.store.close_gate();
    for _ in 0..1_000 {
        let answer = fixture.manager.execute(caller("me"), create(), None);
        while !fixture.store.decide(Verdict::Fail) {
            tokio::task::yield_now().await;
        }
        assert_eq!(answer.await.unwrap().result.unwrap_err().code, ErrorCode::Unavailable);
    }
    fixture.store.open_gate();

    let session_id = fixture.create().await;

    assert_eq!(session_id.as_str().len(), "helper_417".len(), "{session_id}");
}

#[actix::test]
async fn what_follows_a_refresh_comes_after_the_end_of_the_old_session() {
    for hesitates in [false, true] {
        let fixture = Fixture::new();
        let old = fixture.create().await;
        fixture.send(&old, "/echo hi").await;
        if hesitates {
            fixture.store.hesitate();
        }
        let refresh =
            Command::RefreshAgent { agent_id: "helper".parse().unwrap(), session_id: Some(old.clone()) };

        let refreshed = fixture.manager.execute(caller("me"), refresh, None);
        let sent = fixture.manager.execute(caller("me"), message(&old, "/echo too late", None), None);

        assert!(refreshed.await.unwrap().result.is_ok());
        assert_eq!(sent.await.unwrap().result.unwrap_err().code, ErrorCode::SessionClosed);
    }
}

#[actix::test]
async fn a_drain_ends_though_sessions_are_asked_for_that_there_are_not() {
    for hesitates in [false, true] {
        let fixture = Fixture::new();
        if hesitates {
            fixture.store.hesitate();
        }
        let unknown = SessionId::new(&"helper".parse().unwrap(), 999);

        let sent = fixture.manager.execute(caller("me"), message(&unknown, "hi", None), None);
        fixture.manager.drain(Duration::from_secs(3600)).await;

        assert_eq!(sent.await.unwrap().result.unwrap_err().code, ErrorCode::SessionNotFound);
    }
}

#[actix::test]
async fn ids_that_an_earlier_process_gave_out_are_not_given_out_again() {
    let fixture = Fixture::new();
    let epoch = Epoch::from("e");
    for number in 100..1_000 {
        let topic = Topic::Session(SessionId::new(&"helper".parse().unwrap(), number));
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: "Helper".to_owned(),
            title: None,
            forked_from: None,
        };
        let event = Event::durable(topic.clone(), epoch.clone(), 1, Timestamp::now(), created.into());
        let events = vec![Arc::new(event)];
        fixture.store.append(Append { topic, expected_seq: 0, events, commands: vec![] }).await.unwrap();
    }

    assert_eq!(fixture.create().await.as_str().len(), "helper_1417".len());
}
