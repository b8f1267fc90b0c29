//! Who is shown what, as `protocol.md` has it: subscriptions and their positions, snapshots and replays, events
//! that go to whole clients, heartbeats, and connections that break at any byte.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::StreamExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Client, Network, Server, Socket, Watched, assert_contiguous, assert_well_formed, chat, create, durable,
    manage, of_run, stop, subscribe, subscribe_from, topic, types, unique, until, within,
};

const KIB: usize = 1024;

/// A message whose run goes on until it is stopped, without a word.
const ENDLESS: &str = "/think 3600000";
/// A message whose run goes on until it is stopped, and says something all the time.
const ENDLESS_TALK: &str = "/count 1000000 2";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {value}"))
}

/// Those of the frames that belong to the topic, or tell of a subscription to it.
fn about<'a>(frames: &'a [Value], topic: &str) -> Vec<&'a Value> {
    let is_about = |frame: &&Value| {
        let subscribed = frame["data"]["topics"].as_array().into_iter().flatten();
        frame["topic"] == topic || subscribed.into_iter().any(|subscribed| subscribed["topic"] == topic)
    };
    frames.iter().filter(is_about).collect()
}

/// What is said of the one topic of an acknowledgement.
#[track_caller]
fn only_topic(ack: &Value) -> &Value {
    assert_eq!(ack["type"], "subscribe_ack", "{ack}");
    let topics = ack["data"]["topics"].as_array().expect("topics");
    assert_eq!(topics.len(), 1, "{ack}");
    &topics[0]
}

/// A frontend of its own.
async fn frontend(server: &Server) -> Socket {
    Socket::open(&server.url(&format!("/ws/frontend-api?client_id={}", unique("frontend")))).await
}

/// The next frame of the topic.
async fn next_of(socket: &mut Socket, topic: &str) -> Value {
    socket.next_where(topic, |frame| frame["topic"] == topic).await
}

/// Watches a session: whatever happens from now on is shown live.
async fn watch(socket: &mut Socket, author: &mut Client, name: &str, session: &str) {
    socket.ask(&subscribe(&[name])).await;
    next_of(socket, &topic(session)).await;
    // Once something later than the snapshot has come, the subscription is there.
    let run_id = author.chat(session, "/echo now").await;
    author.until_run_ends(&run_id).await;
    socket
        .collect_until("the end of the run", |frame| {
            frame["type"] == "run_finished" && frame["run_id"] == run_id.as_str()
        })
        .await;
    socket.next_where("rest", |frame| frame["data"]["status"] == "idle").await;
    socket.so_far().await;
}

fn unsubscribe(topics: &[&str]) -> Value {
    json!({ "type": "unsubscribe", "message_id": unique("unsubscribe"), "data": { "topics": topics } })
}

/// Reads on until so many durable events of the topic have been seen.
async fn see_up_to(socket: &mut Socket, watched: &mut Watched, topic: &str, seq: u64) {
    while watched.seq(topic) < seq {
        let frame = socket.next().await;
        watched.see(&frame);
    }
}

/// Checks that what was seen is the whole log.
async fn assert_saw_all(watched: &Watched, client: &mut Client, session: &str) {
    let log = client.history(session).await;
    assert_well_formed(&log);
    let seen: Vec<_> = watched.topic(&topic(session)).events.values().collect();
    assert_eq!(seen, log.iter().collect::<Vec<_>>());
}

// ---- sockets ----

#[tokio::test]
async fn the_first_frame_of_a_socket_says_what_it_is() {
    let server = Server::with(&[("DUOLOGUE_HEARTBEAT_SECS", "17")]);
    let mut connections = BTreeSet::new();
    for path in ["/ws/frontend-api", "/ws/backend-api"] {
        for client_id in [Some("tab-1"), None] {
            let query = client_id.map_or_else(String::new, |id| format!("?client_id={id}"));
            let (_, greeting) = Socket::open_with_greeting(&server.url(&format!("{path}{query}"))).await;

            let data = &greeting["data"];
            assert_eq!(data["client_id"], client_id.map_or(Value::Null, Into::into), "{greeting}");
            assert!(connections.insert(text(data, "connection_id").to_owned()), "{greeting}");
            assert!(data["limits"].is_object(), "{greeting}");
            let interval = data.as_object().expect("data").values().any(|value| *value == 17);
            assert!(interval, "the heartbeat's interval: {greeting}");
            assert!(greeting.get("seq").is_none() && greeting.get("epoch").is_none(), "{greeting}");
            assert!(text(&greeting, "timestamp").parse::<jiff::Timestamp>().is_ok(), "{greeting}");
        }
    }
}

#[tokio::test]
async fn a_ping_and_a_heartbeat_are_answered_everywhere() {
    let server = Server::start();
    for path in ["/ws/frontend-api", "/ws/backend-api"] {
        let mut socket = Socket::open(&server.url(path)).await;
        for kind in ["ping", "heartbeat"] {
            let pong = socket.ask(&json!({ "type": kind, "message_id": kind })).await;
            assert_eq!((&pong["type"], &pong["reply_to"]), (&json!("pong"), &json!(kind)));
            socket.send(&json!({ "type": kind })).await;
            let pong = socket.next().await;
            assert_eq!((&pong["type"], &pong["reply_to"]), (&json!("pong"), &Value::Null));
        }
    }
}

