//! Clients that are wrong, one way after another: each is told exactly what was wrong, by the code that the
//! error table of `protocol.md` has for it, and another client notices nothing of it.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::support::{
    Bystander, Server, Socket, chat, chat_on_busy, create, manage, of_run, stop, subscribe, topic, types,
    unique, until, within,
};

const KIB: usize = 1024;

/// A message whose run goes on until it is stopped.
const ENDLESS: &str = "/think 3600000";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {value}"))
}

fn with_data(mut command: Value, data: Value) -> Value {
    command["data"].as_object_mut().expect("an object").extend(data.as_object().expect("an object").clone());
    command
}

/// Checks that an error says what was wrong, what to do, and nothing of the server's insides.
#[track_caller]
fn assert_is_helpful(server: &Server, error: &Value) {
    let message = text(error, "message");
    assert!(message.len() > 10, "{error}");
    assert!(error["details"].is_object(), "{error}");
    let all = error.to_string();
    let dir = server.dir.to_string_lossy();
    for inside in [&*dir, "src/", ".rs:", "/home", "/root", "panicked", "agents.toml", "Mailbox", "Option<"] {
        assert!(!all.contains(inside), "{inside:?} is not for clients: {error}");
    }
}

/// Checks that a frame is refused with this code, on a socket that is as good as before afterwards.
async fn assert_refused(server: &Server, socket: &mut Socket, mut frame: Value, code: &str) -> Value {
    let id = unique("wrong");
    frame["message_id"] = id.as_str().into();
    let reply = socket.ask(&frame).await;
    assert_eq!(
        (&reply["type"], &reply["ok"]),
        (&json!("reply"), &json!(false)),
        "{frame} was answered {reply}"
    );
    let error = &reply["error"];
    assert_eq!(error["code"], code, "{frame} was answered {reply}");
    assert!(error["retryable"].is_boolean(), "{reply}");
    assert_is_helpful(server, error);
    assert_eq!(socket.ask(&json!({ "type": "ping", "message_id": "after" })).await["type"], "pong");
    error.clone()
}

// ---- frames ----

