//! Actor `FrontendApi`: one `/ws/frontend-api` socket. Shows what happens in the topics that it is subscribed to.
//! Also one `/ws/tasks/{id}` socket: then that task is the only topic, from the start.
//!
//! Owns: which topics the client has, and how far each has been read. Does not own: history; that is the
//! store's. Talks to: the store, to catch up; the bus, to go on from there.
//!
//! Catching up is pulled: a page is read whenever everything before it has been written, and only a topic
//! that has come near its head is attached to the bus. So a slow reader costs a page, whatever it missed,
//! and is never overrun by what happens meanwhile.

use std::{collections::HashMap, sync::Arc};

use actix::{Actor, ActorFuture, ActorFutureExt, AsyncContext, SpawnHandle, StreamHandler, WrapFuture};
use actix_web::web;
use actix_web_actors::ws::{Message, ProtocolError, WebsocketContext};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    connection::Connection,
    outbox::{Item, Notice},
    socket::{self, Door, Socket},
};
use crate::{
    core::{
        bus::{Attach, Attached, Connect, Detach, Disconnect},
        connections::MAX_TOPICS,
        error::{ErrorCode, Problem},
        ids::{Epoch, Position, Principal, Seq, Topic},
        ports::{Head, InvitedFrom, PageLimit, ReadFrom, StoreError},
    },
    doors::{
        Doors, Path,
        reply::Close,
        wire::{
            commands::{Request, Resume, Subscribe, Unsubscribe},
            events,
            frames::{self, Subscribed},
        },
    },
};

/// What is read from a log at once.
const PAGE: PageLimit = PageLimit { events: 256, bytes: 64 * 1024 };
/// What a snapshot shows of a conversation.
const SNAPSHOT: PageLimit = PageLimit { events: 200, bytes: 512 * 1024 };

pub struct FrontendApi {
    socket: Socket,
    topics: HashMap<Topic, Subscription>,
    /// What is asked for is done in the order in which it came.
    order: Arc<Mutex<()>>,
    /// Topics catch up a page at a time, in turn.
    turn: Arc<Mutex<()>>,
    /// What a task's socket is subscribed to from the start, and never to anything else.
    only: Option<(String, Plan)>,
}

/// A topic that the client has: live, or catching up.
struct Subscription {
    /// This connection is given all of it: asked for its beginning again, there is nothing to do.
    from_beginning: bool,
    catching_up: Option<SpawnHandle>,
}

/// What a `subscribe` has come to for one topic.
pub struct Plan {
    subscribed: Subscribed,
    start: Start,
}

/// Where a topic's events begin for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    After(Seq),
    /// With a snapshot, as the position cannot be resumed.
    Snapshot,
}

impl FrontendApi {
    pub fn new(socket: Socket) -> Self {
        Self { socket, topics: HashMap::new(), order: Arc::default(), turn: Arc::default(), only: None }
    }

    /// The socket of one task: its subscription is made by the server.
    pub fn of_task(socket: Socket, name: String, plan: Plan) -> Self {
        Self { only: Some((name, plan)), ..Self::new(socket) }
    }

    fn is_of_task(&self) -> bool {
        matches!(self.socket.connection.path, Path::Task(_))
    }

    fn subscribe(
        &mut self,
        reply_to: Option<String>,
        Subscribe { topics }: Subscribe,
        ctx: &mut WebsocketContext<Self>,
    ) {
        let subscribed = self.in_order(move |door, ctx| {
            // A topic that is subscribed to anew, from a position, first stops where it is.
            let anew: Vec<_> = topics
                .iter()
                .filter_map(|(name, resume)| Some((name.parse().ok()?, resume.as_ref()?)))
                .filter(|(topic, resume)| door.topics.get(topic).is_some_and(|has| has.must_move(resume)))
                .map(|(topic, _)| topic)
                .collect();
            door.forget(&anew, ctx);
            let (doors, connection) = (door.socket.doors.clone(), door.socket.connection.clone());
            async move {
                detach(&doors, &connection, anew).await;
                let mut plans = Vec::new();
                for (name, resume) in topics {
                    let plan = plan(&doors, &connection.caller.principal, &name, resume).await;
                    plans.push((name, plan));
                }
                plans
            }
        });
        ctx.spawn(subscribed.map(move |(plans, _order), door, ctx| {
            door.begin(reply_to.as_deref(), plans, ctx);
            socket::finish(door, ctx);
        }));
    }

