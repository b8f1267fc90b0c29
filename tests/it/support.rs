//! What the tests stand on: a server of their own, clients of it, and waiting that ends.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

/// Nothing that a test waits for takes longer, on however busy a machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what a test expects; that it does not come is the test's failure.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks again and again until the answer is yes.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    within(what, async {
        while !condition().await {
            looks.tick().await;
        }
    })
    .await;
}

// ---- the server ----

/// A server in a process of its own, on a port of its own. It ends with the test.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    /// Its working directory.
    pub dir: PathBuf,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(environment: &[(&str, &str)]) -> Self {
        Self::start_in(&scratch_dir(), environment)
    }

    /// Starts a server in a directory; one without an `agents.toml` gets the one that is shipped.
    pub fn start_in(dir: &std::path::Path, environment: &[(&str, &str)]) -> Self {
        let agents = dir.join("agents.toml");
        if !agents.exists() {
            let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.toml");
            std::fs::copy(shipped, agents).expect("agents.toml can be copied");
        }
        let mut command = duologue(dir, environment);
        command.arg("serve");
        Self::spawn(command, dir)
    }

    /// Starts a server by a command of one's own.
    pub fn spawn(mut command: Command, dir: &std::path::Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the server speaks");
        let addr = line.trim().strip_prefix("listening on http://").and_then(|addr| addr.parse().ok());
        let Some(addr) = addr else { panic!("the server did not say where it listens, but {line:?}") };
        Self { child, addr, dir: dir.to_owned() }
    }

    /// Starts a server with these agents.
    pub fn with_agents(agents: &str, environment: &[(&str, &str)]) -> Self {
        let dir = scratch_dir();
        std::fs::write(dir.join("agents.toml"), agents).expect("a file can be written");
        Self::start_in(&dir, environment)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// Memory of its own that is in RAM, in bytes: without the pages of its program, which come as they are used.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
    }

    /// What it has in hand, as it says itself.
    pub async fn ready(&self) -> Value {
        let (status, body) = self.get("/ready").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Sockets that it has open.
    pub async fn connections(&self) -> u64 {
        self.ready().await["connections"].as_u64().expect("a number")
    }

    /// The answer to a GET request: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.addr);
        let (head, body) = self.request(&request).await;
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status in {head:?}")), body)
    }

    /// The head and body of the answer to a request as it is.
    pub async fn request(&self, request: &str) -> (String, String) {
        let answer = async {
            let mut stream = TcpStream::connect(self.addr).await.expect("it accepts connections");
            stream.write_all(request.as_bytes()).await.expect("an open connection");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
            String::from_utf8(answer).expect("text")
        };
        let answer = within("an answer", answer).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid() as i32);
        nix::sys::signal::kill(pid, signal).expect("it can be signalled");
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> PathBuf {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        self.dir.clone()
    }

    /// Waits for it to end by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("the end of the server", async || {
            status = self.child.try_wait().expect("it can be asked");
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }

    /// A client at both doors, with a client id of its own.
    pub async fn client(&self) -> Client {
        Client::open(self, &unique("client")).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary under test, with no environment but what is given.
pub fn duologue(dir: &std::path::Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duologue"));
    command
        .current_dir(dir)
        .env_clear()
        .env("DUOLOGUE_BIND", "127.0.0.1:0")
        .env("RUST_LOG", "warn")
        .envs(environment.iter().copied());
    command
}

/// An empty directory that only this test has. Process ids come again, and directories stay.
pub fn scratch_dir() -> PathBuf {
    loop {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique("test"));
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => {
                made.expect("a directory can be made");
                return dir;
            }
        }
    }
}

/// A name that nothing else has.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

// ---- a socket ----

/// One WebSocket, as a client has it.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Frames that came while another was waited for.
    passed: VecDeque<Value>,
}

impl Socket {
    /// Opens a socket, up to its `connection_established`.
    pub async fn open(url: &str) -> Self {
        Self::open_with_greeting(url).await.0
    }

