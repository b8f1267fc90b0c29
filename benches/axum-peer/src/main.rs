//! What plain axum does with the load of `duologue bench`: the same two sockets, the same frames, of the same
//! size, and nothing else. No log, no replay, no bounds, no second subscriber, no idempotency.
//!
//! It is written as the chat examples of axum are: a task for each socket, an unbounded channel to it, each
//! event encoded by serde_json. It is there to be compared with, not to be used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{
        Query, State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    response::Response,
    routing::get,
    serve::ListenerExt,
};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Where the events of each client go.
type Frontends = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Utf8Bytes>>>>;

#[derive(Deserialize)]
struct Client {
    client_id: String,
}

/// An event, with all the fields that ours have.
#[derive(Serialize)]
struct Event<'a, D> {
    v: u8,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    message_id: &'a str,
    timestamp: &'a str,
    agent_id: &'a str,
    session_id: &'a str,
    run_id: &'a str,
    r#type: &'a str,
    data: D,
}

const ID: &str = "01a1fc52-9f1e-70f2-964b-f47bb4f8a8e3";
const TIME: &str = "2026-11-21T04:17:15.550Z";

#[tokio::main(worker_threads = 2)]
async fn main() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("listening on http://{}", listener.local_addr().expect("an address"));
    let listener = listener.tap_io(|stream| {
        // It only costs latency where it cannot be set.
        let _ = stream.set_nodelay(true);
    });
    let app = Router::new()
        .route("/ws/frontend-api", get(frontend))
        .route("/ws/backend-api", get(backend))
        .with_state(Frontends::default());
    axum::serve(listener, app).await.expect("it serves");
}

async fn frontend(
    upgrade: WebSocketUpgrade,
    Query(Client { client_id }): Query<Client>,
    State(frontends): State<Frontends>,
) -> Response {
    upgrade.on_upgrade(move |socket| show(socket, client_id, frontends))
}

async fn backend(
    upgrade: WebSocketUpgrade,
    Query(Client { client_id }): Query<Client>,
    State(frontends): State<Frontends>,
) -> Response {
    upgrade.on_upgrade(move |socket| command(socket, client_id, frontends))
}

/// Writes what comes for a client; what is ready goes out together.
async fn show(socket: WebSocket, client_id: String, frontends: Frontends) {
    let (sender, mut events) = mpsc::unbounded_channel();
    frontends.lock().expect("no panic while locked").insert(client_id.clone(), sender);
    let (mut out, mut incoming) = socket.split();
    if out.send(established()).await.is_err() {
        return;
    }
    let mut ready = Vec::with_capacity(64);
    loop {
        tokio::select! {
            count = events.recv_many(&mut ready, 64) => {
                if count == 0 {
                    return;
                }
                for event in ready.drain(..) {
                    if out.feed(Message::Text(event)).await.is_err() {
                        return;
                    }
                }
                if out.flush().await.is_err() {
                    return;
                }
            }
            frame = incoming.next() => {
                if !matches!(frame, Some(Ok(_))) {
                    frontends.lock().expect("no panic while locked").remove(&client_id);
                    return;
                }
            }
        }
    }
}

/// Takes a client's commands: one to open a session, then messages.
async fn command(mut socket: WebSocket, client_id: String, frontends: Frontends) {
    if socket.send(established()).await.is_err() {
        return;
    }
    while let Some(Ok(frame)) = socket.recv().await {
        let Message::Text(text) = frame else { continue };
        let Ok(command) = serde_json::from_str::<Value>(&text) else { continue };
        let frontend = frontends.lock().expect("no panic while locked").get(&client_id).cloned();
        let Some(frontend) = frontend else { return };
        let create = command["type"] == "session_management";
        let data = if create {
            json!({ "session_id": client_id, "epoch": "e", "seq": 1, "duplicate": false })
        } else {
            json!({ "run_id": ID, "seq": 1, "duplicate": false })
        };
        let reply = json!({
            "v": 1, "type": "reply", "reply_to": command["message_id"], "ok": true, "data": data,
        });
        if create {
            send(&frontend, &client_id, "session_created", Some(1), json!({ "session_id": client_id }));
        } else {
            let content = command["data"]["content"].as_str().unwrap_or("").to_owned();
            tokio::spawn(answer(frontend, client_id.clone(), content));
        }
        if socket.send(Message::text(reply.to_string())).await.is_err() {
            return;
        }
    }
}

/// Streams the answer to `/echo x` or `/count N [MS]`.
async fn answer(frontend: mpsc::UnboundedSender<Utf8Bytes>, session: String, content: String) {
    let mut words = content.split_whitespace().skip(1);
    let count = if content.starts_with("/count") { words.next() } else { None };
    let count: u64 = count.and_then(|count| count.parse().ok()).unwrap_or(1);
    let pace = words.next().and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
    let mut ticks = pace.map(|pace| tokio::time::interval_at(tokio::time::Instant::now() + pace, pace));
    let (mut text, mut offset) = (String::new(), 0);
    send(&frontend, &session, "run_started", None, json!({ "trigger": "user_message" }));
    for number in 1..=count {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let piece = if number == 1 { "1".to_owned() } else { format!(" {number}") };
        text.push_str(&piece);
        let delta = Delta { message_id: ID, offset, text: &piece };
        offset += piece.len();
        send(&frontend, &session, "message.delta", None, delta);
    }
    send(&frontend, &session, "agent_response", None, json!({ "message_id": ID, "content": text }));
    send(&frontend, &session, "run_finished", None, json!({ "outcome": "completed" }));
}

#[derive(Serialize)]
struct Delta<'a> {
    message_id: &'a str,
    offset: usize,
    text: &'a str,
}

fn send(
    frontend: &mpsc::UnboundedSender<Utf8Bytes>,
    session: &str,
    kind: &str,
    seq: Option<u64>,
    data: impl Serialize,
) {
    let topic = format!("session:{session}");
    let event = Event {
        v: 1,
        topic: &topic,
        epoch: seq.map(|_| "e"),
        seq,
        message_id: ID,
        timestamp: TIME,
        agent_id: "helper",
        session_id: session,
        run_id: ID,
        r#type: kind,
        data,
    };
    // The client may have gone.
    let _ = frontend.send(serde_json::to_string(&event).expect("an event is JSON").into());
}

fn established() -> Message {
    Message::text(r#"{"v":1,"type":"connection_established","data":{}}"#)
}
