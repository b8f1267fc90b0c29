//! Actor `Agent`: one session. Takes its commands, holds its conversation, runs what `run` decides.
//!
//! Owns: the conversation in memory, the run that is going, the queue of messages. Does not own:
//! numbering and storage (`bus`), sockets (`doors`), its own life (`manager`).
//! Talks to: the bus, its model and its tools; tells the manager when it ends.

mod acting;
mod outgoing;
mod task;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt, ActorStreamExt, Addr, AsyncContext, Context, Handler, Message,
    MessageResult, Recipient, SpawnHandle, WrapFuture, WrapStream, fut,
};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::Instant;

pub use self::task::TaskOrder;
use self::{
    acting::{Acting, Settlement},
    outgoing::{Outgoing, Published},
    task::Tasking,
};
use super::{
    bus::{Bus, GetOpenMessage, Release},
    command::{Caller, Done, OnBusy, ReplyTo, different_command},
    conversation::{Conversation, Extra, PromptSize},
    error::{ErrorCode, Problem},
    event::{
        AgentStatus, CloseReason, Decision, Durable, EndReason, Entry, Ephemeral, Outcome, Queued,
        TaskChange, Trigger,
    },
    ids::{MessageId, RunId, SessionId, Topic},
    pace::{Pace, Permits},
    ports::{AppendError, Checkpoint, ModelError, ModelEvent, ModelRequest, Store},
    profile::AgentProfile,
    restore::Restored,
    run::{Effect, Input, Run, WaitingRun, crashed, never_began},
    session::{QueuedRun, SessionState, TaskStatus},
    tasks::Enqueue,
};

/// Orders that wait for this agent: as many as a few busy sockets may have in flight.
const MAILBOX: usize = 256;
/// Pieces of an answer that are passed on together when a model is ahead of us.
const MODEL_EVENTS_AT_ONCE: usize = 32;
/// Messages that wait, at most.
const MAX_QUEUE: usize = 32;
/// Bytes of the messages that wait, at most.
const MAX_QUEUE_BYTES: usize = 1024 * 1024;
/// What clients are told while the store fails; the log says more.
const STORE_REFUSES: &str = "the server's store does not take it now; try again later";

// ---- messages ----

/// A command to this session, and where its answer goes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Carry {
    pub caller: Caller,
    pub order: Order,
    pub reply: ReplyTo,
}

#[derive(Debug)]
pub enum Order {
    SendMessage { content: String, on_busy: Option<OnBusy> },
    StopRun { run_id: Option<RunId>, clear_queue: bool },
    Rename { title: String },
    SettleApproval { tool_call_id: String, decision: Decision, reason: Option<String>, args: Option<Value> },
    UpdateState { patch: Value, if_version: u64 },
    Task(TaskOrder),
    Close { reason: CloseReason, replaced_by: Option<SessionId> },
}

/// Asks an agent that has nothing to do to leave memory; the answer is whether it does.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Retire;

/// The server is going to stop: finish the run, begin no other, then end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FinishUp;

/// The server waits no longer: end the run as interrupted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Interrupt;

/// An agent has ended. Sent from its `Drop`, so also after a panic.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AgentEnded {
    pub session_id: SessionId,
    /// It ended in the middle of a run, which somebody must close.
    pub run_open: bool,
}

// ---- the actor ----

pub struct Agent {
    session_id: SessionId,
    topic: Topic,
    /// `None` once the agent is no longer configured: the session can be read and closed.
    profile: Option<Arc<AgentProfile>>,
    bus: Bus,
    store: Arc<dyn Store>,
    manager: Recipient<AgentEnded>,
    /// The fold of the log.
    state: SessionState,
    conversation: Conversation,
    run: Option<Run>,
    /// The run that the agent before this one left open, until its end is in the log.
    orphan: Option<RunId>,
    /// What was saved of the message that run was streaming.
    partial: Option<(MessageId, String)>,
    /// The model's stream, or the calls of tools.
    work: Option<SpawnHandle>,
    acting: Acting,
    /// The reminder that the run asked for.
    reminder: Option<SpawnHandle>,
    queue: Vec<QueuedMessage>,
    /// Who waits for the run to end.
    stops: Vec<ReplyTo>,
    closing: Option<Closing>,
    /// Who asked for that as well, meanwhile.
    closing_too: Vec<ReplyTo>,
    /// No more commands: its session is closed, or about to be.
    closed: bool,
    finishing_up: bool,
    /// Batches on their way to the log.
    appending: usize,
    published: Published,
    outgoing: Outgoing,
    tasks: Recipient<Enqueue>,
    tasking: Tasking,
    /// It leaves a run open that only waits, for the agent after it.
    parked: bool,
    pace: Pace,
}