    /// Opens a socket; also its `connection_established`.
    pub async fn open_with_greeting(url: &str) -> (Self, Value) {
        let stream = within("a connection", connect_in_the_end(url)).await.expect(url);
        let mut socket = Self { stream, passed: VecDeque::new() };
        let first = socket.next().await;
        assert_eq!(first["type"], "connection_established", "{first}");
        (socket, first)
    }

    /// Opens a socket on a connection that may break at any byte.
    pub async fn try_open(url: &str) -> Option<Self> {
        let stream = within("a connection", connect(url)).await.ok()?;
        let mut socket = Self { stream, passed: VecDeque::new() };
        let first = socket.try_next().await?;
        assert_eq!(first["type"], "connection_established", "{first}");
        Some(socket)
    }

    pub async fn send(&mut self, frame: &Value) {
        self.send_text(frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        let text: String = text.into();
        within("a frame to be sent", self.stream.send(Message::text(text)))
            .await
            .expect("an open connection");
    }

    pub async fn send_message(&mut self, message: Message) {
        within("a frame to be sent", self.stream.send(message)).await.expect("an open connection");
    }

    /// Sends frames so that they arrive together.
    pub async fn send_at_once(&mut self, frames: &[Value]) {
        for frame in frames {
            within("room for a frame", self.stream.feed(Message::text(frame.to_string())))
                .await
                .expect("an open connection");
        }
        within("frames to be sent", self.stream.flush()).await.expect("an open connection");
    }

    /// Sends on a connection that may be broken; whether it was sent.
    pub async fn try_send(&mut self, frame: &Value) -> bool {
        within("a frame to be sent", self.stream.send(Message::text(frame.to_string()))).await.is_ok()
    }

    /// The next frame; heartbeats are passed over.
    pub async fn next(&mut self) -> Value {
        match self.passed.pop_front() {
            Some(frame) => frame,
            None => self.read().await,
        }
    }

    /// The next frame as it came; heartbeats are passed over.
    pub async fn next_text(&mut self) -> String {
        assert!(self.passed.is_empty(), "frames that were passed over are no longer text");
        self.read_text().await
    }

    /// The next frame on a connection that may break; `None` at its end, however it ends.
    pub async fn try_next(&mut self) -> Option<Value> {
        if let Some(frame) = self.passed.pop_front() {
            return Some(frame);
        }
        loop {
            match within("a frame", self.stream.next()).await? {
                Ok(Message::Text(text)) if is_heartbeat(&text) => {}
                Ok(Message::Text(text)) => {
                    return Some(serde_json::from_str(&text).expect("frames are JSON"));
                }
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame on a connection that may end, or the code that it ends with; 1006 where it ends without
    /// one.
    pub async fn next_or_code(&mut self) -> Result<Value, u16> {
        if let Some(frame) = self.passed.pop_front() {
            return Ok(frame);
        }
        loop {
            match within("a frame", self.stream.next()).await {
                Some(Ok(Message::Text(text))) if is_heartbeat(&text) => {}
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("frames are JSON"));
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map_or(1005, |frame| u16::from(frame.code)));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// All that came up to now: what the server had for this socket before it answered a ping.
    pub async fn so_far(&mut self) -> Vec<Value> {
        let id = unique("so-far");
        self.send(&json!({ "type": "ping", "message_id": id })).await;
        let mut frames = self.collect_until("a pong", |frame| frame["reply_to"] == id.as_str()).await;
        frames.pop();
        frames
    }

    /// The next frame that fits; those before it can still be had by `next`.
    pub async fn next_where(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.passed.iter().position(&fits) {
            return self.passed.remove(at).expect("it is there");
        }
        loop {
            let frame = within(what, self.read()).await;
            if fits(&frame) {
                return frame;
            }
            self.passed.push_back(frame);
        }
    }

    /// All frames up to and with the first that fits.
    pub async fn collect_until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = within(what, self.next()).await;
            let last = fits(&frame);
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// The frame that answers the command.
    pub async fn reply_to(&mut self, id: &str) -> Value {
        self.next_where(&format!("the reply to {id}"), |frame| frame["reply_to"] == id).await
    }

    /// Sends a frame that has an id; the frame that answers it.
    pub async fn ask(&mut self, frame: &Value) -> Value {
        self.send(frame).await;
        self.reply_to(frame["message_id"].as_str().expect("an id")).await
    }

    /// The code that the server closes the connection with; frames before that are passed over. 1006 where
    /// it ends without one.
    pub async fn close_code(&mut self) -> u16 {
        within("the end of the connection", async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Close(frame))) => {
                        let code = frame.map_or(1005, |frame| u16::from(frame.code));
                        // The answer to it goes out with the next poll.
                        let _ = self.stream.next().await;
                        return code;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return 1006,
                }
            }
        })
        .await
    }

    pub async fn close(mut self) {
        // It may be closed already.
        let _ = self.stream.close(None).await;
    }

    async fn read(&mut self) -> Value {
        let text = self.read_text().await;
        let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
        assert_eq!(frame["v"], 1, "{frame}");
        frame
    }

    async fn read_text(&mut self) -> String {
        loop {
            match within("a frame", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    if !is_heartbeat(&text) {
                        return text.to_string();
                    }
                }
                Some(Ok(Message::Close(frame))) => panic!("closed while a frame was waited for: {frame:?}"),
                Some(Ok(_)) => {}
                other => panic!("a frame was waited for, and came {other:?}"),
            }
        }
    }
}