#[tokio::test]
async fn what_is_no_object_with_a_type_is_a_bad_request() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    for path in ["/ws/backend-api", "/ws/frontend-api"] {
        let mut socket = Socket::open(&server.url(path)).await;
        for wrong in
            ["rubbish", "", "{", "[1]", "null", "{}", r#"{"type":null}"#, r#"{"type":{}}"#, r#"{"data":{}}"#]
        {
            socket.send_text(wrong).await;
            let reply = socket.next().await;
            assert_eq!(reply["error"]["code"], "bad_request", "{wrong}: {reply}");
            assert_eq!(reply["reply_to"], Value::Null, "{wrong}");
            assert_is_helpful(&server, &reply["error"]);
        }
    }
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn json_may_be_64_deep_and_no_deeper() {
    let server = Server::start();
    let mut socket = Socket::open(&server.url("/ws/backend-api")).await;
    // The frame is one level, and this field is ignored.
    let nested = |depth: usize| {
        format!(r#"{{"type":"ping","message_id":"x","extra":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };

    socket.send_text(nested(63)).await;
    assert_eq!(socket.next().await["type"], "pong");
    socket.send_text(nested(64)).await;
    assert_eq!(socket.next().await["error"]["code"], "bad_request");
}

#[tokio::test]
async fn a_type_that_there_is_not_yet_is_an_unknown_type() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for kind in ["nonsense", "", "reply", "Ping", "chat-message", "session_created"] {
        let error =
            assert_refused(&server, &mut client.backend, json!({ "type": kind, "data": {} }), "unknown_type")
                .await;
        assert!(text(&error, "message").contains(kind), "{error}");
    }
    for (kind, data) in [
        ("create_agent", json!({ "id": "new", "name": "New", "model": "demo" })),
        ("update_agent", json!({ "id": "helper", "name": "New" })),
        ("delete_agent", json!({ "id": "helper" })),
        ("session_management", json!({ "action": "archive" })),
    ] {
        let command = json!({ "type": kind, "session_id": session, "data": data });
        assert_refused(&server, &mut client.backend, command, "unknown_type").await;
    }
    assert_eq!(client.run(&session, "/echo hi").await, "completed");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_field_that_is_wrong_is_named_with_what_was_expected() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let list = json!({ "type": "session_management", "data": { "action": "list" } });
    let history = manage(&session, "history");
    let commands = [
        (json!({ "type": "get_agents", "data": 5 }), "data"),
        (json!({ "type": "chat_message", "session_id": session, "data": "hi" }), "data"),
        (json!({ "type": "session_management", "data": {} }), "action"),
        (json!({ "type": "session_management", "data": { "action": 5 } }), "action"),
        (json!({ "type": "session_management", "data": { "action": "create" } }), "agent_id"),
        (json!({ "type": "session_management", "agent_id": 5, "data": { "action": "create" } }), "agent_id"),
        (json!({ "type": "agent_refresh" }), "agent_id"),
        (with_data(create("helper"), json!({ "title": 7 })), "title"),
        (with_data(list.clone(), json!({ "limit": 0 })), "limit"),
        (with_data(list.clone(), json!({ "limit": 201 })), "limit"),
        (with_data(list.clone(), json!({ "limit": "ten" })), "limit"),
        (with_data(list.clone(), json!({ "cursor": "rubbish" })), "cursor"),
        (with_data(list.clone(), json!({ "cursor": 5 })), "cursor"),
        (with_data(list.clone(), json!({ "query": ["words"] })), "query"),
        (with_data(list, json!({ "agent_id": {} })), "agent_id"),
        (with_data(history.clone(), json!({ "limit": 0 })), "limit"),
        (with_data(history.clone(), json!({ "limit": 1001 })), "limit"),
        (with_data(history.clone(), json!({ "after": -1 })), "after"),
        (with_data(history.clone(), json!({ "after": 1.5 })), "after"),
        (with_data(history.clone(), json!({ "before": "3" })), "before"),
        (with_data(history, json!({ "after": 1, "before": 9 })), "before"),
        (json!({ "type": "session_management", "data": { "action": "history" } }), "session_id"),
        (manage(&session, "rename"), "title"),
        (with_data(manage(&session, "rename"), json!({ "title": null })), "title"),
        (json!({ "type": "chat_message", "data": { "content": "hi" } }), "session_id"),
        (json!({ "type": "chat_message", "session_id": 417, "data": { "content": "hi" } }), "session_id"),
        (json!({ "type": "chat_message", "session_id": session }), "content"),
        (json!({ "type": "chat_message", "session_id": session, "data": { "content": ["hi"] } }), "content"),
        (chat_on_busy(&session, "hi", "maybe"), "on_busy"),
        (json!({ "type": "stop_run" }), "session_id"),
        (stop(&session, json!({ "run_id": 5 })), "run_id"),
        (stop(&session, json!({ "clear_queue": "yes" })), "clear_queue"),
        (json!({ "type": "typing", "session_id": session }), "typing"),
        (json!({ "type": "typing", "session_id": session, "data": { "typing": 1 } }), "typing"),
    ];
    let subscriptions = [
        (json!({ "type": "subscribe" }), "topics"),
        (json!({ "type": "subscribe", "data": { "topics": "system" } }), "topics"),
        (json!({ "type": "subscribe", "data": { "topics": [5] } }), "topics"),
        (json!({ "type": "subscribe", "data": { "topics": ["system"], "positions": 3 } }), "positions"),
        (
            json!({ "type": "subscribe", "data": { "topics": ["system"], "positions": { "system": { "seq": -1 } } } }),
            "positions",
        ),
        (
            json!({ "type": "subscribe", "data": { "topics": ["system"], "positions": { "system": { "epoch": "e" } } } }),
            "positions",
        ),
        (json!({ "type": "unsubscribe" }), "topics"),
    ];

    let commands = commands.into_iter().map(|(frame, field)| (false, frame, field));
    let subscriptions = subscriptions.into_iter().map(|(frame, field)| (true, frame, field));
    for (is_subscription, frame, field) in commands.chain(subscriptions) {
        let socket = if is_subscription { &mut client.frontend } else { &mut client.backend };
        let error = assert_refused(&server, socket, frame.clone(), "invalid_field").await;
        let message = text(&error, "message");
        assert!(message.contains(field) && message.contains("expected"), "{frame}: {error}");
    }
    assert_eq!(client.history(&session).await.len(), 3, "nothing of it was done");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn what_was_expected_of_a_choice_is_said() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    let error =
        assert_refused(&server, &mut client.backend, chat_on_busy(&session, "hi", "maybe"), "invalid_field")
            .await;

    for choice in ["queue", "reject", "interrupt"] {
        assert!(text(&error, "message").contains(choice), "{error}");
    }
}

// ---- sizes ----

/// A message in so many fragments.
async fn send_in_fragments(socket: &mut Socket, text: &str, fragments: usize) {
    let pieces: Vec<_> = text.as_bytes().chunks(text.len().div_ceil(fragments)).collect();
    for (place, piece) in pieces.iter().enumerate() {
        let code = if place == 0 { Data::Text } else { Data::Continue };
        let last = place + 1 == pieces.len();
        let frame = Frame::message(piece.to_vec(), OpCode::Data(code), last);
        socket.send_message(Message::Frame(frame)).await;
    }
}

#[tokio::test]
async fn a_message_may_have_256_kib_and_no_more() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.chat(&session, ENDLESS).await;
    let mut send = async |content: String| {
        let mut command = chat(&session, &content);
        let id = unique("large");
        command["message_id"] = id.as_str().into();
        send_in_fragments(&mut client.backend, &command.to_string(), 4).await;
        client.backend.reply_to(&id).await
    };

    // Bytes count, not characters.
    for most in ["x".repeat(256 * KIB), "é".repeat(128 * KIB)] {
        let reply = send(most).await;
        assert_eq!(reply["ok"], true, "{reply}");
    }
    for more in ["x".repeat(256 * KIB + 1), "é".repeat(128 * KIB) + "x", "x".repeat(900 * KIB)] {
        let reply = send(more).await;
        assert_eq!(reply["error"]["code"], "payload_too_large", "{reply}");
        assert_is_helpful(&server, &reply["error"]);
    }
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_message_of_more_than_a_mebibyte_closes_the_connection() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut socket = Socket::open(&server.url("/ws/backend-api")).await;

    send_in_fragments(&mut socket, &chat("helper_100", &"x".repeat(1024 * KIB)).to_string(), 5).await;

    assert_eq!(socket.close_code().await, 1009);
    bystander.notices_nothing().await;
}

// ---- the wrong door ----

#[tokio::test]
async fn a_command_at_the_wrong_door_is_forbidden_and_told_the_right_one() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for command in [
        create("helper"),
        manage(&session, "close"),
        manage(&session, "history"),
        with_data(manage(&session, "rename"), json!({ "title": "No" })),
        json!({ "type": "session_management", "data": { "action": "list" } }),
        json!({ "type": "agent_refresh", "agent_id": "helper", "session_id": session }),
        chat(&session, "hi"),
        stop(&session, json!({})),
        json!({ "type": "typing", "session_id": session, "data": { "typing": true } }),
        json!({ "type": "get_agents" }),
        json!({ "type": "get_models" }),
    ] {
        let error = assert_refused(&server, &mut client.frontend, command, "forbidden").await;
        assert!(text(&error, "message").contains("/ws/backend-api"), "{error}");
    }
    for frame in [
        subscribe(&[&topic(&session)]),
        json!({ "type": "subscribe", "topics": [topic(&session)] }),
        json!({ "type": "subscribe", "agent_id": "helper", "session_id": session }),
        subscribe(&["session:helper_999999"]),
    ] {
        let error = assert_refused(&server, &mut client.backend, frame, "forbidden").await;
        assert!(text(&error, "message").contains("/ws/frontend-api"), "{error}");
    }
    assert_eq!(client.history(&session).await.len(), 3, "nothing of it was done");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_command_at_the_wrong_door_is_forbidden_whatever_else_is_wrong_with_it() {
    let server = Server::start();
    let mut client = server.client().await;
    for command in [
        chat("no session's id", "hi"),
        create("No Agent's Id"),
        json!({ "type": "chat_message", "data": {} }),
        json!({ "type": "session_management", "data": { "action": "rename" } }),
    ] {
        assert_refused(&server, &mut client.frontend, command, "forbidden").await;
    }
    assert_refused(&server, &mut client.backend, json!({ "type": "subscribe" }), "forbidden").await;
}

// ---- what there is not ----

#[tokio::test]
async fn what_there_is_not_is_not_found() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut client = server.client().await;
    for agent in ["nobody", "No Agent's Id", "", "../../etc/passwd"] {
        let error = assert_refused(&server, &mut client.backend, create(agent), "agent_not_found").await;
        assert_eq!(error["details"]["agent_id"], agent, "{error}");
    }
    for session in ["helper_999999", "nobody_417", "helper", "", "helper_417; drop table", "../helper_417"] {
        for command in [
            chat(session, "hi"),
            manage(session, "close"),
            manage(session, "history"),
            with_data(manage(session, "rename"), json!({ "title": "No" })),
            stop(session, json!({})),
            json!({ "type": "typing", "session_id": session, "data": { "typing": true } }),
        ] {
            let error = assert_refused(&server, &mut client.backend, command, "session_not_found").await;
            assert_eq!(error["details"]["session_id"], session, "{error}");
        }
    }
    let session = client.create("helper").await;
    let unknown = stop(&session, json!({ "run_id": "01890000-0000-7000-8000-000000000000" }));
    assert_refused(&server, &mut client.backend, unknown, "run_not_found").await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn what_cannot_be_done_now_says_why() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut client = server.client().await;
    let (running, closed) = (client.create("helper").await, client.create("helper").await);
    client.must(manage(&closed, "close")).await;
    assert_refused(&server, &mut client.backend, stop(&running, json!({})), "conflict").await;
    client.chat(&running, ENDLESS).await;

    let busy =
        assert_refused(&server, &mut client.backend, chat_on_busy(&running, "hi", "reject"), "busy").await;
    assert_eq!(busy["retryable"], true, "the same may succeed later: {busy}");
    let gone = assert_refused(&server, &mut client.backend, chat(&closed, "hi"), "session_closed").await;
    assert_eq!(gone["retryable"], false, "it will not be opened again: {gone}");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_store_that_is_full_is_unavailable_for_what_is_new_and_ends_what_is_going() {
    let server = Server::with(&[("DUOLOGUE_STORE", "memory:"), ("DUOLOGUE_MEMORY_STORE_BYTES", "1048576")]);
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let run_id = client.chat(&session, ENDLESS).await;
    let mut filler = server.client().await;
    let other = filler.create("helper").await;
    let mut refused = None;
    for _ in 0..200 {
        let reply = filler.command(chat(&other, &format!("/echo {}", "x".repeat(20 * KIB)))).await;
        if reply["ok"] == false && reply["error"]["code"] != "busy" {
            refused = Some(reply);
            break;
        }
        if reply["ok"] == true {
            filler.until_run_ends(text(&reply["data"], "run_id")).await;
        }
    }

    let refused = refused.expect("a full store");
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["retryable"]),
        (&json!("unavailable"), &json!(true))
    );
    assert_is_helpful(&server, &refused["error"]);
    // What is going ends, and what is read is read.
    client.must(stop(&session, json!({}))).await;
    let log = client.history(&session).await;
    assert_eq!(types(&of_run(&log, &run_id)), ["user_message", "run_started", "run_finished"]);
    // Closing a session makes room.
    client.must(manage(&session, "close")).await;
    filler.must(manage(&other, "close")).await;
    let fresh = client.create("helper").await;
    assert_eq!(client.run(&fresh, "/echo hi").await, "completed");
}