/// A message that waits for its run.
struct QueuedMessage {
    run_id: RunId,
    first: bool,
    bytes: usize,
    state: QueueState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueState {
    /// On its way to the log.
    Appending,
    /// The same, and cleared as soon as it is there.
    AppendingInVain,
    /// In the log: it may run.
    Waiting,
    /// The end of its run, which never began, is on its way to the log.
    Clearing,
}

struct Closing {
    reason: CloseReason,
    replaced_by: Option<SessionId>,
    reply: ReplyTo,
}

impl Agent {
    /// The agent of a session that the bus holds for it.
    pub fn new(
        restored: Restored,
        profile: Option<Arc<AgentProfile>>,
        bus: Bus,
        store: Arc<dyn Store>,
        manager: Recipient<AgentEnded>,
        tasks: Recipient<Enqueue>,
    ) -> Self {
        let Restored { state, conversation, partial } = restored;
        let session_id = state.record.session_id.clone();
        let waiting = profile.as_ref().zip(waiting_run(&state, &conversation, partial.is_some()));
        let run = waiting.map(|(profile, run)| profile.waiting_run(run));
        let orphan = state.run.filter(|_| run.is_none());
        let queue: Vec<_> = state
            .queue
            .iter()
            .map(|&QueuedRun { run_id, first, .. }| {
                let bytes = conversation.waiting_bytes(&run_id);
                QueuedMessage { run_id, first, bytes, state: QueueState::Waiting }
            })
            .collect();
        Self {
            topic: Topic::Session(session_id.clone()),
            session_id,
            profile,
            bus,
            store,
            manager,
            orphan,
            partial,
            conversation,
            state,
            run,
            work: None,
            acting: Acting::default(),
            reminder: None,
            queue,
            stops: Vec::new(),
            closing: None,
            closing_too: Vec::new(),
            closed: false,
            finishing_up: false,
            appending: 0,
            published: Published::default(),
            outgoing: Outgoing::default(),
            tasks,
            tasking: Tasking::default(),
            parked: false,
            pace: Pace::default(),
        }
    }

    /// Starts the actor on this thread.
    pub fn start(self) -> Addr<Self> {
        // Set later, the bound would not hold for what comes before the actor first runs.
        let (_, receiver) = actix::dev::channel::channel(MAILBOX);
        Context::with_receiver(receiver).run(self)
    }

    fn is_idle(&self) -> bool {
        // Without a profile the queue cannot run: it waits in the log as well as here.
        let queue_waits = self.queue.is_empty() || self.profile.is_none();
        let run_waits = self.orphan.is_none() && self.run.as_ref().is_none_or(Run::is_paused);
        run_waits && queue_waits && self.closing.is_none() && self.tasking.is_idle() && self.is_quiet()
    }

    /// Nothing is on its way to the log.
    fn is_quiet(&self) -> bool {
        self.appending == 0 && self.outgoing.is_empty()
    }

    fn current_run(&self) -> Option<RunId> {
        self.run.as_ref().map(Run::id).or(self.orphan)
    }

    // ---- commands ----