#[tokio::test]
async fn a_newer_connection_of_a_client_takes_the_place_of_the_older_at_the_same_door() {
    let server = Server::start();
    let mut client = Client::open(&server, "twice").await;
    let mut other = Client::open(&server, "another").await;
    let mut unnamed = [
        Socket::open(&server.url("/ws/frontend-api")).await,
        Socket::open(&server.url("/ws/frontend-api")).await,
    ];

    let mut newer = Socket::open(&server.url("/ws/frontend-api?client_id=twice")).await;

    let closed = client.frontend.next_where("the end", |frame| frame["type"] == "connection_closed").await;
    assert_eq!(closed["data"]["code"], 4409, "{closed}");
    assert_eq!(client.frontend.close_code().await, 4409);
    // The other door of the same client, and everybody else, stay.
    client.backend.so_far().await;
    other.frontend.so_far().await;
    for socket in &mut unnamed {
        socket.so_far().await;
    }
    let created = client.must(create("helper")).await;
    let at = topic(text(&created, "session_id"));
    newer.next_where("the session", |frame| frame["type"] == "session_created" && frame["topic"] == at).await;
    let backend = Socket::open(&server.url("/ws/backend-api?client_id=twice")).await;
    assert_eq!(client.backend.close_code().await, 4409);
    newer.so_far().await;
    backend.close().await;
}

#[tokio::test]
async fn a_heartbeat_comes_as_a_ping_and_as_an_event() {
    let server = Server::with(&[("DUOLOGUE_HEARTBEAT_SECS", "1")]);
    for path in ["/ws/frontend-api", "/ws/backend-api"] {
        let (mut stream, _) = within("a connection", tokio_tungstenite::connect_async(server.url(path)))
            .await
            .expect("an open connection");
        let (mut pings, mut events) = (0, 0);

        // More than once: whoever answers stays.
        while pings < 3 || events < 3 {
            match within("a heartbeat", stream.next()).await {
                Some(Ok(Message::Ping(_))) => pings += 1,
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    if frame["type"] == "heartbeat" {
                        assert!(frame.get("seq").is_none() && frame.get("epoch").is_none(), "{frame}");
                        events += 1;
                    }
                }
                other => panic!("a heartbeat was waited for, and came {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_is_silent_is_let_go() {
    let server = Server::with(&[("DUOLOGUE_HEARTBEAT_SECS", "1")]);
    let network = Network::to(&server).await;
    let mut socket = Socket::open(&network.url("/ws/frontend-api?client_id=silent")).await;

    network.mute_client();

    let closed = socket.next_where("the end", |frame| frame["type"] == "connection_closed").await;
    assert_eq!(closed["data"]["code"], 4001, "{closed}");
    assert_eq!(socket.close_code().await, 4001);
    until("the socket to be gone", async || server.connections().await == 0).await;
}

// ---- subscriptions by creating ----

#[tokio::test]
async fn a_created_session_is_shown_to_its_client_and_nobody_else() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut other = server.client().await;
    let mut unnamed = Socket::open(&server.url("/ws/frontend-api")).await;

    let created = client.must(create("helper")).await;

    let topic = topic(text(&created, "session_id"));
    let frames = client.frontend.so_far().await;
    let shown = about(&frames, &topic);
    let expected = ["subscribe_ack", "session_created", "system_message", "seed_message"];
    assert_eq!(types(&shown), expected, "the subscription first, then all there is");
    let ack = shown[0];
    assert_eq!(ack.get("reply_to").unwrap_or(&Value::Null), &Value::Null, "nobody has asked for it");
    assert_eq!(only_topic(ack)["epoch"], created["epoch"]);
    assert_contiguous(&shown[1..], 0);
    for socket in [&mut other.frontend, &mut unnamed] {
        let frames = socket.so_far().await;
        assert!(about(&frames, &topic).is_empty(), "{frames:?}");
    }
}

#[tokio::test]
async fn where_nobody_is_named_a_created_session_is_shown_to_all_who_are_not() {
    let server = Server::start();
    let mut named = server.client().await;
    let mut unnamed = [
        Socket::open(&server.url("/ws/frontend-api")).await,
        Socket::open(&server.url("/ws/frontend-api")).await,
    ];
    let mut backend = Socket::open(&server.url("/ws/backend-api")).await;
    let mut command = create("helper");
    command["message_id"] = "c1".into();

    let reply = backend.ask(&command).await;

    let topic = topic(text(&reply["data"], "session_id"));
    for socket in &mut unnamed {
        let frames = socket.so_far().await;
        let expected = ["subscribe_ack", "session_created", "system_message", "seed_message"];
        assert_eq!(types(&about(&frames, &topic)), expected);
    }
    let frames = named.frontend.so_far().await;
    assert!(about(&frames, &topic).is_empty(), "{frames:?}");
}

#[tokio::test]
async fn a_frontend_that_is_established_misses_nothing_of_what_is_created_then() {
    let server = Server::start();
    let mut backend = Socket::open(&server.url("/ws/backend-api?client_id=quick")).await;
    for round in 0..30 {
        let mut frontend = Socket::open(&server.url("/ws/frontend-api?client_id=quick")).await;
        let mut command = create("helper");
        command["message_id"] = format!("c{round}").into();

        let reply = backend.ask(&command).await;

        let topic = topic(text(&reply["data"], "session_id"));
        let frames = frontend.so_far().await;
        assert_eq!(types(&about(&frames, &topic))[..2], ["subscribe_ack", "session_created"], "{round}");
    }
}

#[tokio::test]
async fn whoever_comes_later_has_all_of_a_session_from_its_beginning() {
    let server = Server::start();
    let mut client = server.client().await;
    let created = client.must(create("helper")).await;
    let session = text(&created, "session_id");
    let run_id = client.chat(session, "/echo hi").await;
    client.until_run_ends(&run_id).await;
    let log = client.history(session).await;

    // 0 is a valid position in whatever epoch.
    for epoch in [text(&created, "epoch"), "another"] {
        let mut late = frontend(&server).await;
        let ack = late.ask(&subscribe_from(&topic(session), epoch, 0)).await;

        let subscribed = only_topic(&ack);
        assert_eq!((&subscribed["recovered"], &subscribed["replayed"]), (&json!(true), &json!(log.len())));
        assert_eq!((&subscribed["epoch"], &subscribed["head"]), (&created["epoch"], &json!(log.len())));
        let mut watched = Watched::new();
        see_up_to(&mut late, &mut watched, &topic(session), log.len() as u64).await;
        assert_saw_all(&watched, &mut client, session).await;
    }
}

// ---- subscriptions by asking ----

#[tokio::test]
async fn a_subscription_may_be_asked_for_in_three_shapes() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let topic = topic(&session);
    for shape in [
        json!({ "type": "subscribe", "message_id": "s", "data": { "topics": [topic] } }),
        json!({ "type": "subscribe", "message_id": "s", "topics": [topic] }),
        json!({ "type": "subscribe", "message_id": "s", "agent_id": "helper", "session_id": session }),
    ] {
        let mut socket = frontend(&server).await;
        let ack = socket.ask(&shape).await;

        assert_eq!(only_topic(&ack)["topic"], topic.as_str(), "{shape}");
        let snapshot = next_of(&mut socket, &topic).await;
        assert_eq!((&snapshot["type"], &snapshot["topic"]), (&json!("session_snapshot"), &json!(topic)));
        client.run(&session, "/echo hi").await;
        socket.next_where("the run", |frame| frame["type"] == "run_finished").await;
    }
}

#[tokio::test]
async fn other_names_of_a_sessions_topic_lead_to_the_same_events() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let mut sockets = Vec::new();
    for name in ["session", "thread", "task"] {
        let mut socket = frontend(&server).await;
        let ack = socket.ask(&subscribe(&[&format!("{name}:{session}")])).await;
        assert_eq!(ack["data"]["topics"].as_array().map(Vec::len), Some(1), "{ack}");
        next_of(&mut socket, &topic(&session)).await;
        sockets.push(socket);
    }

    let run_id = client.chat(&session, "/echo hi").await;
    client.until_run_ends(&run_id).await;

    for socket in &mut sockets {
        let frames = socket
            .collect_until("the end", |frame| {
                frame["type"] == "run_finished" && frame["run_id"] == run_id.as_str()
            })
            .await;
        let events = of_run(&frames, &run_id);
        assert_eq!(events.len(), 5);
        assert!(frames.iter().all(|frame| frame["topic"].is_null() || frame["topic"] == topic(&session)));
    }
}

