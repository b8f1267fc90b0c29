//! The task that a session was made for: begun when it is its turn, paused, resumed, cancelled.
//!
//! What is asked of a task is judged by what is in the log: while a change of it is on its way there, further
//! orders wait.

use std::collections::VecDeque;

use actix::Context;

use super::{Agent, refuse_failed};
use crate::core::{
    command::{Done, ReplyTo},
    error::{ErrorCode, Problem},
    event::{Durable, EndReason, Entry, Outcome, Queued, TaskChange, Trigger},
    ids::{MessageId, RunId},
    pace::Permits,
    run::{Input, Run, is_unknown},
    session::{TaskRecord, TaskStatus},
    tasks::Enqueue,
};

/// Something that is asked of a task.
#[derive(Debug)]
pub enum TaskOrder {
    /// It is its turn; answered when it needs its place no longer.
    Run,
    Rename {
        name: String,
    },
    Pause,
    Resume,
    Cancel,
}

/// How an agent stands with its session's task.
#[derive(Default)]
pub(super) struct Tasking {
    /// The task has its turn; this is who gave it.
    slot: Option<ReplyTo>,
    /// Changes of the task that are on their way to the log.
    changing: usize,
    /// Bounded by what sockets have in flight, and by requests, each of which is a connection.
    orders: VecDeque<(TaskOrder, ReplyTo)>,
}

impl Tasking {
    pub(super) fn is_idle(&self) -> bool {
        self.slot.is_none() && self.changing == 0 && self.orders.is_empty()
    }
}

impl Agent {
    fn task(&self) -> Result<&TaskRecord, Problem> {
        self.state.record.task.as_deref().ok_or_else(|| Problem::task_not_found(self.session_id.as_str()))
    }

    /// The task's run that is going, or waits.
    fn task_run(&self) -> Option<&Run> {
        let task = self.state.record.task.as_ref()?;
        self.run.as_ref().filter(|run| Some(run.id()) == task.run)
    }

    /// Has the task run when it is its turn. It may have been asked for anew, or just been found in the log.
    #[expect(clippy::disallowed_methods, reason = "one a task, and without it the task would never run")]
    pub(super) fn enqueue_task(&self, anew: bool) {
        if self.state.record.task.as_ref().is_some_and(|task| task.status.is_active()) {
            let (session_id, owner) = (self.session_id.clone(), self.state.record.owner.clone());
            self.tasks.do_send(Enqueue { session_id, owner, anew });
        }
    }

    // ---- orders ----

    pub(super) fn order_task(&mut self, order: TaskOrder, reply: ReplyTo, ctx: &mut Context<Self>) {
        self.tasking.orders.push_back((order, reply));
        self.next_task_order(ctx);
    }

    /// Carries out what waits, up to something that must get into the log first.
    pub(super) fn next_task_order(&mut self, ctx: &mut Context<Self>) {
        while self.tasking.changing == 0
            && self.orphan.is_none()
            && self.task_run().is_none_or(|run| run.ending().is_none())
            && let Some((order, reply)) = self.tasking.orders.pop_front()
        {
            match order {
                TaskOrder::Run => self.run_task(reply, ctx),
                TaskOrder::Rename { name } => self.rename_task(name, reply, ctx),
                TaskOrder::Pause => self.pause_task(reply, ctx),
                TaskOrder::Resume => self.resume_task(reply, ctx),
                TaskOrder::Cancel => self.cancel_task(reply, ctx),
            }
        }
    }

    fn run_task(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
        match self.task() {
            Err(problem) => reply.refuse(problem),
            Ok(task) if !task.status.is_active() => {
                reply.refuse(conflict(task.status, "does not wait for its turn"));
            }
            Ok(task) if self.tasking.slot.is_some() => {
                reply.refuse(conflict(task.status, "has its turn already"));
            }
            Ok(_) => {
                self.tasking.slot = Some(reply);
                self.move_on(ctx);
            }
        }
    }

    fn rename_task(&mut self, name: String, reply: ReplyTo, ctx: &mut Context<Self>) {
        if let Err(problem) = self.task() {
            return reply.refuse(problem);
        }
        let renamed = Durable::SessionUpdated { title: name.clone() };
        let entries = vec![task_entry(TaskChange::Renamed { name }), renamed.into()];
        self.note(entries, reply, ctx, |_, _| {});
    }