    fn send_message(
        &mut self,
        caller: Caller,
        content: String,
        on_busy: Option<OnBusy>,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        let Some(profile) = &self.profile else {
            return reply.refuse(Problem::agent_gone(&self.session_id.agent_id()));
        };
        let busy = self.current_run().is_some() || !self.queue.is_empty();
        let on_busy = on_busy.unwrap_or(profile.on_busy);
        if busy && let Err(problem) = self.admit(on_busy, content.len()) {
            return reply.refuse(problem);
        }
        let queue = match on_busy {
            _ if !busy => Queued::No,
            OnBusy::Interrupt => Queued::First,
            OnBusy::Queue | OnBusy::Reject => Queued::Last,
        };
        let run_id = RunId::new();
        let bytes = content.len();
        let message = Durable::UserMessage {
            message_id: MessageId::new(),
            command_id: reply.idempotency().map(|idempotency| idempotency.key.command_id.clone()),
            content,
            author: caller.principal,
            queue,
        };
        let mut entries = vec![Entry::of_run(run_id, message)];
        let commands = reply.remember(Done::Accepted { run_id, seq: 0 }).into_iter().collect();
        if queue == Queued::No {
            self.run = Some(profile.starting_run(run_id));
            entries.push(run_started(run_id));
            self.publish(entries, commands, ctx, move |agent, outcome, ctx| match outcome {
                Ok(committed) => {
                    reply.done(Done::Accepted { run_id, seq: committed.first_seq });
                    agent.feed([Input::Committed], Permits::default(), ctx);
                }
                Err(failed) => {
                    // It never was: nothing of it is in the log, and nobody was told of it.
                    agent.run = None;
                    refuse_failed(reply, failed.error);
                    let problem = Problem::unavailable("the run that was to be stopped did not begin");
                    agent.stops.drain(..).for_each(|stop| stop.refuse(problem.clone()));
                }
            });
        } else {
            let first = queue == Queued::First;
            self.enqueue(QueuedMessage { run_id, first, bytes, state: QueueState::Appending });
            self.publish(entries, commands, ctx, move |agent, outcome, ctx| match outcome {
                Ok(committed) => {
                    reply.done(Done::Accepted { run_id, seq: committed.first_seq });
                    agent.queued(run_id, ctx);
                    if first {
                        agent.feed([Input::Stop(EndReason::Replaced)], Permits::default(), ctx);
                    }
                }
                Err(failed) => {
                    agent.queue.retain(|queued| queued.run_id != run_id);
                    refuse_failed(reply, failed.error);
                }
            });
        }
    }

    /// Whether a message may wait.
    fn admit(&self, on_busy: OnBusy, bytes: usize) -> Result<(), Problem> {
        let queued_bytes: usize = self.queue.iter().map(|queued| queued.bytes).sum();
        let why = if on_busy == OnBusy::Reject {
            "a run is going; wait for its end, or send with on_busy \"queue\" or \"interrupt\""
        } else if self.queue.len() >= MAX_QUEUE || queued_bytes + bytes > MAX_QUEUE_BYTES {
            "the queue is full; wait for a run to end, or clear the queue"
        } else {
            return Ok(());
        };
        Err(Problem::new(ErrorCode::Busy, why).with(serde_json::json!({ "queued": self.queue.len() })))
    }

    /// Interrupting messages go before the others, each kind in its order.
    fn enqueue(&mut self, message: QueuedMessage) {
        let firsts = self.queue.iter().take_while(|other| other.first).count();
        let place = if message.first { firsts } else { self.queue.len() };
        self.queue.insert(place, message);
    }

    /// A message that waits is in the log.
    fn queued(&mut self, run_id: RunId, ctx: &mut Context<Self>) {
        let Some(queued) = self.queue.iter_mut().find(|queued| queued.run_id == run_id) else { return };
        let in_vain = queued.state == QueueState::AppendingInVain;
        queued.state = QueueState::Waiting;
        if in_vain {
            self.clear(&[run_id], ctx);
        }
    }

    fn stop_run(
        &mut self,
        run_id: Option<RunId>,
        clear_queue: bool,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        let current = self.current_run();
        match (run_id, current) {
            (None, Some(_)) => {}
            (Some(wanted), Some(current)) if wanted == current => {}
            (None, None) => {
                return reply.refuse(Problem::new(ErrorCode::Conflict, "no run is going"));
            }
            (Some(wanted), _) => return self.stop_other(wanted, reply, ctx),
        }
        if clear_queue {
            let run_ids: Vec<_> = self.queue.iter().map(|queued| queued.run_id).collect();
            self.clear(&run_ids, ctx);
        }
        self.stops.push(reply);
        self.feed([Input::Stop(EndReason::Stopped)], Permits::default(), ctx);
    }

