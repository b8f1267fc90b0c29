//! Actor `AgentManager`: finds, creates and retires the agents of sessions, and routes commands to them.
//!
//! Owns: which session has a live agent; the numbers that session ids are made of; which commands are
//! being carried out. Does not own: what an agent says, or what a log holds.
//! Talks to: its agents, the bus, the store. It alone creates agents and lets them go, so that a session
//! never has two: a new one is made only after the old one has reported its end.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseActFuture, ResponseFuture,
    WrapFuture, dev::SendError, fut,
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    agent::{Agent, AgentEnded, Carry, FinishUp, Interrupt, Loaded, Order, Retire, refuse_failed},
    bus::{Bus, Committed, Invite, Origin, poll_once},
    command::{Answer, Caller, Command, Done, Idempotency, InFlight, ReplyTo, different_command},
    conversation::Conversation,
    end_process_if_panicking,
    error::{ErrorCode, Problem},
    event::{CloseReason, Durable, Entry, Ephemeral},
    ids::{AgentId, Epoch, Principal, SessionId, Topic},
    pace::Permits,
    ports::{PageLimit, ReadFrom, Remembered, Store, StoreError},
    profile::{AgentProfile, Profiles},
    session::{SessionState, SessionStatus},
};

/// Agents in memory at most, when idle ones can leave it.
const MAX_LIVE: usize = 10_000;
/// So many picks in a row are of ids that have logs only if many more are taken than this process has given out.
const MANY_COLLISIONS: u32 = 16;
/// Commands that wait while a session's agent is being loaded.
const MAX_WAITING: usize = 256;
/// What is read from a log at once.
const LOAD_PAGE: PageLimit = PageLimit { events: 1024, bytes: 1024 * 1024 };
/// An agent that dies again so soon after it was loaded is not loaded again at once.
const QUICK_DEATH: Duration = Duration::from_secs(1);

// ---- messages ----

/// Carries a command out. Sent by [`Manager::execute`].
#[derive(Message)]
#[rtype(result = "()")]
struct Execute {
    caller: Caller,
    command: Command,
    reply: ReplyTo,
}

/// Ends all that is going: runs get until the deadline to end by themselves. Answered when all have.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain {
    pub deadline: Duration,
}

/// How many agents are in memory.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct CountLive;

// ---- how others reach it ----

/// The manager's address, with a method for commands.
#[derive(Clone)]
pub struct Manager(Addr<AgentManager>);

impl Manager {
    pub fn new(address: Addr<AgentManager>) -> Self {
        Self(address)
    }

    /// Carries a command out; the answer comes once it is committed, or refused.
    #[expect(clippy::disallowed_methods, reason = "bounded by what each socket may have in flight")]
    pub fn execute(
        &self,
        caller: Caller,
        command: Command,
        idempotency: Option<Idempotency>,
    ) -> oneshot::Receiver<Answer> {
        let (to, answer) = oneshot::channel();
        self.0.do_send(Execute { caller, command, reply: ReplyTo::new(to, idempotency) });
        answer
    }

    pub async fn drain(&self, deadline: Duration) {
        // Fails only if the manager has gone, and then there is nothing left to end.
        let _ = self.0.send(Drain { deadline }).await;
    }

    pub async fn count_live(&self) -> usize {
        self.0.send(CountLive).await.unwrap_or(0)
    }
}

// ---- the actor ----

pub struct AgentManager {
    profiles: Arc<Profiles>,
    store: Arc<dyn Store>,
    bus: Bus,
    idle_after: Duration,
    sessions: HashMap<SessionId, Place>,
    numbers: HashMap<AgentId, Numbers>,
    /// Ids given out whose logs are not there yet.
    reserved: HashSet<SessionId>,
    in_flight: InFlight,
    drain: Option<Draining>,
}

/// Where a session's agent stands.
enum Place {
    Loading {
        waiting: Vec<Carry>,
    },
    Live {
        agent: Addr<Agent>,
        owner: Principal,
        loaded: Instant,
        last_used: Instant,
    },
    /// It has been asked to leave, or has left and not yet said so.
    Leaving {
        waiting: Vec<Carry>,
        agent: Addr<Agent>,
        owner: Principal,
        loaded: Instant,
    },
}

