//! One run as a state machine: what a user's message sets going, up to its one `run_finished` (pure).
//!
//! The `Agent` feeds it what happens and carries out what it decides. Inputs that make no sense in the
//! present state change nothing, so a late result of a stopped run does no harm.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    conversation::{OpenCall, PromptSize, estimate_tokens},
    error::{ErrorCode, Problem},
    event::{
        AgentResponse, AgentStatus, ContextUse, Decision, Durable, EndReason, Entry, Ephemeral, FinishReason,
        Outcome, ProviderState, Timestamp, TokenSource, Usage,
    },
    ids::{MessageId, RunId},
    ports::ToolCall,
    session::Approval,
};

/// An answer takes this many bytes at most as a JSON string, so that its event stays within 1 MiB.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024 - 8 * 1024;
/// Of a longer name, this much is kept: it is no tool's, and only goes back in an error.
const MAX_TOOL_NAME_CHARS: usize = 128;
/// Text that a crash may cost: so much of it, or what came in so long, is saved while it streams.
const SAVE_BYTES: usize = 2 * 1024;
const SAVE_AFTER: Duration = Duration::from_millis(750);
/// A call that nobody has allowed or denied for so long counts as denied.
const APPROVAL_TIME: Duration = Duration::from_secs(10 * 60);
/// A delta carries at most this much text; more is several deltas.
const MAX_DELTA_BYTES: usize = 16 * 1024;

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// What the run last asked to have appended, its beginning included, is in the log.
    Committed,
    /// The model is being called with a prompt of this size.
    Prompted(PromptSize),
    Text(String),
    ToolCall {
        call: ToolCall,
        /// A person must allow it.
        needs_approval: bool,
    },
    ModelEnded {
        finish_reason: FinishReason,
        usage: Option<Usage>,
        provider_state: Option<ProviderState>,
    },
    ModelFailed(Problem),
    ToolEnded {
        tool_call_id: String,
        outcome: Result<Value, Problem>,
        /// What the call has done to the session, logged with its end.
        done: Vec<Durable>,
    },
    /// Somebody's answer about a call is on its way to the log: nobody else can give another…
    Settling {
        tool_call_id: String,
    },
    /// …unless it does not get there.
    Unsettled {
        tool_call_id: String,
    },
    /// It is there, and with it the end of a call that was denied. Other arguments take the place of the model's.
    Settled {
        tool_call_id: String,
        decision: Decision,
        args: Option<Value>,
    },
    /// Wait at the next step.
    Pause,
    /// Go on from where it was paused.
    Resume,
    /// The run has been made anew of its log: see [`Run::waiting`].
    Restored,
    Stop(EndReason),
    /// The time that [`Effect::Remind`] asked for has passed.
    Reminded,
    /// What [`Effect::Save`] asked for has been done, or failed.
    Saved(Result<(), Problem>),
}

/// What the agent must do about it, in this order.
#[derive(Debug, Clone)]
pub enum Effect {
    CallModel,
    DropModel,
    CallTools(Vec<ToolCall>),
    DropTools,
    Show(Ephemeral),
    /// Save this next piece of the message that is streaming, and come back with [`Input::Saved`].
    Save {
        message_id: MessageId,
        text: String,
    },
    /// Come back with [`Input::Reminded`] after this time.
    Remind(Duration),
    /// The run waits from here on until [`Input::Resume`].
    Paused,
    /// Append these events as one batch, and come back with [`Input::Committed`].
    Append(Vec<Entry>),
    /// The same; they end the run.
    End(Vec<Entry>, Outcome),
    /// The end is in the log. Nothing comes after.
    Finished(Outcome),
}

/// A run in progress.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    model: String,
    phase: Phase,
    step: Step,
    steps: u32,
    /// It calls its model this often at most.
    max_steps: u32,
    usage: Usage,
    began: Instant,
    /// The same moment by the clock on the wall.
    began_at: Timestamp,
    /// It is to wait at the next step.
    pausing: bool,
    /// Why it must end as soon as what is on its way to the log has arrived.
    stopping: Option<EndReason>,
    /// Batches on their way to the log.
    appending: u32,
    /// A piece of text is being saved.
    saving: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    /// The model is answering.
    Asking,
    /// The calls that the model asked for are on their way to the log.
    OpeningCalls,
    Calling,
    /// All calls have ended; the model is not asked before somebody says so.
    Paused,
    Ending(Outcome),
    Ended,
}