// ---- the end of the server ----

#[tokio::test]
async fn a_server_that_stops_ends_its_runs_and_tells_everybody() {
    let mut server = Server::with(&[("DUOLOGUE_DRAIN_SECS", "2")]);
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let run_id = client.chat(&session, "/count 1000000 5").await;
    let waiting = client.chat(&session, "/echo I wait").await;
    let mut frames = client.frontend.collect_until("a word", |frame| frame["type"] == "message.delta").await;

    server.signal(Signal::SIGTERM);
    until("the drain", async || server.get("/ready").await.0 == 503).await;

    // Runs go on, nothing is begun.
    let refused = assert_refused(&server, &mut client.backend, create("helper"), "unavailable").await;
    assert_eq!(refused["retryable"], true);
    assert_refused(&server, &mut client.backend, chat(&session, "hi"), "unavailable").await;
    assert_eq!(upgrade(&server, "/ws/backend-api", &[]).await.0, 503);
    frames
        .extend(client.frontend.collect_until("the end", |frame| frame["type"] == "connection_closed").await);
    let events = of_run(&frames, &run_id);
    let expected =
        ["user_message", "run_started", "agent_response", "context_update", "error", "run_finished"];
    assert_eq!(types(&events), expected);
    assert_eq!(events[2]["data"]["incomplete"], true);
    assert_eq!(events[4]["error"]["code"], "interrupted");
    assert_is_helpful(&server, &events[4]["error"]);
    assert_eq!(events[5]["data"]["outcome"], "interrupted");
    assert_eq!(types(&of_run(&frames, &waiting)), ["user_message"], "what waits stays");
    assert_eq!(frames.last().expect("an end")["data"]["code"], 4004);
    assert_eq!(client.frontend.close_code().await, 4004);
    assert_eq!(client.backend.close_code().await, 4004);
    assert!(server.ended().await.success());
}

