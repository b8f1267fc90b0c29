//! Clients that mean harm, or know no better. Each is refused or let go with the right code, costs the server
//! next to nothing, and another client notices none of it.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Bystander, Server, Socket, topic, until, within};

const MIB: u64 = 1024 * 1024;

// ---- a client that writes bytes ----

/// A WebSocket connection with nothing between the test and the wire.
pub struct Raw(TcpStream);

impl Raw {
    pub async fn connect(server: &Server) -> TcpStream {
        within("a connection", TcpStream::connect(server.addr)).await.expect("it is accepted")
    }

    /// Upgrades to the backend socket, and reads past `connection_established`.
    pub async fn upgrade(server: &Server) -> Self {
        Self::upgrade_on(Self::connect(server).await, server, "/ws/backend-api").await
    }

    async fn upgrade_on(mut stream: TcpStream, server: &Server, path: &str) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.addr
        );
        stream.write_all(request.as_bytes()).await.expect("an open connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a response"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let mut raw = Self(stream);
        let (opcode, payload) = raw.read_frame().await.expect("a first frame");
        assert_eq!(opcode, 1);
        assert!(String::from_utf8_lossy(&payload).contains("connection_established"));
        raw
    }

    /// Writes; a server that has hung up already is not the test's concern.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = within("room to write", self.0.write_all(bytes)).await;
    }

    /// A server's frame: its opcode and payload; `None` at the end.
    pub async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await.ok()?;
        let len = match self.0.read_u8().await.ok()? {
            126 => usize::from(self.0.read_u16().await.ok()?),
            127 => usize::try_from(self.0.read_u64().await.ok()?).ok()?,
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((first & 0x0F, payload))
    }

    /// The code that the server closes with; 1006 where it ends without one.
    async fn close_code(&mut self) -> u16 {
        within("a close", async {
            loop {
                match self.read_frame().await {
                    Some((8, payload)) => {
                        return payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    }
                    Some(_) => {}
                    None => return 1006,
                }
            }
        })
        .await
    }
}

/// A client's frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

fn header(first: u8, len: u64) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..=125 => header.push(0x80 | len as u8),
        126..=0xFFFF => {
            header.push(0x80 | 126);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend(len.to_be_bytes());
        }
    }
    header.extend([0; 4]);
    header
}

const TEXT: u8 = 0x81;
const FIRST: u8 = 0x01;
const MIDDLE: u8 = 0x00;
const LAST: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

// ---- the five that the design names ----

/// A frontend socket of its own that watches a session and does not read unless told to.
async fn watcher(server: &Server, session: &str, client_id: &str) -> Raw {
    let stream = Raw::connect(server).await;
    let path = format!("/ws/frontend-api?client_id={client_id}");
    let mut watcher = Raw::upgrade_on(stream, server, &path).await;
    let subscribe = json!({ "type": "subscribe", "data": { "topics": [topic(session)] } }).to_string();
    watcher.write(&frame(TEXT, subscribe.as_bytes())).await;
    watcher
}

#[tokio::test]
async fn a_client_that_never_reads_is_let_go_and_costs_its_bound() {
    // The caches of a store in a file fill as it is used, and would be taken for the client's.
    let server = Server::with(&[("DUOLOGUE_OUTBOX_BYTES", "262144"), ("DUOLOGUE_STORE", "memory:")]);
    let mut author = server.client().await;
    let session = author.create("helper").await;
    let mut bystander = Bystander::new(&server).await;
    let connections = server.connections().await;
    // Far more than the bound of a slow client and what the kernel holds for it.
    let mut load = async || {
        for _ in 0..20 {
            assert_eq!(author.run(&session, "/count 1000").await, "completed");
        }
        server.resident_bytes()
    };
    let before = load().await;
    let alone = load().await.saturating_sub(before);

    let _reader = watcher(&server, &session, "never-reads").await;
    let before = server.resident_bytes();
    let grown = load().await.saturating_sub(before);

    until("the slow client to be let go", async || server.connections().await == connections).await;
    assert!(grown < alone + 2 * MIB, "the server has grown by {grown} bytes, without the client by {alone}");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_client_that_reads_a_byte_a_second_is_let_go() {
    let server = Server::start();
    let mut author = server.client().await;
    let session = author.create("helper").await;
    let mut bystander = Bystander::new(&server).await;
    let connections = server.connections().await;
    let mut reader = watcher(&server, &session, "drips").await;
    // More than the kernel holds for it, less than the bound of its outbox: only time can tell.
    assert_eq!(author.run(&session, "/count 2500").await, "completed");
    assert_eq!(server.connections().await, connections + 1);

    let mut second = tokio::time::interval(Duration::from_secs(1));
    within("the slow client to be let go", async {
        while server.connections().await > connections {
            second.tick().await;
            let _ = reader.0.read_u8().await;
        }
    })
    .await;

    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_declared_size_is_enough_to_be_refused() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let before = server.resident_bytes();
    for len in [262_145, 1 << 20, 1 << 40, i64::MAX as u64] {
        let mut raw = Raw::upgrade(&server).await;
        raw.write(&header(TEXT, len)).await;
        assert_eq!(raw.close_code().await, 1009, "{len}");
    }
    // What goes on sending is not buffered either.
    let mut raw = Raw::upgrade(&server).await;
    raw.write(&header(TEXT, 256 * MIB)).await;
    for _ in 0..64 {
        raw.write(&vec![b'x'; 64 * 1024]).await;
    }

    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * MIB, "the server has grown by {grown} bytes");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn endless_empty_continuations_are_refused() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let before = server.resident_bytes();
    let mut raw = Raw::upgrade(&server).await;
    let mut frames = frame(FIRST, b"");
    for _ in 0..10_000 {
        frames.extend(frame(MIDDLE, b""));
    }

    raw.write(&frames).await;

    assert_eq!(raw.close_code().await, 1009);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * MIB, "the server has grown by {grown} bytes");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_flood_of_pings_is_refused() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let before = server.resident_bytes();
    let mut raw = Raw::upgrade(&server).await;

    raw.write(&frame(PING, b"are you there?").repeat(100_000)).await;

    assert_eq!(raw.close_code().await, 4400);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * MIB, "the server has grown by {grown} bytes");
    bystander.notices_nothing().await;
}

