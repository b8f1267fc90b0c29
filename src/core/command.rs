//! Commands: what clients ask for, how they are answered, and how each is done once.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    error::{ErrorCode, Problem},
    event::{Decision, Outcome},
    ids::{AgentId, ClientId, CommandId, Epoch, Position, Principal, RunId, Seq, SessionId},
};

/// Who gave a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    pub principal: Principal,
    pub client_id: Option<ClientId>,
}

/// A command that the core carries out. Its serialised form is what its digest is taken of.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    CreateSession {
        agent_id: AgentId,
        title: Option<String>,
    },
    /// Closes `session_id`, if there is such a session, and creates one of the agent in its place.
    RefreshAgent {
        agent_id: AgentId,
        session_id: Option<SessionId>,
    },
    CloseSession {
        session_id: SessionId,
    },
    RenameSession {
        session_id: SessionId,
        title: String,
    },
    DeleteSession {
        session_id: SessionId,
    },
    /// Creates a session that begins with another one's past.
    ForkSession {
        session_id: SessionId,
        /// The last event of that past.
        at_seq: Seq,
        title: Option<String>,
    },
    SendMessage {
        session_id: SessionId,
        content: String,
        on_busy: Option<OnBusy>,
    },
    StopRun {
        session_id: SessionId,
        run_id: Option<RunId>,
        clear_queue: bool,
    },
    SetTyping {
        session_id: SessionId,
        typing: bool,
    },
    /// Allows or denies a call that waits for it.
    SettleApproval {
        session_id: SessionId,
        tool_call_id: String,
        decision: Decision,
        reason: Option<String>,
        args: Option<Value>,
    },
    UpdateState {
        session_id: SessionId,
        /// RFC 6902.
        patch: Value,
        if_version: u64,
    },
    CreateTask {
        agent_id: AgentId,
        name: String,
        input: String,
    },
    RenameTask {
        session_id: SessionId,
        name: String,
    },
    PauseTask {
        session_id: SessionId,
    },
    ResumeTask {
        session_id: SessionId,
    },
    CancelTask {
        session_id: SessionId,
    },
    /// Ends it, if it has not, and removes it with its session.
    DeleteTask {
        session_id: SessionId,
    },
}

impl Command {
    /// The session that it is about: commands to one session are carried out in the order in which they came.
    pub fn session_id(&self) -> Option<&SessionId> {
        match self {
            Command::CreateSession { .. } | Command::CreateTask { .. } => None,
            Command::RefreshAgent { session_id, .. } => session_id.as_ref(),
            Command::CloseSession { session_id }
            | Command::RenameSession { session_id, .. }
            | Command::DeleteSession { session_id }
            | Command::ForkSession { session_id, .. }
            | Command::SendMessage { session_id, .. }
            | Command::StopRun { session_id, .. }
            | Command::SetTyping { session_id, .. }
            | Command::SettleApproval { session_id, .. }
            | Command::UpdateState { session_id, .. }
            | Command::RenameTask { session_id, .. }
            | Command::PauseTask { session_id }
            | Command::ResumeTask { session_id }
            | Command::CancelTask { session_id }
            | Command::DeleteTask { session_id } => Some(session_id),
        }
    }
}

/// What becomes of a message that finds a run going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    #[default]
    Queue,
    Reject,
    /// It ends the run that is going and takes its place, before the queue.
    Interrupt,
}

/// How an accepted command is answered. Remembered with the command's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Done {
    Created {
        session_id: SessionId,
        epoch: Epoch,
        seq: Seq,
    },
    Accepted {
        run_id: RunId,
        seq: Seq,
    },
    Stopped {
        outcome: Outcome,
    },
    StateUpdated {
        version: u64,
    },
    /// Nothing to say but that it is done.
    Noted,
}

impl Done {
    /// Fills in where the command's first event came to stand, which only the bus knows.
    pub fn place(&mut self, at: &Position) {
        match self {
            Done::Created { epoch, seq, .. } => {
                *epoch = at.epoch.clone();
                *seq = at.seq;
            }
            Done::Accepted { seq, .. } => *seq = at.seq,
            Done::Stopped { .. } | Done::StateUpdated { .. } | Done::Noted => {}
        }
    }
}

/// What makes a command idempotent: the same key means the same command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommandKey {
    pub principal: Principal,
    pub client_id: Option<ClientId>,
    pub command_id: CommandId,
}

/// Tells two commands with the same id apart: the first half of a SHA-256.
pub type Digest = [u8; 16];

/// A key with what it must be checked against.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub key: CommandKey,
    pub digest: Digest,
}

/// What a store is to remember of a command, in the transaction of its events.
#[derive(Debug, Clone)]
pub struct Remember {
    pub key: CommandKey,
    pub digest: Digest,
    pub done: Done,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub result: Result<Done, Problem>,
    /// The command had been done before; this is how it was answered then.
    pub duplicate: bool,
}

/// Where the answer to a command goes: to whoever sent it, and to copies that came while it was done.
///
/// Dropped without an answer, it tells them that the session's actor ended.
#[derive(Debug)]
pub struct ReplyTo {
    to: Option<oneshot::Sender<Answer>>,
    in_flight: Option<(InFlight, CommandKey)>,
    idempotency: Option<Idempotency>,
}

