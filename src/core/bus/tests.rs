use std::collections::BTreeMap;

use bytestring::ByteString;
use futures_util::FutureExt;
use proptest::prelude::*;

use super::{
    session_list::{LIST_INTERVAL, TOLD_AT_ONCE},
    *,
};
use crate::core::{
    event::{
        AgentResponse, AgentStatus, CloseReason, EndReason, FinishReason, Outcome, Queued, Trigger, Usage,
    },
    ports::{PageLimit, ReadFrom},
    testing::{GatedStore, Given, Probe, Verdict, caller, settle},
};

const PAGE: PageLimit = PageLimit { events: 256, bytes: 64 * 1024 };

/// A bus, its store, and sessions to publish to.
struct Fixture {
    store: Arc<GatedStore>,
    bus: Bus,
}

impl Fixture {
    fn new() -> Self {
        Self::with_store(GatedStore::new())
    }

    fn with_store(store: Arc<GatedStore>) -> Self {
        let bus = Bus::new(EventBus::new(store.clone()).start());
        Self { store, bus }
    }

    async fn hold(&self, topic: &Topic) {
        let held = self.bus.ask(Hold { topic: topic.clone() }).await.unwrap();
        assert_eq!(held, Ok(Held::Quiet));
    }

    async fn create(&self, topic: &Topic, by: Caller) -> Committed {
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: "Helper".to_owned(),
            title: None,
            forked_from: None,
        };
        let outcome = self.bus.publish(topic, Origin::New(by), vec![created.into()], Vec::new());
        outcome.await.unwrap().unwrap()
    }

    fn publish(&self, topic: &Topic, texts: &[&str]) -> oneshot::Receiver<Result<Committed, Failed>> {
        let entries = texts.iter().map(|text| Durable::SystemMessage { content: (*text).to_owned() }.into());
        self.bus.publish(topic, Origin::Log, entries.collect(), Vec::new())
    }

    async fn connect(&self, client: &str) -> (ConnectionId, Arc<Probe>) {
        self.connect_probe(client, Probe::new()).await
    }

    async fn connect_probe(&self, client: &str, probe: Arc<Probe>) -> (ConnectionId, Arc<Probe>) {
        let connection = ConnectionId::new();
        let (subscriber, caller) = (probe.clone(), Some(caller(client)));
        self.bus.ask(Connect { connection, caller, subscriber }).await.unwrap();
        (connection, probe)
    }

    async fn attach(&self, connection: ConnectionId, topic: &Topic, after: Position) -> Attached {
        self.bus.ask(Attach { connection, topic: topic.clone(), after }).await.unwrap().unwrap()
    }

    async fn figures(&self) -> BusFigures {
        self.bus.ask(GetFigures).await.unwrap()
    }
}

fn session(number: u64) -> Topic {
    Topic::Session(SessionId::new(&"helper".parse().unwrap(), number))
}

fn seqs(events: &[Arc<Event>]) -> Vec<Seq> {
    events.iter().map(|event| event.seq()).filter(|seq| *seq > 0).collect()
}

fn delta(message_id: MessageId, offset: u64, text: &str) -> Ephemeral {
    Ephemeral::MessageDelta { message_id, offset, text: text.to_owned() }
}

fn response(message_id: MessageId, content: &str) -> Entry {
    Durable::AgentResponse(Box::new(AgentResponse {
        message_id,
        content: content.to_owned(),
        model: "demo".to_owned(),
        finish_reason: FinishReason::Stop,
        usage: None,
        incomplete: false,
        provider_state: None,
    }))
    .into()
}

#[actix::test]
async fn the_creator_is_subscribed_before_the_first_event() {
    let fixture = Fixture::new();
    let (_, mine) = fixture.connect("me").await;
    let (_, other) = fixture.connect("other").await;

    let committed = fixture.create(&session(100), caller("me")).await;

    let given = mine.take();
    assert!(matches!(&given[..], [Given::Announced { head: 0, .. }, Given::Event(_)]), "{given:?}");
    assert_eq!(committed.first_seq, 1);
    assert!(other.take().is_empty());
}

#[actix::test]
async fn a_session_is_never_begun_twice() {
    let fixture = Fixture::new();
    let (_, probe) = fixture.connect("me").await;
    fixture.create(&session(100), caller("me")).await;
    probe.take();

    let created = Durable::SessionCreated {
        owner: Principal::local(),
        agent_name: String::new(),
        title: None,
        forked_from: None,
    };
    let again = fixture.bus.publish(&session(100), Origin::New(caller("me")), vec![created.into()], vec![]);

    assert_eq!(again.await.unwrap().unwrap_err().error, AppendError::Conflict);
    assert!(probe.take().is_empty());
}

