//! A command is done once for its `message_id`, however often it is sent: as `protocol.md` and the rules of
//! `reliability.md` have it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};

use crate::support::{
    Client, Server, Socket, Watched, assert_well_formed, chat, chat_on_busy, create, manage, stop, subscribe,
    topic, types, unique,
};

/// A message whose run goes on until it is stopped.
const ENDLESS: &str = "/think 3600000";

fn with_id(id: &str, mut command: Value) -> Value {
    command["message_id"] = id.into();
    command
}

fn rename(session: &str, title: &str) -> Value {
    let mut command = manage(session, "rename");
    command["data"]["title"] = title.into();
    command
}

fn refresh(session: &str) -> Value {
    json!({ "type": "agent_refresh", "agent_id": "helper", "session_id": session })
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {value}"))
}

/// The data of a reply without its word on whether it is a repetition; that word.
#[track_caller]
fn taken_apart(reply: &Value) -> (Value, bool) {
    assert_eq!(reply["ok"], true, "{reply}");
    let mut data = reply["data"].clone();
    let duplicate = data.as_object_mut().expect("data").remove("duplicate");
    (data, duplicate.and_then(|duplicate| duplicate.as_bool()).expect("whether it is a repetition"))
}

/// All that can be seen of all sessions.
async fn everything(client: &mut Client) -> Vec<Vec<Value>> {
    let list = json!({ "type": "session_management", "data": { "action": "list", "limit": 200 } });
    let page = client.must(list).await;
    let mut logs = Vec::new();
    for session in page["sessions"].as_array().expect("sessions") {
        logs.push(client.history(text(session, "session_id")).await);
    }
    logs
}

#[tokio::test]
async fn every_command_that_changes_something_is_done_once() {
    let server = Server::start();
    let mut observer = server.client().await;
    let mut client = server.client().await;
    let (chatty, renamed, stopped, closed, refreshed) = (
        client.create("helper").await,
        client.create("helper").await,
        client.create("helper").await,
        client.create("helper").await,
        client.create("helper").await,
    );
    observer.frontend.ask(&subscribe(&[&topic(&chatty)])).await;
    for session in [&stopped, &closed, &refreshed] {
        client.chat(session, ENDLESS).await;
    }
    let mut titled = create("helper");
    titled["data"]["title"] = "Once".into();

    for command in [
        create("helper"),
        titled,
        chat(&chatty, "/echo once"),
        chat_on_busy(&chatty, "/echo once more", "interrupt"),
        rename(&renamed, "Once"),
        stop(&stopped, json!({})),
        manage(&closed, "close"),
        refresh(&refreshed),
        json!({ "type": "agent_refresh", "agent_id": "writer" }),
    ] {
        let command = with_id(&unique("once"), command);
        let first = client.backend.ask(&command).await;
        let (data, duplicate) = taken_apart(&first);
        assert!(!duplicate, "{first}");
        if let Some(run_id) = data["run_id"].as_str() {
            observer.until_run_ends(run_id).await;
        }
        let before = everything(&mut observer).await;

        let again = client.backend.ask(&command).await;
        let mut later = Client::open(&server, &client.id).await;
        let and_again = later.backend.ask(&command).await;

        for reply in [again, and_again] {
            assert_eq!(taken_apart(&reply), (data.clone(), true), "{command}");
        }
        assert_eq!(everything(&mut observer).await, before, "{command}");
        client = later;
    }
}

#[tokio::test]
async fn a_command_that_is_repeated_is_answered_whatever_has_happened_since() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let said = with_id("said", chat(&session, "/echo hi"));
    let stopped = with_id("stopped", stop(&session, json!({})));
    let (first, _) = taken_apart(&client.backend.ask(&said).await);
    client.until_run_ends(text(&first, "run_id")).await;
    client.chat(&session, ENDLESS).await;
    let (stop_data, _) = taken_apart(&client.backend.ask(&stopped).await);

    // A stop that names no run would hit this one, were it done again.
    let going = client.chat(&session, ENDLESS).await;
    assert_eq!(taken_apart(&client.backend.ask(&stopped).await), (stop_data.clone(), true));
    let page = client.must(json!({ "type": "session_management", "data": { "action": "list" } })).await;
    assert_eq!(page["sessions"][0]["status"], "running");

    client.must(stop(&session, json!({ "run_id": going }))).await;
    client.must(manage(&session, "close")).await;
    assert_eq!(taken_apart(&client.backend.ask(&said).await), (first, true));
    assert_eq!(taken_apart(&client.backend.ask(&stopped).await), (stop_data, true));
}