#[tokio::test]
async fn a_subscription_under_two_names_is_one() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let mut socket = frontend(&server).await;
    socket.ask(&subscribe(&[&topic(&session)])).await;
    socket.ask(&subscribe(&[&format!("thread:{session}"), &format!("task:{session}")])).await;

    let run_id = client.chat(&session, "/echo hi").await;
    client.until_run_ends(&run_id).await;

    let mut watched = Watched::new();
    let head = client.history(&session).await.len() as u64;
    see_up_to(&mut socket, &mut watched, &topic(&session), head).await;
    socket.so_far().await.iter().for_each(|frame| watched.see(frame));
    assert_eq!(watched.topic(&topic(&session)).snapshots, 1);
}

#[tokio::test]
async fn a_position_is_resumed_exactly_or_refused_with_a_reason() {
    let server = Server::start();
    let mut client = server.client().await;
    let created = client.must(create("helper")).await;
    let (session, epoch) = (text(&created, "session_id"), text(&created, "epoch"));
    let run_id = client.chat(session, "/echo hi").await;
    client.until_run_ends(&run_id).await;
    let log = client.history(session).await;
    let head = log.len() as u64;

    for seq in 1..=head {
        let mut socket = frontend(&server).await;
        let ack = socket.ask(&subscribe_from(&topic(session), epoch, seq)).await;
        let subscribed = only_topic(&ack);
        let expected = json!({ "topic": topic(session), "epoch": epoch, "head": head, "recovered": true, "replayed": head - seq });
        assert_eq!(*subscribed, expected);
        for event in &log[seq as usize..] {
            assert_eq!(next_of(&mut socket, &topic(session)).await, *event);
        }
        let frames = socket.so_far().await;
        assert!(durable(&frames, session).is_empty(), "{frames:?}");
    }
    let refused = [
        (subscribe(&[&topic(session)]), "new"),
        (subscribe_from(&topic(session), "another", 3), "epoch"),
        (subscribe_from(&topic(session), epoch, head + 1), "ahead"),
        (subscribe_from(&topic(session), epoch, u64::MAX), "ahead"),
    ];
    for (frame, reason) in refused {
        let mut socket = frontend(&server).await;
        let ack = socket.ask(&frame).await;
        let subscribed = only_topic(&ack);
        assert_eq!(
            (&subscribed["recovered"], &subscribed["reason"]),
            (&json!(false), &json!(reason)),
            "{frame}"
        );
        assert_eq!((&subscribed["epoch"], &subscribed["head"]), (&json!(epoch), &json!(head)), "{frame}");
        let snapshot = next_of(&mut socket, &topic(session)).await;
        assert_eq!(
            (&snapshot["type"], &snapshot["data"]["head"]),
            (&json!("session_snapshot"), &json!(head))
        );
    }
}