#[actix::test]
async fn nothing_is_delivered_before_its_commit() {
    let fixture = Fixture::new();
    let (_, probe) = fixture.connect("me").await;
    fixture.create(&session(100), caller("me")).await;
    probe.take();
    fixture.store.close_gate();

    let mut first = fixture.publish(&session(100), &["a", "b"]);
    let message_id = MessageId::new();
    fixture.bus.show(&session(100), None, vec![delta(message_id, 0, "late")], Permits::default());
    let mut second = fixture.publish(&session(100), &["c"]);
    settle().await;
    assert!(probe.take().is_empty());
    assert!(first.try_recv().is_err());

    fixture.store.decide(Verdict::Append);
    settle().await;
    let events = probe.take_events();
    assert_eq!(seqs(&events), [2, 3]);
    assert_eq!(events.len(), 3, "the delta comes after what was published before it");
    assert!(first.try_recv().unwrap().is_ok());
    assert!(second.try_recv().is_err());

    fixture.store.decide(Verdict::Append);
    settle().await;
    assert_eq!(seqs(&probe.take_events()), [4]);
}

#[actix::test]
async fn of_typing_only_the_last_word_waits_for_the_store() {
    let fixture = Fixture::new();
    let (_, probe) = fixture.connect("me").await;
    fixture.create(&session(100), caller("me")).await;
    probe.take();
    let typing = |events: &[Arc<Event>]| -> Vec<(String, bool)> {
        let typing = events.iter().filter_map(|event| match &event.body {
            Body::Ephemeral(Ephemeral::Typing { client_id, typing, .. }) => {
                Some((client_id.as_ref()?.to_string(), *typing))
            }
            _ => None,
        });
        typing.collect()
    };

    fixture.bus.show_typing(&session(100), caller("a"), true);
    settle().await;
    assert_eq!(typing(&probe.take_events()), [("a".to_owned(), true)], "nothing waits");

    fixture.store.close_gate();
    fixture.publish(&session(100), &["one"]);
    for _ in 0..1000 {
        fixture.bus.show_typing(&session(100), caller("a"), true);
        fixture.bus.show_typing(&session(100), caller("b"), true);
        fixture.bus.show_typing(&session(100), caller("a"), false);
    }
    settle().await;
    assert!(probe.take().is_empty());
    fixture.store.decide(Verdict::Append);
    settle().await;
    let events = probe.take_events();
    assert_eq!(typing(&events), [("b".to_owned(), true), ("a".to_owned(), false)]);
    assert_eq!(seqs(&events), [2]);

    fixture.publish(&session(100), &["two"]);
    for number in 0..1000 {
        fixture.bus.show_typing(&session(100), caller(&format!("c{number}")), true);
    }
    settle().await;
    fixture.store.decide(Verdict::Append);
    settle().await;
    assert_eq!(typing(&probe.take_events()).len(), MAX_WAITING_TYPING);
}

#[actix::test]
async fn batches_behind_a_failure_fail_too_no_number_is_used_up_and_no_text_is_lost() {
    let fixture = Fixture::new();
    let (_, probe) = fixture.connect("me").await;
    fixture.create(&session(100), caller("me")).await;
    probe.take();
    fixture.store.close_gate();

    let first = fixture.publish(&session(100), &["a"]);
    fixture.bus.show(
        &session(100),
        None,
        vec![delta(MessageId::new(), 0, "of no batch")],
        Permits::default(),
    );
    let second = fixture.publish(&session(100), &["b"]);
    settle().await;
    fixture.store.decide(Verdict::Fail);

    let failed = first.await.unwrap().unwrap_err();
    assert_eq!(failed.entries.len(), 1, "a failed batch comes back whole");
    assert!(second.await.unwrap().is_err());
    let [shown] = &probe.take_events()[..] else { panic!("the text is shown, and nothing else") };
    assert!(matches!(shown.body, Body::Ephemeral(Ephemeral::MessageDelta { .. })));

    fixture.store.open_gate();
    let third = fixture.publish(&session(100), &["c"]).await.unwrap().unwrap();
    assert_eq!(third.first_seq, 2);
}