async fn connect(url: &str) -> tungstenite::Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    // The library's own buffers would be 128 KiB a socket.
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let (stream, _) = tokio_tungstenite::connect_async_with_config(url, Some(config), false).await?;
    Ok(stream)
}

/// Where this machine is so busy that the request comes too late for the server, it may be repeated (RFC 9110,
/// section 15.5.9).
async fn connect_in_the_end(url: &str) -> tungstenite::Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    loop {
        match connect(url).await {
            Err(tungstenite::Error::Http(answer)) if answer.status() == 408 => {}
            outcome => return outcome,
        }
    }
}

fn is_heartbeat(text: &str) -> bool {
    // Parsed only where it may be one.
    text.contains("\"heartbeat\"")
        && serde_json::from_str::<Value>(text).is_ok_and(|frame| frame["type"] == "heartbeat")
}

// ---- a client ----

/// Both sockets of one client.
pub struct Client {
    pub id: String,
    pub frontend: Socket,
    pub backend: Socket,
    commands: u64,
}

impl Client {
    pub async fn open(server: &Server, id: &str) -> Self {
        let frontend = Socket::open(&server.url(&format!("/ws/frontend-api?client_id={id}"))).await;
        let backend = Socket::open(&server.url(&format!("/ws/backend-api?client_id={id}"))).await;
        Self { id: id.to_owned(), frontend, backend, commands: 0 }
    }

    /// Sends a command, under an id of its own; its reply.
    pub async fn command(&mut self, command: Value) -> Value {
        let id = self.send(command).await;
        self.backend.reply_to(&id).await
    }

    /// Sends a command and does not wait for its reply; its id.
    pub async fn send(&mut self, mut command: Value) -> String {
        self.commands += 1;
        let id = format!("{}-{}", self.id, self.commands);
        command["message_id"] = id.as_str().into();
        self.backend.send(&command).await;
        id
    }

    /// The data of the reply to a command that must succeed.
    pub async fn must(&mut self, command: Value) -> Value {
        let reply = self.command(command.clone()).await;
        assert_eq!(reply["ok"], true, "{command} was answered {reply}");
        reply["data"].clone()
    }

    /// The code of the error that a command must be answered with.
    pub async fn error_code(&mut self, command: Value) -> String {
        let reply = self.command(command.clone()).await;
        assert_eq!(reply["ok"], false, "{command} was answered {reply}");
        reply["error"]["code"].as_str().expect("a code").to_owned()
    }

