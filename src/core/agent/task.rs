//! The task that a session was made for: begun when it is its turn, paused, resumed, cancelled.

use actix::Context;

use super::{Agent, refuse_failed};
use crate::core::{
    command::{Done, ReplyTo},
    error::{ErrorCode, Problem},
    event::{Durable, EndReason, Entry, Outcome, Queued, TaskChange, Trigger},
    ids::{MessageId, RunId},
    pace::Permits,
    ports::{PageLimit, ReadFrom, StoreError},
    run::Input,
    session::{TaskRecord, TaskStatus},
    tasks::Enqueue,
};
use actix::{ActorFutureExt, AsyncContext, WrapFuture};

impl Agent {
    fn task(&self) -> Result<&TaskRecord, Problem> {
        self.state.record.task.as_deref().ok_or_else(|| Problem::task_not_found(self.session_id.as_str()))
    }

    /// The task's run that is going, or waits.
    pub(super) fn task_run(&self) -> Option<RunId> {
        let run = self.state.record.task.as_ref()?.run?;
        (self.current_run() == Some(run)).then_some(run)
    }

    /// Has the task run when it is its turn.
    #[expect(clippy::disallowed_methods, reason = "one a task, and without it the task would never run")]
    pub(super) fn enqueue_task(&self) {
        if self.state.record.task.as_ref().is_some_and(|task| task.status.is_active()) {
            let (session_id, owner) = (self.session_id.clone(), self.state.record.owner.clone());
            self.tasks.do_send(Enqueue { session_id, owner });
        }
    }

    /// It is the task's turn; answered when it needs its place no longer.
    pub(super) fn run_task(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
        match self.task() {
            Err(problem) => reply.refuse(problem),
            Ok(task) if !task.status.is_active() => {
                reply.refuse(conflict(task.status, "does not wait for its turn"));
            }
            Ok(task) if self.slot.is_some() => reply.refuse(conflict(task.status, "has its turn already")),
            Ok(_) => {
                self.slot = Some(reply);
                self.move_on(ctx);
            }
        }
    }

    /// Begins the task's run, if it is its turn and no other run is going; whether it does.
    pub(super) fn begin_task(&mut self, ctx: &mut Context<Self>) -> bool {
        let Some(profile) = self.profile.clone() else {
            let gone = Problem::agent_gone(&self.session_id.agent_id());
            if self.slot.is_some() && !self.beginning_task {
                self.end_task(TaskChange::Failed { problem: gone }, ctx);
            }
            return false;
        };
        let Ok(task) = self.task() else { return false };
        if self.slot.is_none() || self.beginning_task || !task.status.is_active() {
            return false;
        }
        let (status, is_first) = (task.status, task.started_at.is_none());
        self.beginning_task = true;
        let started = (status == TaskStatus::Pending).then(|| Durable::Task(Box::new(TaskChange::Started)));
        if self.task_run().is_some() {
            if started.is_none() {
                // It goes on by itself, once somebody has allowed a call.
                self.beginning_task = false;
                return false;
            }
            // It waits at a step where it was paused.
            self.commit(started.map(Entry::from).into_iter().collect(), Vec::new(), ctx, |agent, ctx| {
                agent.beginning_task = false;
                agent.feed([Input::Resume], Permits::default(), ctx);
            });
            return true;
        }
        let run_id = RunId::new();
        let mut entries: Vec<_> = started.map(Entry::from).into_iter().collect();
        self.run = Some(profile.starting_run(run_id));
        if is_first {
            self.begin_first_run(run_id, entries, ctx);
            return true;
        }
        entries.push(Entry::of_run(run_id, Durable::RunStarted { trigger: Trigger::Resumed }));
        self.commit(entries, Vec::new(), ctx, |agent, ctx| agent.task_began(ctx));
        true
    }

    /// The input is read from the log: the record has only its beginning.
    fn begin_first_run(&mut self, run_id: RunId, mut entries: Vec<Entry>, ctx: &mut Context<Self>) {
        let (store, topic) = (self.store.clone(), self.topic.clone());
        let input = async move {
            const PAGE: PageLimit = PageLimit { events: 64, bytes: 1024 * 1024 };
            let mut after = 0;
            loop {
                let page = store.read(&topic, ReadFrom::After(after), PAGE).await?;
                let events = page.map_or_else(Vec::new, |page| page.events);
                let Some(last) = events.last() else {
                    return Err(StoreError("the task's input is not in its log".to_owned()));
                };
                after = last.seq();
                let input = events.iter().find_map(|event| match event.as_durable()? {
                    Durable::Task(change) => match change.as_ref() {
                        TaskChange::Created { input, .. } => Some(input.clone()),
                        _ => None,
                    },
                    _ => None,
                });
                if let Some(input) = input {
                    return Ok(input);
                }
            }
        };
        ctx.spawn(input.into_actor(self).map(move |input, agent, ctx| {
            let content = match input {
                Ok(input) => input,
                Err(error) => {
                    // Whoever gave the turn gives it again.
                    agent.run = None;
                    agent.beginning_task = false;
                    agent.release_slot(Err(error.unreadable()));
                    let problem = Problem::unavailable("the run that was to be stopped did not begin");
                    agent.stops.drain(..).for_each(|stop| stop.refuse(problem.clone()));
                    return agent.move_on(ctx);
                }
            };
            let message = Durable::UserMessage {
                message_id: MessageId::new(),
                command_id: None,
                content,
                author: agent.state.record.owner.clone(),
                queue: Queued::No,
            };
            entries.push(Entry::of_run(run_id, message));
            entries.push(Entry::of_run(run_id, Durable::RunStarted { trigger: Trigger::Task }));
            agent.commit(entries, Vec::new(), ctx, |agent, ctx| agent.task_began(ctx));
        }));
    }