    /// Begins `work` once what was asked for before has been done; holds what comes after back meanwhile.
    fn in_order<F: Future + 'static>(
        &self,
        work: impl FnOnce(&mut Self, &mut WebsocketContext<Self>) -> F + 'static,
    ) -> impl ActorFuture<Self, Output = (F::Output, OwnedMutexGuard<()>)> + 'static {
        let order = self.order.clone().lock_owned();
        order.into_actor(self).then(move |order, door, ctx| {
            let work = work(door, ctx);
            async move { (work.await, order) }.into_actor(door)
        })
    }

    /// Acknowledges what was subscribed to and refuses the rest; then lets each topic catch up.
    fn begin(
        &mut self,
        reply_to: Option<&str>,
        plans: Vec<(String, Result<Plan, Problem>)>,
        ctx: &mut WebsocketContext<Self>,
    ) {
        let mut accepted = Vec::new();
        let mut starts = Vec::new();
        let mut refused = Vec::new();
        for (name, plan) in plans {
            let Plan { mut subscribed, start } = match plan {
                Ok(plan) => plan,
                Err(problem) => {
                    refused.push(of_topic(problem, &name));
                    continue;
                }
            };
            let topic = subscribed.topic.clone();
            if self.topics.contains_key(&topic) || self.socket.connection.is_announced(&topic) {
                subscribed.already = Some(true);
                subscribed.recovered = true;
                (subscribed.reason, subscribed.replayed) = (None, None);
            } else if self.topics.len() >= MAX_TOPICS {
                refused.push(of_topic(too_many_topics(), &name));
                continue;
            } else {
                let from_beginning = start == Start::After(0);
                self.topics.insert(topic.clone(), Subscription { from_beginning, catching_up: None });
                starts.push((topic, subscribed.epoch.clone(), start));
            }
            accepted.push(subscribed);
        }
        if !accepted.is_empty() {
            self.socket.reply(frames::subscribe_ack(reply_to, &accepted));
        }
        for problem in refused {
            self.socket.reply(frames::subscribe_error(reply_to, &problem));
        }
        for (topic, epoch, start) in starts {
            self.catch_up(topic, epoch, start, ctx);
        }
    }

    fn catch_up(&mut self, topic: Topic, epoch: Epoch, start: Start, ctx: &mut WebsocketContext<Self>) {
        let catching_up = catch_up(
            self.socket.doors.clone(),
            self.socket.connection.clone(),
            self.turn.clone(),
            topic.clone(),
            epoch,
            start,
        );
        let name = topic.clone();
        let handle = ctx.spawn(catching_up.into_actor(self).map(move |outcome, door, _| match outcome {
            Ok(()) => {
                if let Some(subscription) = door.topics.get_mut(&name) {
                    subscription.catching_up = None;
                }
            }
            Err(problem) => door.lose(&name, problem),
        }));
        if let Some(subscription) = self.topics.get_mut(&topic) {
            subscription.catching_up = Some(handle);
        }
    }

    /// A topic that the client was to have cannot be had. A task's socket has no other, and ends.
    fn lose(&mut self, topic: &Topic, problem: Problem) {
        self.topics.remove(topic);
        let gone = problem.code == ErrorCode::SessionNotFound;
        let problem = match topic.session().filter(|_| gone && self.is_of_task()) {
            Some(id) => Problem::task_not_found(id.as_str()),
            None => problem,
        };
        let problem = of_topic(problem, &topic.to_string());
        self.socket.reply(frames::subscribe_error(None, &problem));
        if self.is_of_task() {
            self.socket.connection.close_after_flush(if gone { Close::Gone } else { Close::CutOff });
        }
    }

    fn unsubscribe(
        &mut self,
        reply_to: Option<String>,
        Unsubscribe { topics: names }: Unsubscribe,
        ctx: &mut WebsocketContext<Self>,
    ) {
        let topics: Vec<Topic> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let detached = self.in_order(move |door, ctx| {
            door.forget(&topics, ctx);
            for topic in &topics {
                door.socket.connection.take_announced(topic);
            }
            let (doors, connection) = (door.socket.doors.clone(), door.socket.connection.clone());
            async move { detach(&doors, &connection, topics).await }
        });
        ctx.spawn(detached.map(move |((), _order), door, ctx| {
            door.socket.reply(frames::unsubscribe_ack(reply_to.as_deref(), &names));
            socket::finish(door, ctx);
        }));
    }

    /// Lets go of topics here; the bus is told by [`detach`].
    fn forget(&mut self, topics: &[Topic], ctx: &mut WebsocketContext<Self>) {
        for topic in topics {
            let subscription = self.topics.remove(topic);
            if let Some(handle) = subscription.and_then(|subscription| subscription.catching_up) {
                ctx.cancel_future(handle);
            }
        }
    }
}