    /// Opens a session with an agent; its events up to the seed messages are taken from the frontend.
    pub async fn create(&mut self, agent: &str) -> String {
        let data = self.must(create(agent)).await;
        let session = data["session_id"].as_str().expect("an id").to_owned();
        let id = session.clone();
        self.frontend
            .next_where("session_created", move |frame| {
                frame["type"] == "session_created" && frame["session_id"] == id.as_str()
            })
            .await;
        session
    }

    /// Sends a message; its run's id.
    pub async fn chat(&mut self, session: &str, content: &str) -> String {
        let data = self.must(chat(session, content)).await;
        data["run_id"].as_str().expect("a run").to_owned()
    }

    /// All frames of the frontend up to and with the end of a run.
    pub async fn until_run_ends(&mut self, run_id: &str) -> Vec<Value> {
        self.frontend
            .collect_until("the end of the run", |frame| {
                frame["type"] == "run_finished" && frame["run_id"] == run_id
            })
            .await
    }

    /// Sends a message and waits for the end of its run; its outcome.
    pub async fn run(&mut self, session: &str, content: &str) -> String {
        let run_id = self.chat(session, content).await;
        let frames = self.until_run_ends(&run_id).await;
        frames.last().expect("an end")["data"]["outcome"].as_str().expect("an outcome").to_owned()
    }

    /// The whole log of a session.
    pub async fn history(&mut self, session: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let after = events.len();
            let page = self
                .must(json!({
                    "type": "session_management", "session_id": session,
                    "data": { "action": "history", "after": after, "limit": 1000 },
                }))
                .await;
            events.extend(page["events"].as_array().expect("events").clone());
            if page["more"] == false {
                return events;
            }
        }
    }
}

// ---- frames ----

/// Another client, whose session goes on while somebody is wrong.
pub struct Bystander {
    client: Client,
    session: String,
}

impl Bystander {
    pub async fn new(server: &Server) -> Self {
        let mut client = server.client().await;
        let session = client.create("helper").await;
        Self { client, session }
    }

    /// Has a message answered, and is shown nothing but its own session and the list.
    pub async fn notices_nothing(&mut self) {
        let run_id = self.client.chat(&self.session, "/count 20").await;
        let frames = self.client.until_run_ends(&run_id).await;
        let topic = topic(&self.session);
        for frame in &frames {
            let is_own = frame["topic"] == topic.as_str() || frame["type"] == "session_list_changed";
            assert!(is_own || frame["type"] == "subscribe_ack", "{frame}");
        }
        assert_eq!(frames.last().expect("an end")["data"]["outcome"], "completed");
    }
}

pub fn create(agent: &str) -> Value {
    json!({ "type": "session_management", "agent_id": agent, "data": { "action": "create" } })
}

pub fn chat(session: &str, content: &str) -> Value {
    json!({ "type": "chat_message", "session_id": session, "data": { "content": content } })
}

/// A message with what is to become of it while a run is going.
pub fn chat_on_busy(session: &str, content: &str, on_busy: &str) -> Value {
    json!({
        "type": "chat_message", "session_id": session, "data": { "content": content, "on_busy": on_busy },
    })
}

pub fn stop(session: &str, data: Value) -> Value {
    json!({ "type": "stop_run", "session_id": session, "data": data })
}

pub fn manage(session: &str, action: &str) -> Value {
    json!({ "type": "session_management", "session_id": session, "data": { "action": action } })
}

pub fn topic(session: &str) -> String {
    format!("session:{session}")
}

pub fn subscribe(topics: &[&str]) -> Value {
    json!({ "type": "subscribe", "message_id": unique("subscribe"), "data": { "topics": topics } })
}

/// A subscription to one topic from a position.
pub fn subscribe_from(topic: &str, epoch: &str, seq: u64) -> Value {
    json!({
        "type": "subscribe", "message_id": unique("subscribe"),
        "data": { "topics": [topic], "positions": { (topic): { "epoch": epoch, "seq": seq } } },
    })
}

