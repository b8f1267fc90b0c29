//! What the tests stand on: a server of their own, clients of it, and waiting that ends.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

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
        let mut child = command.arg("serve").stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the server speaks");
        let addr = line.trim().strip_prefix("listening on http://").and_then(|addr| addr.parse().ok());
        let Some(addr) = addr else { panic!("the server did not say where it listens, but {line:?}") };
        Self { child, addr, dir: dir.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// Memory that is in RAM, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
    }

    /// Sockets that it has open, as it says itself.
    pub async fn connections(&self) -> u64 {
        let (status, body) = self.get("/ready").await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        body["connections"].as_u64().expect("a number")
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

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
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

/// An empty directory that only this test has.
pub fn scratch_dir() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique("test"));
    std::fs::create_dir_all(&dir).expect("a directory can be made");
    dir
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
        let (stream, _) = within("a connection", tokio_tungstenite::connect_async(url)).await.expect(url);
        let mut socket = Self { stream, passed: VecDeque::new() };
        let first = socket.next().await;
        assert_eq!(first["type"], "connection_established", "{first}");
        socket
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

    /// The next frame; heartbeats are passed over.
    pub async fn next(&mut self) -> Value {
        match self.passed.pop_front() {
            Some(frame) => frame,
            None => self.read().await,
        }
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
        loop {
            match within("a frame", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    assert_eq!(frame["v"], 1, "{frame}");
                    if frame["type"] != "heartbeat" {
                        return frame;
                    }
                }
                Some(Ok(Message::Close(frame))) => panic!("closed while a frame was waited for: {frame:?}"),
                Some(Ok(_)) => {}
                other => panic!("a frame was waited for, and came {other:?}"),
            }
        }
    }
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
    pub async fn command(&mut self, mut command: Value) -> Value {
        self.commands += 1;
        let id = format!("{}-{}", self.id, self.commands);
        command["message_id"] = id.as_str().into();
        self.backend.send(&command).await;
        self.backend.reply_to(&id).await
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

pub fn create(agent: &str) -> Value {
    json!({ "type": "session_management", "agent_id": agent, "data": { "action": "create" } })
}

pub fn chat(session: &str, content: &str) -> Value {
    json!({ "type": "chat_message", "session_id": session, "data": { "content": content } })
}

pub fn manage(session: &str, action: &str) -> Value {
    json!({ "type": "session_management", "session_id": session, "data": { "action": action } })
}

pub fn topic(session: &str) -> String {
    format!("session:{session}")
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