impl ReplyTo {
    pub fn new(to: oneshot::Sender<Answer>, idempotency: Option<Idempotency>) -> Self {
        Self { to: Some(to), in_flight: None, idempotency }
    }

    /// What the store is to remember, should the command be done with this answer.
    pub fn remember(&self, done: Done) -> Option<Remember> {
        let Idempotency { key, digest } = self.idempotency.clone()?;
        Some(Remember { key, digest, done })
    }

    pub fn idempotency(&self) -> Option<&Idempotency> {
        self.idempotency.as_ref()
    }

    pub fn done(self, done: Done) {
        self.send(Answer { result: Ok(done), duplicate: false });
    }

    pub fn refuse(self, problem: Problem) {
        self.send(Answer { result: Err(problem), duplicate: false });
    }

    /// Answers as the command was answered when it was first done.
    pub fn repeat(self, done: Done) {
        self.send(Answer { result: Ok(done), duplicate: true });
    }

    fn send(mut self, answer: Answer) {
        self.settle(answer);
    }

    fn settle(&mut self, answer: Answer) {
        let Some(to) = self.to.take() else { return };
        if let Some((in_flight, key)) = self.in_flight.take() {
            let duplicate = answer.result.is_ok();
            for copy in in_flight.finish(&key) {
                // A copy whose socket has gone wants no answer.
                let _ = copy.send(Answer { duplicate, ..answer.clone() });
            }
        }
        let _ = to.send(answer);
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        let problem =
            Problem::new(ErrorCode::Unavailable, "the session's actor ended; send the command again");
        self.settle(Answer { result: Err(problem), duplicate: false });
    }
}

/// Commands with a key that are being carried out; copies of one wait for the first one's answer.
///
/// Bounded by what sockets may have in flight.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Mutex<HashMap<CommandKey, Copies>>>);

#[derive(Debug)]
struct Copies {
    digest: Digest,
    waiting: Vec<oneshot::Sender<Answer>>,
}

impl InFlight {
    /// Lets a command through if it is the first of its key, else answers it, now or with the first.
    pub fn admit(&self, mut reply: ReplyTo) -> Option<ReplyTo> {
        let Some(Idempotency { key, digest }) = reply.idempotency.clone() else { return Some(reply) };
        let mut commands = self.0.lock().expect("no panic while locked");
        match commands.entry(key.clone()) {
            Slot::Vacant(slot) => {
                slot.insert(Copies { digest, waiting: Vec::new() });
                reply.in_flight = Some((self.clone(), key));
                Some(reply)
            }
            Slot::Occupied(mut first) => {
                if first.get().digest == digest {
                    first.get_mut().waiting.extend(reply.to.take());
                } else {
                    drop(commands);
                    reply.refuse(different_command(&key.command_id));
                }
                None
            }
        }
    }

    fn finish(&self, key: &CommandKey) -> Vec<oneshot::Sender<Answer>> {
        let finished = self.0.lock().expect("no panic while locked").remove(key);
        finished.map_or_else(Vec::new, |copies| copies.waiting)
    }
}

/// The same id was used for another command.
pub fn different_command(id: &CommandId) -> Problem {
    Problem::new(
        ErrorCode::Conflict,
        "this message_id was used for another command; take a new one for each command",
    )
    .with(serde_json::json!({ "message_id": id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: &str, digest: u8) -> (ReplyTo, oneshot::Receiver<Answer>) {
        let (to, answer) = oneshot::channel();
        let key =
            CommandKey { principal: Principal::local(), client_id: None, command_id: id.parse().unwrap() };
        (ReplyTo::new(to, Some(Idempotency { key, digest: [digest; 16] })), answer)
    }

    #[test]
    fn a_copy_in_flight_gets_the_first_ones_answer() {
        let in_flight = InFlight::default();
        let (first, mut first_answer) = command("c1", 1);
        let (copy, mut copy_answer) = command("c1", 1);

        let first = in_flight.admit(first).expect("the first goes through");
        assert!(in_flight.admit(copy).is_none());
        assert!(copy_answer.try_recv().is_err(), "not answered yet");
        first.done(Done::Noted);

        assert_eq!(first_answer.try_recv().unwrap(), Answer { result: Ok(Done::Noted), duplicate: false });
        assert_eq!(copy_answer.try_recv().unwrap(), Answer { result: Ok(Done::Noted), duplicate: true });
    }

    #[test]
    fn another_command_under_the_same_id_is_a_conflict() {
        let in_flight = InFlight::default();
        let (first, _first_answer) = command("c1", 1);
        let (other, mut other_answer) = command("c1", 2);

        let _first = in_flight.admit(first);
        assert!(in_flight.admit(other).is_none());

        assert_eq!(other_answer.try_recv().unwrap().result.unwrap_err().code, ErrorCode::Conflict);
    }

    #[test]
    fn a_command_dropped_unanswered_is_refused_and_may_be_sent_again() {
        let in_flight = InFlight::default();
        let (first, mut first_answer) = command("c1", 1);
        let (copy, mut copy_answer) = command("c1", 1);
        let (again, _answer) = command("c1", 1);

        let admitted = in_flight.admit(first);
        assert!(in_flight.admit(copy).is_none());
        drop(admitted);

        for answer in [&mut first_answer, &mut copy_answer] {
            assert_eq!(answer.try_recv().unwrap().result.unwrap_err().code, ErrorCode::Unavailable);
        }
        assert!(in_flight.admit(again).is_some());
    }
}