/// The events of one run, in order.
pub fn of_run<'a>(events: &'a [Value], run_id: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["run_id"] == run_id && event["seq"].is_u64()).collect()
}

/// The durable events of a session among frames, in order.
pub fn durable<'a>(frames: &'a [Value], session: &str) -> Vec<&'a Value> {
    frames.iter().filter(|frame| frame["session_id"] == session && frame["seq"].is_u64()).collect()
}

pub fn types<'a>(events: &[&'a Value]) -> Vec<&'a str> {
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

/// Checks that the numbers of durable events go on without a gap after `after`.
#[track_caller]
pub fn assert_contiguous(events: &[&Value], after: u64) {
    for (expected, event) in (after + 1..).zip(events) {
        assert_eq!(event["seq"], expected, "{event}");
    }
}

// ---- the oracle ----

/// What one client has been shown of the topics that it watches, checked as it comes in: durable events
/// numbered without a gap, texts by their offsets, answers equal to what was streamed. One of these outlives
/// the sockets of its client, and says from where each goes on.
#[derive(Default)]
pub struct Watched {
    topics: BTreeMap<String, TopicSeen>,
    /// Of all events so far: each names one.
    event_ids: BTreeSet<String>,
}

#[derive(Default)]
pub struct TopicSeen {
    pub epoch: String,
    pub seq: u64,
    /// Durable events by number. Of a session that was taken up by a snapshot, some are missing.
    pub events: BTreeMap<u64, Value>,
    pub snapshots: usize,
    /// Texts of messages that are still streaming, and whether they come in on this socket.
    texts: HashMap<String, (String, bool)>,
}

impl Watched {
    pub fn new() -> Self {
        Self::default()
    }

    /// Of one who has seen a topic up to a position, and kept nothing of it.
    pub fn from(topic: &str, epoch: &str, seq: u64) -> Self {
        let mut watched = Self::default();
        let seen = TopicSeen { epoch: epoch.to_owned(), seq, ..TopicSeen::default() };
        watched.topics.insert(topic.to_owned(), seen);
        watched
    }

    /// The number of the last event seen of a topic.
    pub fn seq(&self, topic: &str) -> u64 {
        self.topics.get(topic).map_or(0, |seen| seen.seq)
    }

    #[track_caller]
    pub fn topic(&self, topic: &str) -> &TopicSeen {
        self.topics.get(topic).unwrap_or_else(|| panic!("nothing was seen of {topic}"))
    }

    /// The one topic that was watched.
    #[track_caller]
    pub fn only_topic(&self) -> &TopicSeen {
        assert_eq!(self.topics.len(), 1);
        self.topics.values().next().expect("counted")
    }

    /// A new socket: what was streaming on the old one must be shown anew.
    pub fn reconnected(&mut self) {
        for seen in self.topics.values_mut() {
            seen.texts.values_mut().for_each(|(_, streaming)| *streaming = false);
        }
    }

    /// A subscription to these topics, each from where it was left; from the beginning where nothing was seen.
    pub fn resume(&self, message_id: &str, topics: &[&str]) -> Value {
        let position = |topic: &str| match self.topics.get(topic) {
            Some(seen) => json!({ "epoch": seen.epoch, "seq": seen.seq }),
            None => json!({ "epoch": "none", "seq": 0 }),
        };
        let positions: serde_json::Map<_, _> =
            topics.iter().map(|topic| ((*topic).to_owned(), position(topic))).collect();
        json!({
            "type": "subscribe", "message_id": message_id,
            "data": { "topics": topics, "positions": positions },
        })
    }

