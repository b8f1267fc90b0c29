//! Actor `AgentManager`: finds, creates and retires the agents of sessions, and routes commands to them.
//!
//! Owns: which session has a live agent; the numbers that session ids are made of; which commands are
//! being carried out. Does not own: what an agent says, or what a log holds.
//! Talks to: its agents, the bus, the store. It alone creates agents and lets them go, so that a session
//! never has two: a new one is made only after the old one has reported its end.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, dev::SendError};
use tokio::{sync::oneshot, time::Instant};

use super::{
    agent::{Agent, AgentEnded, Carry, FinishUp, Interrupt, Order, Retire, TaskOrder, refuse_failed},
    bus::{Bus, Committed, Forked, Held, Hold, Invite, Origin, Release, poll_once},
    command::{Answer, Caller, Command, Done, Idempotency, InFlight, ReplyTo, different_command},
    completions::{Completes, Completing, Completions},
    end_process_if_panicking,
    error::{ErrorCode, Problem},
    event::{CloseReason, Durable, Entry, Event, ForkedFrom, TaskChange, Timestamp},
    fork,
    ids::{AgentId, Epoch, Principal, Seq, SessionId, Topic},
    ports::{AppendError, Fork, InvitedFrom, PageLimit, ReadFrom, Remembered, Store, StoreError},
    profile::{AgentProfile, Profiles},
    restore::{Restored, restore},
    session::{SessionState, SessionStatus},
    shared_state,
    tasks::{Enqueue, RunTask, TaskRunner, WaitingTasks},
};

/// Agents in memory at most, when idle ones can leave it.
const MAX_LIVE: usize = 10_000;
/// So many picks in a row are of ids that have logs only if many more are taken than this process has given out.
const MANY_COLLISIONS: u32 = 16;
/// Commands that wait while a session's agent is being loaded.
const MAX_WAITING: usize = 256;
/// What a crash has left undone is looked for, and taken up, so many sessions at a time…
const RECOVERED_AT_ONCE: usize = 64;
/// …and so often: all that runs in a while, without keeping those waiting who come now.
const RECOVER_INTERVAL: Duration = Duration::from_millis(10);
/// A session with work left to do that cannot be read is tried again after this time, then less and less often.
const LOAD_RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
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
    completions: Completions<Self>,
    idle_after: Duration,
    sessions: HashMap<SessionId, Place>,
    /// Sessions of which an earlier command still has to ask the store something.
    held: HashMap<SessionId, HeldCommands>,
    numbers: HashMap<AgentId, Numbers>,
    /// Ids given out whose logs are not there yet.
    reserved: HashSet<SessionId>,
    in_flight: InFlight,
    drain: Option<Draining>,
    /// `None` until it has started.
    tasks: Option<Addr<TaskRunner>>,
    waiting_tasks: WaitingTasks,
    tasks_at_once: usize,
}

/// Where a session's agent stands.
enum Place {
    Loading {
        waiting: Vec<Carry>,
        /// It has work left to do, whether or not anybody asks: it is loaded until that succeeds.
        /// How long that was last waited for.
        unfinished: Option<Duration>,
        /// It waits to be tried again.
        pausing: bool,
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

/// Commands to one session that wait, in the order in which they came.
#[derive(Default)]
struct HeldCommands {
    /// How often it is held.
    holds: usize,
    behind: VecDeque<Execute>,
}

/// What becomes of an id that was taken.
type ThenWith = Box<dyn FnOnce(&mut AgentManager, Result<SessionId, StoreError>)>;

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
    /// What the session is made for.
    task: Option<TaskChange>,
    reply: ReplyTo,
}

impl AgentManager {
    pub fn new(
        profiles: Arc<Profiles>,
        store: Arc<dyn Store>,
        bus: Bus,
        idle_after: Duration,
        tasks_at_once: usize,
    ) -> Self {
        Self {
            profiles,
            store,
            bus,
            completions: Completions::default(),
            idle_after,
            sessions: HashMap::new(),
            held: HashMap::new(),
            numbers: HashMap::new(),
            reserved: HashSet::new(),
            in_flight: InFlight::default(),
            drain: None,
            tasks: None,
            waiting_tasks: WaitingTasks::default(),
            tasks_at_once,
        }
    }