#[tokio::test]
async fn a_topic_that_one_has_already_stays_as_it_is() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let topic = topic(&session);
    let mut asked = frontend(&server).await;
    asked.ask(&subscribe(&[&topic])).await;
    asked.next_where("a snapshot", |frame| frame["type"] == "session_snapshot").await;

    for socket in [&mut client.frontend, &mut asked] {
        let ack = socket.ask(&subscribe(&[&topic])).await;
        assert_eq!(only_topic(&ack)["already"], true, "{ack}");
    }

    let run_id = client.chat(&session, "/echo hi").await;
    client.until_run_ends(&run_id).await;
    let mut watched = Watched::new();
    let frames = asked.so_far().await;
    assert!(frames.iter().all(|frame| frame["type"] != "session_snapshot"), "{frames:?}");
    let events = durable(&frames, &session);
    assert_contiguous(&events, 3);
    assert_eq!(events.len(), 5);
    frames.iter().filter(|frame| frame["seq"].is_null()).for_each(|frame| watched.see(frame));
}

#[tokio::test]
async fn a_topic_that_one_has_can_be_asked_for_again_from_a_position() {
    let server = Server::start();
    let mut client = server.client().await;
    let created = client.must(create("helper")).await;
    let (session, epoch) = (text(&created, "session_id"), text(&created, "epoch"));
    client.run(session, "/echo hi").await;

    let ack = client.frontend.ask(&subscribe_from(&topic(session), epoch, 2)).await;

    assert_eq!(only_topic(&ack)["replayed"], 6, "{ack}");
    let run_id = client.chat(session, "/echo on").await;
    let frames = client.until_run_ends(&run_id).await;
    let events = durable(&frames, session);
    assert_eq!(events.len(), 11);
    assert_contiguous(&events, 2);
}

#[tokio::test]
async fn each_topic_that_is_refused_is_named() {
    let server = Server::start();
    let mut client = server.client().await;
    let (one, two) = (client.create("helper").await, client.create("writer").await);
    let refused = [
        ("session:helper_999999", Some("session_not_found")),
        ("thread:helper_999999", Some("session_not_found")),
        ("session:no session's id", Some("session_not_found")),
        ("agent:nobody", Some("agent_not_found")),
        ("room:1", None),
        ("", None),
    ];
    let mut topics: Vec<_> = refused.iter().map(|(topic, _)| (*topic).to_owned()).collect();
    topics.insert(1, topic(&one));
    topics.insert(4, topic(&two));
    let mut socket = frontend(&server).await;
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let frame = subscribe(&topics);
    let id = text(&frame, "message_id");

    socket.send(&frame).await;

    let ack = socket.next_where("the answer", |frame| frame["type"] == "subscribe_ack").await;
    assert_eq!(ack["reply_to"], id);
    let accepted: Vec<_> = ack["data"]["topics"]
        .as_array()
        .expect("topics")
        .iter()
        .map(|subscribed| text(subscribed, "topic"))
        .collect();
    assert_eq!(accepted, [topic(&one), topic(&two)]);
    for (topic, code) in refused {
        let error = socket
            .next_where(topic, |frame| {
                frame["type"] == "subscribe_error" && frame["error"]["details"]["topic"] == topic
            })
            .await;
        assert_eq!(error["reply_to"], id, "{error}");
        assert!(!text(&error["error"], "message").is_empty() && error["error"]["retryable"].is_boolean());
        if let Some(code) = code {
            assert_eq!(error["error"]["code"], code, "{error}");
        }
    }
    // Those that were accepted are shown.
    next_of(&mut socket, &topic(&two)).await;
    client.run(&two, "/echo hi").await;
    socket.next_where("the run", |frame| frame["type"] == "run_finished").await;
}

#[tokio::test]
async fn topics_of_agents_and_of_the_server_can_be_subscribed_to() {
    let server = Server::start();
    let mut socket = frontend(&server).await;
    for topic in ["agent:helper", "system"] {
        let ack = socket.ask(&subscribe(&[topic])).await;
        assert_eq!(only_topic(&ack)["topic"], topic);
        let again = socket.ask(&subscribe(&[topic])).await;
        assert_eq!(only_topic(&again)["already"], true);
        let mut other = frontend(&server).await;
        let resumed = other.ask(&subscribe_from(topic, text(only_topic(&ack), "epoch"), 0)).await;
        assert_eq!(only_topic(&resumed)["recovered"], true, "{resumed}");
    }
}

#[tokio::test]
async fn a_connection_has_1024_topics_at_most() {
    const MOST: usize = 1024;
    let server = Server::start();
    let mut backend = Socket::open(&server.url("/ws/backend-api?client_id=maker")).await;
    let mut topics = Vec::new();
    for number in 0..=MOST {
        let mut command = create("helper");
        command["message_id"] = format!("c{number}").into();
        backend.send(&command).await;
    }
    for number in 0..=MOST {
        let reply = backend.reply_to(&format!("c{number}")).await;
        topics.push(topic(text(&reply["data"], "session_id")));
    }
    let names: Vec<_> = topics.iter().map(String::as_str).collect();
    let mut socket = frontend(&server).await;
    // Most of a MiB of snapshots is not what this is about.
    let ack = socket.ask(&Watched::new().resume("first", &names[..MOST])).await;
    assert_eq!(ack["data"]["topics"].as_array().map(Vec::len), Some(MOST));

    let refused = socket.ask(&subscribe(&names[MOST..])).await;

    assert_eq!(refused["type"], "subscribe_error", "{refused}");
    assert_eq!(refused["error"]["details"]["topic"], names[MOST], "{refused}");
    // There is room again once one has been given up.
    assert_eq!(socket.ask(&unsubscribe(&names[..1])).await["type"], "unsubscribe_ack");
    let ack = socket.ask(&subscribe(&names[MOST..])).await;
    assert_eq!(only_topic(&ack)["topic"], names[MOST]);
    // And each of them is shown.
    for topic in &names[1..] {
        next_of(&mut socket, topic).await;
    }
}