    /// Takes effect at the next step; at once where the task has no run that is going.
    fn pause_task(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
        let task = match self.task() {
            Ok(task) => task,
            Err(problem) => return reply.refuse(problem),
        };
        if !task.status.is_active() {
            return reply.refuse(conflict(task.status, "cannot be paused"));
        }
        if task.pausing {
            return self.note(Vec::new(), reply, ctx, |_, _| {});
        }
        if task.status == TaskStatus::Running && self.task_run().is_some() {
            let entries = vec![task_entry(TaskChange::Pausing)];
            return self.note(entries, reply, ctx, |agent, ctx| {
                agent.feed([Input::Pause], Permits::default(), ctx);
            });
        }
        let entries = vec![task_entry(TaskChange::Paused)];
        self.note(entries, reply, ctx, |agent, _| agent.release_slot(Ok(())));
    }

    fn resume_task(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
        let task = match self.task() {
            Ok(task) => task,
            Err(problem) => return reply.refuse(problem),
        };
        if task.pausing {
            let problem = "the task is still on its way to its next step; resume it once it is paused";
            return reply.refuse(Problem::new(ErrorCode::Conflict, problem));
        }
        if task.status != TaskStatus::Paused {
            return reply.refuse(conflict(task.status, "is not paused"));
        }
        let entries = vec![task_entry(TaskChange::Resumed)];
        self.note(entries, reply, ctx, |agent, _| agent.enqueue_task(true));
    }

    fn cancel_task(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
        let task = match self.task() {
            Ok(task) => task,
            Err(problem) => return reply.refuse(problem),
        };
        if task.status.has_ended() {
            return reply.refuse(conflict(task.status, "has ended"));
        }
        if self.task_run().is_some() {
            self.stops.push(reply);
            return self.feed([Input::Stop(EndReason::Stopped)], Permits::default(), ctx);
        }
        let entries = vec![task_entry(TaskChange::Cancelled)];
        self.note(entries, reply, ctx, |agent, _| agent.release_slot(Ok(())));
    }

    /// Publishes what an order asks for, and answers it; `then` only if it is in the log.
    fn note(
        &mut self,
        entries: Vec<Entry>,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        self.tasking.changing += 1;
        let commands = reply.remember(Done::Noted).into_iter().collect();
        self.publish(entries, commands, ctx, move |agent, outcome, ctx| {
            agent.tasking.changing -= 1;
            match outcome {
                Ok(_) => {
                    reply.done(Done::Noted);
                    then(agent, ctx);
                }
                Err(failed) => refuse_failed(reply, failed.error),
            }
        });
    }

    // ---- its run ----

    /// Begins the task's run, or goes on with it, if it is its turn and no other run is going; whether it does.
    pub(super) fn begin_task(&mut self, ctx: &mut Context<Self>) -> bool {
        if self.tasking.slot.is_none() || self.tasking.changing > 0 || !self.tasking.orders.is_empty() {
            return false;
        }
        let Ok(task) = self.task() else { return false };
        if !task.status.is_active() {
            return false;
        }
        let Some(profile) = self.profile.clone() else {
            self.fail_task(Problem::agent_gone(&self.session_id.agent_id()), ctx);
            return false;
        };
        let started = (task.status == TaskStatus::Pending).then(|| task_entry(TaskChange::Started));
        if self.task_run().is_some() {
            // One that does not wait at a step goes on by itself, once somebody has allowed a call.
            if let Some(started) = started {
                self.begin(vec![started], Input::Resume, ctx);
                return true;
            }
            return false;
        }
        let run_id = RunId::new();
        let mut entries: Vec<_> = started.into_iter().collect();
        let trigger = match self.conversation.task_input().filter(|_| task.started_at.is_none()) {
            Some(input) => {
                let message = Durable::UserMessage {
                    message_id: MessageId::new(),
                    command_id: None,
                    content: input.to_owned(),
                    author: self.state.record.owner.clone(),
                    queue: Queued::No,
                };
                entries.push(Entry::of_run(run_id, message));
                Trigger::Task
            }
            None => Trigger::Resumed,
        };
        entries.push(Entry::of_run(run_id, Durable::RunStarted { trigger }));
        self.run = Some(profile.starting_run(run_id));
        self.begin(entries, Input::Committed, ctx);
        true
    }