    fn task_began(&mut self, ctx: &mut Context<Self>) {
        self.beginning_task = false;
        let pausing = self.task().is_ok_and(|task| task.pausing);
        self.feed([Input::Committed, Input::Pause(pausing)], Permits::default(), ctx);
    }

    /// What becomes of the task with the end of its run, for the same batch.
    pub(super) fn task_ends(&mut self, entries: &[Entry], outcome: Outcome) -> Option<Entry> {
        let run_id = self.task_run()?;
        let change = match outcome {
            Outcome::Completed => TaskChange::Completed,
            Outcome::Cancelled => TaskChange::Cancelled,
            Outcome::Failed => TaskChange::Failed { problem: why_failed(entries) },
            // It goes on when the server is there again.
            Outcome::Interrupted => return None,
        };
        Some(Entry::of_run(run_id, Durable::Task(Box::new(change))))
    }

    /// The same for a run that was cut by a crash: where a tool may or may not have done something, the task does
    /// not do it again.
    pub(super) fn task_crashed(&self, run_id: RunId, outcome_unknown: bool) -> Option<Entry> {
        let task = self.state.record.task.as_ref().filter(|task| task.run == Some(run_id))?;
        let change = if outcome_unknown {
            let message = "the server stopped while a tool was at work; whether it did anything is unknown, so the \
                           task was not resumed. Look, and create it again";
            TaskChange::Failed { problem: Problem::new(ErrorCode::Interrupted, message) }
        } else if task.pausing {
            TaskChange::Paused
        } else {
            return None;
        };
        Some(Entry::of_run(run_id, Durable::Task(Box::new(change))))
    }

    /// The run has reached a step where it waits.
    pub(super) fn paused(&mut self, ctx: &mut Context<Self>) {
        let entry = self
            .current_run()
            .map(|run_id| Entry::of_run(run_id, Durable::Task(Box::new(TaskChange::Paused))));
        let held_back = self.held_back_progress(ctx);
        let entries = held_back.into_iter().chain(entry).collect();
        self.commit(entries, Vec::new(), ctx, |agent, _| agent.release_slot(Ok(())));
    }

    /// The task needs its place among those that run no longer.
    pub(super) fn release_slot(&mut self, outcome: Result<(), Problem>) {
        if let Some(slot) = self.slot.take() {
            match outcome {
                Ok(()) => slot.done(Done::Noted),
                Err(problem) => slot.refuse(problem),
            }
        }
    }

    // ---- commands ----

    pub(super) fn rename_task(&mut self, name: String, reply: ReplyTo, ctx: &mut Context<Self>) {
        if let Err(problem) = self.task() {
            return reply.refuse(problem);
        }
        let renamed = TaskChange::Renamed { name: name.clone() };
        let entries =
            vec![Durable::Task(Box::new(renamed)).into(), Durable::SessionUpdated { title: name }.into()];
        self.note(entries, reply, ctx, |_, _| {});
    }

    /// Takes effect at the next step; at once where the task has no run that is going.
    pub(super) fn pause_task(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
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
        let is_going =
            self.beginning_task || (task.status == TaskStatus::Running && self.task_run().is_some());
        if is_going {
            let entries = vec![Durable::Task(Box::new(TaskChange::Pausing)).into()];
            return self.note(entries, reply, ctx, |agent, ctx| {
                agent.feed([Input::Pause(true)], Permits::default(), ctx);
            });
        }
        let entries = vec![Durable::Task(Box::new(TaskChange::Paused)).into()];
        self.note(entries, reply, ctx, |agent, _| agent.release_slot(Ok(())));
    }

    pub(super) fn resume_task(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
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
        let entries = vec![Durable::Task(Box::new(TaskChange::Resumed)).into()];
        self.note(entries, reply, ctx, |agent, _| agent.enqueue_task());
    }

    pub(super) fn cancel_task(&mut self, reply: ReplyTo, ctx: &mut Context<Self>) {
        let task = match self.task() {
            Ok(task) => task,
            Err(problem) => return reply.refuse(problem),
        };
        if task.status.has_ended() {
            return reply.refuse(conflict(task.status, "has ended"));
        }
        if self.task_run().is_some() || self.beginning_task {
            self.stops.push(reply);
            return self.feed([Input::Stop(EndReason::Stopped)], Permits::default(), ctx);
        }
        let entries = vec![Durable::Task(Box::new(TaskChange::Cancelled)).into()];
        self.note(entries, reply, ctx, |agent, _| agent.release_slot(Ok(())));
    }

    /// Ends a task that has no run, whatever the store says to it now.
    fn end_task(&mut self, change: TaskChange, ctx: &mut Context<Self>) {
        self.beginning_task = true;
        self.commit(vec![Durable::Task(Box::new(change)).into()], Vec::new(), ctx, |agent, _| {
            agent.beginning_task = false;
            agent.release_slot(Ok(()));
        });
    }

    /// Publishes what a command asks for, and answers it; `then` only if it is in the log.
    fn note(
        &mut self,
        entries: Vec<Entry>,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        let commands = reply.remember(Done::Noted).into_iter().collect();
        self.publish(entries, commands, ctx, move |agent, outcome, ctx| match outcome {
            Ok(_) => {
                reply.done(Done::Noted);
                then(agent, ctx);
            }
            Err(failed) => refuse_failed(reply, failed.error),
        });
    }
}

fn conflict(status: TaskStatus, why: &str) -> Problem {
    let status = match status {
        TaskStatus::Pending => "pending",
        TaskStatus::Running => "running",
        TaskStatus::Paused => "paused",
        TaskStatus::Completed => "completed",
        TaskStatus::Failed => "failed",
        TaskStatus::Cancelled => "cancelled",
    };
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
