//! What an agent does beside talking: calls tools, waits for people to allow them, changes the shared document.

use std::collections::VecDeque;

use actix::{ActorFutureExt, ActorStreamExt, AsyncContext, Context, SpawnHandle, WrapFuture, WrapStream};
use futures_util::{FutureExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Agent, refuse_failed};
use crate::core::{
    bus::poll_once,
    command::{Caller, Done, ReplyTo},
    conversation::{Extra, estimate_tokens},
    error::{ErrorCode, Problem},
    event::{Decision, Durable, Entry, Progress, json_bytes},
    ids::RunId,
    pace::Permits,
    ports::{ToolCall, ToolOutput},
    run::{Input, MAX_ANSWER_BYTES, Run},
    shared_state::SharedState,
    toolbox::{Toolbox, Toolset},
};

/// How far a task has come is logged this often at most.
const PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// Bytes of what a tool says went wrong that are kept.
const MAX_ERROR_BYTES: usize = 8 * 1024;

/// What an agent has beside its conversation.
#[derive(Default)]
pub(super) struct Acting {
    /// Opened with the first run.
    toolbox: Option<Toolbox>,
    /// Of the present step, or the one before.
    toolset: Option<Toolset>,
    calls: Vec<SpawnHandle>,
    /// Changes of the shared document: each is made to what the one before has left.
    changes: VecDeque<StateChange>,
    /// One is on its way to the log.
    changing: bool,
    progress: Reported,
}

impl Acting {
    /// The clients whose changes of the document wait.
    pub(super) fn give_up_changes(&mut self) -> Vec<ReplyTo> {
        let mut replies = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            match change {
                StateChange::OfClient { reply, .. } => replies.push(reply),
                change @ StateChange::OfTool { .. } => self.changes.push_back(change),
            }
        }
        replies
    }
}

/// What a task's agent has said of how far it has come.
#[derive(Default)]
struct Reported {
    logged: Option<Instant>,
    /// It came too soon after the one before.
    held_back: Option<Progress>,
    timer: Option<SpawnHandle>,
}

/// A wish to change the shared document.
enum StateChange {
    OfClient { patch: Value, if_version: u64, reply: ReplyTo },
    OfTool { run_id: RunId, tool_call_id: String, patch: Value, if_version: Option<u64> },
}

/// An answer about a call that waits for one.
pub(super) struct Settlement {
    pub(super) tool_call_id: String,
    pub(super) decision: Decision,
    pub(super) reason: Option<String>,
    pub(super) args: Option<Value>,
}

impl Agent {
    // ---- tools ----