// ---- frames that are not as RFC 6455 has them ----

#[tokio::test]
async fn frames_that_the_rfc_forbids_close_with_the_right_code() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let unmasked = [&[TEXT, 2][..], b"{}"].concat();
    let long_ping = frame(PING, &[b'x'; 126]);
    let fragmented_ping = frame(0x09, b"x");
    let two_at_once = [frame(FIRST, b"{"), frame(TEXT, b"{}")].concat();
    let bad_close_code = frame(CLOSE, &999_u16.to_be_bytes());
    let reserved_close_code = frame(CLOSE, &1005_u16.to_be_bytes());
    let invalid_text = frame(TEXT, b"{\"type\":\"\xff\"}");
    let invalid_in_fragments = [frame(FIRST, b"{\"type\":\"\xe6"), frame(LAST, b"x\"}")].concat();
    for (what, bytes, code) in [
        ("a reserved bit", frame(TEXT | 0x40, b"{}"), 1002),
        ("an unmasked frame", unmasked, 1002),
        ("a reserved opcode", frame(0x83, b""), 1002),
        ("a reserved control opcode", frame(0x8B, b""), 1002),
        ("a long control frame", long_ping, 1002),
        ("a fragmented control frame", fragmented_ping, 1002),
        ("a continuation of nothing", frame(LAST, b"x"), 1002),
        ("two messages at once", two_at_once, 1002),
        ("a close of one byte", frame(CLOSE, b"x"), 1002),
        ("a close code that there is not", bad_close_code, 1002),
        ("a close code that may not be sent", reserved_close_code, 1002),
        ("a binary frame", frame(0x82, b"{}"), 1003),
        ("invalid UTF-8", invalid_text, 1007),
        ("invalid UTF-8 over two fragments", invalid_in_fragments, 1007),
    ] {
        let mut raw = Raw::upgrade(&server).await;
        raw.write(&bytes).await;
        assert_eq!(raw.close_code().await, code, "{what}");
    }
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn fragments_make_one_message_wherever_they_are_cut() {
    let server = Server::start();
    let message = json!({ "type": "ping", "message_id": "日本😀" }).to_string();
    for cut in 1..message.len() {
        let mut raw = Raw::upgrade(&server).await;
        let (first, last) = message.as_bytes().split_at(cut);
        // Control frames may come between, and bytes one by one.
        let bytes = [frame(FIRST, first), frame(PING, b"!"), frame(LAST, last)].concat();
        if cut % 8 == 0 {
            for byte in bytes {
                raw.write(&[byte]).await;
            }
        } else {
            raw.write(&bytes).await;
        }

        let (mut pong, mut reply) = (false, None);
        while reply.is_none() {
            match raw.read_frame().await.expect("an open connection") {
                (10, payload) => pong = payload == b"!",
                (1, payload) => reply = Some(String::from_utf8(payload).expect("text")),
                other => panic!("{other:?}"),
            }
        }
        assert!(pong, "a ping is answered with what it carried");
        let reply: serde_json::Value = serde_json::from_str(&reply.expect("a reply")).expect("JSON");
        assert_eq!((&reply["type"], &reply["reply_to"]), (&json!("pong"), &json!("日本😀")));
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let server = Server::start();
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut raw = Raw::upgrade(&server).await;
        raw.write(&frame(CLOSE, &code.to_be_bytes())).await;
        assert_eq!(raw.close_code().await, code);
        assert!(within("the end", raw.read_frame()).await.is_none(), "and then the connection ends");
    }
}

