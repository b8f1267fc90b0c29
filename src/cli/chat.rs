//! `duologue chat`: a session in a terminal, or in a script.
//!
//! In a terminal, what is typed is sent and answers stream. In a script, each line of standard input is a
//! message, and its answer is printed before the next is sent. A lost connection is resumed either way.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{BufRead, IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::{Value, json};
use tokio::{signal, sync::mpsc};

use super::{
    Failure,
    client::{Incoming, Path, Server, Socket},
    transcript::{Asked, Shown, Speaker, Transcript},
};
use crate::{config::Environment, core::ids::random_tag};

/// Attempts to reconnect before the chat is given up.
const MAX_ATTEMPTS: u32 = 10;
/// A connection that lived this long was healthy: the next loss begins to count anew.
const HEALTHY: Duration = Duration::from_secs(30);

const PROMPT: &str = "> ";
/// Takes what is in the terminal's line away (ECMA-48, EL).
const ERASE_LINE: &str = "\r\x1b[K";

/// Talks to an agent: in a terminal, or line by line from standard input.
///
/// In a terminal, Ctrl-C stops the answer and Ctrl-D leaves. In a script, exit status is 0 only if every
/// message was answered to the end.
#[derive(Debug, Parser)]
pub struct Chat {
    /// Agent to talk to [default: the first that the server has]
    agent: Option<String>,
    /// Address of the server [default: http:// and DUOLOGUE_BIND]
    #[arg(long)]
    url: Option<String>,
    /// Session to go on with, instead of a new one
    #[arg(long, conflicts_with = "agent")]
    session: Option<String>,
}

pub fn run(chat: Chat) -> Result<(), Failure> {
    let environment = Environment::read().map_err(|error| Failure::Start(error.into()))?;
    let server = match &chat.url {
        Some(url) => Server::parse(url),
        None => environment.bind().map(Server::at).map_err(anyhow::Error::from),
    };
    let server = server.map_err(Failure::Start)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("no runtime").map_err(Failure::Start)?;
    let interactive = std::io::stdin().is_terminal();
    let outcome = runtime.block_on(async {
        let mut terminal = Terminal::open(server, &chat, interactive).await?;
        terminal.talk().await
    });
    // A thread may still be reading standard input: it does not keep us.
    runtime.shutdown_background();
    match outcome.map_err(Failure::Run)? {
        true => Ok(()),
        false => Err(Failure::Run(anyhow::anyhow!("not every message was answered to the end"))),
    }
}

/// A session in progress.
struct Terminal {
    server: Server,
    client_id: String,
    frontend: Socket,
    backend: Socket,
    session_id: String,
    transcript: Transcript,
    interactive: bool,
    /// Commands that are not answered yet, oldest first: sent again after a reconnect, under the same id.
    unanswered: VecDeque<Value>,
    commands: u64,
    /// Calls that somebody must allow, the one that was asked about first.
    asked: VecDeque<Asked>,
    /// Runs of ours that go on.
    running: HashSet<String>,
    /// Outcomes of runs that ended while a reply was still to come, which may name them.
    ended: HashMap<String, String>,
    all_completed: bool,
    /// The cursor is not at the beginning of a line.
    in_line: bool,
    /// …but after the prompt, which goes when there is something to show.
    prompted: bool,
    attempts: u32,
    connected: Instant,
}

/// What happens next.
enum Next {
    Line(Option<String>),
    Event(anyhow::Result<Incoming>),
    Reply(anyhow::Result<Incoming>),
    Interrupt,
}

impl Terminal {
    /// Connects and opens the session.
    async fn open(server: Server, chat: &Chat, interactive: bool) -> anyhow::Result<Self> {
        let client_id = format!("chat-{}", random_tag());
        let (frontend, backend) = connect(&server, &client_id).await?;
        let mut terminal = Self {
            server,
            client_id,
            frontend,
            backend,
            session_id: String::new(),
            transcript: Transcript::default(),
            interactive,
            unanswered: VecDeque::new(),
            commands: 0,
            asked: VecDeque::new(),
            running: HashSet::new(),
            ended: HashMap::new(),
            all_completed: true,
            in_line: false,
            prompted: false,
            attempts: 0,
            connected: Instant::now(),
        };
        match &chat.session {
            Some(session_id) => {
                terminal.session_id.clone_from(session_id);
                terminal.subscribe(None).await?;
                // What is said before the session is being watched would end unseen.
                while terminal.transcript.position().1 == 0 {
                    let frame = terminal.frontend.next_json().await?;
                    terminal.take_event(&frame).await?;
                }
            }
            None => terminal.create(chat.agent.as_deref()).await?,
        }
        if interactive {
            eprintln!("{}: Ctrl-C stops an answer, Ctrl-D leaves", terminal.session_id);
        }
        Ok(terminal)
    }