#[actix::test]
async fn permits_come_back_when_the_events_have_got_there() {
    let fixture = Fixture::new();
    let (_, probe) = fixture.connect("me").await;
    fixture.create(&session(100), caller("me")).await;
    fixture.store.close_gate();
    let permits = Arc::new(tokio::sync::Semaphore::new(10));
    let released = permits.clone().try_acquire_many_owned(5).ok();
    let delivered = permits.clone().try_acquire_many_owned(2).ok();

    let _pending = fixture.publish(&session(100), &["a"]);
    let shown = vec![
        delta(MessageId::new(), 0, "x"),
        // Kept by the bus for those who attach later, so it must hold nothing.
        Ephemeral::AgentStatus(AgentStatus::Responding),
    ];
    fixture.bus.show(&session(100), None, shown, Permits { released, delivered });
    settle().await;
    assert_eq!(permits.available_permits(), 3);

    fixture.store.decide(Verdict::Append);
    settle().await;
    assert_eq!(permits.available_permits(), 8, "out of the bus, and with the subscriber");

    drop(probe.take());
    assert_eq!(permits.available_permits(), 10);
}

#[actix::test]
async fn attaching_hands_over_the_rest_the_open_message_and_the_status() {
    let fixture = Fixture::new();
    let epoch = fixture.create(&session(100), caller("me")).await.epoch;
    fixture.hold(&session(100)).await;
    fixture.publish(&session(100), &["a", "b"]).await.unwrap().unwrap();
    let message_id = MessageId::new();
    let shown = vec![
        Ephemeral::AgentStatus(AgentStatus::Responding),
        delta(message_id, 0, "hal"),
        delta(message_id, 3, "lo"),
    ];
    fixture.bus.show(&session(100), None, shown, Permits::default());
    let (connection, probe) = fixture.connect("later").await;

    let attached = fixture.attach(connection, &session(100), Position { epoch, seq: 1 }).await;

    assert_eq!(attached, Attached::Live);
    let events = probe.take_events();
    assert_eq!(seqs(&events), [2, 3]);
    let Body::Ephemeral(Ephemeral::MessageSnapshot { text, .. }) = &events[2].body else {
        panic!("{events:?}")
    };
    assert_eq!(text, "hallo");
    assert!(matches!(events[3].body, Body::Ephemeral(Ephemeral::AgentStatus(AgentStatus::Responding))));

    fixture.bus.publish(&session(100), Origin::Log, vec![response(message_id, "hallo")], vec![]);
    settle().await;
    let (connection, probe) = fixture.connect("last").await;
    let epoch = events[0].position.clone().unwrap().epoch;
    fixture.attach(connection, &session(100), Position { epoch, seq: 4 }).await;
    assert_eq!(probe.take_events().len(), 1, "the message is no longer open; only the status comes");
}

#[actix::test]
async fn the_open_message_goes_with_its_run_even_without_a_response() {
    let fixture = Fixture::new();
    fixture.create(&session(100), caller("me")).await;
    let run_id = RunId::new();
    fixture.bus.show(&session(100), Some(run_id), vec![delta(MessageId::new(), 0, "x")], Permits::default());
    fixture.hold(&session(100)).await;
    fixture.bus.show(&session(100), Some(run_id), vec![delta(MessageId::new(), 0, "x")], Permits::default());
    let finished = Durable::RunFinished {
        outcome: Outcome::Cancelled,
        reason: Some(EndReason::Stopped),
        usage: Usage::default(),
        duration_ms: 1,
    };
    let entries = vec![Entry::of_run(run_id, finished)];

    fixture.bus.publish(&session(100), Origin::Log, entries, vec![]).await.unwrap().unwrap();

    assert_eq!(fixture.bus.ask(GetOpenMessage { topic: session(100) }).await.unwrap(), None);
}

#[actix::test]
async fn a_position_is_checked_before_anything_is_handed_over() {
    let fixture = Fixture::new();
    let epoch = fixture.create(&session(100), caller("me")).await.epoch;
    fixture.hold(&session(100)).await;
    let (connection, probe) = fixture.connect("later").await;
    let at = |seq| Position { epoch: epoch.clone(), seq };

    assert_eq!(fixture.attach(connection, &session(100), at(9)).await, Attached::Lost);
    let other = Position { epoch: "other".into(), seq: 1 };
    assert_eq!(fixture.attach(connection, &session(100), other).await, Attached::Lost);
    assert_eq!(fixture.attach(connection, &session(999), at(1)).await, Attached::Gone);
    fixture.publish(&session(100), &[&"x".repeat(100_000)]).await.unwrap().unwrap();
    assert_eq!(fixture.attach(connection, &session(100), at(0)).await, Attached::Behind);

    assert!(probe.take().is_empty());
}