    fn route(&mut self, caller: Caller, command: Command, reply: ReplyTo) {
        let (session_id, order) = match command {
            Command::CreateSession { agent_id, title } => {
                return self.create(caller, &agent_id, title, reply);
            }
            Command::RefreshAgent { agent_id, session_id } => {
                return self.refresh(caller, &agent_id, session_id, reply);
            }
            Command::SetTyping { session_id, typing } => {
                return self.set_typing(caller, session_id, typing, reply);
            }
            Command::DeleteSession { session_id } => return self.delete(caller, session_id, reply),
            Command::ForkSession { session_id, at_seq, title } => {
                return self.fork(caller, session_id, at_seq, title, reply);
            }
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
            Command::SettleApproval { session_id, tool_call_id, decision, reason, args } => {
                (session_id, Order::SettleApproval { tool_call_id, decision, reason, args })
            }
            Command::UpdateState { session_id, patch, if_version } => {
                (session_id, Order::UpdateState { patch, if_version })
            }
            Command::CreateTask { agent_id, name, input } => {
                return self.create_task(caller, &agent_id, name, input, reply);
            }
            Command::RenameTask { session_id, name } => (session_id, Order::Task(TaskOrder::Rename { name })),
            Command::PauseTask { session_id } => (session_id, Order::Task(TaskOrder::Pause)),
            Command::ResumeTask { session_id } => (session_id, Order::Task(TaskOrder::Resume)),
            Command::CancelTask { session_id } => (session_id, Order::Task(TaskOrder::Cancel)),
            Command::DeleteTask { session_id } => return self.delete_task(caller, session_id, reply),
        };
        self.carry(session_id, Carry { caller, order, reply });
    }

    /// Gives an order to a session's agent, which is loaded if need be.
    fn carry(&mut self, session_id: SessionId, carry: Carry) {
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
            // Whoever asks now need not wait for that.
            Some(Place::Loading { waiting, pausing, .. }) if *pausing => {
                *pausing = false;
                waiting.push(carry);
                self.load(session_id);
            }
            Some(Place::Loading { waiting, .. } | Place::Leaving { waiting, .. }) => {
                if waiting.len() < MAX_WAITING {
                    waiting.push(carry);
                } else {
                    let problem = "too many commands wait for this session; send fewer at once";
                    carry.reply.refuse(Problem::new(ErrorCode::Busy, problem));
                }
            }
            None => self.begin_loading(session_id, vec![carry], None),
        }
    }

    fn begin_loading(&mut self, session_id: SessionId, waiting: Vec<Carry>, unfinished: Option<Duration>) {
        let place = Place::Loading { waiting, unfinished, pausing: false };
        self.sessions.insert(session_id.clone(), place);
        self.load(session_id);
    }

    /// Builds the agent of a session from its log.
    fn load(&mut self, session_id: SessionId) {
        let profile = self.profiles.get(&session_id.agent_id());
        let max_tokens = profile.map_or(0, |profile| profile.card.context_window);
        let held = self.bus.ask(Hold { topic: Topic::Session(session_id.clone()) });
        let (store, id) = (self.store.clone(), session_id.clone());
        let restored = async move {
            // What an agent before this one was still writing is in the log by then, or never will be.
            match held.await {
                Ok(Ok(Held::Quiet)) => restore(store, id, max_tokens).await,
                Ok(Ok(Held::NoLog)) => Ok(None),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(StoreError("the event bus has ended".to_owned())),
            }
        };
        self.completions.push(restored, move |manager, restored, ctx| {
            manager.loaded(session_id, restored, ctx);
            manager.check_drained();
        });
    }