    /// Stops a run that is not the current one: a message that waits is taken from the queue.
    fn stop_other(&mut self, run_id: RunId, reply: ReplyTo, ctx: &mut Context<Self>) {
        let details = serde_json::json!({ "run_id": run_id });
        match self.queue.iter_mut().find(|queued| queued.run_id == run_id) {
            Some(queued) if queued.state == QueueState::Waiting => {
                queued.state = QueueState::Clearing;
                let entries = vec![never_began(run_id, EndReason::Cleared)];
                let done = Done::Stopped { outcome: Outcome::Cancelled };
                self.commit(entries, vec![(reply, done)], ctx, move |agent, _| {
                    agent.queue.retain(|queued| queued.run_id != run_id);
                });
            }
            Some(_) => {
                reply.refuse(Problem::new(ErrorCode::Conflict, "the run is being cleared").with(details))
            }
            None => {
                let ended = self.store.has_ended(&self.session_id, run_id);
                ctx.spawn(ended.into_actor(self).map(move |ended, _, _| {
                    reply.refuse(match ended {
                        Ok(true) => Problem::new(ErrorCode::Conflict, "the run has ended").with(details),
                        Ok(false) => Problem::run_not_found(run_id),
                        Err(error) => error.unreadable(),
                    });
                }));
            }
        }
    }

    /// Takes messages from the queue: those that are in the log now, the others once they are.
    fn clear(&mut self, run_ids: &[RunId], ctx: &mut Context<Self>) {
        let mut entries = Vec::new();
        for queued in self.queue.iter_mut().filter(|queued| run_ids.contains(&queued.run_id)) {
            match queued.state {
                QueueState::Appending => queued.state = QueueState::AppendingInVain,
                QueueState::Waiting => {
                    queued.state = QueueState::Clearing;
                    entries.push((queued.run_id, never_began(queued.run_id, EndReason::Cleared)));
                }
                QueueState::AppendingInVain | QueueState::Clearing => {}
            }
        }
        if entries.is_empty() {
            return;
        }
        let (cleared, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        self.commit(entries, Vec::new(), ctx, move |agent, _| {
            agent.queue.retain(|queued| !cleared.contains(&queued.run_id));
        });
    }

    fn rename(&mut self, title: String, reply: ReplyTo, ctx: &mut Context<Self>) {
        let entries = vec![Durable::SessionUpdated { title }.into()];
        let commands = reply.remember(Done::Noted).into_iter().collect();
        self.publish(entries, commands, ctx, |_, outcome, _| match outcome {
            Ok(_) => reply.done(Done::Noted),
            Err(failed) => refuse_failed(reply, failed.error),
        });
    }

    fn close(&mut self, closing: Closing, ctx: &mut Context<Self>) {
        self.closing = Some(closing);
        self.closed = true;
        self.feed([Input::Stop(EndReason::Closed)], Permits::default(), ctx);
        self.move_on(ctx);
    }

    /// Closes the session, once nothing of it is under way.
    fn end_session(&mut self, closing: Closing, ctx: &mut Context<Self>) {
        let Closing { reason, replaced_by, reply } = closing;
        let mut entries: Vec<_> =
            self.queue.iter().map(|queued| never_began(queued.run_id, EndReason::Closed)).collect();
        if self.state.record.task.as_ref().is_some_and(|task| !task.status.has_ended()) {
            entries.push(Durable::Task(Box::new(TaskChange::Cancelled)).into());
        }
        entries.push(Durable::SessionClosed { reason, replaced_by }.into());
        let commands = reply.remember(Done::Noted).into_iter().collect();
        self.publish(entries, commands, ctx, move |agent, outcome, ctx| match outcome {
            Ok(_) => {
                agent.queue.clear();
                agent.release_slot(Ok(()));
                reply.done(Done::Noted);
                for reply in agent.closing_too.drain(..) {
                    reply.refuse(Problem::session_closed(&agent.session_id));
                }
                ctx.stop();
            }
            Err(failed) => {
                // It stays open, and goes on with what waits.
                agent.closed = false;
                agent.enqueue_task(true);
                agent.refuse_waiting(Vec::new());
                refuse_failed(reply, failed.error);
            }
        });
    }

    // ---- the run ----

    /// Gives inputs to the run and does what it decides; `permits` go with what is shown of it.
    fn feed(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        mut permits: Permits,
        ctx: &mut Context<Self>,
    ) {
        let Some(run_id) = self.run.as_ref().map(Run::id) else { return };
        let mut inputs: VecDeque<_> = inputs.into_iter().collect();
        let mut shown = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let Some(run) = &mut self.run else { break };
            for effect in run.handle(input, Instant::now().into_std()) {
                if let Effect::Show(event) = effect {
                    shown.push(event);
                    continue;
                }
                self.show(run_id, &mut shown, &mut permits);
                match effect {
                    Effect::Show(_) => {}
                    Effect::CallModel => {
                        if let Some(input) = self.call_model(run_id, ctx) {
                            inputs.push_front(input);
                        }
                    }
                    Effect::Save { message_id, text } => self.save(run_id, message_id, text, ctx),
                    Effect::Remind(after) => self.remind(run_id, after, ctx),
                    Effect::CallTools(calls) => self.call_tools(run_id, calls, ctx),
                    Effect::DropModel | Effect::DropTools => self.drop_work(ctx),
                    Effect::Paused => self.paused(ctx),
                    Effect::Append(entries) => {
                        let changes_state =
                            entries.iter().any(|entry| matches!(entry.body, Durable::StatePatched { .. }));
                        self.commit(entries, Vec::new(), ctx, move |agent, ctx| {
                            if changes_state {
                                agent.changed(ctx);
                            }
                            agent.feed([Input::Committed], Permits::default(), ctx);
                        });
                    }
                    Effect::End(entries, outcome) => self.end_run(entries, outcome, ctx),
                    Effect::Finished(outcome) => self.finished(run_id, outcome, ctx),
                }
            }
        }
        self.show(run_id, &mut shown, &mut permits);
    }