#[actix::test]
async fn a_subscriber_without_room_is_let_go_at_once() {
    let fixture = Fixture::new();
    let (_, probe) = fixture.connect_probe("slow", Probe::with_room(2)).await;
    fixture.create(&session(100), caller("slow")).await;
    fixture.publish(&session(100), &["a"]).await.unwrap().unwrap();

    fixture.publish(&session(100), &["b"]).await.unwrap().unwrap();
    fixture.publish(&session(100), &["c"]).await.unwrap().unwrap();

    assert_eq!(seqs(&probe.take_events()), [1, 2]);
    assert_eq!(fixture.figures().await.subscriptions, 0);
}

#[actix::test]
async fn a_connection_has_so_many_topics_and_no_more() {
    let fixture = Fixture::new();
    let (connection, _) = fixture.connect("greedy").await;
    for number in 1_000..1_000 + super::super::connections::MAX_TOPICS as u64 {
        fixture.create(&session(number), caller("greedy")).await;
    }
    let epoch = fixture.create(&session(9_999), caller("other")).await.epoch;

    let attached = fixture.attach(connection, &session(9_999), Position { epoch, seq: 1 }).await;

    assert_eq!(attached, Attached::TooMany);
}

#[actix::test]
async fn topics_leave_memory_when_nobody_watches_and_nobody_publishes() {
    let fixture = Fixture::new();
    let (connection, _) = fixture.connect("me").await;
    fixture.create(&session(100), caller("me")).await;
    fixture.hold(&session(100)).await;
    assert_eq!(fixture.figures().await, BusFigures { topics: 1, subscriptions: 1, connections: 1 });

    fixture.bus.notify(Disconnect { connection });
    assert_eq!(fixture.figures().await, BusFigures { topics: 1, subscriptions: 0, connections: 0 });
    fixture.bus.notify(Release { topic: session(100) });
    assert_eq!(fixture.figures().await, BusFigures { topics: 0, subscriptions: 0, connections: 0 });

    let committed = fixture.publish(&session(100), &["a"]).await.unwrap().unwrap();
    assert_eq!(committed.first_seq, 2, "what was known of the log is read from the store");
    assert_eq!(fixture.figures().await.topics, 0);
}

#[actix::test]
async fn an_attach_that_waits_for_its_topic_is_void_after_a_detach() {
    let fixture = Fixture::new();
    let (connection, probe) = fixture.connect("watcher").await;
    let epoch = fixture.create(&session(100), caller("me")).await.epoch;
    fixture.store.hesitate();
    let attach = Attach { connection, topic: session(100), after: Position { epoch, seq: 1 } };

    let attached = fixture.bus.ask(attach);
    fixture.bus.notify(Detach { connection, topic: session(100) });

    assert_eq!(attached.await.unwrap().unwrap(), Attached::Gone);
    fixture.publish(&session(100), &["a"]).await.unwrap().unwrap();
    assert!(probe.take_events().is_empty());
}

#[actix::test]
async fn nothing_more_comes_after_a_detach() {
    let fixture = Fixture::new();
    let (connection, probe) = fixture.connect("me").await;
    fixture.create(&session(100), caller("me")).await;

    fixture.bus.ask(Detach { connection, topic: session(100) }).await.unwrap();
    probe.take();
    fixture.publish(&session(100), &["a"]).await.unwrap().unwrap();

    assert!(probe.take().is_empty());
}

#[actix::test]
async fn a_changed_session_is_told_to_the_list_of_its_owner_once() {
    let fixture = Fixture::new();
    let (_, probe) = fixture.connect("watcher").await;
    tokio::time::pause();
    fixture.create(&session(100), caller("me")).await;
    let run_id = RunId::new();
    let message = Durable::UserMessage {
        message_id: MessageId::new(),
        command_id: None,
        content: "hi".to_owned(),
        author: Principal::local(),
        queue: Queued::No,
    };
    let started = Durable::RunStarted { trigger: Trigger::UserMessage };
    let entries = vec![Entry::of_run(run_id, message), Entry::of_run(run_id, started)];
    fixture.bus.publish(&session(100), Origin::Log, entries, vec![]).await.unwrap().unwrap();
    assert!(probe.take().is_empty());

    tokio::time::advance(2 * LIST_INTERVAL).await;
    settle().await;

    let events = probe.take_events();
    let [event] = &events[..] else { panic!("{events:?}") };
    let Body::Ephemeral(Ephemeral::SessionListChanged(record)) = &event.body else { panic!("{event:?}") };
    assert_eq!((record.head, record.status), (3, crate::core::session::SessionStatus::Running));
    assert!(probe.is_awake(), "whoever is offered something is woken for it");
}