    fn loaded(
        &mut self,
        session_id: SessionId,
        restored: Result<Option<Restored>, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        let Some(Place::Loading { waiting, unfinished, .. }) = self.sessions.remove(&session_id) else {
            return;
        };
        let refuse_all = |waiting: Vec<Carry>, problem: &Problem| {
            waiting.into_iter().for_each(|carry| carry.reply.refuse(problem.clone()));
        };
        let topic = Topic::Session(session_id.clone());
        let restored = match restored {
            Ok(Some(restored)) => restored,
            Ok(None) => {
                self.bus.notify(Release { topic });
                return refuse_all(waiting, &Problem::session_not_found(session_id.as_str()));
            }
            Err(error) => {
                refuse_all(waiting, &error.unreadable());
                match unfinished {
                    Some(waited) if self.drain.is_none() => self.load_later(session_id, waited, ctx),
                    _ => self.bus.notify(Release { topic }),
                }
                return;
            }
        };
        let record = &restored.state.record;
        let owner = record.owner.clone();
        let (own, foreign): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|carry| carry.caller.principal == owner);
        refuse_all(foreign, &Problem::session_not_found(session_id.as_str()));
        if record.status == SessionStatus::Closed {
            self.bus.notify(Release { topic });
            return refuse_all(own, &Problem::session_closed(&session_id));
        }
        if own.is_empty() && !restored.state.is_unfinished() {
            return self.bus.notify(Release { topic });
        }
        let profile = self.profiles.get(&session_id.agent_id());
        let (bus, store) = (self.bus.clone(), self.store.clone());
        let Some(tasks) = self.tasks.clone() else { return };
        let manager = ctx.address().recipient();
        let agent = Agent::new(restored, profile, bus, store, manager, tasks.recipient()).start();
        if self.drain.is_some() {
            finish_up(&agent);
        }
        let now = Instant::now();
        let place = Place::Live { agent, owner, loaded: now, last_used: now };
        self.sessions.insert(session_id.clone(), place);
        own.into_iter().for_each(|carry| self.carry(session_id.clone(), carry));
    }

    /// Tries again to load a session that has work left to do.
    fn load_later(&mut self, session_id: SessionId, waited: Duration, ctx: &mut Context<Self>) {
        let wait = (waited * 2).clamp(*LOAD_RETRY.start(), *LOAD_RETRY.end());
        log::error!("session={session_id} has work left to do; it is read again in {wait:?}");
        let place = Place::Loading { waiting: Vec::new(), unfinished: Some(wait), pausing: true };
        self.sessions.insert(session_id.clone(), place);
        ctx.run_later(wait, |manager, _| {
            if let Some(Place::Loading { pausing, .. }) = manager.sessions.get_mut(&session_id)
                && std::mem::take(pausing)
            {
                manager.load(session_id);
            }
        });
    }

    /// Takes up what a crash, or a stop, has left undone in the sessions after this one.
    fn recover(&mut self, after: Option<SessionId>) {
        let page = self.store.unfinished(after.clone(), RECOVERED_AT_ONCE);
        self.completions.push(page, |manager, page, ctx| {
            let (next, wait) = match page {
                Ok(page) => {
                    let last = page.last().cloned();
                    for session_id in page {
                        if !manager.sessions.contains_key(&session_id) && manager.drain.is_none() {
                            manager.begin_loading(session_id, Vec::new(), Some(Duration::ZERO));
                        }
                    }
                    let Some(last) = last else { return };
                    (Some(last), RECOVER_INTERVAL)
                }
                Err(error) => {
                    log::error!("what was left undone cannot be read: {error}");
                    (after, *LOAD_RETRY.start())
                }
            };
            ctx.run_later(wait, |manager, _| manager.recover(next));
        });
    }

    fn create(&mut self, caller: Caller, agent_id: &AgentId, title: Option<String>, reply: ReplyTo) {
        self.create_for(caller, agent_id, title, None, reply);
    }

    /// Creates a session for a task, which runs there when it is its turn.
    fn create_task(
        &mut self,
        caller: Caller,
        agent_id: &AgentId,
        name: String,
        input: String,
        reply: ReplyTo,
    ) {
        match self.waiting_tasks.admit() {
            Ok(()) => {
                let task = TaskChange::Created { name: name.clone(), input };
                self.create_for(caller, agent_id, Some(name), Some(task), reply);
            }
            Err(problem) => reply.refuse(problem),
        }
    }

    fn create_for(
        &mut self,
        caller: Caller,
        agent_id: &AgentId,
        title: Option<String>,
        task: Option<TaskChange>,
        reply: ReplyTo,
    ) {
        let Some(profile) = self.profiles.get(agent_id) else {
            return reply.refuse(Problem::agent_not_found(agent_id.as_str()));
        };
        self.reserve(
            agent_id.clone(),
            Box::new(move |manager, session_id| match session_id {
                Ok(session_id) => {
                    manager.begin(NewSession { caller, profile, session_id, title, task, reply });
                }
                Err(error) => reply.refuse(error.unreadable()),
            }),
        );
    }

    /// Closes a session, where there is one, and creates another in its place.
    ///
    /// The new id is taken first, so that the old log can name it; the command is remembered with the new
    /// log. A retry after a crash between the two finds the old one closed, and begins the one that it names.
    fn refresh(&mut self, caller: Caller, agent_id: &AgentId, old: Option<SessionId>, reply: ReplyTo) {
        let Some(profile) = self.profiles.get(agent_id) else {
            return reply.refuse(Problem::agent_not_found(agent_id.as_str()));
        };
        let Some(old) = old else { return self.create(caller, agent_id, None, reply) };
        // Commands behind this one, to the old session, come after its end.
        self.hold(&old);
        let close = move |manager: &mut Self, session_id: Result<_, StoreError>| {
            let session_id: SessionId = match session_id {
                Ok(session_id) => session_id,
                Err(error) => {
                    reply.refuse(error.unreadable());
                    return manager.let_go(&old);
                }
            };
            let order =
                Order::Close { reason: CloseReason::Refreshed, replaced_by: Some(session_id.clone()) };
            let closed_before = old.clone();
            manager.close(caller.clone(), old.clone(), order, move |manager, closed| {
                let mut new = NewSession { caller, profile, session_id, title: None, task: None, reply };
                match closed.map_err(|problem| (problem.code, problem)) {
                    Ok(_) | Err((ErrorCode::SessionNotFound, _)) => manager.begin(new),
                    Err((ErrorCode::SessionClosed, _)) => {
                        let promised = successor(manager.store.clone(), closed_before);
                        manager.completions.push(promised, |manager, promised, _| {
                            let promised = match promised {
                                Ok(promised) => promised,
                                Err(error) => {
                                    manager.give_back(&new.session_id);
                                    return new.reply.refuse(error.unreadable());
                                }
                            };
                            if let Some(promised) = promised
                                && promised.agent_id() == new.profile.card.id
                                && manager.reserved.insert(promised.clone())
                            {
                                manager.give_back(&new.session_id);
                                new.session_id = promised;
                            }
                            manager.begin(new);
                        });
                    }
                    Err((_, problem)) => {
                        manager.give_back(&new.session_id);
                        new.reply.refuse(problem);
                    }
                }
            });
            manager.let_go(&old);
        };
        self.reserve(agent_id.clone(), Box::new(close));
    }

    /// Closes a session, and does `then` once it is closed, or cannot be.
    fn close(
        &mut self,
        caller: Caller,
        session_id: SessionId,
        order: Order,
        then: impl FnOnce(&mut Self, Result<Done, Problem>) + 'static,
    ) {
        let (to, closed) = oneshot::channel();
        self.carry(session_id, Carry { caller, order, reply: ReplyTo::new(to, None) });
        self.completions.push(closed, |manager, closed, _| {
            let closed = closed.map_or_else(|_| Err(Problem::internal()), |answer: Answer| answer.result);
            then(manager, closed);
        });
    }

    /// Ends a session and removes its log.
    ///
    /// It is closed first: a crash between the two leaves a closed session, which a retry deletes.
    fn delete(&mut self, caller: Caller, session_id: SessionId, reply: ReplyTo) {
        let order = Order::Close { reason: CloseReason::Closed, replaced_by: None };
        let owner = caller.principal.clone();
        self.close(caller, session_id.clone(), order, |manager, closed| {
            if let Err(problem) = closed
                && problem.code != ErrorCode::SessionClosed
            {
                return reply.refuse(problem);
            }
            let commands = reply.remember(Done::Noted).into_iter().collect();
            let deleted = manager.bus.delete(session_id.clone(), owner, commands);
            manager.completions.push(deleted, move |_, deleted, _| match deleted {
                Ok(Ok(())) => {
                    log::debug!("session={session_id} deleted");
                    reply.done(Done::Noted);
                }
                Ok(Err(AppendError::Conflict)) => {
                    reply.refuse(Problem::session_not_found(session_id.as_str()));
                }
                Ok(Err(error)) => refuse_failed(reply, error),
                // The bus ends only with the process.
                Err(_) => {}
            });
        });
    }

    #[expect(clippy::disallowed_methods, reason = "one a task, and without it the task would never run")]
    fn enqueue(&self, enqueue: Enqueue) {
        if let Some(tasks) = &self.tasks {
            tasks.do_send(enqueue);
        }
    }

    /// Ends a task, if it has not ended, and removes it with its session.
    fn delete_task(&mut self, caller: Caller, session_id: SessionId, reply: ReplyTo) {
        // Commands behind this one, to the same session, come after it.
        self.hold(&session_id);
        let state = self.store.session(&session_id);
        self.completions.push(state, move |manager, state, _| {
            let id = session_id.clone();
            let is_own = |state: &SessionState| state.record.owner == caller.principal;
            match state {
                Ok(Some(state)) if is_own(&state) && state.record.task.is_some() => {
                    manager.delete(caller, session_id, reply);
                }
                Ok(_) => reply.refuse(Problem::task_not_found(session_id.as_str())),
                Err(error) => reply.refuse(error.unreadable()),
            }
            manager.let_go(&id);
        });
    }

    /// Creates a session that begins with another one's past.
    fn fork(&mut self, caller: Caller, from: SessionId, at_seq: Seq, title: Option<String>, reply: ReplyTo) {
        let agent_id = from.agent_id();
        let Some(profile) = self.profiles.get(&agent_id) else {
            return reply.refuse(Problem::agent_gone(&agent_id));
        };
        // Commands behind this one, to the session that is forked, find it as it is.
        self.hold(&from);
        let past = fork::state_at(self.store.clone(), from.clone(), caller.principal.clone(), at_seq);
        self.completions.push(past, move |manager, past, _| {
            let past = match past {
                Ok(past) => past,
                Err(problem) => {
                    reply.refuse(problem);
                    return manager.let_go(&from);
                }
            };
            let then = move |manager: &mut Self, session_id: Result<_, StoreError>| {
                match session_id {
                    Ok(session_id) => {
                        let new = NewSession { caller, profile, session_id, title, task: None, reply };
                        manager.begin_with(ForkedFrom { session_id: from.clone(), at_seq }, past, new);
                    }
                    Err(error) => reply.refuse(error.unreadable()),
                }
                manager.let_go(&from);
            };
            manager.reserve(agent_id, Box::new(then));
        });
    }

    /// Begins the log of a session with the past of another.
    fn begin_with(&mut self, forked_from: ForkedFrom, past: SessionState, new: NewSession) {
        let NewSession { caller, profile, session_id, title, task: _, reply } = new;
        let topic = Topic::Session(session_id.clone());
        let epoch = Epoch::of_new_log(self.store.incarnation());
        let from = forked_from.session_id.clone();
        let created = Durable::SessionCreated {
            owner: caller.principal.clone(),
            agent_name: profile.card.name.clone(),
            title,
            forked_from: Some(Box::new(forked_from)),
        };
        let created = Arc::new(Event::durable(topic, epoch.clone(), 1, Timestamp::now(), created.into()));
        let Some(state) = fork::forked(past, &created) else { return reply.refuse(Problem::internal()) };
        let done = Done::Created { session_id: session_id.clone(), epoch, seq: 1 };
        let commands = reply.remember(done.clone()).into_iter().collect();
        let forked = self.store.fork(Fork { from, created, state, commands });
        self.completions.push(forked, move |manager, forked, _| match forked {
            Ok(()) => {
                manager.reserved.remove(&session_id);
                log::debug!("session={session_id} forked");
                manager.bus.notify(Forked { session_id, caller });
                reply.done(done);
            }
            Err(error) => {
                manager.give_back(&session_id);
                refuse_failed(reply, error);
            }
        });
    }

    /// Takes an id that no log has.
    fn reserve(&mut self, agent_id: AgentId, then: ThenWith) {
        self.reserve_after(0, agent_id, then);
    }

    /// The same, after so many picks that were of ids that have logs.
    fn reserve_after(&mut self, collisions: u32, agent_id: AgentId, then: ThenWith) {
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
        self.completions.push(head, move |manager, head, _| match head {
            Ok(None) => then(manager, Ok(session_id)),
            Ok(Some(_)) => {
                manager.give_back(&session_id);
                let collisions = if collisions == MANY_COLLISIONS { 0 } else { collisions + 1 };
                manager.reserve_after(collisions, agent_id, then);
            }
            Err(error) => {
                manager.give_back(&session_id);
                then(manager, Err(error));
            }
        });
    }

    /// Nothing has come of an id that was taken.
    fn give_back(&mut self, session_id: &SessionId) {
        self.reserved.remove(session_id);
        if let Some(numbers) = self.numbers.get_mut(&session_id.agent_id()) {
            numbers.taken = numbers.taken.saturating_sub(1);
        }
    }

    /// Begins the log of a new session. Its agent is loaded when it is first told something.
    fn begin(&mut self, new: NewSession) {
        let NewSession { caller, profile, session_id, title, task, reply } = new;
        let owner = caller.principal.clone();
        let is_task = task.is_some();
        let created = Durable::SessionCreated {
            owner: owner.clone(),
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
        let state = profile.initial_state.iter().map(|value| {
            let patch = Box::new(shared_state::replacing(value));
            Durable::StatePatched { version: 1, patch }
        });
        let task = task.map(|task| Durable::Task(Box::new(task)));
        let bodies = std::iter::once(created).chain(system).chain(seeds).chain(task).chain(state);
        let entries = bodies.map(Entry::from).collect();
        // The bus fills in the epoch: it begins with the log.
        let done = Done::Created { session_id: session_id.clone(), epoch: Epoch::from(""), seq: 0 };
        let commands = reply.remember(done).into_iter().collect();
        let topic = Topic::Session(session_id.clone());
        let outcome = self.bus.publish(&topic, Origin::New(caller), entries, commands);
        self.completions.push(outcome, move |manager, outcome, _| match outcome {
            Ok(Ok(Committed { epoch, first_seq, .. })) => {
                manager.reserved.remove(&session_id);
                log::debug!("session={session_id} created");
                if is_task {
                    let session_id = session_id.clone();
                    manager.enqueue(Enqueue { session_id, owner, anew: true });
                }
                reply.done(Done::Created { session_id, epoch, seq: first_seq });
            }
            Ok(Err(failed)) => {
                manager.give_back(&session_id);
                refuse_failed(reply, failed.error);
            }
            // The bus ends only with the process.
            Err(_) => {}
        });
    }

    fn set_typing(&mut self, caller: Caller, session_id: SessionId, typing: bool, reply: ReplyTo) {
        let state = self.store.session(&session_id);
        self.completions.push(state, move |manager, state, _| match state {
            Ok(Some(state)) if state.record.owner != caller.principal => {
                reply.refuse(Problem::session_not_found(session_id.as_str()));
            }
            Ok(Some(state)) if state.record.status == SessionStatus::Closed => {
                reply.refuse(Problem::session_closed(&session_id));
            }
            Ok(Some(_)) => {
                manager.bus.show_typing(&Topic::Session(session_id), caller, typing);
                reply.done(Done::Noted);
            }
            Ok(None) => reply.refuse(Problem::session_not_found(session_id.as_str())),
            Err(error) => reply.refuse(error.unreadable()),
        });
    }

    /// Finds out whether a command was carried out before, and carries it out if not.
    fn look_up(&mut self, execute: Execute) {
        let Some(Idempotency { key, .. }) = execute.reply.idempotency() else {
            return self.route(execute.caller, execute.command, execute.reply);
        };
        let mut recall = self.store.recall(key);
        // A store mostly knows at once that it does not know a command.
        if let Some(remembered) = poll_once(&mut recall) {
            return self.recalled(execute, remembered);
        }
        // Commands behind this one, to the same session, wait: they take effect in the order they were sent.
        let session_id = execute.command.session_id().cloned();
        session_id.iter().for_each(|id| self.hold(id));
        self.completions.push(recall, move |manager, remembered, _| {
            manager.recalled(execute, remembered);
            session_id.iter().for_each(|id| manager.let_go(id));
        });
    }

    /// Lets further commands to a session wait.
    fn hold(&mut self, session_id: &SessionId) {
        self.held.entry(session_id.clone()).or_default().holds += 1;
    }

    /// Carries out what has waited, up to a command that holds the session again.
    fn let_go(&mut self, session_id: &SessionId) {
        loop {
            let Some(held) = self.held.get_mut(session_id) else { return };
            held.holds = held.holds.saturating_sub(1);
            if held.holds > 0 {
                return;
            }
            let Some(next) = held.behind.pop_front() else {
                self.held.remove(session_id);
                return;
            };
            // It is held once for the command itself, so that no other gets before those behind it.
            held.holds = 1;
            self.look_up(next);
        }
    }

    /// Carries a command out unless it was carried out before.
    fn recalled(&mut self, execute: Execute, remembered: Result<Option<Remembered>, StoreError>) {
        let Execute { caller, command, reply } = execute;
        match (remembered, reply.idempotency()) {
            (Ok(Some(first)), Some(Idempotency { key, digest })) => {
                if first.digest != *digest {
                    let problem = different_command(&key.command_id);
                    return reply.refuse(problem);
                }
                if let Done::Created { session_id, .. } = &first.done {
                    // Whoever repeats a create may not have seen what the first one brought.
                    let from = match command {
                        Command::ForkSession { .. } => InvitedFrom::Snapshot,
                        _ => InvitedFrom::Beginning,
                    };
                    self.bus.notify(Invite { caller, topic: Topic::Session(session_id.clone()), from });
                }
                reply.repeat(first.done);
            }
            (Ok(_), _) => self.route(caller, command, reply),
            (Err(error), _) => reply.refuse(error.unreadable()),
        }
    }

    /// Asks agents to leave memory: those idle for long, and the longest idle where there are too many.
    fn sweep(&mut self, _ctx: &mut Context<Self>) {
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
            self.retire(session_id);
        }
    }

    fn retire(&mut self, session_id: SessionId) {
        let Some(Place::Live { agent, owner, loaded, .. }) = self.sessions.remove(&session_id) else {
            return;
        };
        let answer = agent.send(Retire);
        let leaving = Place::Leaving { waiting: Vec::new(), agent, owner, loaded };
        self.sessions.insert(session_id.clone(), leaving);
        self.completions.push(answer, move |manager, leaves, _| {
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
            waiting.into_iter().for_each(|carry| manager.carry(session_id.clone(), carry));
        });
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

/// The session that a closed one names as its successor, if that was never begun.
async fn successor(store: Arc<dyn Store>, closed: SessionId) -> Result<Option<SessionId>, StoreError> {
    let last = PageLimit { events: 1, bytes: usize::MAX };
    let page = store.read(&Topic::Session(closed), ReadFrom::Before(Seq::MAX), last).await?;
    let last = page.and_then(|page| page.events.into_iter().next());
    let named = match last.as_ref().and_then(|event| event.as_durable()) {
        Some(Durable::SessionClosed { replaced_by: Some(named), .. }) => named.clone(),
        _ => return Ok(None),
    };
    let head = store.head(&Topic::Session(named.clone())).await?;
    Ok(head.is_none().then_some(named))
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
        ctx.spawn(Completing);
        let runner =
            TaskRunner::new(ctx.address().recipient(), self.tasks_at_once, self.waiting_tasks.clone());
        self.tasks = Some(runner.start());
        self.recover(None);
    }
}