/// One answer of the model and the calls it asked for.
#[derive(Debug)]
struct Step {
    message_id: MessageId,
    text: String,
    /// Code points in `text`.
    points: u64,
    /// Bytes of `text` as a JSON string.
    json_bytes: usize,
    /// Bytes of `text` that have been saved, or are being.
    saved: usize,
    /// When the first of the others came.
    unsaved_since: Option<Instant>,
    calls: Vec<Call>,
    /// When those that must be allowed count as denied.
    expires_at: Timestamp,
    prompt: Option<PromptSize>,
}

#[derive(Debug)]
struct Call {
    call: ToolCall,
    needs_approval: bool,
    began: Option<Instant>,
    state: CallState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallState {
    /// On its way to the log.
    Opening,
    /// Somebody must allow it.
    Asking {
        expires_at: Timestamp,
    },
    /// Somebody has, or has not: that is on its way to the log.
    Settling {
        expires_at: Timestamp,
    },
    Running,
    Ended,
}

/// A run that only waits, as its log has it.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingRun {
    pub id: RunId,
    pub began_at: Timestamp,
    /// Of its last step.
    pub message_id: MessageId,
    /// Calls that wait for somebody to allow them; none where the run is paused.
    pub calls: Vec<(ToolCall, Timestamp)>,
    pub steps: u32,
    pub usage: Usage,
}

impl Run {
    /// A run whose `run_started` is on its way to the log.
    pub fn starting(id: RunId, model: &str, max_steps: u32, now: Instant) -> Self {
        Self {
            id,
            model: model.to_owned(),
            phase: Phase::Starting,
            step: Step::new(),
            steps: 0,
            max_steps,
            usage: Usage::default(),
            began: now,
            began_at: Timestamp::now(),
            pausing: false,
            stopping: None,
            appending: 1,
            saving: false,
        }
    }

    /// A run that another agent has begun and left waiting. It goes on with [`Input::Restored`].
    pub fn waiting(run: WaitingRun, model: &str, max_steps: u32, now: Instant) -> Self {
        let WaitingRun { id, began_at, message_id, calls, steps, usage } = run;
        let lasted = u64::try_from(Timestamp::now().0 - began_at.0).unwrap_or(0);
        let asking = |(call, expires_at)| Call {
            call,
            needs_approval: true,
            began: None,
            state: CallState::Asking { expires_at },
        };
        let is_paused = calls.is_empty();
        let calls = calls.into_iter().map(asking).collect();
        Self {
            phase: if is_paused { Phase::Paused } else { Phase::Calling },
            step: Step { message_id, calls, ..Step::new() },
            steps,
            usage,
            began: now.checked_sub(Duration::from_millis(lasted)).unwrap_or(now),
            began_at,
            appending: 0,
            ..Self::starting(id, model, max_steps, now)
        }
    }

    /// The call that somebody may allow or deny now.
    pub fn asked(&self, tool_call_id: &str) -> Option<&ToolCall> {
        let calling = self.phase == Phase::Calling;
        let mut calls = self.step.calls.iter().filter(|_| calling);
        let is_asked =
            |call: &&Call| call.call.id == tool_call_id && matches!(call.state, CallState::Asking { .. });
        calls.find(is_asked).map(|call| &call.call)
    }

    /// Whether this call is being made.
    pub fn is_calling(&self, tool_call_id: &str) -> bool {
        let is_it = |call: &Call| call.call.id == tool_call_id && call.state == CallState::Running;
        self.phase == Phase::Calling && self.step.calls.iter().any(is_it)
    }

    /// The end of a call that somebody denies, for the log.
    pub fn denied(&self, tool_call_id: &str, reason: Option<&str>) -> Option<Entry> {
        let call = self.asked(tool_call_id)?;
        let problem = call_denied("a person did not allow this call", reason);
        Some(self.entry(Durable::ToolCallEnded {
            message_id: self.step.message_id,
            tool_call_id: call.id.clone(),
            tool_name: call.name.clone(),
            outcome: Err(Box::new(problem)),
            duration_ms: 0,
        }))
    }