    /// The tools that there are now.
    pub(super) fn list_tools(&mut self) -> BoxFuture<'static, Toolset> {
        let of_task = self.state.record.task.is_some();
        let Some(profile) = &self.profile else { return std::future::ready(Toolset::default()).boxed() };
        self.acting.toolbox.get_or_insert_with(|| Toolbox::open(profile, of_task)).list().boxed()
    }

    /// Calls the model with the tools that there are; what the run is to be told of that, unless the tools must be
    /// waited for.
    pub(super) fn call_model(&mut self, run_id: RunId, ctx: &mut Context<Self>) -> Option<Input> {
        let mut listing = self.list_tools();
        if let Some(toolset) = poll_once(&mut listing) {
            return Some(self.ask_model(run_id, toolset, ctx));
        }
        self.drop_work(ctx);
        let listed = listing.into_actor(self).map(move |toolset, agent, ctx| {
            agent.work = None;
            if agent.run.as_ref().map(Run::id) == Some(run_id) {
                let input = agent.ask_model(run_id, toolset, ctx);
                agent.feed([input], Permits::default(), ctx);
            }
        });
        self.work = Some(ctx.spawn(listed));
        None
    }

    fn ask_model(&mut self, run_id: RunId, toolset: Toolset, ctx: &mut Context<Self>) -> Input {
        let extra = self.extra(&toolset);
        self.acting.toolset = Some(toolset);
        match self.start_model(run_id, &extra, ctx) {
            Ok(size) => Input::Prompted(size),
            Err(problem) => Input::ModelFailed(problem),
        }
    }

    /// What the model is told beside the conversation: the tools, and the document as it is now.
    fn extra(&self, toolset: &Toolset) -> Extra {
        let shared = &self.state.shared;
        let window = self.profile.as_ref().map_or(0, |profile| profile.card.context_window);
        let system = if shared.version > 0 { told_of(shared, window) } else { String::new() };
        Extra { tokens: estimate_tokens(&system) + toolset.tokens, system }
    }

    pub(super) fn toolset(&self) -> Toolset {
        self.acting.toolset.clone().unwrap_or_default()
    }

    pub(super) fn call_tools(&mut self, run_id: RunId, calls: Vec<ToolCall>, ctx: &mut Context<Self>) {
        // After a restart a run may go on with a call.
        let toolset = match &self.acting.toolset {
            Some(toolset) => std::future::ready(toolset.clone()).boxed(),
            None => self.list_tools(),
        };
        let toolset = toolset.shared();
        let results: FuturesUnordered<_> = calls
            .into_iter()
            .map(|ToolCall { id, name, args, .. }| {
                let toolset = toolset.clone();
                async move {
                    let output = match toolset.await.find(&name) {
                        Some(tool) => tool.source.call(&tool.name, args).await,
                        None => Err(no_such_tool(&name)),
                    };
                    (id, output)
                }
            })
            .collect();
        let results = results.into_actor(self).map(move |(id, output), agent, ctx| {
            agent.tool_returned(run_id, id, output, ctx);
        });
        let handle = ctx.spawn(results.finish());
        self.acting.calls.push(handle);
    }

    /// Gives up on the calls that are being made.
    pub(super) fn drop_calls(&mut self, ctx: &mut Context<Self>) {
        for call in self.acting.calls.drain(..) {
            ctx.cancel_future(call);
        }
    }

    fn tool_returned(
        &mut self,
        run_id: RunId,
        tool_call_id: String,
        output: Result<ToolOutput, Problem>,
        ctx: &mut Context<Self>,
    ) {
        let mut done = Vec::new();
        let outcome = match output {
            Ok(ToolOutput::Value(value)) => Ok(bounded_result(value)),
            Ok(ToolOutput::PatchState { patch, if_version }) => {
                let change = StateChange::OfTool { run_id, tool_call_id, patch, if_version };
                return self.change_state(change, ctx);
            }
            Ok(ToolOutput::Report(progress)) => {
                done.extend(self.report(progress, ctx));
                Ok(json!("noted"))
            }
            Ok(ToolOutput::Suggest(items)) => {
                done.push(Durable::Suggested { items });
                Ok(json!("shown to the user"))
            }
            Err(problem) => Err(bounded_problem(problem)),
        };
        self.feed_run(run_id, Input::ToolEnded { tool_call_id, outcome, done }, ctx);
    }

    // ---- approvals ----

    /// Takes somebody's answer about a call; the first one counts.
    pub(super) fn settle(
        &mut self,
        caller: Caller,
        settlement: Settlement,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        if settlement.args.is_none() {
            return self.settle_checked(caller, settlement, reply, ctx);
        }
        if let Err(problem) = self.find_asked(&settlement.tool_call_id) {
            return reply.refuse(problem);
        }
        if self.acting.toolset.is_some() {
            return self.settle_with_args(caller, settlement, reply, ctx);
        }
        // After a restart the tools are not known yet.
        let mut listing = self.list_tools();
        if let Some(toolset) = poll_once(&mut listing) {
            self.acting.toolset = Some(toolset);
            return self.settle_with_args(caller, settlement, reply, ctx);
        }
        ctx.spawn(listing.into_actor(self).map(move |toolset, agent, ctx| {
            agent.acting.toolset.get_or_insert(toolset);
            agent.settle_with_args(caller, settlement, reply, ctx);
        }));
    }

    fn settle_with_args(
        &mut self,
        caller: Caller,
        settlement: Settlement,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        let toolset = self.toolset();
        let checked = match self.find_asked(&settlement.tool_call_id) {
            Ok(call) => check_args(&toolset, call, settlement.args.as_ref()),
            Err(problem) => Err(problem),
        };
        match checked {
            Ok(()) => self.settle_checked(caller, settlement, reply, ctx),
            Err(problem) => reply.refuse(problem),
        }
    }

    fn settle_checked(
        &mut self,
        caller: Caller,
        settlement: Settlement,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        let Settlement { tool_call_id, decision, reason, args } = settlement;
        let run_id = match (self.find_asked(&tool_call_id), &self.run) {
            (Ok(_), Some(run)) => run.id(),
            (Err(problem), _) => return reply.refuse(problem),
            (Ok(_), None) => return reply.refuse(Problem::internal()),
        };
        let denied = self.run.as_ref().filter(|_| decision == Decision::Denied);
        let end = denied.and_then(|run| run.denied(&tool_call_id, reason.as_deref()));
        let resolved = Durable::ApprovalResolved {
            tool_call_id: tool_call_id.clone(),
            decision,
            by: Some(caller.principal),
            reason,
            args: args.clone().map(Box::new),
        };
        let entries = std::iter::once(Entry::of_run(run_id, resolved)).chain(end).collect();
        self.feed_run(run_id, Input::Settling { tool_call_id: tool_call_id.clone() }, ctx);
        let commands = reply.remember(Done::Noted).into_iter().collect();
        self.publish(entries, commands, ctx, move |agent, outcome, ctx| match outcome {
            Ok(_) => {
                reply.done(Done::Noted);
                agent.feed_run(run_id, Input::Settled { tool_call_id, decision, args }, ctx);
            }
            Err(failed) => {
                refuse_failed(reply, failed.error);
                agent.feed_run(run_id, Input::Unsettled { tool_call_id }, ctx);
            }
        });
    }

    /// The call of this id, if it waits for somebody to allow it.
    fn find_asked(&self, tool_call_id: &str) -> Result<&ToolCall, Problem> {
        if let Some(call) = self.run.as_ref().and_then(|run| run.asked(tool_call_id)) {
            return Ok(call);
        }
        let waiting: Vec<_> = self.state.approvals.iter().map(|approval| &approval.tool_call_id).collect();
        let details = json!({ "tool_call_id": tool_call_id, "waiting": waiting });
        if self.conversation.has_call(tool_call_id) {
            let message = "this call waits for nobody any more: it was allowed, denied or ended before";
            return Err(Problem::new(ErrorCode::Conflict, message).with(details));
        }
        let expected = "the id of a call that waits to be allowed";
        let details = json!({ "field": "data.tool_call_id", "expected": expected, "waiting": waiting });
        Err(Problem::invalid_field("data.tool_call_id", expected).with(details))
    }

    // ---- the shared document ----

    pub(super) fn update_state(
        &mut self,
        patch: Value,
        if_version: u64,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        self.change_state(StateChange::OfClient { patch, if_version, reply }, ctx);
    }

    fn change_state(&mut self, change: StateChange, ctx: &mut Context<Self>) {
        // Bounded by the commands that sockets have in flight, and by the calls of one step.
        self.acting.changes.push_back(change);
        self.next_change(ctx);
    }

    /// Makes the changes that wait, up to one that must get into the log first.
    fn next_change(&mut self, ctx: &mut Context<Self>) {
        while !self.acting.changing {
            match self.acting.changes.pop_front() {
                Some(StateChange::OfClient { patch, if_version, reply }) => {
                    self.change_for_client(patch, if_version, reply, ctx);
                }
                Some(StateChange::OfTool { run_id, tool_call_id, patch, if_version }) => {
                    self.change_for_tool(run_id, tool_call_id, patch, if_version, ctx);
                }
                None => return,
            }
        }
    }

    /// A change is in the log, or was refused: the next can be made.
    pub(super) fn changed(&mut self, ctx: &mut Context<Self>) {
        self.acting.changing = false;
        self.next_change(ctx);
    }

    fn change_for_client(&mut self, patch: Value, if_version: u64, reply: ReplyTo, ctx: &mut Context<Self>) {
        if self.closed {
            return reply.refuse(Problem::session_closed(&self.session_id));
        }
        let version = match self.state.shared.patched(&patch, Some(if_version)) {
            Ok(next) => next.version,
            Err(problem) => return reply.refuse(problem),
        };
        self.acting.changing = true;
        let done = Done::StateUpdated { version };
        let entries = vec![Durable::StatePatched { version, patch: Box::new(patch) }.into()];
        let commands = reply.remember(done.clone()).into_iter().collect();
        self.publish(entries, commands, ctx, move |agent, outcome, ctx| {
            match outcome {
                Ok(_) => reply.done(done),
                Err(failed) => refuse_failed(reply, failed.error),
            }
            agent.changed(ctx);
        });
    }

    fn change_for_tool(
        &mut self,
        run_id: RunId,
        tool_call_id: String,
        patch: Value,
        if_version: Option<u64>,
        ctx: &mut Context<Self>,
    ) {
        // A run that was stopped meanwhile changes nothing any more.
        if !self.run.as_ref().is_some_and(|run| run.id() == run_id && run.is_calling(&tool_call_id)) {
            return;
        }
        let (outcome, done) = match self.state.shared.patched(&patch, if_version) {
            Ok(next) => {
                self.acting.changing = true;
                let version = next.version;
                (
                    Ok(json!({ "version": version })),
                    vec![Durable::StatePatched { version, patch: Box::new(patch) }],
                )
            }
            Err(problem) => (Err(bounded_problem(problem)), Vec::new()),
        };
        self.feed_run(run_id, Input::ToolEnded { tool_call_id, outcome, done }, ctx);
    }

    // ---- progress ----

    /// Takes in how far the task has come; what of it is to be logged now.
    fn report(&mut self, news: Progress, ctx: &mut Context<Self>) -> Option<Durable> {
        let mut progress = self.acting.progress.held_back.take().unwrap_or_default();
        progress.take_in(&news);
        let since = self.acting.progress.logged.map(|logged| logged.elapsed());
        match since {
            Some(since) if since < PROGRESS_INTERVAL => {
                self.acting.progress.held_back = Some(progress);
                if self.acting.progress.timer.is_none() {
                    let timer = ctx.run_later(PROGRESS_INTERVAL - since, |agent, ctx| {
                        agent.acting.progress.timer = None;
                        let entry = agent.held_back_progress(ctx);
                        if let Some(entry) = entry {
                            agent.commit(vec![entry], Vec::new(), ctx, |_, _| {});
                        }
                    });
                    self.acting.progress.timer = Some(timer);
                }
                None
            }
            _ => {
                self.acting.progress.logged = Some(Instant::now());
                Some(Durable::Progressed(Box::new(progress)))
            }
        }
    }

    /// What was reported and not logged yet.
    pub(super) fn held_back_progress(&mut self, ctx: &mut Context<Self>) -> Option<Entry> {
        if let Some(timer) = self.acting.progress.timer.take() {
            ctx.cancel_future(timer);
        }
        let progress = self.acting.progress.held_back.take()?;
        self.acting.progress.logged = Some(Instant::now());
        Some(Entry { run_id: self.current_run(), body: Durable::Progressed(Box::new(progress)) })
    }
}