// ---- giving up ----

#[tokio::test]
async fn nothing_of_a_topic_comes_once_it_has_been_given_up() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut author = server.client().await;
    let session = author.create("helper").await;
    let topic = topic(&session);
    client.frontend.ask(&subscribe(&[&topic])).await;
    let run_id = author.chat(&session, ENDLESS_TALK).await;
    client.frontend.next_where("a word", |frame| frame["type"] == "message.delta").await;

    let ack = client.frontend.ask(&unsubscribe(&[&topic])).await;
    // Those that were sent before the acknowledgement.
    client.frontend.so_far().await;

    assert_eq!(ack["type"], "unsubscribe_ack");
    assert_eq!(ack["data"]["topics"], json!([topic]));
    author.must(stop(&session, json!({}))).await;
    author.until_run_ends(&run_id).await;
    let frames = client.frontend.so_far().await;
    assert!(about(&frames, &topic).is_empty(), "{frames:?}");
    // It can be taken up again.
    let ack = client.frontend.ask(&subscribe(&[&topic])).await;
    assert_eq!(only_topic(&ack)["reason"], "new");
}

#[tokio::test]
async fn nothing_comes_between_giving_a_topic_up_and_its_acknowledgement_either() {
    let server = Server::start();
    let mut author = server.client().await;
    let session = author.create("helper").await;
    let topic = topic(&session);
    author.chat(&session, ENDLESS_TALK).await;
    for _ in 0..20 {
        let mut socket = frontend(&server).await;
        socket.ask(&subscribe(&[&topic])).await;
        socket.next_where("a word", |frame| frame["type"] == "message.delta").await;
        let frame = unsubscribe(&[&topic]);
        socket.send(&frame).await;

        let id = text(&frame, "message_id");
        socket.collect_until("the answer", |frame| frame["reply_to"] == id).await;

        author.frontend.next_where("another word", |frame| frame["type"] == "message.delta").await;
        let frames = socket.so_far().await;
        assert!(about(&frames, &topic).is_empty(), "after the acknowledgement: {frames:?}");
    }
}

#[tokio::test]
async fn a_topic_given_up_right_after_it_was_asked_for_is_given_up() {
    let server = Server::start();
    let mut author = server.client().await;
    let session = author.create("helper").await;
    let topic = topic(&session);
    author.run(&session, "/count 200").await;
    for from_beginning in [true, false] {
        for _ in 0..10 {
            let mut socket = frontend(&server).await;
            let asked = match from_beginning {
                true => Watched::new().resume("asked", &[&topic]),
                false => subscribe(&[&topic]),
            };
            let given_up = unsubscribe(&[&topic]);
            // Both are there before the first has been answered.
            socket.send_at_once(&[asked, given_up.clone()]).await;

            let id = text(&given_up, "message_id");
            socket.collect_until("the answer", |frame| frame["reply_to"] == id).await;

            author.run(&session, "/echo hi").await;
            let frames = socket.so_far().await;
            assert!(about(&frames, &topic).is_empty(), "after the acknowledgement: {frames:?}");
        }
    }
}

#[tokio::test]
async fn a_topic_that_one_does_not_have_can_be_given_up() {
    let server = Server::start();
    let mut socket = frontend(&server).await;

    let ack = socket.ask(&unsubscribe(&["session:helper_999999", "system"])).await;

    assert_eq!(ack["data"]["topics"], json!(["session:helper_999999", "system"]));
}

// ---- snapshots ----

#[tokio::test]
async fn a_snapshot_shows_a_session_as_it_is() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for message in ["/echo hi", "/tool clock", "/fail cut"] {
        client.run(&session, message).await;
    }
    let current = client.chat(&session, ENDLESS_TALK).await;
    let waiting = [client.chat(&session, "/echo 1").await, client.chat(&session, "/echo 2").await];
    client
        .frontend
        .next_where("a word", |frame| frame["type"] == "message.delta" && frame["run_id"] == current.as_str())
        .await;
    let log = client.history(&session).await;
    let record = client.must(json!({ "type": "session_management", "data": { "action": "list" } })).await;

    let mut socket = frontend(&server).await;
    socket.ask(&subscribe(&[&topic(&session)])).await;
    let snapshot = next_of(&mut socket, &topic(&session)).await;

    assert_eq!((&snapshot["type"], snapshot.get("seq")), (&json!("session_snapshot"), None), "{snapshot}");
    let data = &snapshot["data"];
    assert_eq!(data["session"], record["sessions"][0], "as in the list");
    assert_eq!((&data["head"], &data["truncated"]), (&json!(log.len()), &json!(false)));
    let shown = [
        "system_message",
        "seed_message",
        "user_message",
        "agent_response",
        "tool_call.start",
        "tool_call.end",
        "error",
    ];
    let messages: Vec<_> = log.iter().filter(|event| shown.contains(&text(event, "type"))).cloned().collect();
    assert_eq!(data["messages"], json!(messages), "the events as they are in the log");
    assert_eq!(data["run"], json!({ "run_id": current, "status": "running" }));
    let queue: Vec<_> =
        data["queue"].as_array().expect("a queue").iter().map(|queued| text(queued, "run_id")).collect();
    assert_eq!(queue, waiting);
    let context = log.iter().rfind(|event| event["type"] == "context_update").expect("a context");
    assert_eq!(data["context"], context["data"]);
    assert_eq!((&data["approvals"], &data["suggestions"]), (&json!([]), &json!([])));
    assert!(data["state"]["version"].is_u64() && data["state"].get("value").is_some(), "{data}");
    // Then what is streaming, then what goes on.
    let next = next_of(&mut socket, &topic(&session)).await;
    assert_eq!((&next["type"], &next["run_id"]), (&json!("message.snapshot"), &json!(current)), "{next}");
    let mut watched = Watched::new();
    watched.see(&snapshot);
    watched.see(&next);
    client.must(stop(&session, json!({ "run_id": current }))).await;
    let frames = socket
        .collect_until("the end", |frame| {
            frame["type"] == "run_finished" && frame["run_id"] == waiting[1].as_str()
        })
        .await;
    frames.iter().for_each(|frame| watched.see(frame));
    assert!(frames.iter().any(|frame| frame["type"] == "message.delta"));
}