#[tokio::test]
async fn another_command_under_the_same_id_is_a_conflict() {
    let server = Server::start();
    let mut client = server.client().await;
    let (one, two) = (client.create("helper").await, client.create("helper").await);
    let before = everything(&mut client).await;
    taken_apart(&client.backend.ask(&with_id("taken", rename(&one, "One"))).await);
    let after = everything(&mut client).await;
    assert_ne!(before, after);

    for other in [
        rename(&one, "Two"),
        rename(&two, "One"),
        manage(&one, "close"),
        chat(&one, "One"),
        stop(&one, json!({})),
        create("helper"),
        refresh(&one),
    ] {
        let reply = client.backend.ask(&with_id("taken", other.clone())).await;
        assert_eq!(reply["error"]["code"], "conflict", "{other} was answered {reply}");
    }

    assert_eq!(everything(&mut client).await, after);
    assert!(taken_apart(&client.backend.ask(&with_id("taken", rename(&one, "One"))).await).1);
}

#[tokio::test]
async fn a_command_that_was_refused_is_judged_afresh() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let going = client.chat(&session, ENDLESS).await;
    let rejected = with_id("again", chat_on_busy(&session, "/echo hi", "reject"));
    for _ in 0..2 {
        assert_eq!(client.backend.ask(&rejected).await["error"]["code"], "busy");
    }

    client.must(stop(&session, json!({ "run_id": going }))).await;
    let reply = client.backend.ask(&rejected).await;

    assert!(!taken_apart(&reply).1, "{reply}");
    // An id whose command was refused is free for another.
    let refused = client.backend.ask(&with_id("free", chat("helper_999999", "hi"))).await;
    assert_eq!(refused["error"]["code"], "session_not_found");
    taken_apart(&client.backend.ask(&with_id("free", rename(&session, "Free"))).await);
}

#[tokio::test]
async fn the_same_id_of_another_client_is_another_command() {
    let server = Server::start();
    let mut sockets = vec![
        Socket::open(&server.url("/ws/backend-api?client_id=one")).await,
        Socket::open(&server.url("/ws/backend-api?client_id=two")).await,
        Socket::open(&server.url("/ws/backend-api")).await,
    ];
    let command = with_id("same", create("helper"));

    let mut sessions = BTreeSet::new();
    for socket in &mut sockets {
        let (data, duplicate) = taken_apart(&socket.ask(&command).await);
        assert!(!duplicate);
        sessions.insert(text(&data, "session_id").to_owned());
    }

    assert_eq!(sessions.len(), 3);
    // Those that name no client are one.
    let mut unnamed = Socket::open(&server.url("/ws/backend-api")).await;
    assert!(taken_apart(&unnamed.ask(&command).await).1);
}

#[tokio::test]
async fn copies_that_are_in_flight_together_are_done_once() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.chat(&session, ENDLESS).await;
    let commands = [
        create("helper"),
        chat(&session, "/echo once"),
        rename(&session, "Once"),
        stop(&session, json!({})),
        refresh(&session),
    ];
    for command in commands {
        let command = with_id(&unique("copies"), command);
        client.backend.send_at_once(&vec![command.clone(); 30]).await;

        let id = text(&command, "message_id");
        let (mut answers, mut firsts) = (Vec::new(), 0);
        for _ in 0..30 {
            let reply = client.backend.next_where("a reply", |frame| frame["reply_to"] == id).await;
            let (data, duplicate) = taken_apart(&reply);
            answers.push(data);
            firsts += usize::from(!duplicate);
        }
        assert_eq!(firsts, 1, "{command}");
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{command}: {answers:?}");
    }
    for log in everything(&mut client).await {
        let said = log.iter().filter(|event| event["data"]["content"] == "/echo once").count();
        let renamed = log.iter().filter(|event| event["type"] == "session_updated").count();
        assert!(said <= 1 && renamed <= 1);
    }
}