    /// Takes a frame in. Those that are no events of a topic are passed over.
    #[track_caller]
    pub fn see(&mut self, frame: &Value) {
        let (Some(topic), Some(kind)) = (frame["topic"].as_str(), frame["type"].as_str()) else { return };
        let event_id = frame["message_id"].as_str().expect("an event has an id");
        let ephemeral = frame.get("seq").is_none();
        // An event may be shown again in a snapshot, and a snapshot of a message to each who asks.
        assert!(self.event_ids.insert(event_id.to_owned()) || ephemeral, "this came twice: {frame}");
        let seen = self.topics.entry(topic.to_owned()).or_default();
        if kind == "session_snapshot" {
            seen.take_snapshot(frame);
        } else if ephemeral {
            seen.take_ephemeral(kind, &frame["data"], frame);
        } else {
            seen.take_durable(frame);
        }
    }
}

impl TopicSeen {
    #[track_caller]
    fn take_snapshot(&mut self, frame: &Value) {
        let head = frame["data"]["head"].as_u64().expect("a snapshot says where it stands");
        self.snapshots += 1;
        self.epoch = frame["epoch"].as_str().expect("an epoch").to_owned();
        self.seq = head;
        for event in frame["data"]["messages"].as_array().expect("messages") {
            let seq = event["seq"].as_u64().expect("messages are durable events");
            assert!(seq <= head, "an event after the snapshot's head: {event}");
            self.events.insert(seq, event.clone());
        }
    }

    #[track_caller]
    fn take_durable(&mut self, event: &Value) {
        let (epoch, seq) =
            (event["epoch"].as_str().expect("an epoch"), event["seq"].as_u64().expect("a number"));
        if self.seq == 0 {
            self.epoch = epoch.to_owned();
        }
        assert_eq!((epoch, seq), (self.epoch.as_str(), self.seq + 1), "{event}");
        self.seq = seq;
        if event["type"] == "agent_response" {
            let message_id = event["data"]["message_id"].as_str().expect("a message");
            let content = event["data"]["content"].as_str().expect("a content");
            match self.texts.remove(message_id) {
                Some((text, true)) => assert_eq!(content, text, "what was streamed is what was said"),
                // The rest was said while this client was away.
                Some((text, false)) => assert!(content.starts_with(&text), "{content:?} after {text:?}"),
                None => {}
            }
        }
        self.events.insert(seq, event.clone());
    }

    #[track_caller]
    fn take_ephemeral(&mut self, kind: &str, data: &Value, frame: &Value) {
        let text = || data["text"].as_str().expect("a text");
        let message_id = || data["message_id"].as_str().expect("a message").to_owned();
        match kind {
            "message.delta" => {
                let (seen, streaming) = self.texts.entry(message_id()).or_insert((String::new(), true));
                assert!(*streaming, "a delta before the message was shown anew: {frame}");
                assert_eq!(data["offset"], seen.chars().count() as u64, "{frame}");
                seen.push_str(text());
            }
            "message.snapshot" => {
                let (seen, streaming) = self.texts.entry(message_id()).or_default();
                assert!(text().starts_with(seen.as_str()), "{frame} after {seen:?}");
                (*seen, *streaming) = (text().to_owned(), true);
            }
            _ => {}
        }
    }
}