#[tokio::test]
async fn a_snapshot_of_a_session_at_rest_has_no_run() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.run(&session, "/echo hi").await;
    for status in ["idle", "closed"] {
        if status == "closed" {
            client.must(manage(&session, "close")).await;
        }
        let mut socket = frontend(&server).await;
        socket.ask(&subscribe(&[&topic(&session)])).await;
        let snapshot = next_of(&mut socket, &topic(&session)).await;
        let data = &snapshot["data"];
        assert_eq!((&data["run"], &data["queue"]), (&Value::Null, &json!([])), "{data}");
        assert_eq!(data["session"]["status"], status, "{data}");
    }
}

#[tokio::test]
async fn a_snapshot_has_the_newest_messages_and_says_that_there_are_more() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("counter").await;
    for number in 0..110 {
        client.run(&session, &format!("/echo {number}")).await;
    }
    let log = client.history(&session).await;

    let mut socket = frontend(&server).await;
    socket.ask(&subscribe(&[&topic(&session)])).await;
    let snapshot = next_of(&mut socket, &topic(&session)).await;

    assert_eq!(
        (&snapshot["data"]["truncated"], &snapshot["data"]["head"]),
        (&json!(true), &json!(log.len()))
    );
    let messages = snapshot["data"]["messages"].as_array().expect("messages");
    let begin = types(&messages[..3].iter().collect::<Vec<_>>());
    assert_eq!(begin, ["system_message", "seed_message", "seed_message"], "these are always there");
    let spoken: Vec<_> =
        log.iter().filter(|event| matches!(text(event, "type"), "user_message" | "agent_response")).collect();
    let newest: Vec<_> = messages[3..].iter().collect();
    assert!((197..=200).contains(&newest.len()), "{}", newest.len());
    assert_eq!(newest, spoken[spoken.len() - newest.len()..]);
    // It goes on from there.
    client.run(&session, "/echo on").await;
    let frames = socket.collect_until("the end", |frame| frame["type"] == "run_finished").await;
    assert_contiguous(&durable(&frames, &session), log.len() as u64);
}

/// A snapshot of a session whose messages are of so many bytes each.
async fn snapshot_of_large_messages(character: char) -> Value {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.chat(&session, ENDLESS).await;
    for _ in 0..10 {
        client.chat(&session, &character.to_string().repeat(100 * KIB)).await;
    }
    let mut socket = frontend(&server).await;
    socket.ask(&subscribe(&[&topic(&session)])).await;
    next_of(&mut socket, &topic(&session)).await["data"].clone()
}

#[tokio::test]
async fn a_snapshot_has_512_kib_of_messages_at_most() {
    let data = snapshot_of_large_messages('x').await;

    assert_eq!(data["truncated"], true);
    let bytes = data["messages"].to_string().len();
    assert!((300 * KIB..=513 * KIB).contains(&bytes), "{} KiB", bytes / KIB);
    assert_eq!(data["queue"].as_array().map(Vec::len), Some(10), "all that wait, seen or not");
}

#[tokio::test]
async fn a_snapshot_has_512_kib_of_json_at_most() {
    // Each of these takes two bytes as JSON.
    let data = snapshot_of_large_messages('"').await;

    let bytes = data["messages"].to_string().len();
    assert!(bytes <= 513 * KIB, "{} KiB", bytes / KIB);
}

// ---- replays ----

#[tokio::test]
async fn a_replay_of_any_length_is_complete_while_the_session_goes_on() {
    let server = Server::start();
    let mut author = server.client().await;
    let created = author.must(create("helper")).await;
    let (session, epoch) = (text(&created, "session_id").to_owned(), text(&created, "epoch").to_owned());
    for number in 0..600 {
        author.run(&session, &format!("/echo {number}")).await;
    }
    let (from_beginning, from_middle) = (frontend(&server).await, frontend(&server).await);
    let going = AtomicBool::new(true);

    let go_on = async {
        while going.load(Ordering::Relaxed) {
            author.run(&session, "/count 30 1").await;
        }
    };
    let watch = async |mut socket: Socket, from: u64| {
        let mut watched = Watched::from(&topic(&session), &epoch, from);
        let ack = socket.ask(&watched.resume("replay", &[&topic(&session)])).await;
        let head = only_topic(&ack)["head"].as_u64().expect("a number");
        assert_eq!(only_topic(&ack)["replayed"], head - from, "{ack}");
        assert!(head > 3000);
        // All that it missed, and then some of what comes live.
        see_up_to(&mut socket, &mut watched, &topic(&session), head + 100).await;
        (socket, watched)
    };
    let ((), watchers) = tokio::join!(go_on, async {
        let watchers = tokio::join!(watch(from_beginning, 0), watch(from_middle, 1500));
        going.store(false, Ordering::Relaxed);
        watchers
    });

    let log = author.history(&session).await;
    for ((mut socket, mut watched), from) in [(watchers.0, 0), (watchers.1, 1500)] {
        see_up_to(&mut socket, &mut watched, &topic(&session), log.len() as u64).await;
        let seen = watched.topic(&topic(&session));
        assert_eq!(seen.snapshots, 0, "it was replayed");
        assert!(seen.events.values().eq(&log[from..]), "what was seen is the log");
    }
}

