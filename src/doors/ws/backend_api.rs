//! Actor `BackendApi`: one `/ws/backend-api` socket. Takes commands and answers each exactly once.
//!
//! Owns: what the socket has in flight. Does not own: conversations; those are the agents'.
//! Talks to: the manager, for what changes something; the store, for what only reads.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    sync::Arc,
};

use actix::{Actor, ActorFutureExt, AsyncContext, StreamHandler, WrapFuture};
use actix_web::web;
use actix_web_actors::ws::{Message, ProtocolError, WebsocketContext};
use bytestring::ByteString;
use tokio::sync::{Mutex, Notify};

use super::{
    connection::Connection,
    outbox::MAX_REPLY_BYTES,
    socket::{self, Door, Socket},
};
use crate::{
    core::{
        bus::Tell,
        command::{Answer, Command},
        error::Problem,
        event::Ephemeral,
        ids::Topic,
        ports::{
            PageLimit, ReadFrom, Search, SessionFilter, SessionKind, StoreError, ToolDescription, ToolSpec,
        },
        profile::{Approval, Profiles},
    },
    doors::{
        Doors,
        wire::{
            commands::{self, History, HistoryFrom, List, Request},
            frames,
        },
    },
};

/// A page of `history` takes this much at most.
const HISTORY_BYTES: usize = 512 * 1024;
/// A page of what a search has found.
const SEARCH_HITS: usize = 50;

pub struct BackendApi {
    socket: Socket,
    unanswered: Rc<Unanswered>,
    /// Large answers are made one at a time, and only while the client reads.
    reading: Arc<Mutex<()>>,
}

impl BackendApi {
    pub fn new(socket: Socket) -> Self {
        Self { socket, unanswered: Rc::default(), reading: Arc::default() }
    }

    /// Has the core carry a command out.
    fn execute(&mut self, reply_to: Option<String>, command: Command, ctx: &mut WebsocketContext<Self>) {
        let caller = self.socket.connection.caller.clone();
        let idempotency = commands::idempotency(&caller, reply_to.as_deref(), &command);
        let number = self.unanswered.begin();
        let answer = self.socket.doors.manager.execute(caller, command, idempotency);
        ctx.spawn(answer.into_actor(self).map(move |answer, door, ctx| {
            door.unanswered.end(number);
            // The core answers everything; it cannot once it has ended, and then the process does.
            let answer = answer.unwrap_or(Answer { result: Err(Problem::internal()), duplicate: false });
            door.socket.reply(frames::answered(reply_to.as_deref(), &answer));
            socket::finish(door, ctx);
        }));
    }

    /// Answers with what `read` finds, in its turn: after what the client has sent before.
    fn read(
        &mut self,
        reply_to: Option<String>,
        read: impl Future<Output = Result<ByteString, Problem>> + 'static,
        ctx: &mut WebsocketContext<Self>,
    ) {
        let (turn, connection) = (self.reading.clone(), self.socket.connection.clone());
        let (unanswered, here) = (self.unanswered.clone(), self.unanswered.next.get());
        let answer = async move {
            unanswered.before(here).await;
            let _turn = turn.lock_owned().await;
            connection.outbox.until_replies_below(MAX_REPLY_BYTES).await;
            read.await
        };
        ctx.spawn(answer.into_actor(self).map(move |answer, door, ctx| {
            match answer {
                Ok(frame) => door.socket.reply(frame),
                Err(problem) => door.socket.refuse(reply_to.as_deref(), &problem),
            }
            socket::finish(door, ctx);
        }));
    }

    fn get_agents(&mut self, reply_to: Option<String>, ctx: &mut WebsocketContext<Self>) {
        let doors = &self.socket.doors;
        let cards = doors.profiles.cards();
        let caller = self.socket.connection.caller.clone();
        doors.bus.notify(Tell { caller, event: Ephemeral::AgentList(cards.clone()) });
        self.socket.reply(frames::agent_list(reply_to.as_deref(), &cards));
        socket::finish(self, ctx);
    }
}

/// Commands that are on their way through the core, by the order in which they came.
#[derive(Default)]
struct Unanswered {
    next: Cell<u64>,
    numbers: RefCell<BTreeSet<u64>>,
    answered: Notify,
}

impl Unanswered {
    fn begin(&self) -> u64 {
        let number = self.next.replace(self.next.get() + 1);
        self.numbers.borrow_mut().insert(number);
        number
    }

    fn end(&self, number: u64) {
        self.numbers.borrow_mut().remove(&number);
        self.answered.notify_waiters();
    }

    /// Waits until all that came before this one have been answered.
    async fn before(&self, number: u64) {
        loop {
            let answered = self.answered.notified();
            if self.numbers.borrow().first().is_none_or(|first| *first >= number) {
                return;
            }
            answered.await;
        }
    }
}