#[actix::test]
async fn a_session_that_makes_room_is_forgotten_and_its_name_may_stand_for_another() {
    let fixture = Fixture::with_store(GatedStore::with_bound(64 * 1024));
    let (connection, probe) = fixture.connect("watcher").await;
    let first = fixture.create(&session(100), caller("me")).await;
    let head = Position { epoch: first.epoch.clone(), seq: 1 };
    assert_eq!(fixture.attach(connection, &session(100), head).await, Attached::Live);
    fixture.create(&session(101), caller("me")).await;
    for closed in [session(100), session(101)] {
        let event = Durable::SessionClosed { reason: CloseReason::Closed, replaced_by: None };
        fixture.bus.publish(&closed, Origin::Log, vec![event.into()], vec![]).await.unwrap().unwrap();
    }

    let mut number = 101;
    let is_end = |given: &Given| matches!(given, Given::Ended(topic) if *topic == session(100));
    while !probe.take().iter().any(is_end) {
        number += 1;
        fixture.create(&session(number), caller("me")).await;
    }
    let second = fixture.create(&session(100), caller("me")).await;

    assert_ne!(first.epoch, second.epoch);
    assert_eq!(second.first_seq, 1);
    assert!(probe.take_events().is_empty(), "who watched the old one does not watch the new");
}

#[actix::test]
async fn a_list_that_changes_much_is_told_so_much_at_a_time_and_to_everybody() {
    const CONNECTIONS: usize = 100;
    const SESSIONS: u64 = 20;
    let fixture = Fixture::new();
    let mut probes = Vec::new();
    for number in 0..CONNECTIONS {
        probes.push(fixture.connect(&format!("client-{number}")).await.1);
    }
    tokio::time::pause();
    for number in 0..SESSIONS {
        fixture.create(&session(100 + number), caller("me")).await;
    }
    let told = |probes: &[Arc<Probe>]| probes.iter().map(|probe| probe.take_events().len()).sum::<usize>();

    let mut sum = 0;
    for _ in 0..100 {
        tokio::time::advance(LIST_INTERVAL).await;
        settle().await;
        let now = told(&probes);
        assert!(now < TOLD_AT_ONCE + CONNECTIONS, "{now} at once");
        sum += now;
    }

    assert_eq!(sum, CONNECTIONS * SESSIONS as usize, "each of each, once");
}

#[actix::test]
async fn what_events_look_like_on_the_wire_is_forgotten_once_they_are_delivered() {
    let fixture = Fixture::new();
    let (connection, _) = fixture.connect("watcher").await;
    let epoch = fixture.create(&session(100), caller("me")).await.epoch;
    let head = Position { epoch, seq: 1 };
    assert_eq!(fixture.attach(connection, &session(100), head).await, Attached::Live);
    tokio::time::pause();
    let event = fixture.publish(&session(100), &["a"]).await.unwrap().unwrap().events.remove(0);
    let encode = |event: &Event| ByteString::from(format!("event {}", event.seq()));
    assert_eq!(event.encoded(encode), "event 2");
    assert_eq!(event.encoded(|_| unreachable!("encoded once")), "event 2");
    assert_eq!(event.encoded_once(|_| unreachable!("encoded once")), "event 2");

    for _ in 0..3 {
        tokio::time::advance(FORGET_INTERVAL).await;
        settle().await;
    }

    assert_eq!(event.encoded_once(|_| "anew".into()), "anew");
    assert_eq!(event.encoded_once(|_| "again".into()), "again", "that is not kept");
}

