//! Many clients at once, and everything at once for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use duologue::{
    core::{
        event::{Durable, Event, Timestamp},
        ids::{AgentId, Epoch, Principal, SessionId, Topic},
        ports::{Append, Store},
    },
    store::sqlite::{SqliteOptions, SqliteStore},
};
use futures_util::{StreamExt, future::join_all, stream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::{Rng, RngExt as _, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::{
    hostile::Raw,
    support::{
        Client, Network, Server, Socket, Watched, assert_well_formed, chat, chat_on_busy, create, manage,
        scratch_dir, stop, subscribe, topic, unique, until,
    },
};

/// Lets this process have as many open files as it may.
fn raise_file_limit(wanted: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    assert!(hard >= wanted, "this test needs {wanted} open files, and may have {hard}: see ulimit -Hn");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may be raised");
}

// ---- many that come back ----

/// A client that has lost its connections.
struct Gone {
    client_id: String,
    session: String,
    watched: Watched,
}

impl Gone {
    /// Comes back with both sockets; what it has seen then.
    async fn come_back(self, server: &Server, up_to: u64) -> Watched {
        let Gone { client_id, session, mut watched } = self;
        let mut client = Client::open(server, &client_id).await;
        watched.reconnected();
        let topic = topic(&session);
        let ack = client.frontend.ask(&watched.resume("resume", &[&topic])).await;
        assert_eq!(ack["data"]["topics"][0]["recovered"], true, "{ack}");
        while watched.seq(&topic) < up_to {
            watched.see(&client.frontend.next().await);
        }
        watched
    }
}

#[tokio::test]
async fn four_thousand_clients_that_come_back_at_once_each_see_what_they_missed() {
    const CLIENTS: usize = 4_000;
    /// A session's beginning, and one answered message.
    const SEEN: u64 = 3 + 5;
    raise_file_limit(2 * CLIENTS as u64 + 500);
    let server = Server::start();
    let leave = async |number: usize| {
        let client_id = format!("client-{number}");
        let mut client = Client::open(&server, &client_id).await;
        let created = client.must(create("helper")).await;
        let session = created["session_id"].as_str().expect("an id").to_owned();
        let mut watched = Watched::new();
        while watched.seq(&topic(&session)) < 3 {
            watched.see(&client.frontend.next().await);
        }
        (client, Gone { client_id, session, watched })
    };
    let here: Vec<_> = stream::iter(0..CLIENTS).map(leave).buffer_unordered(64).collect().await;
    let (clients, gone): (Vec<_>, Vec<_>) = here.into_iter().unzip();
    drop(clients);
    let mut author = server.client().await;
    for Gone { session, .. } in &gone {
        author.chat(session, "/echo while you were away").await;
    }

    let back = join_all(gone.into_iter().map(|gone| gone.come_back(&server, SEEN))).await;

    assert_eq!(back.len(), CLIENTS);
    for watched in back {
        let seen = watched.only_topic();
        assert_eq!((seen.seq, seen.snapshots), (SEEN, 0));
        assert_eq!(seen.events[&SEEN]["data"]["outcome"], "completed");
    }
}

// ---- everything for a while ----

/// How long that goes on.
const SOAK: Duration = Duration::from_secs(60);
const TALKERS: usize = 6;
const VANDALS: usize = 2;

#[tokio::test]
async fn after_a_while_of_everything_nothing_is_left_behind() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let store_bytes = (8 * 1024 * 1024).to_string();
    let server = Server::with(&[
        ("DUOLOGUE_MEMORY_STORE_BYTES", &store_bytes),
        ("DUOLOGUE_SESSION_IDLE_SECS", "1"),
        ("DUOLOGUE_HEARTBEAT_SECS", "1"),
    ]);
    let files = server.open_files();
    let going = AtomicBool::new(true);
    let random = |number: usize| StdRng::seed_from_u64(seed.wrapping_add(number as u64));
    let talking = join_all((0..TALKERS).map(|number| talk(&server, random(number), &going)));
    let raging = join_all((0..VANDALS).map(|number| rage(&server, random(TALKERS + number), &going)));
    // The store is full by the middle: from then on memory is level, or something is left behind each time.
    let measuring = async {
        tokio::time::sleep(SOAK / 2).await;
        let in_the_middle = server.resident_bytes();
        tokio::time::sleep(SOAK / 2).await;
        going.store(false, Ordering::Relaxed);
        (in_the_middle, server.resident_bytes())
    };

    let (talks, _, (in_the_middle, at_the_end)) = tokio::join!(talking, raging, measuring);

    let talks: usize = talks.into_iter().sum();
    println!("{talks} sessions; {in_the_middle} bytes in the middle, {at_the_end} at the end");
    assert!(talks > TALKERS, "{talks} sessions in all");
    assert!(
        at_the_end < in_the_middle * 3 / 2,
        "{in_the_middle} bytes in the middle, {at_the_end} at the end"
    );
    until("all to be let go", async || {
        let ready = server.ready().await;
        ["connections", "agents_in_memory", "topics_in_memory", "subscriptions"]
            .iter()
            .all(|what| ready[*what] == 0)
    })
    .await;
    // Workers open a few of their own when they begin.
    until("all files to be closed", async || server.open_files() <= files + 16).await;
}

/// Has one session after another, as users do: watched over connections that break, stopped, abandoned. Each is
/// checked to its end, and closed. How many there were.
async fn talk(server: &Server, mut random: StdRng, going: &AtomicBool) -> usize {
    let mut sessions = 0;
    while going.load(Ordering::Relaxed) {
        let mut author = Client::open(server, &unique("talker")).await;
        let session = author.create("helper").await;
        let topic = topic(&session);
        let mut watched = Watched::new();
        for _ in 0..random.random_range(1..6) {
            say_something(&mut author, &session, &mut random).await;
            watch_until_cut(server, &mut watched, &topic, &mut random).await;
        }
        // A queue may refuse to be stopped only because there is nothing to stop.
        until("rest", async || {
            author.command(stop(&session, json!({ "clear_queue": true }))).await["error"]["code"]
                == "conflict"
        })
        .await;
        author.must(manage(&session, "close")).await;
        let log = author.history(&session).await;
        assert_well_formed(&log);
        let mut last = Socket::open(&server.url("/ws/frontend-api")).await;
        watched.reconnected();
        last.ask(&watched.resume("at last", &[&topic])).await;
        while watched.seq(&topic) < log.len() as u64 {
            watched.see(&last.next().await);
        }
        for (event, seen) in log.iter().zip(watched.topic(&topic).events.values()) {
            assert_eq!(event, seen);
        }
        sessions += 1;
    }
    sessions
}

async fn say_something(author: &mut Client, session: &str, random: &mut StdRng) {
    let message = [
        "/count 200 1",
        "/echo äöü 😀",
        "/lorem 300",
        "/tool clock",
        "/fail cut",
        "/think 50",
        "/count 5000",
    ][random.random_range(0..7)];
    match random.random_range(0..10) {
        0..4 => drop(author.run(session, message).await),
        4..8 => drop(author.command(chat(session, message)).await),
        8 => drop(author.command(chat_on_busy(session, message, "interrupt")).await),
        _ => drop(author.command(stop(session, json!({}))).await),
    }
}

/// Watches a session from where it was left, until the connection is cut at some byte.
async fn watch_until_cut(server: &Server, watched: &mut Watched, topic: &str, random: &mut StdRng) {
    let bytes = 10_u64.pow(random.random_range(2..5)) * random.random_range(1..10);
    let network = Network::cut_after(server, bytes).await;
    let url = network.url(&format!("/ws/frontend-api?client_id={}", unique("watcher")));
    let Some(mut socket) = Socket::try_open(&url).await else { return };
    watched.reconnected();
    if !socket.try_send(&watched.resume("resume", &[topic])).await {
        return;
    }
    // What is at rest sends heartbeats, and no more.
    let patience = Instant::now() + Duration::from_millis(300);
    while let Ok(Some(frame)) = tokio::time::timeout_at(patience.into(), socket.try_next()).await {
        watched.see(&frame);
    }
}

/// Does what no client should, on connections of its own.
async fn rage(server: &Server, mut random: StdRng, going: &AtomicBool) {
    while going.load(Ordering::Relaxed) {
        match random.random_range(0..6) {
            // Bytes of any kind in the place of frames.
            0 => {
                let mut bytes = vec![0; random.random_range(1..4096)];
                random.fill_bytes(&mut bytes);
                Raw::upgrade(server).await.write(&bytes).await;
            }
            // Half a handshake.
            1 => {
                let mut stream = Raw::connect(server).await;
                let _ = stream.write_all(b"GET /ws/backend-api HTTP/1.1\r\nHost: ").await;
            }
            // Rubbish until it is let go.
            2 => {
                let mut socket = Socket::open(&server.url("/ws/backend-api")).await;
                while socket.try_send(&json!("rubbish")).await && socket.try_next().await.is_some() {}
            }
            // Asks for a lot and reads none of it.
            3 => {
                let mut client = server.client().await;
                let session = client.create("helper").await;
                let asked = vec![json!({ "type": "session_management", "data": { "action": "list" } }); 200];
                client.backend.send_at_once(&asked).await;
                client.command(chat(&session, "/count 20000")).await;
                client.command(manage(&session, "close")).await;
            }
            // Subscribes to what there is not, and gives up what it does not have.
            4 => {
                let mut socket = Socket::open(&server.url("/ws/frontend-api")).await;
                let topics: Vec<String> =
                    (100..400).map(|number| format!("session:writer_{number}")).collect();
                let names: Vec<&str> = topics.iter().map(String::as_str).collect();
                let given_up: Value = json!({ "type": "unsubscribe", "data": { "topics": names } });
                socket.send_at_once(&[subscribe(&names), given_up]).await;
                socket.so_far().await;
            }
            // Comes and goes.
            _ => drop(server.client().await),
        }
    }
}

// ---- much that is stored ----

/// Puts sessions of a few events each into the file that a server in `dir` will find.
async fn store_sessions(dir: &std::path::Path, sessions: u64) {
    let path = dir.join("data/duologue.db");
    let store = SqliteStore::open(SqliteOptions { path, sync_every_commit: false }).expect("a new file");
    let agent: AgentId = "helper".parse().expect("an id");
    let append = |number| {
        let topic = Topic::Session(SessionId::new(&agent, 1_000_000 + number));
        let epoch = Epoch::of_new_log(store.incarnation());
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: "Helper".to_owned(),
            title: Some(format!("Session {number}")),
            forked_from: None,
        };
        let said = (0..4).map(|_| Durable::SystemMessage { content: "a few words ".repeat(10) });
        let events = (1..).zip(std::iter::once(created).chain(said)).map(|(seq, body)| {
            Arc::new(Event::durable(topic.clone(), epoch.clone(), seq, Timestamp::now(), body.into()))
        });
        let events = events.collect();
        store.append(Append { topic, expected_seq: 0, events, commands: Vec::new() })
    };
    let mut appends = stream::iter((0..sessions).map(append)).buffer_unordered(1_000);
    while let Some(appended) = appends.next().await {
        appended.expect("there is room");
    }
    store.close().await;
}

#[tokio::test]
async fn memory_does_not_grow_with_what_is_stored() {
    const STORED: u64 = 20_000;
    const USED: usize = 20;
    let use_some = async |dir: &std::path::Path| {
        let server = Server::start_in(dir, &[]);
        let mut client = server.client().await;
        for _ in 0..USED {
            let session = client.create("helper").await;
            assert_eq!(client.run(&session, "/echo hello").await, "completed");
        }
        let list = client.must(manage("", "list")).await;
        assert!(list["sessions"].as_array().is_some_and(|sessions| sessions.len() >= USED), "{list}");
        server.resident_bytes()
    };
    let (empty, full) = (scratch_dir(), scratch_dir());
    store_sessions(&full, STORED).await;

    let alone = use_some(&empty).await;
    let among_many = use_some(&full).await;

    // Caches of the store are of a fixed size, and fuller. In memory, the events alone would be three times this.
    let grown = among_many.saturating_sub(alone);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more for {STORED} sessions that nobody uses");
}