#[tokio::test]
async fn a_repeated_create_subscribes_those_who_came_since() {
    let server = Server::start();
    let mut client = server.client().await;
    let command = with_id("once", create("helper"));
    let (first, _) = taken_apart(&client.backend.ask(&command).await);
    let session = text(&first, "session_id");
    client.run(session, "/echo hi").await;
    let head = client.history(session).await.len() as u64;

    // As after a reply that was lost with its connections.
    let mut later = Client::open(&server, &client.id).await;
    assert_eq!(taken_apart(&later.backend.ask(&command).await), (first.clone(), true));

    let ack = later.frontend.next_where("the subscription", |frame| frame["type"] == "subscribe_ack").await;
    assert!(ack.get("reply_to").unwrap_or(&Value::Null).is_null(), "{ack}");
    assert_eq!(ack["data"]["topics"][0]["topic"], topic(session), "{ack}");
    let mut watched = Watched::new();
    while watched.seq(&topic(session)) < head {
        let frame = later.frontend.next().await;
        watched.see(&frame);
    }
    let seen: Vec<_> = watched.topic(&topic(session)).events.values().cloned().collect();
    assert_eq!(seen, later.history(session).await, "all of it, from the beginning");
    assert_eq!(later.run(session, "/echo and on").await, "completed");
}

#[tokio::test]
async fn a_repeated_create_doubles_nothing_for_those_who_were_there() {
    let server = Server::start();
    let mut client = server.client().await;
    let command = with_id("once", create("helper"));
    let mut session = String::new();
    for _ in 0..3 {
        let (data, _) = taken_apart(&client.backend.ask(&command).await);
        session = text(&data, "session_id").to_owned();
    }
    let run_id = client.chat(&session, "/echo hi").await;

    let frames = client.until_run_ends(&run_id).await;

    let of_session: Vec<_> = frames.iter().filter(|frame| frame["seq"].is_u64()).collect();
    let expected = [
        "session_created",
        "system_message",
        "seed_message",
        "user_message",
        "run_started",
        "agent_response",
        "context_update",
        "run_finished",
    ];
    assert_eq!(types(&of_session), expected);
}

#[tokio::test]
async fn a_thousand_commands_sent_twenty_times_each_are_each_done_once() {
    const COPIES: usize = 20;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start();
    let mut observer = server.client().await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(text(&observer.must(create("helper")).await, "session_id").to_owned());
    }
    let command = |number: usize| {
        let session = &sessions[number % sessions.len()];
        let command = match number % 10 {
            0..3 => create("writer"),
            3 | 4 => rename(session, &format!("title {number}")),
            _ => chat(session, &format!("/echo {number}")),
        };
        with_id(&format!("command-{number}"), command)
    };
    let mut copies: Vec<_> = (0..1000).flat_map(|number| vec![command(number); COPIES]).collect();
    copies.shuffle(&mut random);

    // From six connections without a client's name, those of each in rows.
    let send = async |copies: &[Value]| {
        let mut socket = Socket::open(&server.url("/ws/backend-api")).await;
        let mut replies = Vec::new();
        for row in copies.chunks(50) {
            socket.send_at_once(row).await;
            for _ in row {
                replies.push(socket.next().await);
            }
        }
        replies
    };
    let replies = join_all(copies.chunks(copies.len().div_ceil(6)).map(send)).await;

    let mut answers: BTreeMap<String, Vec<(Value, bool)>> = BTreeMap::new();
    for reply in replies.iter().flatten() {
        answers.entry(text(reply, "reply_to").to_owned()).or_default().push(taken_apart(reply));
    }
    assert_eq!(answers.len(), 1000);
    let mut created = BTreeSet::new();
    for (id, answers) in &answers {
        assert_eq!(answers.len(), COPIES, "{id}");
        let (data, _) = &answers[0];
        assert!(answers.iter().all(|(other, _)| other == data), "{id}: {answers:?}");
        assert_eq!(answers.iter().filter(|(_, duplicate)| !duplicate).count(), 1, "{id}");
        created.extend(data["session_id"].as_str().map(str::to_owned));
    }
    assert_eq!(created.len(), 300);
    let mut done = BTreeMap::new();
    for session in sessions {
        observer.must(manage(&session, "close")).await;
        let log = observer.history(&session).await;
        assert_well_formed(&log);
        for event in &log {
            let what = match text(event, "type") {
                "user_message" => text(&event["data"], "command_id").to_owned(),
                "session_updated" => text(&event["data"], "title").replace("title ", "command-"),
                _ => continue,
            };
            *done.entry(what).or_insert(0) += 1;
        }
    }
    assert_eq!(done.len(), 700);
    assert!(done.values().all(|times| *times == 1), "{done:?}");
    // No session was made that nobody was told of.
    let mut listed = BTreeSet::new();
    let mut cursor = Value::Null;
    loop {
        let page = observer
            .must(json!({
                "type": "session_management", "agent_id": "writer",
                "data": { "action": "list", "limit": 200, "cursor": cursor },
            }))
            .await;
        let sessions = page["sessions"].as_array().expect("sessions");
        listed.extend(sessions.iter().map(|session| text(session, "session_id").to_owned()));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(listed, created);
}