    /// Gives an input to a run, if it is still the one that goes.
    fn feed_run(&mut self, run_id: RunId, input: Input, ctx: &mut Context<Self>) {
        if self.run.as_ref().map(Run::id) == Some(run_id) {
            self.feed([input], Permits::default(), ctx);
        }
    }

    /// Reminds the run of something after a time. One reminder at a time: each that waits costs every wake-up
    /// of the actor.
    fn remind(&mut self, run_id: RunId, after: Duration, ctx: &mut Context<Self>) {
        self.forget_reminder(ctx);
        let reminder = ctx.run_later(after, move |agent, ctx| {
            agent.reminder = None;
            agent.feed_run(run_id, Input::Reminded, ctx);
        });
        self.reminder = Some(reminder);
    }

    fn forget_reminder(&mut self, ctx: &mut Context<Self>) {
        if let Some(reminder) = self.reminder.take() {
            ctx.cancel_future(reminder);
        }
    }

    /// Saves a piece of what is streaming; deltas do not wait for it.
    fn save(&mut self, run_id: RunId, message_id: MessageId, text: String, ctx: &mut Context<Self>) {
        let checkpoint = Checkpoint { session_id: self.session_id.clone(), run_id, message_id, text };
        let saved = self.bus.save(checkpoint);
        ctx.spawn(saved.into_actor(self).map(move |saved, agent, ctx| {
            let outcome = match saved {
                Ok(Err(error)) => {
                    log::error!("session={} run={run_id}: {error}; the run is ended", agent.session_id);
                    let problem = "the server's store does not take the answer now; try again later";
                    Err(Problem::unavailable(problem))
                }
                // The bus answers everything but by its own end, and with it the process ends.
                Ok(Ok(())) | Err(_) => Ok(()),
            };
            agent.feed_run(run_id, Input::Saved(outcome), ctx);
        }));
    }

    fn show(&self, run_id: RunId, shown: &mut Vec<Ephemeral>, permits: &mut Permits) {
        if !shown.is_empty() {
            self.bus.show(&self.topic, Some(run_id), std::mem::take(shown), std::mem::take(permits));
        }
    }