    /// Nothing of it is under way: it waits for somebody.
    pub fn only_waits(&self) -> bool {
        let is_waiting = |call: &Call| matches!(call.state, CallState::Asking { .. } | CallState::Ended);
        self.appending == 0
            && match self.phase {
                Phase::Paused => true,
                Phase::Calling => self.step.calls.iter().all(is_waiting),
                _ => false,
            }
    }

    pub fn is_paused(&self) -> bool {
        self.phase == Phase::Paused
    }

    pub fn id(&self) -> RunId {
        self.id
    }

    /// How the run will have ended, once its end is on its way to the log.
    pub fn ending(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Ending(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Moves on, and says what must be done.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        match (self.phase, input) {
            (Phase::Ended, _) => Vec::new(),
            (_, Input::Committed) => self.committed(now),
            (phase, Input::Saved(outcome)) => {
                self.saving = false;
                match outcome {
                    Ok(()) if phase == Phase::Asking => self.save(now),
                    Err(problem) if phase == Phase::Asking => self.fail(problem, now),
                    _ => Vec::new(),
                }
            }
            (Phase::Ending(_), _) => Vec::new(),
            (Phase::Asking, Input::Prompted(size)) => {
                self.step.prompt = Some(size);
                Vec::new()
            }
            (Phase::Asking, Input::Text(text)) => self.text(&text, now),
            (Phase::Asking, Input::ToolCall { call, needs_approval }) => {
                self.step.take_call(call, needs_approval);
                Vec::new()
            }
            (Phase::Asking, Input::ModelEnded { finish_reason, usage, provider_state }) => {
                self.model_ended(finish_reason, usage, provider_state, now)
            }
            (Phase::Asking, Input::ModelFailed(problem)) => self.fail(problem, now),
            (Phase::Asking, Input::Reminded) => self.save(now),
            (Phase::Calling, Input::ToolEnded { tool_call_id, outcome, done }) => {
                self.tool_ended(&tool_call_id, outcome, done, now)
            }
            (Phase::Calling, Input::Settling { tool_call_id }) => {
                self.step.change(&tool_call_id, |state| match state {
                    CallState::Asking { expires_at } => Some(CallState::Settling { expires_at }),
                    _ => None,
                });
                Vec::new()
            }
            (Phase::Calling, Input::Unsettled { tool_call_id }) => {
                self.step.change(&tool_call_id, |state| match state {
                    CallState::Settling { expires_at } => Some(CallState::Asking { expires_at }),
                    _ => None,
                });
                match self.stopping {
                    Some(reason) if !self.is_settling() => self.stop_calls(reason, now),
                    _ => self.remind_of_approvals(now),
                }
            }
            (Phase::Calling, Input::Settled { tool_call_id, decision, args }) => {
                self.settled(&tool_call_id, decision, args, now)
            }
            (Phase::Calling, Input::Reminded) => self.expire(now),
            (Phase::Calling, Input::Restored) => {
                let mut effects = vec![status(AgentStatus::WaitingApproval)];
                effects.extend(self.expire(now));
                effects
            }
            (_, Input::Pause) => {
                self.pausing = true;
                Vec::new()
            }
            (Phase::Paused, Input::Resume) => self.ask(),
            (Phase::Paused, Input::Stop(reason)) => self.stop(Vec::new(), reason, now),
            (Phase::Starting | Phase::OpeningCalls, Input::Stop(reason)) => {
                self.stopping.get_or_insert(reason);
                Vec::new()
            }
            (Phase::Asking, Input::Stop(reason)) => {
                let mut effects = vec![Effect::DropModel];
                let entries = self.cut_response(FinishReason::Cancelled);
                effects.extend(self.stop(entries, reason, now));
                effects
            }
            // What a call that is being denied comes to is on its way to the log already.
            (Phase::Calling, Input::Stop(reason)) if self.is_settling() => {
                self.stopping.get_or_insert(reason);
                Vec::new()
            }
            (Phase::Calling, Input::Stop(reason)) => self.stop_calls(reason, now),
            (_, _) => Vec::new(),
        }
    }

    /// Ends the run in the middle of an answer.
    fn fail(&mut self, problem: Problem, now: Instant) -> Vec<Effect> {
        let mut effects = vec![Effect::DropModel];
        let mut entries = self.cut_response(FinishReason::Error);
        entries.push(self.entry(Durable::Error { problem: Box::new(problem) }));
        effects.extend(self.end(entries, Outcome::Failed, Some(EndReason::Failed), now));
        effects
    }

    /// Saves what has come of the answer since that was last done, if it is time for it.
    fn save(&mut self, now: Instant) -> Vec<Effect> {
        let Step { message_id, text, saved, unsaved_since, .. } = &mut self.step;
        let unsaved = &text[*saved..];
        let is_due = unsaved_since.is_some_and(|since| now.saturating_duration_since(since) >= SAVE_AFTER);
        if self.saving || unsaved.is_empty() || (unsaved.len() < SAVE_BYTES && !is_due) {
            return Vec::new();
        }
        self.saving = true;
        let save = Effect::Save { message_id: *message_id, text: unsaved.to_owned() };
        *saved = text.len();
        *unsaved_since = None;
        vec![save]
    }

    fn committed(&mut self, now: Instant) -> Vec<Effect> {
        self.appending = self.appending.saturating_sub(1);
        if self.appending > 0 {
            return Vec::new();
        }
        if let Phase::Ending(outcome) = self.phase {
            self.phase = Phase::Ended;
            return vec![Effect::Finished(outcome)];
        }
        if let (Some(reason), Phase::Starting | Phase::OpeningCalls) = (self.stopping, self.phase) {
            return self.stop(Vec::new(), reason, now);
        }
        match self.phase {
            Phase::Starting => self.ask(),
            Phase::OpeningCalls => {
                self.phase = Phase::Calling;
                let expires_at = self.step.expires_at;
                let mut calls = Vec::new();
                for open in &mut self.step.calls {
                    if open.needs_approval {
                        open.state = CallState::Asking { expires_at };
                    } else {
                        open.state = CallState::Running;
                        open.began = Some(now);
                        calls.push(open.call.clone());
                    }
                }
                let mut effects = vec![self.calling_status()];
                if !calls.is_empty() {
                    effects.push(Effect::CallTools(calls));
                }
                effects.extend(self.remind_of_approvals(now));
                effects
            }
            Phase::Calling => self.go_on(now),
            Phase::Paused | Phase::Asking | Phase::Ending(_) | Phase::Ended => Vec::new(),
        }
    }

    /// Goes on to the next step once all calls have ended and that is in the log.
    fn go_on(&mut self, now: Instant) -> Vec<Effect> {
        if self.appending > 0 {
            return Vec::new();
        }
        if self.step.calls.iter().any(|call| call.state != CallState::Ended) {
            return Vec::new();
        }
        if let Some(reason) = self.stopping {
            return self.stop_calls(reason, now);
        }
        if self.steps >= self.max_steps {
            let problem = Problem::new(
                ErrorCode::ToolError,
                format!(
                    "the model asked for tools {} times in a row, as often as max_steps allows; the run was \
                     ended",
                    self.max_steps
                ),
            );
            let entries = vec![self.entry(Durable::Error { problem: Box::new(problem) })];
            return self.end(entries, Outcome::Failed, Some(EndReason::Failed), now);
        }
        if std::mem::take(&mut self.pausing) {
            self.phase = Phase::Paused;
            return vec![status(AgentStatus::Idle), Effect::Paused];
        }
        self.ask()
    }

    fn stop_calls(&mut self, reason: EndReason, now: Instant) -> Vec<Effect> {
        let mut effects = vec![Effect::DropTools];
        effects.extend(self.stop(Vec::new(), reason, now));
        effects
    }

    // ---- approvals ----

    fn is_settling(&self) -> bool {
        self.step.calls.iter().any(|call| matches!(call.state, CallState::Settling { .. }))
    }

    fn approval_expiry(&self, now: Instant) -> Timestamp {
        let wall = self.wall(now);
        Timestamp(wall.0 + APPROVAL_TIME.as_millis() as i64)
    }

    /// What the clock on the wall would show if nobody had set it since the run began.
    fn wall(&self, now: Instant) -> Timestamp {
        Timestamp(self.began_at.0 + millis(now, self.began) as i64)
    }

    /// Asks to be reminded when the next call that nobody has allowed expires.
    fn remind_of_approvals(&self, now: Instant) -> Vec<Effect> {
        let expiries = self.step.calls.iter().filter_map(|call| match call.state {
            CallState::Asking { expires_at } => Some(expires_at),
            _ => None,
        });
        let wait = expiries.min().map(|at| u64::try_from(at.0 - self.wall(now).0).unwrap_or(0));
        wait.map(|wait| Effect::Remind(Duration::from_millis(wait))).into_iter().collect()
    }

    /// Denies the calls that nobody has answered in time.
    fn expire(&mut self, now: Instant) -> Vec<Effect> {
        let wall = self.wall(now);
        let mut entries = Vec::new();
        let (run_id, message_id) = (self.id, self.step.message_id);
        for call in &mut self.step.calls {
            if !matches!(call.state, CallState::Asking { expires_at } if expires_at <= wall) {
                continue;
            }
            call.state = CallState::Ended;
            entries.push(Entry::of_run(
                run_id,
                Durable::ApprovalResolved {
                    tool_call_id: call.call.id.clone(),
                    decision: Decision::Denied,
                    by: None,
                    reason: None,
                    args: None,
                },
            ));
            let problem = call_denied("nobody allowed this call in time", None);
            entries.push(call_ended(run_id, message_id, call, Err(problem), now));
        }
        let mut effects = self.remind_of_approvals(now);
        if !entries.is_empty() {
            effects.push(self.append(entries));
        }
        effects
    }

    fn settled(
        &mut self,
        tool_call_id: &str,
        decision: Decision,
        args: Option<Value>,
        now: Instant,
    ) -> Vec<Effect> {
        let is_it = |call: &&mut Call| {
            call.call.id == tool_call_id && matches!(call.state, CallState::Settling { .. })
        };
        let Some(call) = self.step.calls.iter_mut().find(is_it) else { return Vec::new() };
        if let Some(reason) = self.stopping {
            // It is not made any more.
            call.state = if decision == Decision::Denied { CallState::Ended } else { CallState::Opening };
            return if self.is_settling() { Vec::new() } else { self.stop_calls(reason, now) };
        }
        match decision {
            Decision::Denied => {
                call.state = CallState::Ended;
                let mut effects = self.go_on(now);
                if effects.is_empty() {
                    effects.push(self.calling_status());
                }
                effects
            }
            Decision::Approved => {
                call.state = CallState::Running;
                call.began = Some(now);
                let call =
                    ToolCall { args: args.unwrap_or_else(|| call.call.args.clone()), ..call.call.clone() };
                vec![self.calling_status(), Effect::CallTools(vec![call])]
            }
        }
    }

    /// What is shown while calls are open.
    fn calling_status(&self) -> Effect {
        let is_asking =
            |call: &Call| matches!(call.state, CallState::Asking { .. } | CallState::Settling { .. });
        let runs = self.step.calls.iter().any(|call| call.state == CallState::Running);
        let asks = self.step.calls.iter().any(is_asking);
        status(if asks && !runs { AgentStatus::WaitingApproval } else { AgentStatus::CallingTool })
    }

    fn ask(&mut self) -> Vec<Effect> {
        self.phase = Phase::Asking;
        self.step = Step::new();
        self.steps += 1;
        vec![status(AgentStatus::Thinking), Effect::CallModel]
    }

    fn text(&mut self, text: &str, now: Instant) -> Vec<Effect> {
        let room = MAX_ANSWER_BYTES - self.step.json_bytes;
        let (kept, json_bytes) = json_prefix(text, room);
        let mut effects = Vec::new();
        if self.step.text.is_empty() && !kept.is_empty() {
            effects.push(status(AgentStatus::Responding));
        }
        for piece in pieces(kept, MAX_DELTA_BYTES) {
            effects.push(Effect::Show(Ephemeral::MessageDelta {
                message_id: self.step.message_id,
                offset: self.step.points,
                text: piece.to_owned(),
            }));
            self.step.points += piece.chars().count() as u64;
        }
        self.step.text.push_str(kept);
        self.step.json_bytes += json_bytes;
        if kept.len() < text.len() {
            effects.push(Effect::DropModel);
            let entries = self.response(FinishReason::Length, None, None, true);
            effects.extend(self.end(entries, Outcome::Completed, None, now));
            return effects;
        }
        if self.step.unsaved_since.is_none() && !kept.is_empty() {
            self.step.unsaved_since = Some(now);
            effects.push(Effect::Remind(SAVE_AFTER));
        }
        effects.extend(self.save(now));
        effects
    }

    fn model_ended(
        &mut self,
        finish_reason: FinishReason,
        usage: Option<Usage>,
        provider_state: Option<ProviderState>,
        now: Instant,
    ) -> Vec<Effect> {
        self.usage = self.usage.plus(usage.unwrap_or_default());
        if self.step.calls.is_empty() {
            // A model that was cut at its own limit has said less than it would have.
            let incomplete = finish_reason == FinishReason::Length;
            let entries = self.response(finish_reason, usage, provider_state, incomplete);
            return self.end(entries, Outcome::Completed, None, now);
        }
        let mut entries = Vec::new();
        if !self.step.text.is_empty() || provider_state.is_some() {
            entries = self.response(FinishReason::ToolCalls, usage, provider_state, false);
        }
        for call in &self.step.calls {
            entries.push(self.entry(Durable::ToolCallStarted {
                message_id: self.step.message_id,
                tool_call_id: call.call.id.clone(),
                tool_name: call.call.name.clone(),
                args: Box::new(call.call.args.clone()),
                provider_state: call.call.provider_state.clone().map(Box::new),
            }));
        }
        let expires_at = self.approval_expiry(now);
        self.step.expires_at = expires_at;
        for call in self.step.calls.iter().filter(|call| call.needs_approval) {
            entries.push(self.entry(Durable::ApprovalRequested {
                tool_call_id: call.call.id.clone(),
                tool_name: call.call.name.clone(),
                expires_at,
            }));
        }
        self.phase = Phase::OpeningCalls;
        vec![self.append(entries)]
    }

    fn tool_ended(
        &mut self,
        id: &str,
        outcome: Result<Value, Problem>,
        done: Vec<Durable>,
        now: Instant,
    ) -> Vec<Effect> {
        let is_it = |call: &&mut Call| call.call.id == id && call.state == CallState::Running;
        let Some(call) = self.step.calls.iter_mut().find(is_it) else { return Vec::new() };
        call.state = CallState::Ended;
        let mut entries: Vec<_> = done.into_iter().map(|body| Entry::of_run(self.id, body)).collect();
        entries.push(call_ended(self.id, self.step.message_id, call, outcome, now));
        let mut effects = vec![self.append(entries)];
        if self.step.calls.iter().any(|call| call.state != CallState::Ended) {
            effects.push(self.calling_status());
        }
        effects
    }

    /// Ends the run on somebody's wish. Every call that it opened gets its end first.
    fn stop(&mut self, mut entries: Vec<Entry>, reason: EndReason, now: Instant) -> Vec<Effect> {
        let outcome = match reason {
            EndReason::Shutdown | EndReason::Crashed => Outcome::Interrupted,
            _ => Outcome::Cancelled,
        };
        if matches!(self.phase, Phase::OpeningCalls | Phase::Calling) {
            let (id, message_id) = (self.id, self.step.message_id);
            for call in self.step.calls.iter_mut().filter(|call| call.state != CallState::Ended) {
                let was_running = call.state == CallState::Running;
                call.state = CallState::Ended;
                // A server that stops does not hear what becomes of it.
                let is_unknown = was_running && outcome == Outcome::Interrupted;
                let problem = if is_unknown { outcome_unknown() } else { call_cancelled() };
                entries.push(call_ended(id, message_id, call, Err(problem), now));
            }
        }
        if outcome == Outcome::Interrupted {
            entries.push(self.entry(Durable::Error { problem: Box::new(interrupted()) }));
        }
        self.end(entries, outcome, Some(reason), now)
    }

    fn end(
        &mut self,
        mut entries: Vec<Entry>,
        outcome: Outcome,
        reason: Option<EndReason>,
        now: Instant,
    ) -> Vec<Effect> {
        entries.push(self.entry(Durable::RunFinished {
            outcome,
            reason,
            usage: self.usage,
            duration_ms: millis(now, self.began),
        }));
        self.phase = Phase::Ending(outcome);
        self.appending += 1;
        vec![Effect::End(entries, outcome)]
    }

    /// What the model had said when it was broken off; nothing, if it had said nothing.
    fn cut_response(&mut self, finish_reason: FinishReason) -> Vec<Entry> {
        if self.step.text.is_empty() {
            return Vec::new();
        }
        self.response(finish_reason, None, None, true)
    }

    /// The step's `agent_response`, and how full the context is with it.
    fn response(
        &mut self,
        finish_reason: FinishReason,
        usage: Option<Usage>,
        provider_state: Option<ProviderState>,
        incomplete: bool,
    ) -> Vec<Entry> {
        let context = self.step.prompt.map(|prompt| context_use(prompt, usage, &self.step.text));
        let response = AgentResponse {
            message_id: self.step.message_id,
            content: std::mem::take(&mut self.step.text),
            model: self.model.clone(),
            finish_reason,
            usage,
            incomplete,
            provider_state,
        };
        let mut entries = vec![self.entry(Durable::AgentResponse(Box::new(response)))];
        entries.extend(context.map(|context| self.entry(Durable::ContextUpdated(context))));
        entries
    }

    fn append(&mut self, entries: Vec<Entry>) -> Effect {
        self.appending += 1;
        Effect::Append(entries)
    }

    fn entry(&self, body: Durable) -> Entry {
        Entry::of_run(self.id, body)
    }
}

impl Step {
    fn new() -> Self {
        Self {
            message_id: MessageId::new(),
            text: String::new(),
            points: 0,
            json_bytes: 0,
            saved: 0,
            unsaved_since: None,
            calls: Vec::new(),
            expires_at: Timestamp(0),
            prompt: None,
        }
    }
}

impl Step {
    /// Takes a call that the model asks for. Two of one id could not be told apart.
    fn take_call(&mut self, mut call: ToolCall, needs_approval: bool) {
        call.name = call.name.chars().take(MAX_TOOL_NAME_CHARS).collect();
        if let Value::String(text) = &mut call.args {
            // No tool takes it: the model's words were no JSON. Written out, they must fit into an event.
            let fits = json_prefix(text, MAX_ANSWER_BYTES).0.len();
            text.truncate(fits);
        }
        let is_taken = |id: &str| self.calls.iter().any(|other| other.call.id == id);
        if is_taken(&call.id) {
            let mut others = (2..).map(|number: u32| format!("{}_{number}", call.id));
            call.id = others.find(|id| !is_taken(id)).unwrap_or_default();
        }
        self.calls.push(Call { call, needs_approval, began: None, state: CallState::Opening });
    }

