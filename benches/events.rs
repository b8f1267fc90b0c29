//! What an event costs on its way: to be encoded, to be fanned out, to be replayed.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix::Actor;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use duologue::{
    core::{
        bus::{Attach, Attached, Bus, Connect, Disconnect, EventBus, GetFigures, Hold, Origin},
        command::Caller,
        event::{AgentResponse, Durable, Ephemeral, Event, FinishReason, Timestamp},
        ids::{ConnectionId, Epoch, MessageId, Position, Principal, RunId, Seq, SessionId, Topic},
        pace::Permits,
        ports::{InvitedFrom, Overflow, PageLimit, ReadFrom, Store, Subscriber},
    },
    doors::wire::events::{past_payload, payload},
    store::memory::MemoryStore,
};

/// A page as sockets read it.
const PAGE: PageLimit = PageLimit { events: 256, bytes: 64 * 1024 };

/// A subscriber that encodes what it gets, as a socket does, and counts.
#[derive(Default)]
struct Counter {
    bytes: AtomicUsize,
}

impl Counter {
    fn take(&self, events: &[Arc<Event>]) {
        let bytes: usize = events.iter().map(|event| payload(event).len()).sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Subscriber for Counter {
    fn offer(&self, events: &[Arc<Event>]) -> Result<(), Overflow> {
        self.take(events);
        Ok(())
    }

    fn wake(&self) {}

    fn hand_over(&self, events: &[Arc<Event>]) {
        self.take(events);
    }

    fn announce(&self, _: &Topic, _: &Epoch, _: Seq) {}
    fn invite(&self, _: &Topic, _: InvitedFrom) {}
    fn end_subscription(&self, _topic: &Topic) {}

    fn cut_off(&self) {}
}

fn topic() -> Topic {
    Topic::Session(SessionId::new(&"helper".parse().expect("an agent's id"), 417))
}

fn caller() -> Caller {
    Caller { principal: Principal::local(), client_id: None }
}

fn created() -> Durable {
    Durable::SessionCreated {
        owner: Principal::local(),
        agent_name: "Helper".to_owned(),
        title: None,
        forked_from: None,
    }
}

fn delta(message_id: MessageId, offset: u64) -> Ephemeral {
    Ephemeral::MessageDelta { message_id, offset, text: "some words ".to_owned() }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let (run_id, message_id) = (RunId::new(), MessageId::new());
    group.bench_function("delta", |bencher| {
        bencher.iter_batched(
            || Event::ephemeral(topic(), Some(run_id), delta(message_id, 417)),
            |event| black_box(payload(&event).len()),
            criterion::BatchSize::SmallInput,
        );
    });
    let answer = AgentResponse {
        message_id,
        content: "some words\n".repeat(200),
        model: "demo".to_owned(),
        finish_reason: FinishReason::Stop,
        usage: None,
        incomplete: false,
        provider_state: None,
    };
    group.bench_function("answer of 2 KiB", |bencher| {
        bencher.iter_batched(
            || {
                let body = Durable::AgentResponse(Box::new(answer.clone()));
                Event::durable(topic(), Epoch::from("e"), 417, Timestamp::now(), body.into())
            },
            |event| black_box(payload(&event).len()),
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Deltas from an agent's hands to each subscriber's, encoded once.
fn fan_out(criterion: &mut Criterion) {
    const DELTAS: u64 = 1_000;
    let mut group = criterion.benchmark_group("fan_out");
    for subscribers in [1_usize, 10, 500] {
        group.throughput(Throughput::Elements(DELTAS * subscribers as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(subscribers),
            &subscribers,
            |bencher, &subscribers| {
                bencher.iter_custom(|rounds| {
                    actix::System::new().block_on(fan_out_rounds(subscribers, rounds, DELTAS))
                });
            },
        );
    }
    group.finish();
}

async fn fan_out_rounds(subscribers: usize, rounds: u64, deltas: u64) -> Duration {
    let bus = Bus::new(EventBus::new(Arc::new(MemoryStore::new(usize::MAX))).start());
    for _ in 0..subscribers {
        let (connection, subscriber) = (ConnectionId::new(), Arc::new(Counter::default()));
        bus.notify(Connect { connection, caller: Some(caller()), subscriber });
    }
    let topic = topic();
    let created = bus.publish(&topic, Origin::New(caller()), vec![created().into()], Vec::new());
    created.await.expect("the bus lives").expect("it is appended");
    bus.ask(Hold { topic: topic.clone() }).await.expect("the bus lives").expect("the log is there");
    let run_id = RunId::new();
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let message_id = MessageId::new();
        let began = Instant::now();
        for offset in 0..deltas {
            bus.show(&topic, Some(run_id), vec![delta(message_id, offset * 11)], Permits::default());
        }
        // Answered once all of that is out.
        bus.ask(GetFigures).await.expect("the bus lives");
        spent += began.elapsed();
    }
    spent
}

/// A log of so many events, in a store and in the bus on top of it.
async fn logged(store: Arc<MemoryStore>, topic: &Topic, events: u64) -> Bus {
    let bus = Bus::new(EventBus::new(store).start());
    let created = bus.publish(topic, Origin::New(caller()), vec![created().into()], Vec::new());
    created.await.expect("the bus lives").expect("it is appended");
    bus.ask(Hold { topic: topic.clone() }).await.expect("the bus lives").expect("the log is there");
    for _ in 1..events {
        let message = Durable::SystemMessage { content: "some words ".repeat(20) };
        let appended = bus.publish(topic, Origin::Log, vec![message.into()], Vec::new());
        appended.await.expect("the bus lives").expect("it is appended");
    }
    bus
}

/// What a client that comes back is shown: of the log, as a socket reads it, and of the bus's window.
fn replay(criterion: &mut Criterion) {
    const EVENTS: u64 = 1_000;
    let topic = topic();
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS));
    let store = Arc::new(MemoryStore::new(usize::MAX));
    actix::System::new().block_on(async { drop(logged(store.clone(), &topic, EVENTS).await) });
    group.bench_function("1000 events of the log", |bencher| {
        bencher.iter(|| {
            let (mut after, mut bytes) = (0, 0);
            loop {
                let page =
                    futures_util::FutureExt::now_or_never(store.read(&topic, ReadFrom::After(after), PAGE));
                let page = page.expect("memory answers at once").expect("it can be read").expect("a log");
                bytes += page.events.iter().map(|event| past_payload(event).len()).sum::<usize>();
                after = page.events.last().map_or(after, |event| event.seq());
                if !page.more {
                    break black_box(bytes);
                }
            }
        });
    });
    for missed in [0, 10, 100] {
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(
            BenchmarkId::new("resume of a client that missed", missed),
            &missed,
            |bencher, &missed| {
                bencher.iter_custom(|rounds| actix::System::new().block_on(resume_rounds(missed, rounds)));
            },
        );
    }
    group.finish();
}

/// Clients come back one after the other, each as a connection of its own.
async fn resume_rounds(missed: u64, rounds: u64) -> Duration {
    const EVENTS: u64 = 110;
    let (store, topic) = (Arc::new(MemoryStore::new(usize::MAX)), topic());
    let bus = logged(store.clone(), &topic, EVENTS).await;
    let head = store.head(&topic).await.expect("it can be read").expect("a log");
    let began = Instant::now();
    for _ in 0..rounds {
        let (connection, subscriber) = (ConnectionId::new(), Arc::new(Counter::default()));
        bus.notify(Connect { connection, caller: Some(caller()), subscriber: subscriber.clone() });
        let after = Position { epoch: head.epoch.clone(), seq: EVENTS - missed };
        let attached = bus.ask(Attach { connection, topic: topic.clone(), after }).await;
        assert_eq!(attached.expect("the bus lives").expect("it can be read"), Attached::Live);
        black_box(subscriber.bytes.load(Ordering::Relaxed));
        bus.notify(Disconnect { connection });
    }
    began.elapsed()
}

criterion_group!(benches, encode, fan_out, replay);
criterion_main!(benches);
