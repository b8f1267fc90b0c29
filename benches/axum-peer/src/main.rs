//! What plain axum does with the load of `duologue bench`: the same two sockets, the same frames, of the same
//! size, and nothing else.
//!
//! It lacks, and so does not pay for: a log and replay (`--reconnect` and `--watchers` need them), more than one
//! subscriber, commands that are done once, bounds on what waits for a slow client, limits and checks of frames,
//! prompts, heartbeats, `user_message`, `context_update` and status events.
//!
//! It is written as the chat example of axum is, with the defaults of axum, tokio and the system's allocator: two
//! tasks for a socket that is written to, an unbounded channel to it, each event encoded by serde_json and sent.
//! With the argument `gather` it is written better than that: what is ready goes out in one write. It is there
//! to be compared with, not to be used.

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
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Where the events of each client go.
type Frontends = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Utf8Bytes>>>>;

#[derive(Clone, Default)]
struct Peer {
    frontends: Frontends,
    /// Events that go out in one write, at most.
    at_once: usize,
}

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
    let at_once = if std::env::args().nth(1).as_deref() == Some("gather") { 64 } else { 1 };
    let app = Router::new()
        .route("/ws/frontend-api", get(frontend))
        .route("/ws/backend-api", get(backend))
        .with_state(Peer { at_once, ..Peer::default() });
    axum::serve(listener, app).await.expect("it serves");
}

async fn frontend(
    upgrade: WebSocketUpgrade,
    Query(Client { client_id }): Query<Client>,
    State(peer): State<Peer>,
) -> Response {
    upgrade.on_upgrade(move |socket| show(socket, client_id, peer))
}

async fn backend(
    upgrade: WebSocketUpgrade,
    Query(Client { client_id }): Query<Client>,
    State(peer): State<Peer>,
) -> Response {
    upgrade.on_upgrade(move |socket| command(socket, client_id, peer.frontends))
}

/// Writes what comes for a client, in a task of its own.
///
/// One task that also waits for frames would ask the socket for some before each event, and tungstenite then
/// clears its 128 KiB of read buffer each time: 10 µs a delta.
async fn show(socket: WebSocket, client_id: String, Peer { frontends, at_once }: Peer) {
    let (sender, events) = mpsc::unbounded_channel();
    frontends.lock().expect("no panic while locked").insert(client_id.clone(), sender);
    let (out, mut incoming) = socket.split();
    let writing = tokio::spawn(write(out, events, at_once));
    while let Some(Ok(_)) = incoming.next().await {}
    writing.abort();
    frontends.lock().expect("no panic while locked").remove(&client_id);
}

async fn write(
    mut out: SplitSink<WebSocket, Message>,
    mut events: mpsc::UnboundedReceiver<Utf8Bytes>,
    at_once: usize,
) -> Result<(), axum::Error> {
    out.send(established()).await?;
    let mut ready = Vec::with_capacity(at_once);
    while events.recv_many(&mut ready, at_once).await > 0 {
        for event in ready.drain(..) {
            out.feed(Message::Text(event)).await?;
        }
        out.flush().await?;
    }
    Ok(())
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