#[actix::test]
async fn a_reader_that_is_ahead_of_the_bus_is_attached_when_the_bus_has_come_so_far() {
    let fixture = Fixture::new();
    let epoch = fixture.create(&session(100), caller("me")).await.epoch;
    fixture.hold(&session(100)).await;
    let (connection, probe) = fixture.connect("watcher").await;
    fixture.store.hold_answers();
    let published = fixture.publish(&session(100), &["a"]);
    settle().await;
    let page = fixture.store.read(&session(100), ReadFrom::After(0), PAGE).await.unwrap().unwrap();
    assert_eq!(page.head.last, 2, "it can be read before the bus knows");

    let attach = Attach { connection, topic: session(100), after: Position { epoch, seq: 2 } };
    let attached = fixture.bus.ask(attach);
    settle().await;
    fixture.store.open_gate();

    assert_eq!(attached.await.unwrap(), Ok(Attached::Live));
    published.await.unwrap().unwrap();
    fixture.publish(&session(100), &["b"]).await.unwrap().unwrap();
    assert_eq!(seqs(&probe.take_events()), [3]);
}

#[actix::test]
async fn a_topic_is_held_when_what_was_on_its_way_has_got_there() {
    let fixture = Fixture::new();
    fixture.create(&session(100), caller("me")).await;
    fixture.store.close_gate();
    let first = fixture.publish(&session(100), &["a"]);
    let second = fixture.publish(&session(100), &["b"]);

    let mut held = Box::pin(fixture.bus.ask(Hold { topic: session(100) }));
    settle().await;
    assert!(held.as_mut().now_or_never().is_none());
    fixture.store.decide(Verdict::Fail);
    settle().await;

    assert_eq!(held.await.unwrap(), Ok(Held::Quiet));
    assert!(first.await.unwrap().is_err() && second.await.unwrap().is_err());
    let missing = fixture.bus.ask(Hold { topic: session(999) }).await.unwrap();
    assert_eq!(missing, Ok(Held::NoLog));
}

#[actix::test]
async fn a_deleted_session_is_told_to_those_who_watch_it_and_is_no_more() {
    let fixture = Fixture::new();
    let (_, probe) = fixture.connect("me").await;
    fixture.create(&session(100), caller("me")).await;
    probe.take();
    fixture.store.close_gate();
    let last = fixture.publish(&session(100), &["a"]);

    let deleted = fixture.bus.delete("helper_100".parse().unwrap(), Principal::local(), vec![]);
    settle().await;
    assert!(probe.take().is_empty(), "it comes after what was published before");
    fixture.store.open_gate();
    last.await.unwrap().unwrap();
    deleted.await.unwrap().unwrap();
    settle().await;

    let given = probe.take();
    let [Given::Event(last), Given::Event(deleted), Given::Ended(_)] = &given[..] else {
        panic!("{given:?}")
    };
    assert_eq!(last.seq(), 2);
    assert!(matches!(deleted.body, Body::Ephemeral(Ephemeral::SessionDeleted)));
    assert_eq!(fixture.figures().await.topics, 0);
    let again = fixture.bus.delete("helper_100".parse().unwrap(), Principal::local(), vec![]).await.unwrap();
    assert_eq!(again, Err(AppendError::Conflict));
}

// ---- any interleaving ----

/// A step of a history that proptest makes up.
#[derive(Debug, Clone)]
enum Step {
    Publish {
        topic: usize,
        events: usize,
        bytes: usize,
    },
    Stream {
        topic: usize,
        points: usize,
    },
    /// Ends the streaming message of a topic with its whole text.
    Respond {
        topic: usize,
    },
    Connect {
        client: usize,
        room: usize,
    },
    Disconnect {
        client: usize,
    },
    /// Reads a page from the store, then tries to attach: what a socket does whenever it has drained.
    CatchUp {
        client: usize,
        topic: usize,
    },
    Detach {
        client: usize,
        topic: usize,
    },
    CloseGate,
    HoldAnswers,
    OpenGate,
    Decide(bool),
    Settle,
}

const TOPICS: usize = 2;
const CLIENTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let topic = 0..TOPICS;
    let client = 0..CLIENTS;
    prop_oneof![
        6 => (topic.clone(), 1..4_usize, prop_oneof![9 => 1..200_usize, 1 => 30_000..70_000_usize])
            .prop_map(|(topic, events, bytes)| Step::Publish { topic, events, bytes }),
        4 => (topic.clone(), 1..5_usize).prop_map(|(topic, points)| Step::Stream { topic, points }),
        1 => topic.clone().prop_map(|topic| Step::Respond { topic }),
        3 => (client.clone(), prop_oneof![3 => Just(usize::MAX), 1 => 0..6_usize])
            .prop_map(|(client, room)| Step::Connect { client, room }),
        2 => client.clone().prop_map(|client| Step::Disconnect { client }),
        8 => (client.clone(), topic.clone()).prop_map(|(client, topic)| Step::CatchUp { client, topic }),
        1 => (client, topic).prop_map(|(client, topic)| Step::Detach { client, topic }),
        1 => Just(Step::CloseGate),
        1 => Just(Step::HoldAnswers),
        1 => Just(Step::OpenGate),
        3 => any::<bool>().prop_map(Step::Decide),
        4 => Just(Step::Settle),
    ]
}