    /// Appends the end of the run; those who wait for it are remembered in the same transaction.
    fn end_run(&mut self, mut entries: Vec<Entry>, outcome: Outcome, ctx: &mut Context<Self>) {
        // The end of the run stays the last that is said of it.
        let before_end = entries.len().saturating_sub(1);
        let run_id = self.run.as_ref().map(Run::id);
        let task_ends = run_id.and_then(|run_id| self.task_ends(run_id, &entries, outcome));
        let progress = self.held_back_progress(ctx);
        entries.splice(before_end..before_end, progress.into_iter().chain(task_ends));
        let stops = self.stops.drain(..).map(|reply| (reply, Done::Stopped { outcome })).collect();
        self.commit(entries, stops, ctx, move |agent, ctx| {
            agent.feed([Input::Committed], Permits::default(), ctx);
        });
    }

    fn finished(&mut self, run_id: RunId, outcome: Outcome, ctx: &mut Context<Self>) {
        log::info!("session={} run={run_id} ended: {outcome:?}", self.session_id);
        self.run = None;
        self.run_left(run_id);
        self.drop_work(ctx);
        self.forget_reminder(ctx);
        if let Some(profile) = &self.profile {
            self.conversation.trim(profile.card.context_window, profile.answer_tokens());
        }
        let idle = vec![Ephemeral::AgentStatus(AgentStatus::Idle)];
        self.bus.show(&self.topic, Some(run_id), idle, Permits::default());
        // These came when the end was already on its way to the log.
        for reply in std::mem::take(&mut self.stops) {
            self.commit(Vec::new(), vec![(reply, Done::Stopped { outcome })], ctx, |_, _| {});
        }
    }

    fn start_model(
        &mut self,
        run_id: RunId,
        extra: &Extra,
        ctx: &mut Context<Self>,
    ) -> Result<PromptSize, Problem> {
        let Some(profile) = self.profile.clone() else {
            return Err(Problem::agent_gone(&self.session_id.agent_id()));
        };
        let (prompt, size) =
            self.conversation.prompt(profile.card.context_window, profile.answer_tokens(), extra)?;
        let request = ModelRequest {
            model: profile.model.clone(),
            prompt,
            temperature: profile.temperature,
            max_tokens: profile.max_tokens,
            tools: self.toolset().specs(),
        };
        let pace = self.pace.clone();
        let answer = profile
            .provider
            .stream(request)
            .map(Some)
            .chain(futures_util::stream::iter([None]))
            .ready_chunks(MODEL_EVENTS_AT_ONCE)
            .then(move |events| {
                // While this waits, the provider is not read.
                let permits = pace.clone().permits(weight(&events));
                async move { (events, permits.await) }
            });
        self.drop_work(ctx);
        let answer = answer
            .into_actor(self)
            .map(move |(events, permits), agent, ctx| agent.model_said(run_id, events, permits, ctx))
            .finish();
        self.work = Some(ctx.spawn(answer));
        Ok(size)
    }

    /// Takes what a model sent; `None` is the end of its stream.
    fn model_said(
        &mut self,
        run_id: RunId,
        events: Vec<Option<Result<ModelEvent, ModelError>>>,
        permits: Permits,
        ctx: &mut Context<Self>,
    ) {
        if self.run.as_ref().map(Run::id) != Some(run_id) {
            return;
        }
        let mut inputs = Vec::with_capacity(events.len());
        for event in events {
            let (input, last) = match event {
                Some(Ok(ModelEvent::Text(text))) => (Input::Text(text), false),
                Some(Ok(ModelEvent::ToolCall(call))) => {
                    let needs_approval =
                        self.toolset().find(&call.name).is_some_and(|tool| tool.needs_approval);
                    (Input::ToolCall { call, needs_approval }, false)
                }
                Some(Ok(ModelEvent::End { finish_reason, usage, provider_state })) => {
                    (Input::ModelEnded { finish_reason, usage, provider_state }, true)
                }
                Some(Err(error)) => {
                    log::warn!("session={} run={run_id} model failed: {:?}", self.session_id, error.kind);
                    (Input::ModelFailed(error.into()), true)
                }
                None => (Input::ModelFailed(ModelError::cut().into()), true),
            };
            inputs.push(input);
            if last {
                self.drop_work(ctx);
                break;
            }
        }
        self.feed(inputs, permits, ctx);
    }