// ---- failures that come as events ----

#[tokio::test]
async fn what_goes_wrong_later_comes_as_an_event() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let too_long = "word ".repeat(20_000);
    for (message, code) in [
        ("/fail auth", "provider_auth"),
        ("/fail rate_limit", "provider_rate_limited"),
        ("/fail timeout", "provider_timeout"),
        ("/fail server", "provider_error"),
        ("/fail cut", "provider_error"),
        (too_long.as_str(), "context_overflow"),
    ] {
        let run_id = client.chat(&session, message).await;
        let frames = client.until_run_ends(&run_id).await;
        let error = frames.iter().find(|frame| frame["type"] == "error").expect("an error");
        assert_eq!((&error["error"]["code"], &error["data"]), (&json!(code), &json!({})), "{error}");
        assert_is_helpful(&server, &error["error"]);
    }
    bystander.notices_nothing().await;
}

// ---- HTTP ----

/// The status and the body of the answer to an upgrade with these headers.
async fn upgrade(server: &Server, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let addr = server.addr.to_string();
    let host =
        if headers.iter().any(|(name, _)| *name == "Host") { None } else { Some(("Host", addr.as_str())) };
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let lines =
        host.iter().chain(&upgrade).chain(headers).map(|(name, value)| format!("{name}: {value}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\n{}\r\n", lines.collect::<String>());
    let answer = async {
        let mut stream = TcpStream::connect(server.addr).await.expect("it accepts connections");
        stream.write_all(request.as_bytes()).await.expect("an open connection");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(stream.read_u8().await.expect("an answer")));
        }
        let length = head
            .to_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await.expect("a body");
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, String::from_utf8(body).expect("text"))
    };
    within("an answer", answer).await
}