    /// Changes the state of a call, if `change` has another for it.
    fn change(&mut self, tool_call_id: &str, change: impl Fn(CallState) -> Option<CallState>) {
        let mut calls = self.calls.iter_mut().filter(|call| call.call.id == tool_call_id);
        if let Some((call, state)) = calls.find_map(|call| change(call.state).map(|state| (call, state))) {
            call.state = state;
        }
    }
}

/// The end of a run that a crash cut: its text so far, its open calls, and why.
pub fn crashed(
    id: RunId,
    model: &str,
    partial: Option<(MessageId, String)>,
    open_calls: Vec<OpenCall>,
    approvals: &[Approval],
) -> Vec<Entry> {
    let mut entries = Vec::new();
    if let Some((message_id, content)) = partial.filter(|(_, text)| !text.is_empty()) {
        entries.push(Durable::AgentResponse(Box::new(AgentResponse {
            message_id,
            content,
            model: model.to_owned(),
            finish_reason: FinishReason::Error,
            usage: None,
            incomplete: true,
            provider_state: None,
        })));
    }
    for OpenCall { message_id, tool_call_id, tool_name } in open_calls {
        let was_asked = approvals.iter().any(|approval| approval.tool_call_id == tool_call_id);
        let problem = if was_asked { never_allowed() } else { outcome_unknown() };
        let outcome = Err(Box::new(problem));
        entries.push(Durable::ToolCallEnded { message_id, tool_call_id, tool_name, outcome, duration_ms: 0 });
    }
    entries.push(Durable::Error { problem: Box::new(interrupted()) });
    entries.push(finished_early(Outcome::Interrupted, EndReason::Crashed));
    entries.into_iter().map(|body| Entry::of_run(id, body)).collect()
}

/// The end of a run that never began.
pub fn never_began(id: RunId, reason: EndReason) -> Entry {
    Entry::of_run(id, finished_early(Outcome::Cancelled, reason))
}

fn finished_early(outcome: Outcome, reason: EndReason) -> Durable {
    Durable::RunFinished { outcome, reason: Some(reason), usage: Usage::default(), duration_ms: 0 }
}

fn context_use(prompt: PromptSize, usage: Option<Usage>, answer: &str) -> ContextUse {
    let (tokens_used, source) = match usage {
        Some(usage) => (usage.total(), TokenSource::Provider),
        None => (prompt.tokens + estimate_tokens(answer), TokenSource::Estimate),
    };
    ContextUse {
        tokens_used,
        context_window: prompt.context_window,
        omitted_messages: prompt.omitted_messages,
        source,
    }
}

fn call_ended(
    run_id: RunId,
    message_id: MessageId,
    call: &Call,
    outcome: Result<Value, Problem>,
    now: Instant,
) -> Entry {
    let body = Durable::ToolCallEnded {
        message_id,
        tool_call_id: call.call.id.clone(),
        tool_name: call.call.name.clone(),
        outcome: outcome.map(Box::new).map_err(Box::new),
        duration_ms: call.began.map_or(0, |began| millis(now, began)),
    };
    Entry::of_run(run_id, body)
}

fn status(status: AgentStatus) -> Effect {
    Effect::Show(Ephemeral::AgentStatus(status))
}

fn call_cancelled() -> Problem {
    Problem::new(ErrorCode::ToolError, "cancelled: the run was stopped")
        .with(serde_json::json!({ "reason": "cancelled" }))
}

fn call_denied(why: &str, reason: Option<&str>) -> Problem {
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    Problem::new(ErrorCode::ToolError, format!("denied: {why}{reason}"))
        .with(serde_json::json!({ "reason": "denied" }))
}

const UNKNOWN: &str = "unknown";

fn outcome_unknown() -> Problem {
    let message = "the server stopped while the tool was at work; whether it did anything is unknown";
    Problem::new(ErrorCode::ToolError, message).with(serde_json::json!({ "reason": UNKNOWN }))
}

fn never_allowed() -> Problem {
    Problem::new(
        ErrorCode::ToolError,
        "the server stopped before anybody had allowed this call; it was not made",
    )
    .with(serde_json::json!({ "reason": "cancelled" }))
}

/// Whether this is the end of a call of which nobody knows what it has done.
pub fn is_unknown(entry: &Entry) -> bool {
    match &entry.body {
        Durable::ToolCallEnded { outcome: Err(problem), .. } => problem.details["reason"] == UNKNOWN,
        _ => false,
    }
}

fn interrupted() -> Problem {
    Problem::new(
        ErrorCode::Interrupted,
        "the server stopped before the answer was complete; send the message again to have it answered",
    )
}

fn millis(now: Instant, earlier: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(earlier).as_millis()).unwrap_or(u64::MAX)
}

/// The longest prefix of `text` that takes at most `room` bytes as a JSON string, and what it takes.
fn json_prefix(text: &str, room: usize) -> (&str, usize) {
    // No character grows to more than six bytes (RFC 8259, section 7), so most texts need no count to fit.
    let plain = text.bytes().filter(|byte| json_growth(*byte) > 0).count() == 0;
    if plain && text.len() <= room {
        return (text, text.len());
    }
    let mut taken = 0;
    for (at, character) in text.char_indices() {
        let growth = u8::try_from(character).map_or(0, json_growth);
        let bytes = character.len_utf8() + growth;
        if taken + bytes > room {
            return (&text[..at], taken);
        }
        taken += bytes;
    }
    (text, taken)
}

/// How many bytes more than itself a byte takes in a JSON string.
fn json_growth(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 1,
        0x00..=0x1F => 5,
        _ => 0,
    }
}

/// Cuts `text` into pieces of at most `max_bytes`, between characters.
fn pieces(mut text: &str, max_bytes: usize) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (piece, rest) = text.split_at(text.floor_char_boundary(max_bytes));
        text = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests;