    async fn create(&mut self, agent: Option<&str>) -> anyhow::Result<()> {
        let agent = match agent {
            Some(agent) => agent.to_owned(),
            None => {
                let reply = self.ask(json!({ "type": "get_agents", "message_id": "agents" })).await?;
                let first = reply["agents"][0]["id"].as_str();
                first.context("the server has no agents; add one to its agents.toml")?.to_owned()
            }
        };
        let create = json!({
            "type": "session_management", "message_id": "create", "agent_id": agent,
            "data": { "action": "create" },
        });
        let created = self.ask(create).await?;
        self.session_id = created["session_id"].as_str().context("a reply without a session")?.to_owned();
        Ok(())
    }

    /// Sends a command and waits for its reply; only before the conversation begins.
    async fn ask(&mut self, command: Value) -> anyhow::Result<Value> {
        self.backend.send(&command).await?;
        loop {
            let reply = self.backend.next_json().await?;
            if reply["reply_to"] == command["message_id"] {
                if reply["ok"] == true {
                    return Ok(reply["data"].clone());
                }
                bail!("{}", reply["error"]["message"].as_str().unwrap_or("the server refused"));
            }
        }
    }

    async fn subscribe(&mut self, position: Option<(String, u64)>) -> anyhow::Result<()> {
        let topic = format!("session:{}", self.session_id);
        let mut data = json!({ "topics": [topic] });
        if let Some((epoch, seq)) = position {
            data["positions"] = json!({ topic: { "epoch": epoch, "seq": seq } });
        }
        self.frontend.send(&json!({ "type": "subscribe", "data": data })).await
    }