/// The numbers of an agent's session ids: how many digits they have now, and how many are taken.
struct Numbers {
    digits: u32,
    taken: u64,
}

/// Those who wait until no agent is left.
#[derive(Default)]
struct Draining {
    waiting: Vec<oneshot::Sender<()>>,
}

/// A session about to be created.
struct NewSession {
    caller: Caller,
    profile: Arc<AgentProfile>,
    session_id: SessionId,
    title: Option<String>,
    reply: ReplyTo,
}

impl AgentManager {
    pub fn new(profiles: Arc<Profiles>, store: Arc<dyn Store>, bus: Bus, idle_after: Duration) -> Self {
        Self {
            profiles,
            store,
            bus,
            idle_after,
            sessions: HashMap::new(),
            numbers: HashMap::new(),
            reserved: HashSet::new(),
            in_flight: InFlight::default(),
            drain: None,
        }
    }

    fn route(&mut self, caller: Caller, command: Command, reply: ReplyTo, ctx: &mut Context<Self>) {
        let (session_id, order) = match command {
            Command::CreateSession { agent_id, title } => {
                return self.create(caller, &agent_id, title, reply, ctx);
            }
            Command::RefreshAgent { agent_id, session_id } => {
                return self.refresh(caller, &agent_id, session_id, reply, ctx);
            }
            Command::SetTyping { session_id, typing } => {
                return self.set_typing(caller, session_id, typing, reply, ctx);
            }
            Command::DeleteSession { .. } | Command::ForkSession { .. } => todo!(),
            Command::CloseSession { session_id } => {
                (session_id, Order::Close { reason: CloseReason::Closed, replaced_by: None })
            }
            Command::RenameSession { session_id, title } => (session_id, Order::Rename { title }),
            Command::SendMessage { session_id, content, on_busy } => {
                (session_id, Order::SendMessage { content, on_busy })
            }
            Command::StopRun { session_id, run_id, clear_queue } => {
                (session_id, Order::StopRun { run_id, clear_queue })
            }
        };
        self.carry(session_id, Carry { caller, order, reply }, ctx);
    }

    /// Gives an order to a session's agent, which is loaded if need be.
    fn carry(&mut self, session_id: SessionId, carry: Carry, ctx: &mut Context<Self>) {
        match self.sessions.get_mut(&session_id) {
            Some(Place::Live { agent, owner, loaded, last_used }) => {
                if *owner != carry.caller.principal {
                    return carry.reply.refuse(Problem::session_not_found(session_id.as_str()));
                }
                *last_used = Instant::now();
                match agent.try_send(carry) {
                    Ok(()) => {}
                    Err(SendError::Full(carry)) => carry.reply.refuse(Problem::new(
                        ErrorCode::Busy,
                        "too many commands wait for this session; send fewer at once",
                    )),
                    // It has just ended; its report is on the way, and then it is loaded anew.
                    Err(SendError::Closed(carry)) => {
                        let (agent, owner, loaded) = (agent.clone(), owner.clone(), *loaded);
                        let place = Place::Leaving { waiting: vec![carry], agent, owner, loaded };
                        self.sessions.insert(session_id, place);
                    }
                }
            }
            Some(Place::Loading { waiting } | Place::Leaving { waiting, .. }) => {
                if waiting.len() < MAX_WAITING {
                    waiting.push(carry);
                } else {
                    let problem = "too many commands wait for this session; send fewer at once";
                    carry.reply.refuse(Problem::new(ErrorCode::Busy, problem));
                }
            }
            None => {
                self.sessions.insert(session_id.clone(), Place::Loading { waiting: vec![carry] });
                self.load(session_id, ctx);
            }
        }
    }

    /// Builds the agent of a session from its log.
    fn load(&mut self, session_id: SessionId, ctx: &mut Context<Self>) {
        let log = read_session(self.store.clone(), session_id.clone());
        ctx.spawn(log.into_actor(self).map(move |log, manager, ctx| {
            manager.loaded(session_id, log, ctx);
            manager.check_drained();
        }));
    }