#[tokio::test]
async fn a_command_without_an_id_is_done_each_time() {
    let server = Server::start();
    let mut socket = Socket::open(&server.url("/ws/backend-api")).await;
    let mut sessions = BTreeSet::new();
    for command in [create("helper"), create("helper"), with_null_id(create("helper"))] {
        socket.send(&command).await;
        let reply = socket.next().await;
        assert_eq!(reply["reply_to"], Value::Null, "{reply}");
        let (data, duplicate) = taken_apart(&reply);
        assert!(!duplicate, "{reply}");
        sessions.insert(text(&data, "session_id").to_owned());
    }
    assert_eq!(sessions.len(), 3);
}

fn with_null_id(mut command: Value) -> Value {
    command["message_id"] = Value::Null;
    command
}

#[tokio::test]
async fn what_only_reads_may_be_repeated_as_one_likes() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for command in [
        json!({ "type": "session_management", "data": { "action": "list" } }),
        manage(&session, "history"),
        json!({ "type": "get_agents" }),
        json!({ "type": "get_models" }),
    ] {
        let command = with_id(&unique("read"), command);
        let first = client.backend.ask(&command).await;
        assert_eq!(first["ok"], true, "{first}");
        assert_eq!(client.backend.ask(&command).await["data"], first["data"]);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_without_an_id() {
    let server = Server::start();
    for path in ["/ws/backend-api", "/ws/frontend-api"] {
        let mut socket = Socket::open(&server.url(path)).await;
        for text in [
            "{",
            "[]",
            "\"text\"",
            r#"{"type":"ping","message_id":"x""#,
            r#"{"message_id":"a","message_id":"b"}"#,
            r#"{"type":"get_agents","message_id":5}"#,
            r#"{"type":"get_agents","message_id":["x"]}"#,
        ] {
            socket.send_text(text).await;
            let reply = socket.next().await;
            assert_eq!((&reply["type"], &reply["ok"]), (&json!("reply"), &json!(false)), "{text}: {reply}");
            assert_eq!(reply.get("reply_to"), Some(&Value::Null), "{text}: {reply}");
        }
        // What can be read is answered by its id, be it ever so wrong.
        for frame in [
            json!({ "type": "nonsense", "message_id": "x1" }),
            json!({ "message_id": "x2" }),
            json!({ "type": 5, "message_id": "x3" }),
            json!({ "type": "subscribe", "message_id": "x4", "data": 5 }),
        ] {
            let reply = socket.ask(&frame).await;
            assert_eq!((&reply["type"], &reply["ok"]), (&json!("reply"), &json!(false)), "{reply}");
        }
    }
}