/// What a client has, over all its connections.
#[derive(Default)]
struct Client {
    connection: Option<(ConnectionId, Arc<Probe>)>,
    attached: [bool; TOPICS],
    seen: [Seq; TOPICS],
    /// The durable events of each topic, in the order in which they came.
    log: [Vec<Arc<Event>>; TOPICS],
    /// The streaming message: its id and its text.
    open: [Option<(MessageId, String)>; TOPICS],
}

impl Client {
    /// Takes in what came, and checks it as a client may: by numbers and offsets alone.
    fn read(&mut self) {
        let Some((_, probe)) = &self.connection else { return };
        for event in probe.take_events() {
            let topic = (0..TOPICS).find(|index| topic_of(*index) == event.topic).unwrap();
            match &event.body {
                Body::Durable(body) => {
                    assert_eq!(event.seq(), self.seen[topic] + 1, "no gap and no duplicate");
                    self.seen[topic] = event.seq();
                    if let Durable::AgentResponse(response) = body
                        && let Some((id, text)) = &self.open[topic]
                        && *id == response.message_id
                    {
                        assert_eq!(*text, response.content, "what was streamed is what was said");
                        self.open[topic] = None;
                    }
                    self.log[topic].push(event);
                }
                Body::Ephemeral(Ephemeral::MessageSnapshot { message_id, text }) => {
                    self.open[topic] = Some((*message_id, text.clone()));
                }
                Body::Ephemeral(Ephemeral::MessageDelta { message_id, offset, text }) => {
                    match &mut self.open[topic] {
                        Some((id, so_far)) if id == message_id => {
                            assert_eq!(*offset, so_far.chars().count() as u64, "no text was missed");
                            so_far.push_str(text);
                        }
                        open => {
                            assert_eq!(*offset, 0, "a message is streamed from its beginning");
                            *open = Some((*message_id, text.clone()));
                        }
                    }
                }
                Body::Ephemeral(_) => {}
            }
        }
    }

    fn lose_connection(&mut self) -> Option<(ConnectionId, Arc<Probe>)> {
        self.read();
        self.attached = [false; TOPICS];
        // A resume brings the text so far again.
        self.open = [const { None }; TOPICS];
        self.connection.take()
    }
}

fn topic_of(index: usize) -> Topic {
    session(100 + index as u64)
}

/// What is streaming in a topic, as its publisher knows it.
#[derive(Default)]
struct Streaming {
    message_id: Option<MessageId>,
    text: String,
}