impl Completes for AgentManager {
    fn completions(&mut self) -> &mut Completions<Self> {
        &mut self.completions
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

    fn handle(&mut self, execute: Execute, _ctx: &mut Self::Context) {
        let Execute { caller, command, reply } = execute;
        if self.drain.is_some() {
            let problem = "the server is about to stop; connect again and repeat the command";
            return reply.refuse(Problem::unavailable(problem));
        }
        let Some(reply) = self.in_flight.admit(reply) else { return };
        let execute = Execute { caller, command, reply };
        match execute.command.session_id().and_then(|id| self.held.get_mut(id)) {
            Some(held) => held.behind.push_back(execute),
            None => self.look_up(execute),
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
            let unfinished = run_open.then_some(Duration::ZERO);
            if run_open && loaded.elapsed() < QUICK_DEATH {
                self.sessions
                    .insert(session_id.clone(), Place::Loading { waiting, unfinished, pausing: false });
                ctx.run_later(QUICK_DEATH, |manager, _| manager.load(session_id));
            } else {
                self.begin_loading(session_id, waiting, unfinished);
            }
        }
        self.check_drained();
    }
}

impl Handler<RunTask> for AgentManager {
    type Result = ();

    fn handle(&mut self, RunTask { session_id, owner, reply }: RunTask, _ctx: &mut Self::Context) {
        if self.drain.is_some() {
            return reply.refuse(Problem::unavailable("the server is about to stop"));
        }
        let caller = Caller { principal: owner, client_id: None };
        self.carry(session_id, Carry { caller, order: Order::Task(TaskOrder::Run), reply });
    }
}

impl Handler<Drain> for AgentManager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain { deadline }: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (to, drained) = oneshot::channel();
        self.drain.get_or_insert_default().waiting.push(to);
        // The next start takes these up.
        self.sessions.retain(|_, place| !matches!(place, Place::Loading { pausing: true, .. }));
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