    /// The conversation, up to the end of input; whether every run completed.
    async fn talk(&mut self) -> anyhow::Result<bool> {
        let mut lines = read_lines();
        let mut input_ended = false;
        loop {
            if input_ended && self.is_settled() {
                return Ok(self.interactive || self.all_completed);
            }
            // A script's next line waits for the answer to the last.
            let wants_line = !input_ended && (self.interactive || self.is_settled());
            if wants_line && self.interactive && self.is_settled() && !self.in_line {
                self.print(PROMPT);
                self.prompted = true;
            }
            let next = tokio::select! {
                line = lines.recv(), if wants_line => Next::Line(line),
                frame = self.frontend.next() => Next::Event(frame),
                frame = self.backend.next() => Next::Reply(frame),
                interrupt = signal::ctrl_c() => {
                    interrupt.context("Ctrl-C cannot be listened to")?;
                    Next::Interrupt
                }
            };
            match next {
                Next::Line(None) if self.interactive => return Ok(true),
                Next::Line(None) => input_ended = true,
                Next::Line(Some(line)) => {
                    // The terminal has shown the line, and its end.
                    (self.in_line, self.prompted) = (false, false);
                    match self.asked.front().cloned() {
                        Some(asked) if self.interactive => self.answer(&asked, line.trim()).await?,
                        _ if line.trim().is_empty() => {}
                        _ => self.say(&line).await?,
                    }
                }
                Next::Event(Ok(Incoming::Text(text))) => {
                    self.take_event(&serde_json::from_str(&text)?).await?
                }
                Next::Reply(Ok(Incoming::Text(text))) => self.take_reply(&serde_json::from_str(&text)?)?,
                Next::Event(Ok(Incoming::Closed { code, reason }))
                | Next::Reply(Ok(Incoming::Closed { code, reason })) => self.reconnect(code, &reason).await?,
                Next::Event(Err(_)) | Next::Reply(Err(_)) => self.reconnect(1006, "").await?,
                Next::Interrupt if self.running.is_empty() && self.interactive => {
                    self.note("nothing to stop; Ctrl-D leaves");
                }
                Next::Interrupt => {
                    input_ended = input_ended || !self.interactive;
                    self.stop().await?;
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.unanswered.is_empty() && self.running.is_empty()
    }

    async fn say(&mut self, content: &str) -> anyhow::Result<()> {
        self.command(json!({
            "type": "chat_message", "session_id": self.session_id, "data": { "content": content },
        }))
        .await
    }

    /// Allows or denies a call, as the line says.
    async fn answer(&mut self, asked: &Asked, line: &str) -> anyhow::Result<()> {
        let (word, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let mut data = json!({ "tool_call_id": asked.tool_call_id });
        match word.to_lowercase().as_str() {
            "y" | "yes" => data["decision"] = "approve".into(),
            "n" | "no" => {
                data["decision"] = "deny".into();
                if !reason.trim().is_empty() {
                    data["reason"] = reason.trim().into();
                }
            }
            _ => {
                self.ask_about(asked);
                return Ok(());
            }
        }
        self.asked.pop_front();
        let session_id = self.session_id.clone();
        self.command(json!({ "type": "tool_approval", "session_id": session_id, "data": data })).await?;
        if let Some(next) = self.asked.front().cloned() {
            self.ask_about(&next);
        }
        Ok(())
    }

    fn ask_about(&mut self, asked: &Asked) {
        let name = &asked.tool_name;
        let question = if self.interactive {
            format!("allow {name}? y, n, or n and why not")
        } else {
            format!("{name} waits to be allowed; answer in another client")
        };
        self.note(&question);
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let running: Vec<_> = self.running.iter().cloned().collect();
        for run_id in running {
            self.command(json!({
                "type": "stop_run", "session_id": self.session_id, "data": { "run_id": run_id },
            }))
            .await?;
        }
        Ok(())
    }

    /// Sends a command that is repeated after a reconnect, should its reply not have come.
    async fn command(&mut self, mut command: Value) -> anyhow::Result<()> {
        self.commands += 1;
        command["message_id"] = format!("{}-{}", self.client_id, self.commands).into();
        self.unanswered.push_back(command.clone());
        match self.backend.send(&command).await {
            Ok(()) => Ok(()),
            Err(_) => self.reconnect(1006, "").await,
        }
    }

    fn take_reply(&mut self, reply: &Value) -> anyhow::Result<()> {
        if reply["type"] != "reply" {
            return Ok(());
        }
        let Some(at) = self.unanswered.iter().position(|command| command["message_id"] == reply["reply_to"])
        else {
            return Ok(());
        };
        let command = self.unanswered.remove(at);
        let is_of = |kind: &str| command.as_ref().is_some_and(|command| command["type"] == kind);
        let (is_message, is_approval) = (is_of("chat_message"), is_of("tool_approval"));
        if reply["ok"] == true {
            if let Some(run_id) = reply["data"]["run_id"].as_str().filter(|_| is_message) {
                // Replies and events come on two sockets, in any order.
                match self.ended.remove(run_id) {
                    Some(outcome) => self.all_completed &= outcome == "completed",
                    None => drop(self.running.insert(run_id.to_owned())),
                }
            }
        } else if is_message {
            // A stop that comes too late is no failure; a message that is refused is.
            self.all_completed = false;
            let error = &reply["error"];
            self.note(error["message"].as_str().unwrap_or("the server refused the message"));
        } else if is_approval {
            let error = &reply["error"];
            self.note(error["message"].as_str().unwrap_or("the server refused the answer"));
        }
        if self.unanswered.is_empty() {
            self.ended.clear();
        }
        Ok(())
    }

    async fn take_event(&mut self, frame: &Value) -> anyhow::Result<()> {
        if frame["type"] == "subscribe_error" {
            let code = frame["error"]["code"].as_str().unwrap_or("");
            if code == "session_not_found" && self.transcript.position().1 > 0 {
                bail!("the server was restarted without its memory: session {} is gone", self.session_id);
            }
            bail!("{}", frame["error"]["message"].as_str().unwrap_or("the session cannot be watched"));
        }
        if frame["session_id"] != self.session_id.as_str() {
            return Ok(());
        }
        for shown in self.transcript.apply(frame) {
            match shown {
                Shown::Text(text) => self.print(&text),
                Shown::EndOfText => self.end_line(),
                Shown::Message { speaker, content } => self.message(speaker, &content),
                Shown::Note(note) => self.note(&note),
                // A snapshot tells again what is known.
                Shown::Asks(asked) if self.asked.contains(&asked) => {}
                Shown::Asks(asked) => {
                    self.asked.push_back(asked.clone());
                    if self.asked.len() == 1 {
                        self.ask_about(&asked);
                    }
                }
                Shown::Settled { tool_call_id } => {
                    self.asked.retain(|asked| asked.tool_call_id != tool_call_id);
                }
                Shown::RunEnded { run_id, outcome } => {
                    self.end_line();
                    if self.running.remove(&run_id) {
                        self.all_completed &= outcome == "completed";
                    } else if !self.unanswered.is_empty() {
                        self.ended.insert(run_id, outcome);
                    }
                }
                Shown::SessionEnded(why) => bail!("{why}"),
                Shown::Missed => {
                    let (epoch, seq) = self.transcript.position();
                    let position = Some((epoch.to_owned(), seq)).filter(|(_, seq)| *seq > 0);
                    self.subscribe(position).await?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Connects again, goes on from the position, and repeats what was not answered.
    async fn reconnect(&mut self, code: u16, reason: &str) -> anyhow::Result<()> {
        if (4400..=4999).contains(&code) {
            bail!("the server closed the connection for good: {code} {reason}");
        }
        if self.connected.elapsed() > HEALTHY {
            self.attempts = 0;
        }
        loop {
            if self.attempts == MAX_ATTEMPTS {
                bail!("the connection is lost, and {MAX_ATTEMPTS} attempts to restore it failed");
            }
            // Full jitter, so that the clients of a server that restarts do not come all at once.
            let most = 500 * 2_u64.pow(self.attempts);
            let wait = Duration::from_millis(rand::random_range(0..=most.min(20_000)));
            self.attempts += 1;
            self.note(&format!(
                "connection closed; attempt {} in {:.1} s",
                self.attempts,
                wait.as_secs_f64()
            ));
            tokio::time::sleep(wait).await;
            let Ok((frontend, backend)) = connect(&self.server, &self.client_id).await else { continue };
            (self.frontend, self.backend) = (frontend, backend);
            self.connected = Instant::now();
            let (epoch, seq) = self.transcript.position();
            self.subscribe(Some((epoch.to_owned(), seq))).await?;
            for command in &self.unanswered {
                self.backend.send(command).await?;
            }
            self.note("connected again");
            return Ok(());
        }
    }

    // ---- output: answers on standard output, all else on standard error ----

    fn message(&mut self, speaker: Speaker, content: &str) {
        // Scripts want answers, not what was said before.
        if !self.interactive {
            return;
        }
        match speaker {
            Speaker::System => self.note(content),
            Speaker::User => {
                self.end_line();
                self.print(&format!("{PROMPT}{content}"));
                self.end_line();
            }
            Speaker::Agent => {
                self.end_line();
                self.print(content);
                self.end_line();
            }
        }
    }

    fn print(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        if std::mem::take(&mut self.prompted) {
            let _ = out.write_all(ERASE_LINE.as_bytes());
        }
        // Whoever reads may have gone; then the next read of input ends this.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        self.in_line = !text.ends_with('\n') && (self.in_line || !text.is_empty());
    }

    fn end_line(&mut self) {
        if self.prompted {
            self.print("");
            self.in_line = false;
        } else if self.in_line {
            self.print("\n");
        }
    }

    fn note(&mut self, note: &str) {
        self.end_line();
        eprintln!("({note})");
    }
}

/// Opens both sockets, up to their `connection_established`.
async fn connect(server: &Server, client_id: &str) -> anyhow::Result<(Socket, Socket)> {
    let mut frontend = server.open(Path::Frontend, client_id).await?;
    frontend.established().await?;
    let mut backend = server.open(Path::Backend, client_id).await?;
    backend.established().await?;
    Ok((frontend, backend))
}

/// Lines of standard input, read in a thread of its own: reading blocks.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