async fn play(steps: Vec<Step>, hesitates: bool) {
    let fixture = Fixture::new();
    if hesitates {
        fixture.store.hesitate();
    }
    let mut epochs = Vec::new();
    for index in 0..TOPICS {
        epochs.push(fixture.create(&topic_of(index), caller("nobody")).await.epoch);
        fixture.hold(&topic_of(index)).await;
    }
    let mut clients: [Client; CLIENTS] = Default::default();
    let mut streaming: [Streaming; TOPICS] = Default::default();
    let mut outcomes = Vec::new();
    for step in steps {
        match step {
            Step::Publish { topic, events, bytes } => {
                let text = "x".repeat(bytes);
                outcomes.push(fixture.publish(&topic_of(topic), &vec![text.as_str(); events]));
            }
            Step::Stream { topic, points } => {
                let Streaming { message_id, text } = &mut streaming[topic];
                let message_id = *message_id.get_or_insert_with(MessageId::new);
                let piece: String = "aé日😀".chars().cycle().take(points).collect();
                let offset = text.chars().count() as u64;
                text.push_str(&piece);
                fixture.bus.show(
                    &topic_of(topic),
                    None,
                    vec![delta(message_id, offset, &piece)],
                    Permits::default(),
                );
            }
            Step::Respond { topic } => {
                fixture.store.open_gate();
                settle().await;
                let Streaming { message_id, text } = std::mem::take(&mut streaming[topic]);
                if let Some(message_id) = message_id {
                    let entries = vec![response(message_id, &text)];
                    outcomes.push(fixture.bus.publish(&topic_of(topic), Origin::Log, entries, vec![]));
                    settle().await;
                }
            }
            Step::Connect { client, room } => {
                if let Some((connection, _)) = clients[client].lose_connection() {
                    fixture.bus.notify(Disconnect { connection });
                }
                let connected = fixture.connect_probe(&format!("c{client}"), Probe::with_room(room)).await;
                clients[client].connection = Some(connected);
            }
            Step::Disconnect { client } => {
                if let Some((connection, _)) = clients[client].lose_connection() {
                    fixture.bus.notify(Disconnect { connection });
                }
            }
            Step::CatchUp { client, topic } => catch_up(&fixture, &mut clients[client], topic, &epochs).await,
            Step::Detach { client, topic } => {
                if let Some((connection, _)) = clients[client].connection.clone() {
                    fixture.bus.ask(Detach { connection, topic: topic_of(topic) }).await.unwrap();
                    clients[client].read();
                    clients[client].attached[topic] = false;
                    clients[client].open[topic] = None;
                }
            }
            Step::CloseGate => fixture.store.close_gate(),
            Step::HoldAnswers => {
                fixture.store.open_gate();
                fixture.store.hold_answers();
            }
            Step::OpenGate => fixture.store.open_gate(),
            Step::Decide(true) => drop(fixture.store.decide(Verdict::Append)),
            Step::Decide(false) => drop(fixture.store.decide(Verdict::Fail)),
            Step::Settle => {
                settle().await;
                let awake = |client: &Client| client.connection.iter().all(|(_, probe)| probe.is_awake());
                assert!(clients.iter().all(awake), "whoever is offered something is woken for it");
            }
        }
        clients.iter_mut().for_each(Client::read);
    }

    // In the end every client connects anew and reads all.
    fixture.store.open_gate();
    settle().await;
    let mut committed: BTreeMap<(String, Seq), Arc<Event>> = BTreeMap::new();
    for outcome in outcomes {
        for event in outcome.await.unwrap().map_or_else(|_| Vec::new(), |committed| committed.events) {
            assert!(committed.insert((event.topic.to_string(), event.seq()), event).is_none());
        }
    }
    for (index, client) in clients.iter_mut().enumerate() {
        if let Some((connection, _)) = client.lose_connection() {
            fixture.bus.notify(Disconnect { connection });
        }
        client.connection = Some(fixture.connect(&format!("c{index}")).await);
        for topic in 0..TOPICS {
            while !client.attached[topic] {
                catch_up(&fixture, client, topic, &epochs).await;
            }
        }
        client.read();
        for topic in 0..TOPICS {
            let expected: Vec<_> = committed
                .values()
                .filter(|event| event.topic == topic_of(topic))
                .map(|event| event.id)
                .collect();
            let seen: Vec<_> = client.log[topic].iter().skip(1).map(|event| event.id).collect();
            assert_eq!(seen, expected, "each event that was committed, once and in order");
            let streaming = &streaming[topic];
            let open = streaming.message_id.map(|message_id| (message_id, streaming.text.clone()));
            assert_eq!(client.open[topic], open, "and the text so far of what is streaming");
        }
    }
}

async fn catch_up(fixture: &Fixture, client: &mut Client, topic: usize, epochs: &[Epoch]) {
    client.read();
    let Some((connection, probe)) = client.connection.clone() else { return };
    if client.attached[topic] {
        return;
    }
    let after = client.seen[topic];
    let page = fixture.store.read(&topic_of(topic), ReadFrom::After(after), PAGE).await.unwrap().unwrap();
    probe.hand_over(&page.events);
    client.read();
    let position = Position { epoch: epochs[topic].clone(), seq: client.seen[topic] };
    let attach = Attach { connection, topic: topic_of(topic), after: position };
    let mut attached = Box::pin(fixture.bus.ask(attach));
    settle().await;
    let attached = match attached.as_mut().now_or_never() {
        Some(attached) => attached,
        // It is ahead of the bus, which waits for the store's answer.
        None => {
            fixture.store.open_gate();
            attached.await
        }
    };
    match attached.unwrap().unwrap() {
        Attached::Live => client.attached[topic] = true,
        Attached::Behind => {}
        refused => panic!("{refused:?}"),
    }
    client.read();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_gives_each_client_the_log_exactly_once(
        steps in proptest::collection::vec(step(), 1..60),
        hesitates in any::<bool>(),
    ) {
        actix::System::new().block_on(play(steps, hesitates));
    }
}