    fn loaded(
        &mut self,
        session_id: SessionId,
        log: Result<Option<(SessionState, Conversation)>, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        let Some(Place::Loading { waiting }) = self.sessions.remove(&session_id) else { return };
        let refuse_all = |waiting: Vec<Carry>, problem: &Problem| {
            waiting.into_iter().for_each(|carry| carry.reply.refuse(problem.clone()));
        };
        let (state, conversation) = match log {
            Ok(Some(log)) => log,
            Ok(None) => return refuse_all(waiting, &Problem::session_not_found(session_id.as_str())),
            Err(error) => {
                log::error!("session={session_id}: {error}");
                let problem = Problem::unavailable("the session cannot be read now; try again later");
                return refuse_all(waiting, &problem);
            }
        };
        let owner = state.record.owner;
        let (own, foreign): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|carry| carry.caller.principal == owner);
        refuse_all(foreign, &Problem::session_not_found(session_id.as_str()));
        if state.record.status == SessionStatus::Closed {
            return refuse_all(own, &Problem::session_closed(&session_id));
        }
        let loaded = Loaded { session_id: session_id.clone(), conversation, queue: state.queue };
        let profile = self.profiles.get(&session_id.agent_id());
        let agent = Agent::new(loaded, profile, self.bus.clone(), ctx.address().recipient()).start();
        if self.drain.is_some() {
            finish_up(&agent);
        }
        let now = Instant::now();
        let place = Place::Live { agent, owner, loaded: now, last_used: now };
        self.sessions.insert(session_id.clone(), place);
        own.into_iter().for_each(|carry| self.carry(session_id.clone(), carry, ctx));
    }

    fn create(
        &mut self,
        caller: Caller,
        agent_id: &AgentId,
        title: Option<String>,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        let Some(profile) = self.profiles.get(agent_id) else {
            return reply.refuse(Problem::agent_not_found(agent_id.as_str()));
        };
        let reserved = self.reserve(agent_id.clone());
        ctx.spawn(reserved.map(move |session_id, manager, ctx| match session_id {
            Ok(session_id) => manager.begin(NewSession { caller, profile, session_id, title, reply }, ctx),
            Err(error) => refuse_unreadable(reply, &error),
        }));
    }

    /// Closes a session, where there is one, and creates another in its place.
    ///
    /// The new id is taken first, so that the old log can name it; the command is remembered with the new
    /// log. A retry after a crash between the two finds the old one closed, and goes on.
    fn refresh(
        &mut self,
        caller: Caller,
        agent_id: &AgentId,
        old: Option<SessionId>,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        let Some(profile) = self.profiles.get(agent_id) else {
            return reply.refuse(Problem::agent_not_found(agent_id.as_str()));
        };
        let Some(old) = old else { return self.create(caller, agent_id, None, reply, ctx) };
        // Commands behind this one wait: to the old session, they come after its end.
        let reserved = self.reserve(agent_id.clone());
        ctx.wait(reserved.map(move |session_id, manager, ctx| {
            let session_id = match session_id {
                Ok(session_id) => session_id,
                Err(error) => return refuse_unreadable(reply, &error),
            };
            let (to, closed) = oneshot::channel();
            let order =
                Order::Close { reason: CloseReason::Refreshed, replaced_by: Some(session_id.clone()) };
            let close = Carry { caller: caller.clone(), order, reply: ReplyTo::new(to, None) };
            manager.carry(old, close, ctx);
            ctx.spawn(closed.into_actor(manager).map(move |closed, manager, ctx| {
                let problem = closed.ok().and_then(|answer| answer.result.err());
                match problem {
                    None => {}
                    Some(Problem { code: ErrorCode::SessionNotFound | ErrorCode::SessionClosed, .. }) => {}
                    Some(problem) => {
                        manager.give_back(&session_id);
                        return reply.refuse(problem);
                    }
                }
                manager.begin(NewSession { caller, profile, session_id, title: None, reply }, ctx);
            }));
        }));
    }

    /// Takes an id that no log has.
    fn reserve(&mut self, agent_id: AgentId) -> ResponseActFuture<Self, Result<SessionId, StoreError>> {
        self.reserve_after(0, agent_id)
    }

    /// The same, after so many picks that were of ids that have logs.
    fn reserve_after(
        &mut self,
        collisions: u32,
        agent_id: AgentId,
    ) -> ResponseActFuture<Self, Result<SessionId, StoreError>> {
        let numbers = self.numbers.entry(agent_id.clone()).or_insert(Numbers { digits: 3, taken: 0 });
        if collisions == MANY_COLLISIONS {
            numbers.grow();
        }
        let mut session_id = numbers.pick(&agent_id);
        // Those that are reserved count as taken: most picks are of a free one.
        while self.reserved.contains(&session_id) {
            session_id = numbers.pick(&agent_id);
        }
        numbers.taken += 1;
        self.reserved.insert(session_id.clone());
        let head = self.store.head(&Topic::Session(session_id.clone()));
        Box::pin(head.into_actor(self).then(move |head, manager, _| match head {
            Ok(None) => Box::pin(fut::ready(Ok(session_id))),
            Ok(Some(_)) => {
                manager.give_back(&session_id);
                let collisions = if collisions == MANY_COLLISIONS { 0 } else { collisions + 1 };
                manager.reserve_after(collisions, agent_id)
            }
            Err(error) => {
                manager.give_back(&session_id);
                Box::pin(fut::ready(Err(error)))
            }
        }))
    }

    /// Nothing has come of an id that was taken.
    fn give_back(&mut self, session_id: &SessionId) {
        self.reserved.remove(session_id);
        if let Some(numbers) = self.numbers.get_mut(&session_id.agent_id()) {
            numbers.taken = numbers.taken.saturating_sub(1);
        }
    }

    /// Begins the log of a new session. Its agent is loaded when it is first told something.
    fn begin(&mut self, new: NewSession, ctx: &mut Context<Self>) {
        let NewSession { caller, profile, session_id, title, reply } = new;
        let created = Durable::SessionCreated {
            owner: caller.principal.clone(),
            agent_name: profile.card.name.clone(),
            title,
            forked_from: None,
        };
        let system =
            profile.system_prompt.iter().map(|content| Durable::SystemMessage { content: content.clone() });
        let seeds = profile
            .seeds
            .iter()
            .map(|seed| Durable::SeedMessage { role: seed.role, content: seed.content.clone() });
        let entries = std::iter::once(created).chain(system).chain(seeds).map(Entry::from).collect();
        // The bus fills in the epoch: it begins with the log.
        let done = Done::Created { session_id: session_id.clone(), epoch: Epoch::from(""), seq: 0 };
        let commands = reply.remember(done).into_iter().collect();
        let topic = Topic::Session(session_id.clone());
        let outcome = self.bus.publish(&topic, Origin::New(caller), entries, commands);
        ctx.spawn(outcome.into_actor(self).map(move |outcome, manager, _| {
            match outcome {
                Ok(Ok(Committed { epoch, first_seq, .. })) => {
                    manager.reserved.remove(&session_id);
                    log::debug!("session={session_id} created");
                    reply.done(Done::Created { session_id, epoch, seq: first_seq });
                }
                Ok(Err(failed)) => {
                    manager.give_back(&session_id);
                    refuse_failed(reply, failed);
                }
                // The bus ends only with the process.
                Err(_) => {}
            }
        }));
    }

    fn set_typing(
        &mut self,
        caller: Caller,
        session_id: SessionId,
        typing: bool,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        let state = self.store.session(&session_id);
        ctx.spawn(state.into_actor(self).map(move |state, manager, _| match state {
            Ok(Some(state)) if state.record.owner != caller.principal => {
                reply.refuse(Problem::session_not_found(session_id.as_str()));
            }
            Ok(Some(state)) if state.record.status == SessionStatus::Closed => {
                reply.refuse(Problem::session_closed(&session_id));
            }
            Ok(Some(_)) => {
                let Caller { principal: author, client_id } = caller;
                let shown = vec![Ephemeral::Typing { author, client_id, typing }];
                manager.bus.show(&Topic::Session(session_id), None, shown, Permits::default());
                reply.done(Done::Noted);
            }
            Ok(None) => reply.refuse(Problem::session_not_found(session_id.as_str())),
            Err(error) => refuse_unreadable(reply, &error),
        }));
    }

    /// Carries a command out unless it was carried out before.
    fn recalled(
        &mut self,
        execute: Execute,
        remembered: Result<Option<Remembered>, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        let Execute { caller, command, reply } = execute;
        match (remembered, reply.idempotency()) {
            (Ok(Some(first)), Some(Idempotency { key, digest })) => {
                if first.digest != *digest {
                    let problem = different_command(&key.command_id);
                    return reply.refuse(problem);
                }
                if let Done::Created { session_id, .. } = &first.done {
                    // Whoever repeats a create may not have seen what the first one brought.
                    self.bus.notify(Invite { caller, topic: Topic::Session(session_id.clone()) });
                }
                reply.repeat(first.done);
            }
            (Ok(_), _) => self.route(caller, command, reply, ctx),
            (Err(error), _) => refuse_unreadable(reply, &error),
        }
    }

    /// Asks agents to leave memory: those idle for long, and the longest idle where there are too many.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let mut live: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|(id, entry)| match entry {
                Place::Live { last_used, .. } => Some((now.duration_since(*last_used), id.clone())),
                Place::Loading { .. } | Place::Leaving { .. } => None,
            })
            .collect();
        live.sort_unstable_by(|(idle, _), (other, _)| other.cmp(idle));
        let too_many = live.len().saturating_sub(MAX_LIVE);
        for (rank, (idle, session_id)) in live.into_iter().enumerate() {
            if idle < self.idle_after && rank >= too_many {
                break;
            }
            self.retire(session_id, ctx);
        }
    }

    fn retire(&mut self, session_id: SessionId, ctx: &mut Context<Self>) {
        let Some(Place::Live { agent, owner, loaded, .. }) = self.sessions.remove(&session_id) else {
            return;
        };
        let answer = agent.send(Retire);
        let leaving = Place::Leaving { waiting: Vec::new(), agent, owner, loaded };
        self.sessions.insert(session_id.clone(), leaving);
        ctx.spawn(answer.into_actor(self).map(move |leaves, manager, ctx| {
            // One that leaves, or has died, reports its end.
            if !matches!(leaves, Ok(false)) {
                return;
            }
            let Some(Place::Leaving { waiting, agent, owner, loaded }) = manager.sessions.remove(&session_id)
            else {
                return;
            };
            let place = Place::Live { agent, owner, loaded, last_used: Instant::now() };
            manager.sessions.insert(session_id.clone(), place);
            waiting.into_iter().for_each(|carry| manager.carry(session_id.clone(), carry, ctx));
        }));
    }

    /// Ends the waiting of those who drain, once no agent is left.
    fn check_drained(&mut self) {
        if self.sessions.is_empty()
            && let Some(drain) = &mut self.drain
        {
            for waiting in drain.waiting.drain(..) {
                // Whoever waited may have given up.
                let _ = waiting.send(());
            }
        }
    }
}