#[tokio::test]
async fn a_resume_in_mid_stream_shows_what_was_said_and_goes_on_from_there() {
    let server = Server::start();
    let mut author = server.client().await;
    let created = author.must(create("helper")).await;
    let session = text(&created, "session_id").to_owned();
    let at = topic(&session);
    author.chat(&session, ENDLESS_TALK).await;
    author.frontend.next_where("a word", |frame| frame["type"] == "message.delta").await;
    let mut watched = Watched::new();
    for round in 0..10 {
        let mut socket = frontend(&server).await;
        watched.reconnected();
        let ack = socket.ask(&watched.resume("again", &[&at])).await;
        assert_eq!(only_topic(&ack)["recovered"], true, "{ack}");
        let (mut snapshots, mut deltas) = (0, 0);
        while deltas < 10 {
            let frame = socket.next().await;
            match text(&frame, "type") {
                _ if frame["topic"] != at.as_str() => {}
                "message.snapshot" => snapshots += 1,
                "message.delta" => {
                    assert_eq!(snapshots, 1, "first what was said, then what is said: {frame}");
                    deltas += 1;
                }
                _ => assert!(frame["seq"].is_null() || snapshots == 0, "events come before: {frame}"),
            }
            watched.see(&frame);
        }
        if round % 2 == 0 {
            socket.close().await;
        }
    }

    let mut socket = frontend(&server).await;
    watched.reconnected();
    socket.ask(&watched.resume("at last", &[&at])).await;
    author.must(stop(&session, json!({}))).await;
    let head = author.history(&session).await.len() as u64;
    see_up_to(&mut socket, &mut watched, &at, head).await;
    assert_saw_all(&watched, &mut author, &session).await;
}