impl Subscription {
    /// Whether a position asks for something else than what the client is being given.
    fn must_move(&self, resume: &Resume) -> bool {
        !(self.from_beginning && *resume == Resume::Beginning)
    }
}

async fn detach(doors: &Doors, connection: &Connection, topics: Vec<Topic>) {
    for topic in topics {
        // Fails only with the bus, and then the process ends.
        let _ = doors.bus.ask(Detach { connection: connection.id, topic }).await;
    }
}

/// Finds out whether a client may have a topic, and where it begins for it.
pub async fn plan(
    doors: &Doors,
    principal: &Principal,
    name: &str,
    resume: Option<Resume>,
) -> Result<Plan, Problem> {
    let topic: Topic = name.parse().map_err(|_| no_such_topic(name))?;
    let head = match &topic {
        Topic::Session(id) => {
            let state = doors.store.session(id).await.map_err(StoreError::unreadable)?;
            let record = state.map(|state| state.record).filter(|record| record.owner == *principal);
            let record = record.ok_or_else(|| Problem::session_not_found(id.as_str()))?;
            let of_task = record.task.is_some();
            Head { epoch: record.epoch, first: 1, last: record.head, of_task }
        }
        Topic::Agent(id) if doors.profiles.get(id).is_none() => {
            return Err(Problem::agent_not_found(id.as_str()));
        }
        Topic::Agent(_) | Topic::System => {
            let empty = || {
                let epoch = Epoch::of_only_log(doors.store.incarnation());
                Head { epoch, first: 1, last: 0, of_task: false }
            };
            doors.store.head(&topic).await.map_err(StoreError::unreadable)?.unwrap_or_else(empty)
        }
    };
    let (after, reason) = judge(resume, &head);
    let start = match (reason, &topic) {
        (None, _) => Start::After(after),
        (Some(_), Topic::Session(_)) => Start::Snapshot,
        // These have no state to show, only what happens from now on.
        (Some(_), Topic::Agent(_) | Topic::System) => Start::After(head.last),
    };
    let requested = Some(name.to_owned()).filter(|name| *name != topic.to_string());
    let subscribed = Subscribed {
        topic,
        requested,
        epoch: head.epoch,
        head: head.last,
        recovered: reason.is_none(),
        replayed: reason.is_none().then(|| head.last - after.min(head.last)),
        reason,
        already: None,
    };
    Ok(Plan { subscribed, start })
}

