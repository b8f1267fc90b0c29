//! A client of the load: both sockets, one session, everything checked on the way.

use std::{cell::RefCell, time::Instant};

use anyhow::{bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    oracle::{Follower, Frame, Seen},
    tally::Tally,
};
use crate::cli::client::{Path, Server, Socket};

pub struct Session {
    frontend: Socket,
    backend: Socket,
    client_id: String,
    follower: Follower,
    /// How many this client has sent: each has its own id.
    commands: u64,
}

/// A client without its sockets, that knows where it was.
pub struct Absent {
    client_id: String,
    follower: Follower,
    commands: u64,
}

#[derive(Deserialize)]
struct Subscribed<'a> {
    #[serde(borrow)]
    topics: Vec<Accepted<'a>>,
}

#[derive(Deserialize)]
struct Accepted<'a> {
    recovered: bool,
    head: u64,
    replayed: Option<u64>,
    reason: Option<&'a str>,
}

/// An id for a client of this run.
pub fn client_id(role: &str, number: usize) -> String {
    format!("bench-{}-{role}-{number}", std::process::id())
}

impl Session {
    /// Opens both sockets and a session, up to its `session_created`.
    pub async fn open(
        server: &Server,
        agent: &str,
        number: usize,
        tally: &RefCell<Tally>,
    ) -> anyhow::Result<Self> {
        let client_id = client_id("client", number);
        let (frontend, mut backend) = tokio::try_join!(
            connect(server, Path::Frontend, &client_id),
            connect(server, Path::Backend, &client_id)
        )?;
        backend
            .send(&json!({
                "type": "session_management", "message_id": "create", "agent_id": agent,
                "data": { "action": "create" },
            }))
            .await?;
        // Heartbeats come on the same socket.
        let reply = loop {
            let frame = backend.next_json().await?;
            if frame["type"] == "reply" {
                break frame;
            }
        };
        let (Some(session_id), Some(epoch)) =
            (reply["data"]["session_id"].as_str(), reply["data"]["epoch"].as_str())
        else {
            bail!("no session could be opened: {}", reply["error"]["message"])
        };
        let follower = Follower::new(session_id, epoch);
        let mut session = Self { frontend, backend, client_id, follower, commands: 0 };
        session.follow_to(1, tally).await?;
        Ok(session)
    }

    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Sends a message and follows its run to the end.
    pub async fn chat(&mut self, content: &str, tally: &RefCell<Tally>) -> anyhow::Result<()> {
        self.commands += 1;
        let command = json!({
            "type": "chat_message", "message_id": format!("m{}", self.commands),
            "session_id": self.follower.session_id(), "data": { "content": content },
        });
        let sent = Instant::now();
        self.backend.send(&command).await?;
        let mut first_delta = None;
        // Both sockets say something of it, in any order.
        let (mut acknowledged, mut finished) = (false, false);
        while !(acknowledged && finished) {
            let text = tokio::select! {
                text = self.frontend.next_text() => text?,
                reply = self.backend.next_json() => {
                    if is_acknowledgement(&reply?)? {
                        acknowledged = true;
                        tally.borrow_mut().acknowledged.record(sent.elapsed());
                    }
                    continue;
                }
            };
            let tally = &mut *tally.borrow_mut();
            match self.follower.see(&Frame::parse(&text)?, &mut tally.counts)? {
                Seen::Delta => {
                    first_delta.get_or_insert_with(|| sent.elapsed());
                }
                Seen::Finished => {
                    finished = true;
                    tally.run.record(sent.elapsed());
                    first_delta.into_iter().for_each(|elapsed| tally.first_delta.record(elapsed));
                }
                Seen::Durable | Seen::Other => {}
            }
        }
        Ok(())
    }

    /// Breaks both connections off: the server gets no close frame.
    pub fn leave(self) -> Absent {
        let Self { client_id, follower, commands, .. } = self;
        Absent { client_id, follower, commands }
    }

    /// Reads up to and with a durable event.
    async fn follow_to(&mut self, seq: u64, tally: &RefCell<Tally>) -> anyhow::Result<()> {
        while self.follower.seq() < seq {
            let text = self.frontend.next_text().await?;
            self.follower.see(&Frame::parse(&text)?, &mut tally.borrow_mut().counts)?;
        }
        Ok(())
    }
}

impl Absent {
    /// Another client, that is where this one was.
    pub fn stand_in(&self, number: usize) -> Self {
        Self { client_id: client_id("stand-in", number), follower: self.follower.clone(), commands: 0 }
    }

    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Opens both sockets again and reads all that was missed.
    pub async fn come_back(self, server: &Server, tally: &RefCell<Tally>) -> anyhow::Result<Session> {
        let Self { client_id, mut follower, commands } = self;
        let (frontend, backend) = tokio::try_join!(
            resume(server, &client_id, &mut follower),
            connect(server, Path::Backend, &client_id)
        )?;
        let (frontend, head) = frontend;
        let mut session = Session { frontend, backend, client_id, follower, commands };
        session.follow_to(head, tally).await?;
        Ok(session)
    }
}

/// Opens a socket, up to its first frame.
async fn connect(server: &Server, path: Path, client_id: &str) -> anyhow::Result<Socket> {
    let mut socket = server.open(path, client_id).await?;
    let first = socket.next_text().await?;
    ensure!(first.contains("connection_established"), "the first frame is another one: {first}");
    Ok(socket)
}

/// Opens a frontend socket that goes on where a follower is, and the session's head at that time.
pub async fn resume(
    server: &Server,
    client_id: &str,
    follower: &mut Follower,
) -> anyhow::Result<(Socket, u64)> {
    let mut socket = connect(server, Path::Frontend, client_id).await?;
    let topic = format!("session:{}", follower.session_id());
    let position = json!({ "epoch": follower.epoch(), "seq": follower.seq() });
    socket
        .send(&json!({
            "type": "subscribe", "message_id": "resume",
            "data": { "topics": [topic], "positions": { topic.clone(): position } },
        }))
        .await?;
    loop {
        let text = socket.next_text().await?;
        let frame = Frame::parse(&text)?;
        match frame.kind {
            "subscribe_ack" => {
                let data = frame.data.map_or("{}", |data| data.get());
                let head = accepted(follower.seq(), &serde_json::from_str::<Subscribed<'_>>(data)?)?;
                follower.resumed();
                return Ok((socket, head));
            }
            "subscribe_error" => bail!("{topic} was refused: {text}"),
            _ => {}
        }
    }
}

/// The head of the one topic that was subscribed to, where it goes on after `seq`.
fn accepted(seq: u64, subscribed: &Subscribed<'_>) -> anyhow::Result<u64> {
    let [Accepted { recovered, head, replayed, reason }] = subscribed.topics[..] else {
        bail!("an acknowledgement of {} topics, where one was asked for", subscribed.topics.len())
    };
    ensure!(recovered, "the position was not resumed: {}", reason.unwrap_or("no reason given"));
    ensure!(
        replayed == head.checked_sub(seq),
        "{replayed:?} events are said to be replayed, from {seq} to {head}"
    );
    Ok(head)
}

/// Whether a frame says that the command is done; heartbeats come on the same socket.
fn is_acknowledgement(frame: &Value) -> anyhow::Result<bool> {
    ensure!(frame["ok"] != Value::Bool(false), "a command was refused: {}", frame["error"]["message"]);
    Ok(frame["ok"] == Value::Bool(true))
}