/// Checks a session's whole log: numbered from 1 in one epoch, every run ended exactly once and in order,
/// nothing of a run after its end, no call of a tool left open, nothing after the session's close.
#[track_caller]
pub fn assert_well_formed(log: &[Value]) {
    #[derive(Default)]
    struct Run {
        said: bool,
        started: bool,
        ended: bool,
        failed: bool,
        calls: BTreeSet<String>,
        waiting: BTreeSet<String>,
    }
    let mut runs: BTreeMap<String, Run> = BTreeMap::new();
    let (mut open, mut closed, mut version) = (None::<String>, false, 0);
    for (expected, event) in (1_u64..).zip(log) {
        assert_eq!((&event["seq"], &event["epoch"]), (&json!(expected), &log[0]["epoch"]), "{event}");
        assert!(!closed, "after the session's close: {event}");
        let kind = event["type"].as_str().expect("a type");
        assert_eq!(kind == "session_created", expected == 1, "{event}");
        if kind == "state.patch" {
            version += 1;
            assert_eq!(event["data"]["version"], version, "{event}");
        }
        let Some(run_id) = event["run_id"].as_str() else {
            closed = kind == "session_closed";
            assert!(!closed || open.is_none(), "a session is closed after its run has ended: {event}");
            continue;
        };
        let run = runs.entry(run_id.to_owned()).or_default();
        assert!(!run.ended, "after the run's end: {event}");
        if kind == "user_message" {
            assert!(!std::mem::replace(&mut run.said, true), "a second message of a run: {event}");
            assert!(event["data"]["queued"] == true || open.is_none(), "not queued during a run: {event}");
            continue;
        }
        // It goes on from one that was interrupted.
        let resumes = kind == "run_started" && event["data"]["trigger"] == "resumed";
        run.said |= resumes;
        assert!(run.said, "a run begins with its message: {event}");
        let call = || event["data"]["tool_call_id"].as_str().expect("a call").to_owned();
        match kind {
            "run_started" => {
                assert_eq!(open.replace(run_id.to_owned()), None, "two runs at once: {event}");
                run.started = true;
            }
            "run_finished" if !run.started => {
                assert_eq!(event["data"]["outcome"], "cancelled", "a run that never began: {event}");
                run.ended = true;
            }
            "run_finished" => {
                assert_eq!(open.take().as_deref(), Some(run_id), "{event}");
                assert!(run.calls.is_empty(), "{:?} are open at {event}", run.calls);
                let outcome = event["data"]["outcome"].as_str().expect("an outcome");
                let says_why = matches!(outcome, "failed" | "interrupted");
                assert_eq!(
                    says_why, run.failed,
                    "an error event says why a run fails, and no other: {event}"
                );
                run.ended = true;
            }
            _ => {
                assert_eq!(open.as_deref(), Some(run_id), "within its run: {event}");
                match kind {
                    "tool_call.start" => assert!(run.calls.insert(call()), "{event}"),
                    "tool_call.end" => {
                        assert!(run.calls.remove(&call()), "{event}");
                        run.waiting.remove(&call());
                    }
                    "approval_requested" => {
                        assert!(run.calls.contains(&call()) && run.waiting.insert(call()), "{event}");
                    }
                    "approval_resolved" => assert!(run.waiting.remove(&call()), "{event}"),
                    "state.patch" | "suggestions" | "progress_update" | "confidence_update" => {}
                    "task_paused" | "task_completed" | "task_failed" | "task_cancelled" => {}
                    "error" => run.failed = true,
                    "agent_response" | "context_update" => {}
                    _ => panic!("no event of a run: {event}"),
                }
            }
        }
    }
    for (run_id, run) in runs {
        assert!(run.ended, "the run {run_id} has no end");
    }
}

// ---- a bad network ----

/// Stands between a client and a server, and can fail them.
pub struct Network {
    pub addr: SocketAddr,
    /// What clients send no longer arrives.
    muted: Arc<AtomicBool>,
}

impl Network {
    /// One over which all goes well, for as long as nothing else is said.
    pub async fn to(server: &Server) -> Self {
        Self::cut_after(server, u64::MAX).await
    }

    /// One that takes a single connection, and cuts it after so many bytes from the server.
    pub async fn cut_after(server: &Server, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (addr, target) = (listener.local_addr().expect("an address"), server.addr);
        let muted = Arc::new(AtomicBool::new(false));
        let is_muted = muted.clone();
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("a connection");
            let server = TcpStream::connect(target).await.expect("a connection");
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let up = tokio::spawn(forward(from_client, to_server, u64::MAX, is_muted));
            forward(from_server, to_client, bytes, Arc::default()).await;
            up.abort();
        });
        Self { addr, muted }
    }

    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// From now on nothing of what the client sends arrives, and nobody is told.
    pub fn mute_client(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }
}

/// Passes bytes on up to a number of them, or to the end.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut left: u64, muted: Arc<AtomicBool>) {
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Ok(read @ 1..) = from.read(&mut buffer[..room]).await else { return };
        left -= read as u64;
        if !muted.load(Ordering::Relaxed) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