impl Numbers {
    /// A number that is probably free: at most half of those with as many digits are taken.
    fn pick(&mut self, agent_id: &AgentId) -> SessionId {
        let first = 10_u64.pow(self.digits - 1);
        let space = 9 * first;
        if self.taken * 2 >= space {
            self.grow();
            return self.pick(agent_id);
        }
        SessionId::new(agent_id, rand::random_range(first..first + space))
    }

    fn grow(&mut self) {
        self.digits += 1;
        self.taken = 0;
    }
}

/// Reads a session's state and folds its whole log.
async fn read_session(
    store: Arc<dyn Store>,
    session_id: SessionId,
) -> Result<Option<(SessionState, Conversation)>, StoreError> {
    let topic = Topic::Session(session_id.clone());
    let Some(state) = store.session(&session_id).await? else { return Ok(None) };
    let mut conversation = Conversation::default();
    let mut after = 0;
    while let Some(page) = store.read(&topic, ReadFrom::After(after), LOAD_PAGE).await? {
        for event in &page.events {
            conversation.apply(event);
            after = event.seq();
        }
        if !page.more {
            break;
        }
    }
    Ok(Some((state, conversation)))
}

fn refuse_unreadable(reply: ReplyTo, error: &StoreError) {
    log::error!("a command could not be checked: {error}");
    reply.refuse(Problem::unavailable("the server's store cannot be read now; try again later"));
}