/// Whether a position can be resumed: the number after which to go on, or why not (pure).
fn judge(resume: Option<Resume>, head: &Head) -> (Seq, Option<&'static str>) {
    match resume {
        None => (0, Some("new")),
        // Whoever has seen nothing misses nothing that is no longer kept.
        Some(Resume::Beginning) => (head.first - 1, None),
        Some(Resume::After(position)) if position.epoch != head.epoch => (0, Some("epoch")),
        Some(Resume::After(position)) if position.seq > head.last => (0, Some("ahead")),
        Some(Resume::After(position)) if position.seq + 1 < head.first => (0, Some("trimmed")),
        Some(Resume::After(position)) => (position.seq, None),
    }
}

/// Brings a client from where it is to the head of a topic, and has the bus go on from there.
async fn catch_up(
    doors: web::Data<Doors>,
    connection: Arc<Connection>,
    turn: Arc<Mutex<()>>,
    topic: Topic,
    epoch: Epoch,
    start: Start,
) -> Result<(), Problem> {
    let mut after = match start {
        Start::After(seq) => Some(seq),
        Start::Snapshot => None,
    };
    loop {
        let _turn = turn.lock().await;
        connection.outbox.until_empty().await;
        let before = after;
        let (position, more) = match after {
            None => (show_snapshot(&doors, &connection, &topic).await?, false),
            Some(seq) => show_page(&doors, &connection, &topic, &epoch, seq).await?,
        };
        after = Some(position.seq);
        if more {
            continue;
        }
        let attach = Attach { connection: connection.id, topic: topic.clone(), after: position };
        let attached = doors.bus.ask(attach).await.map_err(|_| Problem::internal())?;
        match attached.map_err(StoreError::unreadable)? {
            Attached::Live => return Ok(()),
            // A log without the events that its head promises; to ask again would bring nothing.
            Attached::Behind if before == after => {
                log::error!("{topic}: the store has no event after {before:?}, and should");
                return Err(Problem::unavailable(
                    "this session's log is damaged; the server's log says more",
                ));
            }
            Attached::Behind => {}
            Attached::TooMany => return Err(too_many_topics()),
            Attached::Gone => return Err(no_such_topic(&topic.to_string())),
            Attached::Lost => {
                // The log was made anew under our hands: the client finds out by resuming.
                connection.close(Close::CutOff);
                return Ok(());
            }
        }
    }
}

/// Shows a session as it is now; its position.
async fn show_snapshot(doors: &Doors, connection: &Connection, topic: &Topic) -> Result<Position, Problem> {
    let gone = || no_such_topic(&topic.to_string());
    let id = topic.session().ok_or_else(gone)?;
    let tail = doors.store.tail(id, SNAPSHOT).await.map_err(StoreError::unreadable)?.ok_or_else(gone)?;
    connection.hand_over_items([Item::Text(frames::session_snapshot(&tail))]);
    let record = tail.state.record;
    Ok(Position { epoch: record.epoch, seq: record.head })
}

/// Shows the next events of a log; the position after them, and whether there are more.
async fn show_page(
    doors: &Doors,
    connection: &Connection,
    topic: &Topic,
    epoch: &Epoch,
    after: Seq,
) -> Result<(Position, bool), Problem> {
    let here = Position { epoch: epoch.clone(), seq: after };
    let page = doors.store.read(topic, ReadFrom::After(after), PAGE).await.map_err(StoreError::unreadable)?;
    let page = match page {
        Some(page) if page.head.epoch == *epoch => page,
        None if topic.session().is_none() => return Ok((here, false)),
        None => return Err(no_such_topic(&topic.to_string())),
        // Attaching finds out that the numbering is another one.
        Some(_) => return Ok((here, false)),
    };
    let last = page.events.last().map_or(after, |event| event.seq());
    connection.hand_over_items(page.events.iter().map(|event| Item::Text(events::past_payload(event))));
    Ok((Position { epoch: epoch.clone(), seq: last }, page.more))
}