/// Whether a call could have these arguments.
fn check_args(toolset: &Toolset, call: &ToolCall, args: Option<&Value>) -> Result<(), Problem> {
    match (toolset.find(&call.name), args) {
        (Some(tool), Some(args)) => tool.source.check(&tool.name, args).map_err(in_command),
        _ => Ok(()),
    }
}

/// The same problem, of a field of the command that has the arguments.
fn in_command(mut problem: Problem) -> Problem {
    const ARGS: &str = "data.args";
    if let Some(Value::String(field)) = problem.details.get_mut("field") {
        field.insert_str(0, ARGS);
        problem.message.insert_str(0, ARGS);
    }
    problem
}

/// What a model is told of the shared document: as much of it as takes half of the window at most.
fn told_of(shared: &SharedState, context_window: u64) -> String {
    let (version, json) = (shared.version, shared.value.to_string());
    // Two bytes are a token at most.
    let room = usize::try_from(context_window).unwrap_or(usize::MAX);
    if json.len() <= room {
        return format!(
            "The document that this session shares, at version {version}. People may change it as well as you.\n{json}"
        );
    }
    let shown = &json[..json.floor_char_boundary(room)];
    format!(
        "The document that this session shares, at version {version}, is too long to be shown whole ({} bytes); make \
         it shorter. It begins:\n{shown}",
        json.len()
    )
}

fn no_such_tool(name: &str) -> Problem {
    Problem::new(ErrorCode::ToolError, format!("this agent has no tool named {name:?}, or not now"))
        .with(json!({ "tool_name": name }))
}

/// A result that fits into an event.
fn bounded_result(result: Value) -> Value {
    // Most are small, and need not be written out to know that.
    if json_bytes(&result) < MAX_ANSWER_BYTES / 6 {
        return result;
    }
    let text = match &result {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let json_bytes = result.to_string().len();
    if json_bytes <= MAX_ANSWER_BYTES {
        return result;
    }
    // No character grows to more than six bytes in JSON.
    let kept = &text[..text.floor_char_boundary(MAX_ANSWER_BYTES / 6)];
    json!({ "cut": true, "bytes": json_bytes, "beginning": kept })
}

fn bounded_problem(mut problem: Problem) -> Problem {
    if problem.message.len() > MAX_ERROR_BYTES {
        problem.message.truncate(problem.message.floor_char_boundary(MAX_ERROR_BYTES));
        problem.message.push('…');
    }
    if json_bytes(&problem.details) > MAX_ERROR_BYTES {
        problem.details = Value::Null;
    }
    problem
}