/// Has things happen in sessions until told to stop.
async fn make_things_happen(
    author: &mut Client,
    sessions: &[String],
    random: &mut StdRng,
    going: &AtomicBool,
) {
    while going.load(Ordering::Relaxed) {
        let session = &sessions[random.random_range(0..sessions.len())];
        let message = ["/count 60 1", "/echo äöü 😀 words", "/tool clock", "/fail cut", "/lorem 40"]
            [random.random_range(0..5)];
        match random.random_range(0..10) {
            0..6 => {
                author.run(session, message).await;
            }
            6 | 7 => {
                author.command(chat(session, message)).await;
            }
            8 => {
                let mut command = chat(session, message);
                command["data"]["on_busy"] = "interrupt".into();
                author.command(command).await;
            }
            _ => {
                author.command(stop(session, json!({ "clear_queue": false }))).await;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_is_cut_at_random_bytes_misses_and_doubles_nothing() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start();
    let mut author = server.client().await;
    let sessions = [author.create("helper").await, author.create("writer").await];
    let topics = sessions.each_ref().map(|session| topic(session));
    let names = topics.each_ref().map(String::as_str);
    let mut watched = Watched::new();
    let going = AtomicBool::new(true);
    let mut cuts: Vec<u64> = (0..60).map(|_| 10_u64.pow(random.random_range(1..5))).collect();
    cuts.iter_mut().for_each(|bytes| *bytes = random.random_range(1..*bytes * 10));

    let be_cut = async {
        for bytes in cuts {
            let network = Network::cut_after(&server, bytes).await;
            let Some(mut socket) = Socket::try_open(&network.url("/ws/frontend-api?client_id=cut")).await
            else {
                continue;
            };
            watched.reconnected();
            if !socket.try_send(&watched.resume("resume", &names)).await {
                continue;
            }
            while let Some(frame) = socket.try_next().await {
                if frame["type"] == "subscribe_ack" {
                    for subscribed in frame["data"]["topics"].as_array().expect("topics") {
                        assert_eq!(subscribed["recovered"], true, "{frame}");
                    }
                }
                watched.see(&frame);
            }
        }
        going.store(false, Ordering::Relaxed);
    };
    let mut choices = StdRng::seed_from_u64(seed);
    tokio::join!(be_cut, make_things_happen(&mut author, &sessions, &mut choices, &going));

    let mut socket = frontend(&server).await;
    watched.reconnected();
    socket.ask(&watched.resume("at last", &names)).await;
    for (session, topic) in sessions.iter().zip(names) {
        until("rest", async || {
            author.command(stop(session, json!({ "clear_queue": true }))).await["error"]["code"] == "conflict"
        })
        .await;
        let head = author.history(session).await.len() as u64;
        see_up_to(&mut socket, &mut watched, topic, head).await;
        assert_saw_all(&watched, &mut author, session).await;
        assert_eq!(watched.topic(topic).snapshots, 0);
    }
}

#[tokio::test]
async fn all_who_watch_are_shown_the_same_bytes() {
    let server = Server::start();
    let mut author = server.client().await;
    let session = author.create("helper").await;
    let mut watchers = [frontend(&server).await, frontend(&server).await, frontend(&server).await];
    for (socket, name) in watchers.iter_mut().zip(["session", "thread", "task"]) {
        watch(socket, &mut author, &format!("{name}:{session}"), &session).await;
    }
    // The first of them have seen the others come.
    for socket in &mut watchers {
        socket.so_far().await;
    }
    for message in ["/echo Grüße 😀 \u{1}\u{2028}\"\\", "/count 200", "/tool clock", "/fail cut", "hello"]
    {
        author.run(&session, message).await;
    }
    author.must(json!({ "type": "typing", "session_id": session, "data": { "typing": true } })).await;
    author.must(manage(&session, "close")).await;

    let mut shown = Vec::new();
    for socket in &mut watchers {
        let mut frames = Vec::new();
        loop {
            let text = socket.next_text().await;
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if frame["topic"] == topic(&session) {
                frames.push(text);
            }
            if frame["type"] == "session_closed" {
                break;
            }
        }
        shown.push(frames);
    }
    assert!(shown[0].len() > 100);
    assert!(shown.windows(2).all(|pair| pair[0] == pair[1]));
}

// ---- events for whole clients ----

#[tokio::test]
async fn a_change_of_the_list_is_told_to_every_frontend_of_the_principal() {
    let server = Server::start();
    let mut author = server.client().await;
    let mut named = server.client().await;
    let mut unnamed = Socket::open(&server.url("/ws/frontend-api")).await;
    let session = text(&author.must(create("helper")).await, "session_id").to_owned();
    let mut title =
        json!({ "type": "session_management", "session_id": session, "data": { "action": "rename" } });
    title["data"]["title"] = "Another".into();
    author.must(title).await;
    author.must(manage(&session, "close")).await;
    let page = author.must(json!({ "type": "session_management", "data": { "action": "list" } })).await;
    let record = &page["sessions"][0];

    for socket in [&mut author.frontend, &mut named.frontend, &mut unnamed] {
        // Whatever came before: in the end it is told how the record stands.
        let changed = socket
            .next_where("the record as it is", |frame| {
                frame["type"] == "session_list_changed" && frame["data"]["status"] == "closed"
            })
            .await;
        assert_eq!(changed["data"], *record);
        assert!(changed.get("seq").is_none() && changed.get("epoch").is_none(), "{changed}");
    }
}

#[tokio::test]
async fn a_change_of_the_list_is_told_to_every_frontend_however_many() {
    let server = Server::start();
    let mut author = server.client().await;
    let mut sockets = Vec::new();
    for _ in 0..24 {
        sockets.push(frontend(&server).await);
    }
    let session = text(&author.must(create("helper")).await, "session_id").to_owned();
    sockets
        .last_mut()
        .expect("a socket")
        .next_where("the change", |frame| frame["type"] == "session_list_changed")
        .await;

    let mut told = 0;
    for socket in &mut sockets {
        let frames = socket.so_far().await;
        told += frames.iter().filter(|frame| frame["data"]["session_id"] == session.as_str()).count();
    }
    // The last one has been counted out.
    assert_eq!(told, sockets.len() - 1);
}

#[tokio::test]
async fn a_session_that_has_made_room_is_told_to_be_gone() {
    let server = Server::with(&[("DUOLOGUE_STORE", "memory:"), ("DUOLOGUE_MEMORY_STORE_BYTES", "1048576")]);
    let mut client = server.client().await;
    let oldest = client.create("helper").await;
    client.must(manage(&oldest, "close")).await;

    let mut gone = None;
    while gone.is_none() {
        // Of another agent: a number that is free again may be given out again.
        let session = client.create("writer").await;
        client.must(manage(&session, "close")).await;
        let frames = client.frontend.so_far().await;
        gone = frames.into_iter().find(|frame| frame["data"]["removed"] == true);
    }

    let gone = gone.expect("found");
    assert_eq!(
        (&gone["type"], &gone["data"]["session_id"]),
        (&json!("session_list_changed"), &json!(oldest))
    );
    assert_eq!(client.error_code(manage(&oldest, "history")).await, "session_not_found");
}

#[tokio::test]
async fn the_list_of_agents_is_told_to_the_client_that_asked() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut other = server.client().await;

    let reply = client.must(json!({ "type": "get_agents" })).await;

    let update = client.frontend.next_where("the agents", |frame| frame["type"] == "agent_list_update").await;
    assert_eq!(update["data"]["agents"], reply["agents"]);
    assert!(update.get("seq").is_none() && update.get("epoch").is_none(), "{update}");
    let frames = other.frontend.so_far().await;
    assert!(frames.iter().all(|frame| frame["type"] != "agent_list_update"), "{frames:?}");
}

#[tokio::test]
async fn typing_is_shown_to_those_who_watch_and_not_kept() {
    let server = Server::start();
    let mut author = server.client().await;
    let mut watcher = server.client().await;
    let mut other = server.client().await;
    let session = author.create("helper").await;
    watch(&mut watcher.frontend, &mut author, &topic(&session), &session).await;
    let before = author.history(&session).await;

    for typing in [true, false] {
        author.must(json!({ "type": "typing", "session_id": session, "data": { "typing": typing } })).await;
        let shown = watcher.frontend.next_where("typing", |frame| frame["type"] == "typing").await;
        assert_eq!((&shown["data"]["typing"], &shown["topic"]), (&json!(typing), &json!(topic(&session))));
    }

    assert_eq!(author.history(&session).await, before);
    let frames = other.frontend.so_far().await;
    assert!(frames.iter().all(|frame| frame["type"] != "typing"), "{frames:?}");
}