fn no_such_topic(name: &str) -> Problem {
    // As much of the name as goes back in an error.
    let name: String = name.chars().take(100).collect();
    if let Some((_, id)) =
        name.split_once(':').filter(|(kind, _)| matches!(*kind, "session" | "thread" | "task"))
    {
        return Problem::session_not_found(id);
    }
    if let Some(id) = name.strip_prefix("agent:") {
        return Problem::agent_not_found(id);
    }
    Problem::invalid_field("data.topics", "session:ID, agent:ID or system")
}

fn too_many_topics() -> Problem {
    Problem::new(
        ErrorCode::Busy,
        format!("a connection has {MAX_TOPICS} topics at most; unsubscribe from some, or open another"),
    )
}

/// A refusal says which topic it is about.
fn of_topic(mut problem: Problem, topic: &str) -> Problem {
    let topic: String = topic.chars().take(100).collect();
    match &mut problem.details {
        serde_json::Value::Object(details) => {
            details.insert("topic".to_owned(), topic.into());
        }
        details => *details = serde_json::json!({ "topic": topic }),
    }
    problem
}

impl Actor for FrontendApi {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        socket::started(self, ctx);
        // The bus knows the socket before its client does: what the client then does finds it there.
        let connection = self.socket.connection.clone();
        // Who watches one task is told of nothing else.
        let caller = (!self.is_of_task()).then(|| connection.caller.clone());
        let connect = Connect { connection: connection.id, caller, subscriber: connection };
        let connected = self.socket.doors.bus.ask(connect);
        ctx.spawn(connected.into_actor(self).map(|_, door, ctx| {
            if let Some((name, plan)) = door.only.take() {
                door.begin(None, vec![(name, Ok(plan))], ctx);
            }
            socket::ready(door, ctx);
        }));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        socket::stopped(&self.socket);
        self.socket.doors.bus.notify(Disconnect { connection: self.socket.connection.id });
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for FrontendApi {
    fn handle(&mut self, frame: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        socket::received(self, frame, ctx);
    }
}

impl Door for FrontendApi {
    fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn request(&mut self, reply_to: Option<String>, request: Request, ctx: &mut Self::Context) {
        match request {
            Request::Subscribe(subscribe) => self.subscribe(reply_to, subscribe, ctx),
            Request::Unsubscribe(unsubscribe) => self.unsubscribe(reply_to, unsubscribe, ctx),
            Request::Command(_)
            | Request::List(_)
            | Request::History(_)
            | Request::Search(_)
            | Request::GetAgents
            | Request::GetModels
            | Request::GetTools
            // Decoding refuses those; every socket answers these alike.
            | Request::Ping
            | Request::Heartbeat => socket::finish(self, ctx),
        }
    }

    fn noticed(&mut self, notice: Notice, ctx: &mut Self::Context) {
        match notice {
            Notice::Subscribed { topic, epoch, head } => {
                if !self.socket.connection.take_announced(&topic) {
                    // It has been given up meanwhile.
                    return;
                }
                let subscription = Subscription { from_beginning: true, catching_up: None };
                self.topics.insert(topic.clone(), subscription);
                let subscribed = Subscribed {
                    topic,
                    requested: None,
                    epoch,
                    head,
                    recovered: true,
                    replayed: Some(0),
                    reason: None,
                    already: None,
                };
                ctx.text(frames::subscribe_ack(None, &[subscribed]));
            }
            Notice::Ended(topic) => {
                self.forget(&[topic], ctx);
                if self.is_of_task() {
                    self.socket.connection.close_after_flush(Close::Gone);
                }
            }
            Notice::Invited(topic, from) => {
                let resume = match from {
                    InvitedFrom::Beginning => Some(Resume::Beginning),
                    InvitedFrom::Snapshot => None,
                };
                let name = topic.to_string();
                let (doors, connection) = (self.socket.doors.clone(), self.socket.connection.clone());
                let plan = async move {
                    let principal = &connection.caller.principal;
                    let plan = plan(&doors, principal, &name, resume).await;
                    vec![(name, plan)]
                };
                ctx.spawn(plan.into_actor(self).map(|plans, door, ctx| door.begin(None, plans, ctx)));
            }
        }
    }
}