/// Tells an agent that the server is going to stop.
#[expect(clippy::disallowed_methods, reason = "one an agent, and one that must arrive")]
fn finish_up(agent: &Addr<Agent>) {
    agent.do_send(FinishUp);
}

#[expect(clippy::disallowed_methods, reason = "one an agent, and one that must arrive")]
fn interrupt(agent: &Addr<Agent>) {
    agent.do_send(Interrupt);
}

impl Actor for AgentManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let interval = (self.idle_after / 8).clamp(Duration::from_secs(1), Duration::from_secs(60));
        ctx.run_interval(interval, Self::sweep);
    }
}

impl Drop for AgentManager {
    /// Without its manager the server would be a zombie that accepts commands and does nothing.
    fn drop(&mut self) {
        end_process_if_panicking("the agent manager");
    }
}

impl Handler<Execute> for AgentManager {
    type Result = ();

    fn handle(&mut self, execute: Execute, ctx: &mut Self::Context) {
        let Execute { caller, command, reply } = execute;
        if self.drain.is_some() {
            let problem = "the server is about to stop; connect again and repeat the command";
            return reply.refuse(Problem::unavailable(problem));
        }
        let Some(reply) = self.in_flight.admit(reply) else { return };
        let Some(Idempotency { key, .. }) = reply.idempotency() else {
            return self.route(caller, command, reply, ctx);
        };
        let mut recall = self.store.recall(key);
        let execute = Execute { caller, command, reply };
        match poll_once(&mut recall) {
            Some(remembered) => self.recalled(execute, remembered, ctx),
            // Commands behind this one wait: they take effect in the order in which they were sent.
            None => ctx.wait(recall.into_actor(self).map(|remembered, manager, ctx| {
                manager.recalled(execute, remembered, ctx);
            })),
        }
    }
}