async fn list(
    doors: web::Data<Doors>,
    connection: Arc<Connection>,
    reply_to: Option<String>,
    list: List,
) -> Result<ByteString, Problem> {
    let List { agent_id, query, cursor, limit } = list;
    let owner = connection.caller.principal.clone();
    // One more than asked for tells whether there is another page.
    let kind = SessionKind::Chats;
    let filter = SessionFilter { owner, kind, agent_id, query, after: cursor, limit: limit + 1 };
    let mut records = doors.store.sessions(filter).await.map_err(StoreError::unreadable)?;
    let more = records.len() > limit;
    records.truncate(limit);
    let next_cursor =
        records.last().filter(|_| more).map(|last| commands::cursor(last.updated_at, &last.session_id));
    Ok(frames::session_list(reply_to.as_deref(), &records, next_cursor))
}

async fn tools(profiles: Arc<Profiles>, reply_to: Option<String>) -> Result<ByteString, Problem> {
    let mut tools = Vec::new();
    for (profile, group) in
        profiles.iter().flat_map(|profile| profile.tools.iter().map(move |group| (profile, group)))
    {
        for ToolDescription { spec, available } in group.source.describe().await {
            let Some(approval) = group.choice.of(&spec.name) else { continue };
            let ToolSpec { name, description, parameters } = spec;
            tools.push(frames::Tool {
                name,
                description,
                parameters,
                source: group.origin.clone(),
                needs_approval: approval == Approval::Ask,
                available,
                agent_id: profile.card.id.to_string(),
            });
        }
    }
    Ok(frames::tool_list(reply_to.as_deref(), &tools))
}

async fn history(
    doors: web::Data<Doors>,
    connection: Arc<Connection>,
    reply_to: Option<String>,
    history: History,
) -> Result<ByteString, Problem> {
    let History { session_id, from, limit } = history;
    let not_found = || Problem::session_not_found(session_id.as_str());
    let state = doors.store.session(&session_id).await.map_err(StoreError::unreadable)?;
    if state.is_none_or(|state| state.record.owner != connection.caller.principal) {
        return Err(not_found());
    }
    let from = match from {
        HistoryFrom::After(seq) => ReadFrom::After(seq),
        HistoryFrom::Before(seq) => ReadFrom::Before(seq),
    };
    let limit = PageLimit { events: limit, bytes: HISTORY_BYTES };
    let page = doors.store.read(&Topic::Session(session_id.clone()), from, limit).await;
    let page = page.map_err(StoreError::unreadable)?.ok_or_else(not_found)?;
    Ok(frames::history(reply_to.as_deref(), &page, from))
}

async fn search(
    doors: web::Data<Doors>,
    connection: Arc<Connection>,
    reply_to: Option<String>,
    query: commands::Search,
) -> Result<ByteString, Problem> {
    let commands::Search { words, cursor } = query;
    let owner = connection.caller.principal.clone();
    let search = Search { owner, words, after: cursor, limit: SEARCH_HITS };
    let found = doors.store.search(search).await.map_err(StoreError::unreadable)?;
    let next_cursor = found.next.map(commands::search_cursor);
    Ok(frames::search_hits(reply_to.as_deref(), &found, next_cursor))
}

impl Actor for BackendApi {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        socket::started(self, ctx);
        socket::ready(self, ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        socket::stopped(&self.socket);
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for BackendApi {
    fn handle(&mut self, frame: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        socket::received(self, frame, ctx);
    }
}

impl Door for BackendApi {
    fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn request(&mut self, reply_to: Option<String>, request: Request, ctx: &mut Self::Context) {
        if let Some(problem) = self.socket.doors.refusal() {
            self.socket.refuse(reply_to.as_deref(), &problem);
            return socket::finish(self, ctx);
        }
        let (doors, connection) = (self.socket.doors.clone(), self.socket.connection.clone());
        match request {
            Request::Command(command) => self.execute(reply_to, command, ctx),
            Request::List(page) => {
                self.read(reply_to.clone(), list(doors, connection, reply_to, page), ctx);
            }
            Request::History(page) => {
                self.read(reply_to.clone(), history(doors, connection, reply_to, page), ctx);
            }
            Request::Search(query) => {
                self.read(reply_to.clone(), search(doors, connection, reply_to, query), ctx);
            }
            Request::GetAgents => self.get_agents(reply_to, ctx),
            Request::GetModels => {
                self.socket.reply(frames::model_list(reply_to.as_deref(), &doors.models));
                socket::finish(self, ctx);
            }
            Request::GetTools => {
                let profiles = doors.profiles.clone();
                self.read(reply_to.clone(), tools(profiles, reply_to), ctx);
            }
            // Decoding refuses the former; every socket answers the latter alike.
            Request::Subscribe(_) | Request::Unsubscribe(_) | Request::Ping | Request::Heartbeat => {
                socket::finish(self, ctx);
            }
        }
    }
}