// ---- handshakes ----

#[tokio::test]
async fn a_slow_handshake_is_given_up() {
    // A store with files opens some of them only when it needs them.
    let server = Server::with(&[("DUOLOGUE_STORE", "memory:")]);
    let mut bystander = Bystander::new(&server).await;
    let files = server.open_files();
    let mut stream = Raw::connect(&server).await;
    stream.write_all(b"GET /ws/backend-api HTTP/1.1\r\nHost: ").await.expect("an open connection");

    let mut answer = Vec::new();
    within("the end of the connection", stream.read_to_end(&mut answer)).await.expect("an answer");

    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    until("its file to be closed", async || server.open_files() <= files).await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let before = server.resident_bytes();
    let mut stream = Raw::connect(&server).await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("an open connection");
    for number in 0..50_000 {
        if stream.write_all(format!("x-{number}: {}\r\n", "y".repeat(100)).as_bytes()).await.is_err() {
            break;
        }
    }

    let mut answer = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;

    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * MIB, "the server has grown by {grown} bytes");
    bystander.notices_nothing().await;
}

// ---- JSON ----

#[tokio::test]
async fn awkward_json_is_a_bad_request_and_harms_nobody() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let before = server.resident_bytes();
    for text in [
        "[".repeat(10_000),
        r#"{"a":"#.repeat(10_000),
        format!("{{\"type\":\"ping\",\"data\":{}1{}}}", "[".repeat(100), "]".repeat(100)),
        format!("[{}0]", "0,".repeat(100_000)),
        format!("{{{}\"z\":0}}", (0..22_000).map(|n| format!("\"{n}\":0,")).collect::<String>()),
        r#"{"type":"ping","n":1e999999}"#.to_owned(),
        format!("{{\"type\":\"ping\",\"n\":{}}}", "9".repeat(100_000)) + "x",
        r#"{"type":"ping","type":"ping"}"#.to_owned(),
        r#"{"type":"\ud800"}"#.to_owned(),
        "\u{0}".to_owned(),
        "null".to_owned(),
        "\"ping\"".to_owned(),
        "{}".to_owned(),
        r#"{"type":5}"#.to_owned(),
        " ".to_owned(),
    ] {
        let mut socket = Socket::open(&server.url("/ws/backend-api")).await;
        socket.send_text(text.clone()).await;
        let reply = socket.next().await;
        let start: String = text.chars().take(60).collect();
        assert_eq!(reply["error"]["code"], "bad_request", "{start}: {reply}");
        assert_eq!(reply["reply_to"], serde_json::Value::Null, "{start}");
        // The connection is as good as before.
        socket.send(&json!({ "type": "ping", "message_id": "after" })).await;
        assert_eq!(socket.reply_to("after").await["type"], "pong", "{start}");
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * MIB, "the server has grown by {grown} bytes");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn twenty_frames_that_cannot_be_read_are_a_flood() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut socket = Socket::open(&server.url("/ws/backend-api")).await;
    for _ in 0..20 {
        socket.send_text("rubbish").await;
    }

    assert_eq!(socket.close_code().await, 4400);
    bystander.notices_nothing().await;
}

// ---- too much at once ----

#[tokio::test]
async fn a_client_that_sends_and_never_reads_is_no_longer_read() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut author = server.client().await;
    let session = author.create("helper").await;
    author.run(&session, "/lorem 3000").await;
    let before = server.resident_bytes();
    let mut raw = Raw::upgrade(&server).await;
    let history = json!({
        "type": "session_management", "session_id": session, "data": { "action": "history" },
    });
    let commands = frame(TEXT, history.to_string().as_bytes()).repeat(100);

    // The server takes so much and then waits: so does this client.
    let sending = async {
        for _ in 0..10_000 {
            raw.write(&commands).await;
        }
    };
    let stuck = tokio::time::timeout(Duration::from_secs(3), sending).await.is_err();

    assert!(stuck, "a server that reads on owes more and more replies");
    let grown = server.resident_bytes().saturating_sub(before);
    // What it owes is bounded by a quarter of a MiB; the allocator keeps a page for every size on the way there.
    // All the replies would come to gigabytes.
    assert!(grown < 16 * MIB, "the server has grown by {grown} bytes");
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_thousand_pipelined_commands_are_all_answered() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for number in 0..1_000 {
        let command = json!({
            "type": "session_management", "session_id": session, "message_id": format!("r{number}"),
            "data": { "action": "rename", "title": format!("title {number}") },
        });
        client.backend.send(&command).await;
    }
    // In any order; what they do is done in the order in which they were sent.
    for number in 0..1_000 {
        assert_eq!(client.backend.reply_to(&format!("r{number}")).await["ok"], true, "{number}");
    }

    let list = client.must(json!({ "type": "session_management", "data": { "action": "list" } })).await;
    assert_eq!(list["sessions"][0]["title"], "title 999");
}