impl Handler<AgentEnded> for AgentManager {
    type Result = ();

    fn handle(&mut self, ended: AgentEnded, ctx: &mut Self::Context) {
        let AgentEnded { session_id, run_open } = ended;
        let (waiting, loaded) = match self.sessions.remove(&session_id) {
            Some(Place::Live { loaded, .. }) => (Vec::new(), loaded),
            Some(Place::Leaving { waiting, loaded, .. }) => (waiting, loaded),
            entry @ (Some(Place::Loading { .. }) | None) => {
                self.sessions.extend(entry.map(|entry| (session_id, entry)));
                return;
            }
        };
        if run_open || !waiting.is_empty() {
            self.sessions.insert(session_id.clone(), Place::Loading { waiting });
            if run_open && loaded.elapsed() < QUICK_DEATH {
                ctx.run_later(QUICK_DEATH, |manager, ctx| manager.load(session_id, ctx));
            } else {
                self.load(session_id, ctx);
            }
        }
        self.check_drained();
    }
}

impl Handler<Drain> for AgentManager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain { deadline }: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (to, drained) = oneshot::channel();
        self.drain.get_or_insert_default().waiting.push(to);
        for entry in self.sessions.values() {
            if let Place::Live { agent, .. } | Place::Leaving { agent, .. } = entry {
                finish_up(agent);
            }
        }
        ctx.run_later(deadline, |manager, _| {
            for entry in manager.sessions.values() {
                if let Place::Live { agent, .. } | Place::Leaving { agent, .. } = entry {
                    interrupt(agent);
                }
            }
        });
        self.check_drained();
        Box::pin(async move {
            // Fails only with the manager itself.
            let _ = drained.await;
        })
    }
}

impl Handler<CountLive> for AgentManager {
    type Result = usize;

    fn handle(&mut self, _: CountLive, _ctx: &mut Self::Context) -> Self::Result {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests;