    /// Drops the model's stream or the tools' calls: that closes their connections.
    fn drop_work(&mut self, ctx: &mut Context<Self>) {
        if let Some(work) = self.work.take() {
            ctx.cancel_future(work);
        }
        self.drop_calls(ctx);
    }

    /// Does what can be done now that something has ended: closes, begins the next run, or leaves.
    fn move_on(&mut self, ctx: &mut Context<Self>) {
        self.next_task_order(ctx);
        if let Some(run) = self.run.as_ref().filter(|run| run.only_waits() && self.closing.is_none()) {
            if self.finishing_up && self.is_quiet() {
                return self.park(ctx);
            }
            if run.is_paused() && !self.finishing_up {
                self.begin_task(ctx);
                return;
            }
        }
        if self.current_run().is_some() {
            return;
        }
        if self.closing.is_some() {
            if self.is_quiet()
                && let Some(closing) = self.closing.take()
            {
                self.end_session(closing, ctx);
            }
            return;
        }
        if self.finishing_up {
            if self.is_quiet() {
                ctx.stop();
            }
            return;
        }
        if self.begin_task(ctx) {
            return;
        }
        let Some(profile) = &self.profile else { return };
        if self.queue.first().is_some_and(|next| next.state == QueueState::Waiting) {
            let run_id = self.queue.remove(0).run_id;
            self.run = Some(profile.starting_run(run_id));
            self.commit(vec![run_started(run_id)], Vec::new(), ctx, |agent, ctx| {
                agent.feed([Input::Committed], Permits::default(), ctx);
            });
        }
    }

    /// Ends the run that the agent before this one left open.
    fn end_orphan(&mut self, run_id: RunId, partial: Option<(MessageId, String)>, ctx: &mut Context<Self>) {
        log::warn!("session={} run={run_id} was left open; it ends as interrupted", self.session_id);
        let model = self.profile.as_ref().map_or("", |profile| &profile.card.model);
        let open_calls = self.conversation.open_calls();
        let mut entries = crashed(run_id, model, partial, open_calls, &self.state.approvals);
        let before_end = entries.len().saturating_sub(1);
        let task_ends = self.task_ends(run_id, &entries, Outcome::Interrupted);
        entries.splice(before_end..before_end, task_ends);
        self.commit(entries, Vec::new(), ctx, move |agent, ctx| {
            agent.orphan = None;
            agent.finished(run_id, Outcome::Interrupted, ctx);
            agent.enqueue_task(false);
        });
    }