#[tokio::test]
async fn a_page_from_elsewhere_may_not_connect() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let port = server.addr.port();
    let own = format!("http://127.0.0.1:{port}");
    let by_name = (format!("localhost:{port}"), format!("http://localhost:{port}"));
    for path in ["/ws/frontend-api", "/ws/backend-api"] {
        assert_eq!(upgrade(&server, path, &[]).await.0, 101);
        assert_eq!(upgrade(&server, path, &[("Origin", &own)]).await.0, 101);
        let headers = [("Host", by_name.0.as_str()), ("Origin", by_name.1.as_str())];
        assert_eq!(upgrade(&server, path, &headers).await.0, 101);
        for origin in [
            "http://evil.example",
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:1",
            by_name.1.as_str(),
            "http://127.0.0.1.evil.example",
            "file://",
        ] {
            let (status, body) = upgrade(&server, path, &[("Origin", origin)]).await;
            assert_eq!(status, 403, "{origin}: {body}");
            assert!(body.contains("forbidden") && !body.contains(&*server.dir.to_string_lossy()), "{body}");
        }
    }
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_server_on_a_loopback_address_answers_to_loopback_names_only() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    for path in ["/ws/frontend-api", "/ws/backend-api"] {
        for host in ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:1"] {
            assert_eq!(upgrade(&server, path, &[("Host", host)]).await.0, 101, "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example"] {
            let (status, body) = upgrade(&server, path, &[("Host", host)]).await;
            assert_eq!(status, 403, "{host}: {body}");
            // Nor if the page agrees.
            let origin = format!("http://{host}");
            assert_eq!(upgrade(&server, path, &[("Host", host), ("Origin", &origin)]).await.0, 403, "{host}");
        }
    }
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_so() {
    let server = Server::start();
    for path in ["/ws/frontend-api", "/ws/backend-api"] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 426, "{body}");
        assert!(body.contains("WebSocket") && body.contains("\"status\":426"), "{body}");
    }
}

#[tokio::test]
async fn a_path_that_there_is_not_is_not_found() {
    let server = Server::start();
    for path in
        ["/nothing", "/ws", "/ws/", "/ws/nothing", "/ws/frontend-api/x", "/../agents.toml", "/agents.toml"]
    {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 404, "{path}: {body}");
        assert!(!body.contains(&*server.dir.to_string_lossy()), "{body}");
    }
    assert_eq!(upgrade(&server, "/ws/nothing", &[]).await.0, 404);
}

#[tokio::test]
async fn a_client_id_that_cannot_be_is_refused_before_the_upgrade() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let too_long = format!("/ws/backend-api?client_id={}", "x".repeat(10_000));
    for path in [too_long.as_str(), "/ws/backend-api?client_id=", "/ws/frontend-api?client_id=a%00b"] {
        let (status, body) = upgrade(&server, path, &[]).await;
        assert!((400..500).contains(&status), "{status} {body}");
        assert!(body.contains("client_id") && body.contains("expected"), "{body}");
        assert!(!body.contains(&*server.dir.to_string_lossy()), "{body}");
    }
    bystander.notices_nothing().await;
}