    /// Publishes the beginning of the task's run, and tells the run. One that the store refuses never was: it
    /// will have another turn.
    fn begin(&mut self, entries: Vec<Entry>, then: Input, ctx: &mut Context<Self>) {
        self.tasking.changing += 1;
        self.publish(entries, Vec::new(), ctx, move |agent, outcome, ctx| {
            agent.tasking.changing -= 1;
            match outcome {
                Ok(_) => agent.feed([then], Permits::default(), ctx),
                Err(failed) => {
                    if matches!(then, Input::Committed) {
                        agent.run = None;
                    }
                    log::warn!("task={} did not begin: {}", agent.session_id, failed.error);
                    let problem = Problem::unavailable("the run that was to be stopped did not begin");
                    agent.stops.drain(..).for_each(|stop| stop.refuse(problem.clone()));
                    agent.release_slot(Err(problem));
                }
            }
        });
    }

    /// Ends a task that has no run.
    fn fail_task(&mut self, problem: Problem, ctx: &mut Context<Self>) {
        self.tasking.changing += 1;
        self.commit(vec![task_entry(TaskChange::Failed { problem })], Vec::new(), ctx, |agent, _| {
            agent.tasking.changing -= 1;
            agent.release_slot(Ok(()));
        });
    }

    /// What becomes of the task with the end of this run, for the same batch.
    pub(super) fn task_ends(&self, run_id: RunId, entries: &[Entry], outcome: Outcome) -> Option<Entry> {
        let task = self.state.record.task.as_ref().filter(|task| task.run == Some(run_id))?;
        let change = match outcome {
            Outcome::Completed => TaskChange::Completed,
            Outcome::Cancelled => TaskChange::Cancelled,
            Outcome::Failed => TaskChange::Failed { problem: why_failed(entries) },
            // What a tool may have done is not done again.
            Outcome::Interrupted if entries.iter().any(is_unknown) => TaskChange::Failed {
                problem: Problem::new(
                    ErrorCode::Interrupted,
                    "the server stopped while a tool was at work; whether it did anything is unknown, so the task \
                     does not go on. Look, and create it again",
                ),
            },
            Outcome::Interrupted if task.pausing => TaskChange::Paused,
            // It goes on when the server is there again.
            Outcome::Interrupted => return None,
        };
        Some(Entry::of_run(run_id, Durable::Task(Box::new(change))))
    }

    /// The task is to wait at its next step: a run that was made anew of the log does not know.
    pub(super) fn is_task_pausing(&self) -> bool {
        self.task_run().is_some() && self.task().is_ok_and(|task| task.pausing)
    }

    /// The run has reached a step where it waits.
    pub(super) fn paused(&mut self, ctx: &mut Context<Self>) {
        let paused = self.current_run().map(|run_id| {
            let paused = Durable::Task(Box::new(TaskChange::Paused));
            Entry::of_run(run_id, paused)
        });
        let held_back = self.held_back_progress(ctx);
        self.tasking.changing += 1;
        self.commit(held_back.into_iter().chain(paused).collect(), Vec::new(), ctx, |agent, _| {
            agent.tasking.changing -= 1;
            agent.release_slot(Ok(()));
        });
    }

    /// A run has ended; if it was the task's, the task needs its place no longer.
    pub(super) fn run_left(&mut self, run_id: RunId) {
        if self.state.record.task.as_ref().is_some_and(|task| task.run == Some(run_id)) {
            self.release_slot(Ok(()));
        }
    }

    pub(super) fn release_slot(&mut self, outcome: Result<(), Problem>) {
        if let Some(slot) = self.tasking.slot.take() {
            match outcome {
                Ok(()) => slot.done(Done::Noted),
                Err(problem) => slot.refuse(problem),
            }
        }
    }
}

fn task_entry(change: TaskChange) -> Entry {
    Durable::Task(Box::new(change)).into()
}

fn conflict(status: TaskStatus, why: &str) -> Problem {
    let status = status.name();
    Problem::new(ErrorCode::Conflict, format!("the task is {status}: it {why}"))
        .with(serde_json::json!({ "status": status }))
}

/// What the run's `error` event says.
fn why_failed(entries: &[Entry]) -> Problem {
    let problems = entries.iter().rev().filter_map(|entry| match &entry.body {
        Durable::Error { problem } => Some(problem.as_ref().clone()),
        _ => None,
    });
    problems.into_iter().next().unwrap_or_else(Problem::internal)
}