    /// Leaves, and its open run to the agent after it.
    fn park(&mut self, ctx: &mut Context<Self>) {
        self.parked = self.current_run().is_some();
        ctx.stop();
    }
}

/// The open run of a session that was left waiting, if it only waits.
fn waiting_run(state: &SessionState, conversation: &Conversation, was_streaming: bool) -> Option<WaitingRun> {
    let run_id = state.run.filter(|_| !was_streaming)?;
    let run = conversation.waiting_run(run_id, &state.approvals)?;
    let task = state.record.task.as_ref().filter(|task| task.run == Some(run_id));
    let is_paused = task.is_some_and(|task| matches!(task.status, TaskStatus::Paused | TaskStatus::Pending));
    (!run.calls.is_empty() || is_paused).then_some(run)
}

fn run_started(run_id: RunId) -> Entry {
    Entry::of_run(run_id, Durable::RunStarted { trigger: Trigger::UserMessage })
}

/// Answers a command whose batch did not get into the log.
pub(super) fn refuse_failed(reply: ReplyTo, error: AppendError) {
    match (error, reply.idempotency()) {
        (AppendError::Duplicate(first), Some(idempotency)) => {
            if first.digest == idempotency.digest {
                reply.repeat(first.done);
            } else {
                let problem = different_command(&idempotency.key.command_id);
                reply.refuse(problem);
            }
        }
        (AppendError::Full, _) => {
            reply.refuse(Problem::unavailable(
                "the server's store is full; close sessions, or try again later",
            ));
        }
        (AppendError::Failed(error), _) => {
            // The store itself has said so, once for all that it refuses.
            log::debug!("a command could not be stored: {error}");
            reply.refuse(Problem::unavailable(STORE_REFUSES));
        }
        (error, _) => {
            log::error!("a command could not be stored: {error}");
            reply.refuse(Problem::unavailable(STORE_REFUSES));
        }
    }
}

/// What a piece of an answer comes to as events.
fn weight(events: &[Option<Result<ModelEvent, ModelError>>]) -> usize {
    const EACH: usize = 320;
    let texts = events.iter().map(|event| match event {
        Some(Ok(ModelEvent::Text(text))) => text.len(),
        _ => 0,
    });
    texts.sum::<usize>() + EACH * events.len()
}

impl Actor for Agent {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(run_id) = self.orphan else {
            self.enqueue_task(false);
            let pause = self.is_task_pausing().then_some(Input::Pause);
            self.feed([Input::Restored].into_iter().chain(pause), Permits::default(), ctx);
            return self.move_on(ctx);
        };
        // Commands wait for this one short question: where only the agent died, the bus has all of the text.
        let open_message = self.bus.ask(GetOpenMessage { topic: self.topic.clone() });
        ctx.wait(open_message.into_actor(self).then(move |open, agent, ctx| {
            let partial = open.ok().flatten().or(agent.partial.take());
            agent.end_orphan(run_id, partial, ctx);
            fut::ready(())
        }));
    }
}

impl Drop for Agent {
    #[expect(clippy::disallowed_methods, reason = "one an agent, and without it the session would hang")]
    fn drop(&mut self) {
        let run_open = self.current_run().is_some() && !self.parked;
        if !run_open {
            self.bus.notify(Release { topic: self.topic.clone() });
        }
        // Otherwise the bus keeps what was streaming, for the agent that will close the run.
        self.manager.do_send(AgentEnded { session_id: self.session_id.clone(), run_open });
    }
}

impl Handler<Carry> for Agent {
    type Result = ();

    fn handle(&mut self, Carry { caller, order, reply }: Carry, ctx: &mut Self::Context) {
        if self.outgoing.is_refused() {
            return reply.refuse(Problem::unavailable(STORE_REFUSES));
        }
        if self.closed {
            return match order {
                // Whoever goes on from there must know that it is closed, not only that it will be.
                Order::Close { .. } => self.closing_too.push(reply),
                _ => reply.refuse(Problem::session_closed(&self.session_id)),
            };
        }
        match order {
            Order::SendMessage { content, on_busy } => {
                self.send_message(caller, content, on_busy, reply, ctx)
            }
            Order::StopRun { run_id, clear_queue } => self.stop_run(run_id, clear_queue, reply, ctx),
            Order::Rename { title } => self.rename(title, reply, ctx),
            Order::SettleApproval { tool_call_id, decision, reason, args } => {
                let settlement = Settlement { tool_call_id, decision, reason, args };
                self.settle(caller, settlement, reply, ctx);
            }
            Order::UpdateState { patch, if_version } => self.update_state(patch, if_version, reply, ctx),
            Order::Task(order) => self.order_task(order, reply, ctx),
            Order::Close { reason, replaced_by } => self.close(Closing { reason, replaced_by, reply }, ctx),
        }
    }
}

impl Handler<Retire> for Agent {
    type Result = MessageResult<Retire>;

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) -> Self::Result {
        let idle = self.is_idle();
        if idle {
            self.park(ctx);
        }
        MessageResult(idle)
    }
}

impl Handler<FinishUp> for Agent {
    type Result = ();

    fn handle(&mut self, _: FinishUp, ctx: &mut Self::Context) {
        self.finishing_up = true;
        self.move_on(ctx);
    }
}

impl Handler<Interrupt> for Agent {
    type Result = ();

    fn handle(&mut self, _: Interrupt, ctx: &mut Self::Context) {
        self.feed([Input::Stop(EndReason::Shutdown)], Permits::default(), ctx);
    }
}
