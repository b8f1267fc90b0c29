//! A session's conversation: the fold of its log into what a model is told (pure).
//!
//! Owns: which events make up the conversation, how many tokens they take, what is left out when the
//! model's window is nearly full. Does not own: the texts, which stay in the log's events.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    error::{ErrorCode, Problem},
    event::{AgentResponse, Durable, Event, Role, TaskChange, Timestamp, Trigger, Usage},
    ids::{MessageId, RunId},
    ports::{PromptMessage, ToolCall, ToolResult},
    run::WaitingRun,
    session::Approval,
};

/// Of a tool's result, a model is told this much at most, and in a small window less.
const MAX_RESULT_BYTES: usize = 32 * 1024;
const MIN_RESULT_BYTES: usize = 1024;
/// What a model is told where a run goes on after one that a stop of the server interrupted.
pub const RESUMED: &str = "(The server was restarted in the middle of this. Go on from where you were.)";

/// What a session's log has come to so far.
#[derive(Debug)]
pub struct Conversation {
    /// Of a tool's result, the model is told so much.
    result_bytes: usize,
    /// System and seed messages: never left out of a prompt.
    preamble: Vec<Arc<Event>>,
    preamble_size: Size,
    /// Shared with the prompt that is in use, if one is.
    turns: Arc<Vec<Arc<Turn>>>,
    /// What the turns before each turn take, and what all of them take.
    sizes_before: Vec<Size>,
    size: Size,
    /// Messages of runs that have not begun: each enters the conversation at its `run_started`.
    waiting: HashMap<RunId, Arc<Event>>,
    /// What comes belongs to the newest turn; otherwise to one whose beginning was not read.
    in_turn: bool,
    /// Messages before the first turn that was ever taken in.
    messages_before: u64,
    /// What made the session a task's: it has the input.
    task: Option<Arc<Event>>,
}

/// What a part of the conversation takes in a prompt.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Estimate.
    tokens: u64,
    messages: u64,
}

/// One run's part: a user's message and what came of it. Left out of a prompt whole or not at all.
#[derive(Debug, Clone)]
struct Turn {
    /// The `run_started` itself, where the run goes on from one that was interrupted.
    user: Arc<Event>,
    began_at: Timestamp,
    steps: Vec<Step>,
}

/// One answer of the model, with the calls that it asked for.
#[derive(Debug, Clone)]
struct Step {
    message_id: MessageId,
    response: Option<Arc<Event>>,
    calls: Vec<Call>,
}

#[derive(Debug, Clone)]
struct Call {
    started: Arc<Event>,
    ended: Option<Arc<Event>>,
    /// The `approval_resolved` that had other arguments.
    edited: Option<Arc<Event>>,
}

/// What a prompt has beside the conversation.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Comes after the system messages.
    pub system: String,
    /// What that and all else beside the conversation takes; an estimate.
    pub tokens: u64,
}

/// What a model is told. Shares the conversation's texts; written out only where a provider wants it.
#[derive(Debug, Clone)]
pub struct Prompt {
    system: String,
    seeds: Vec<PromptMessage>,
    turns: Arc<Vec<Arc<Turn>>>,
    /// Turns that are left out.
    omitted: usize,
    result_bytes: usize,
    task: Option<Arc<Event>>,
}

/// Size of a prompt, for the context meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptSize {
    /// Estimate, in tokens.
    pub tokens: u64,
    pub omitted_messages: u64,
    pub context_window: u64,
}

/// A call that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCall {
    pub message_id: MessageId,
    pub tool_call_id: String,
    pub tool_name: String,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::for_window(u64::MAX)
    }
}

impl Conversation {
    /// An empty one, for a model with this window: no result takes more than about a quarter of it.
    pub fn for_window(context_window: u64) -> Self {
        let bytes = usize::try_from(context_window).unwrap_or(usize::MAX);
        Self {
            result_bytes: bytes.clamp(MIN_RESULT_BYTES, MAX_RESULT_BYTES),
            preamble: Vec::new(),
            preamble_size: Size::default(),
            turns: Arc::default(),
            sizes_before: Vec::new(),
            size: Size::default(),
            waiting: HashMap::new(),
            in_turn: false,
            messages_before: 0,
            task: None,
        }
    }

    /// Takes in the next event of the log.
    pub fn apply(&mut self, event: &Arc<Event>) {
        let Some(body) = event.as_durable() else { return };
        match body {
            Durable::SystemMessage { content } | Durable::SeedMessage { content, .. } => {
                self.preamble_size.tokens += message_tokens(content);
                self.preamble.push(event.clone());
            }
            Durable::UserMessage { .. } => {
                if let Some(run_id) = event.run_id {
                    self.waiting.insert(run_id, event.clone());
                }
            }
            Durable::RunStarted { trigger } => {
                let user = match trigger {
                    Trigger::Resumed => Some(event.clone()),
                    Trigger::UserMessage | Trigger::Task => {
                        event.run_id.and_then(|run_id| self.waiting.remove(&run_id))
                    }
                };
                self.in_turn = user.is_some();
                if user.is_none() {
                    // What came before it would stand next to what comes after it.
                    self.turns = Arc::default();
                    self.sizes_before.clear();
                    self.size = Size::default();
                }
                if let Some(user) = user {
                    self.sizes_before.push(self.size);
                    self.size.add(&user, self.result_bytes);
                    if *trigger == Trigger::Resumed {
                        // Told again where the run that it goes on from is left out.
                        self.size.tokens += self.task_input().map_or(0, message_tokens);
                    }
                    let turn = Turn { user, began_at: event.at, steps: Vec::new() };
                    Arc::make_mut(&mut self.turns).push(Arc::new(turn));
                }
            }
            Durable::RunFinished { .. } => {
                if let Some(run_id) = &event.run_id {
                    self.waiting.remove(run_id);
                }
            }
            Durable::AgentResponse(response) => {
                if let Some(step) = self.step(response.message_id, event) {
                    step.response = Some(event.clone());
                }
            }
            Durable::ToolCallStarted { message_id, .. } => {
                if let Some(step) = self.step(*message_id, event) {
                    step.calls.push(Call { started: event.clone(), ended: None, edited: None });
                }
            }
            Durable::ToolCallEnded { message_id, tool_call_id, .. } => {
                if let Some(step) = self.step(*message_id, event) {
                    // Some models give two calls of a step the same id: their results come in turn.
                    let mut open = step.calls.iter_mut().filter(|call| call.ended.is_none());
                    if let Some(call) = open.find(|call| call.id() == Some(tool_call_id.as_str())) {
                        call.ended = Some(event.clone());
                    }
                }
            }
            Durable::Task(change) => {
                if matches!(**change, TaskChange::Created { .. }) {
                    self.task = Some(event.clone());
                }
            }
            Durable::ApprovalResolved { tool_call_id, args: Some(_), .. } => {
                self.edited(tool_call_id, event);
            }
            Durable::SessionCreated { .. }
            | Durable::ApprovalRequested { .. }
            | Durable::ApprovalResolved { args: None, .. }
            | Durable::ContextUpdated(_)
            | Durable::StatePatched { .. }
            | Durable::Suggested { .. }
            | Durable::Progressed(_)
            | Durable::Error { .. }
            | Durable::SessionUpdated { .. }
            | Durable::SessionClosed { .. } => {}
        }
    }

    /// What the session's task is about.
    pub fn task_input(&self) -> Option<&str> {
        input_of(self.task.as_ref()?)
    }

    /// Whether a call of this id was ever asked for, as far as the conversation goes back.
    pub fn has_call(&self, tool_call_id: &str) -> bool {
        let steps = self.turns.iter().flat_map(|turn| &turn.steps);
        steps.flat_map(|step| &step.calls).any(|call| call.id() == Some(tool_call_id))
    }

    /// Bytes of the message that waits for this run to begin.
    pub fn waiting_bytes(&self, run_id: &RunId) -> usize {
        match self.waiting.get(run_id).and_then(|event| event.as_durable()) {
            Some(Durable::UserMessage { content, .. }) => content.len(),
            _ => 0,
        }
    }

    /// Counts messages that are in the log and were not taken in: all of them, less those that were.
    pub fn count_messages(&mut self, all: u64) {
        self.messages_before = all.saturating_sub(self.size.messages);
    }

    pub fn result_bytes(&self) -> usize {
        self.result_bytes
    }

    /// Lets go of the oldest turns that no prompt will ever have room for: what a model is told of only grows.
    /// So a session takes memory by its model's window, not by its length.
    pub fn trim(&mut self, context_window: u64, answer_tokens: u64) {
        let omitted = self.omitted(self.budget(context_window, answer_tokens));
        // The newest stays, though it alone be too long. Seldom, as each time moves all that stay.
        let omitted = omitted.min(self.turns.len().saturating_sub(1));
        if omitted > self.turns.len() / 2 {
            self.sizes_before.drain(..omitted);
            Arc::make_mut(&mut self.turns).drain(..omitted);
        }
    }

    /// A call of the newest run is made with other arguments than the model's.
    fn edited(&mut self, tool_call_id: &str, event: &Arc<Event>) {
        if !self.in_turn {
            return;
        }
        let Some(turn) = Arc::make_mut(&mut self.turns).last_mut().map(Arc::make_mut) else { return };
        let mut calls = turn.steps.iter_mut().flat_map(|step| &mut step.calls);
        let is_it = |call: &&mut Call| call.ended.is_none() && call.id() == Some(tool_call_id);
        if let Some(call) = calls.find(is_it) {
            call.edited = Some(event.clone());
            self.size.add(event, self.result_bytes);
        }
    }

    /// The newest run, which is open, if it only waits: for somebody to allow the calls of `approvals`, or, where
    /// it has no open calls, to be told to go on.
    pub fn waiting_run(&self, id: RunId, approvals: &[Approval]) -> Option<WaitingRun> {
        let turn = self.turns.last().filter(|_| self.in_turn)?;
        let step = turn.steps.last()?;
        let open = turn.steps.iter().flat_map(|step| &step.calls).filter(|call| call.ended.is_none());
        let mut approvals: Vec<_> = approvals.iter().collect();
        let mut calls = Vec::new();
        for call in open {
            // One that is open and waits for nobody was being made.
            let at =
                approvals.iter().position(|approval| call.id() == Some(approval.tool_call_id.as_str()))?;
            let (call, _) = call.to_prompt(0)?;
            calls.push((call, approvals.remove(at).expires_at));
        }
        let usage = turn.steps.iter().filter_map(|step| step.response()?.usage);
        Some(WaitingRun {
            id,
            began_at: turn.began_at,
            message_id: step.message_id,
            calls,
            steps: turn.steps.len() as u32,
            usage: usage.fold(Usage::default(), Usage::plus),
        })
    }

    /// The calls of the newest run that have no result.
    pub fn open_calls(&self) -> Vec<OpenCall> {
        let steps = self.turns.last().map_or(&[][..], |turn| &turn.steps);
        steps
            .iter()
            .flat_map(|step| &step.calls)
            .filter(|call| call.ended.is_none())
            .filter_map(|call| match call.started.as_durable() {
                Some(Durable::ToolCallStarted { message_id, tool_call_id, tool_name, .. }) => {
                    Some(OpenCall {
                        message_id: *message_id,
                        tool_call_id: tool_call_id.clone(),
                        tool_name: tool_name.clone(),
                    })
                }
                _ => None,
            })
            .collect()
    }

    /// The prompt of the newest run, and its size: system and seed messages, and as many of the newest turns
    /// as fit beside an answer of `answer_tokens`.
    ///
    /// # Errors
    /// `context_overflow` where the newest turn alone does not fit.
    pub fn prompt(
        &self,
        context_window: u64,
        answer_tokens: u64,
        extra: &Extra,
    ) -> Result<(Prompt, PromptSize), Problem> {
        let budget = self.budget(context_window, answer_tokens).saturating_sub(extra.tokens);
        let omitted = self.omitted(budget);
        if omitted == self.turns.len() && omitted > 0 {
            let newest = self.sizes_before.last().map_or(0, |before| self.size.tokens - before.tokens);
            let needed = self.preamble_size.tokens + extra.tokens + newest;
            return Err(context_overflow(needed, context_window, answer_tokens));
        }
        let before = self.sizes_before.get(omitted).copied().unwrap_or(self.size);
        let size = PromptSize {
            tokens: self.preamble_size.tokens + extra.tokens + self.size.tokens - before.tokens,
            omitted_messages: self.messages_before + before.messages,
            context_window,
        };
        let mut system = self.system();
        if !extra.system.is_empty() {
            system =
                [system.as_str(), extra.system.as_str()].join(if system.is_empty() { "" } else { "\n\n" });
        }
        let prompt = Prompt {
            system,
            seeds: self.seeds(),
            turns: self.turns.clone(),
            omitted,
            result_bytes: self.result_bytes,
            task: self.task.clone(),
        };
        Ok((prompt, size))
    }

    /// Tokens that turns may take.
    fn budget(&self, context_window: u64, answer_tokens: u64) -> u64 {
        context_window.saturating_sub(answer_tokens).saturating_sub(self.preamble_size.tokens)
    }

    /// Turns before the first that fits with all after it.
    fn omitted(&self, budget: u64) -> usize {
        self.sizes_before.partition_point(|before| self.size.tokens - before.tokens > budget)
    }

    fn step(&mut self, message_id: MessageId, event: &Event) -> Option<&mut Step> {
        if !self.in_turn {
            return None;
        }
        // Copied only if a prompt that is still in use has it.
        let turn = Arc::make_mut(Arc::make_mut(&mut self.turns).last_mut()?);
        self.size.add(event, self.result_bytes);
        if turn.steps.last().is_none_or(|step| step.message_id != message_id) {
            turn.steps.push(Step { message_id, response: None, calls: Vec::new() });
        }
        turn.steps.last_mut()
    }

    fn system(&self) -> String {
        let texts = self.preamble.iter().filter_map(|event| match event.as_durable() {
            Some(Durable::SystemMessage { content }) => Some(content.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n\n")
    }

    fn seeds(&self) -> Vec<PromptMessage> {
        let seeds = self.preamble.iter().filter_map(|event| match event.as_durable() {
            Some(Durable::SeedMessage { role: Role::User, content }) => {
                Some(PromptMessage::User(vec![content.clone()]))
            }
            Some(Durable::SeedMessage { role: Role::Assistant, content }) => Some(PromptMessage::Assistant {
                text: content.clone(),
                calls: Vec::new(),
                provider_state: None,
            }),
            _ => None,
        });
        seeds.collect()
    }
}

impl Size {
    fn add(&mut self, event: &Event, result_bytes: usize) {
        self.tokens += event_tokens(event, result_bytes);
        // Results are parts of their calls, and so is what has become of them.
        let is_part =
            |body: &Durable| matches!(body, Durable::ToolCallEnded { .. } | Durable::ApprovalResolved { .. });
        let is_message = !event.as_durable().is_some_and(is_part);
        self.messages += u64::from(is_message);
    }
}

impl Prompt {
    /// A prompt of these messages.
    pub fn new(system: impl Into<String>, messages: impl IntoIterator<Item = PromptMessage>) -> Self {
        let seeds = messages.into_iter().collect();
        Self {
            system: system.into(),
            seeds,
            turns: Arc::default(),
            omitted: 0,
            result_bytes: MAX_RESULT_BYTES,
            task: None,
        }
    }

    pub fn system(&self) -> &str {
        &self.system
    }

    /// The messages, as every provider accepts them: a user first, speakers in turn, nobody silent.
    pub fn messages(&self) -> Vec<PromptMessage> {
        let mut messages = Vec::new();
        for seed in &self.seeds {
            match seed {
                PromptMessage::User(texts) => texts.iter().for_each(|text| push_user(&mut messages, text)),
                PromptMessage::Assistant { text, calls, provider_state } if calls.is_empty() => {
                    push_assistant(&mut messages, text, provider_state.clone());
                }
                other => messages.push(other.clone()),
            }
        }
        let turns = self.turns[self.omitted..].iter();
        let resumes = turns.as_slice().first().is_some_and(|turn| turn.resumes());
        if let Some(input) = self.task.as_deref().and_then(input_of).filter(|_| resumes) {
            push_user(&mut messages, input);
        }
        turns.for_each(|turn| turn.push_to(&mut messages, self.result_bytes));
        if matches!(messages.first(), Some(PromptMessage::Assistant { .. })) {
            // Several providers insist that a user speaks first.
            messages.insert(0, PromptMessage::User(vec!["(The conversation begins.)".to_owned()]));
        }
        messages
    }

    /// The last message alone.
    pub fn last_message(&self) -> Option<PromptMessage> {
        let Some(turn) = self.turns.last() else { return self.seeds.last().cloned() };
        let mut messages = Vec::new();
        turn.push_to(&mut messages, self.result_bytes);
        messages.pop()
    }
}

impl Turn {
    /// It goes on from the turn before it, and says nothing itself of what it is about.
    fn resumes(&self) -> bool {
        matches!(self.user.as_durable(), Some(Durable::RunStarted { .. }))
    }

    fn push_to(&self, messages: &mut Vec<PromptMessage>, result_bytes: usize) {
        match self.user.as_durable() {
            Some(Durable::UserMessage { content, .. }) => push_user(messages, content),
            _ => push_user(messages, RESUMED),
        }
        self.steps.iter().for_each(|step| step.push_to(messages, result_bytes));
    }
}

impl Step {
    fn response(&self) -> Option<&AgentResponse> {
        match self.response.as_ref()?.as_durable()? {
            Durable::AgentResponse(response) => Some(response),
            _ => None,
        }
    }

    fn push_to(&self, messages: &mut Vec<PromptMessage>, result_bytes: usize) {
        let response = self.response();
        let text = response.map_or("", |response| response.content.as_str());
        let provider_state = response.and_then(|response| response.provider_state.clone());
        if self.calls.is_empty() {
            // Providers refuse an assistant that says nothing.
            if !text.is_empty() {
                push_assistant(messages, text, provider_state);
            }
            return;
        }
        let (calls, results) = self.calls.iter().filter_map(|call| call.to_prompt(result_bytes)).unzip();
        messages.push(PromptMessage::Assistant { text: text.to_owned(), calls, provider_state });
        messages.push(PromptMessage::ToolResults(results));
    }
}

impl Call {
    fn id(&self) -> Option<&str> {
        match self.started.as_durable() {
            Some(Durable::ToolCallStarted { tool_call_id, .. }) => Some(tool_call_id),
            _ => None,
        }
    }

    fn to_prompt(&self, result_bytes: usize) -> Option<(ToolCall, ToolResult)> {
        let Some(Durable::ToolCallStarted { tool_call_id, tool_name, args, provider_state, .. }) =
            self.started.as_durable()
        else {
            return None;
        };
        let outcome = match self.ended.as_ref().and_then(|event| event.as_durable()) {
            Some(Durable::ToolCallEnded { outcome, .. }) => {
                let result = outcome.as_deref().map(|result| for_model(result, result_bytes).into_owned());
                result.map_err(|problem| problem.message.clone())
            }
            _ => Err("the outcome of this call is unknown".to_owned()),
        };
        let call = ToolCall {
            id: tool_call_id.clone(),
            name: tool_name.clone(),
            args: args.as_ref().clone(),
            provider_state: provider_state.as_deref().cloned(),
        };
        let outcome = match self.edited.as_ref().and_then(|event| event.as_durable()) {
            Some(Durable::ApprovalResolved { args: Some(args), .. }) => {
                const NOTE: &str = "a person changed the arguments before allowing this call";
                outcome
                    .map(|result| json!({ "note": NOTE, "arguments": args, "result": result }))
                    .map_err(|why| format!("{why} ({NOTE}, to {args})"))
            }
            _ => outcome,
        };
        Some((call, ToolResult { id: tool_call_id.clone(), name: tool_name.clone(), outcome }))
    }
}

fn input_of(created: &Event) -> Option<&str> {
    match created.as_durable()? {
        Durable::Task(change) => match change.as_ref() {
            TaskChange::Created { input, .. } => Some(input),
            _ => None,
        },
        _ => None,
    }
}

/// Adds what a user said; said in a row, it is one message, since providers want speakers to alternate.
fn push_user(messages: &mut Vec<PromptMessage>, text: &str) {
    match messages.last_mut() {
        Some(PromptMessage::User(texts)) => texts.push(text.to_owned()),
        _ => messages.push(PromptMessage::User(vec![text.to_owned()])),
    }
}

fn push_assistant(messages: &mut Vec<PromptMessage>, text: &str, state: Option<super::event::ProviderState>) {
    match messages.last_mut() {
        Some(PromptMessage::Assistant { text: last, calls, provider_state }) if calls.is_empty() => {
            last.push_str("\n\n");
            last.push_str(text);
            *provider_state = state;
        }
        _ => messages.push(PromptMessage::Assistant {
            text: text.to_owned(),
            calls: Vec::new(),
            provider_state: state,
        }),
    }
}

/// An estimate of a text's tokens: four ASCII characters each, one for any other character.
///
/// Within a third of common tokenizers on prose and code, and rather too many than too few.
pub fn estimate_tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let other = text.bytes().filter(|byte| *byte >= 0xC0).count();
    (ascii.div_ceil(4) + other) as u64
}

/// What a message takes beside its text: its role and separators.
const TOKENS_PER_MESSAGE: u64 = 4;

fn message_tokens(text: &str) -> u64 {
    TOKENS_PER_MESSAGE + estimate_tokens(text)
}

fn json_tokens(value: &Value) -> u64 {
    match value {
        Value::String(text) => message_tokens(text),
        other => message_tokens(&other.to_string()),
    }
}

/// As much of a result as a model is told.
fn for_model(result: &Value, max_bytes: usize) -> Cow<'_, Value> {
    let text = match result {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        other => Cow::Owned(other.to_string()),
    };
    if text.len() <= max_bytes {
        return Cow::Borrowed(result);
    }
    let kept = &text[..text.floor_char_boundary(max_bytes)];
    Cow::Owned(format!("{kept}\n… (cut: the first {} of {} bytes)", kept.len(), text.len()).into())
}

pub(super) fn event_tokens(event: &Event, result_bytes: usize) -> u64 {
    match event.as_durable() {
        Some(Durable::UserMessage { content, .. }) => message_tokens(content),
        Some(Durable::AgentResponse(response)) => message_tokens(&response.content),
        Some(Durable::ToolCallStarted { args, tool_name, .. }) => {
            json_tokens(args) + estimate_tokens(tool_name)
        }
        Some(Durable::ToolCallEnded { outcome, .. }) => match outcome {
            Ok(result) => json_tokens(&for_model(result, result_bytes)),
            Err(problem) => message_tokens(&problem.message),
        },
        Some(Durable::RunStarted { trigger: Trigger::Resumed }) => message_tokens(RESUMED),
        Some(Durable::ApprovalResolved { args: Some(args), .. }) => json_tokens(args) + 32,
        _ => 0,
    }
}

fn context_overflow(needed: u64, window: u64, answer: u64) -> Problem {
    let message = format!(
        "the newest message and the system and seed messages take about {needed} tokens; the model's window \
         has room for {} beside an answer. Send a shorter message or start a new chat",
        window.saturating_sub(answer)
    );
    Problem::new(ErrorCode::ContextOverflow, message).with(
        serde_json::json!({ "tokens_needed": needed, "context_window": window, "answer_tokens": answer }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        event::{AgentResponse, EndReason, Entry, FinishReason, Outcome, Queued, Timestamp, Trigger, Usage},
        ids::{Principal, Topic},
    };

    /// A log in the making.
    #[derive(Default)]
    struct Log {
        conversation: Conversation,
        seq: u64,
    }

    impl Log {
        fn push(&mut self, run_id: Option<RunId>, body: Durable) {
            self.seq += 1;
            let entry = Entry { run_id, body };
            let event = Event::durable(Topic::System, "e".into(), self.seq, Timestamp(0), entry);
            self.conversation.apply(&Arc::new(event));
        }

        fn seed(&mut self, role: Role, content: &str) {
            self.push(None, Durable::SeedMessage { role, content: content.into() });
        }

        fn user(&mut self, run_id: RunId, content: &str) {
            self.push(
                Some(run_id),
                Durable::UserMessage {
                    message_id: MessageId::new(),
                    command_id: None,
                    content: content.into(),
                    author: Principal::local(),
                    queue: Queued::No,
                },
            );
        }

        fn start(&mut self, run_id: RunId) {
            self.push(Some(run_id), Durable::RunStarted { trigger: Trigger::UserMessage });
        }

        fn respond(&mut self, run_id: RunId, content: &str) -> MessageId {
            let message_id = MessageId::new();
            self.push(
                Some(run_id),
                Durable::AgentResponse(Box::new(AgentResponse {
                    message_id,
                    content: content.into(),
                    model: "demo".into(),
                    finish_reason: FinishReason::Stop,
                    usage: None,
                    incomplete: false,
                    provider_state: None,
                })),
            );
            message_id
        }

        fn call(&mut self, run_id: RunId, message_id: MessageId, id: &str) {
            self.push(
                Some(run_id),
                Durable::ToolCallStarted {
                    message_id,
                    tool_call_id: id.into(),
                    tool_name: "clock".into(),
                    args: Box::default(),
                    provider_state: None,
                },
            );
        }

        fn result(&mut self, run_id: RunId, message_id: MessageId, id: &str, result: &str) {
            self.push(
                Some(run_id),
                Durable::ToolCallEnded {
                    message_id,
                    tool_call_id: id.into(),
                    tool_name: "clock".into(),
                    outcome: Ok(Box::new(result.into())),
                    duration_ms: 0,
                },
            );
        }

        fn finish(&mut self, run_id: RunId, outcome: Outcome, reason: Option<EndReason>) {
            let usage = Usage::default();
            self.push(Some(run_id), Durable::RunFinished { outcome, reason, usage, duration_ms: 0 });
        }

        fn turn(&mut self, question: &str, answer: &str) {
            let run_id = RunId::new();
            self.user(run_id, question);
            self.start(run_id);
            self.respond(run_id, answer);
            self.finish(run_id, Outcome::Completed, None);
        }

        fn messages(&self) -> Vec<PromptMessage> {
            self.conversation.prompt(1_000_000, 0, &Extra::default()).unwrap().0.messages()
        }
    }

    fn user(text: &str) -> PromptMessage {
        PromptMessage::User(vec![text.into()])
    }

    fn assistant(text: &str) -> PromptMessage {
        PromptMessage::Assistant { text: text.into(), calls: Vec::new(), provider_state: None }
    }

    #[test]
    fn a_queued_message_enters_the_conversation_where_its_run_begins() {
        let mut log = Log::default();
        let (first, second) = (RunId::new(), RunId::new());
        log.user(first, "one");
        log.start(first);
        log.user(second, "two");
        log.respond(first, "answer to one");
        log.finish(first, Outcome::Completed, None);
        log.start(second);

        let messages = log.messages();

        assert_eq!(messages, [user("one"), assistant("answer to one"), user("two")]);
    }

    #[test]
    fn a_run_that_goes_on_is_told_its_input_again_where_that_is_left_out() {
        let mut log = Log::default();
        let (first, second) = (RunId::new(), RunId::new());
        let created = TaskChange::Created { name: "Count".into(), input: "count to ten".into() };
        log.push(None, Durable::Task(Box::new(created)));
        log.user(first, "count to ten");
        log.push(Some(first), Durable::RunStarted { trigger: Trigger::Task });
        log.respond(first, &"one ".repeat(200));
        log.finish(first, Outcome::Interrupted, Some(EndReason::Crashed));
        log.push(Some(second), Durable::RunStarted { trigger: Trigger::Resumed });

        let extra = Extra::default();
        let all = log.conversation.prompt(1_000_000, 0, &extra).unwrap().0.messages();
        let (prompt, size) = log.conversation.prompt(100, 0, &extra).unwrap();

        assert_eq!((all.len(), &all[0], &all[2]), (3, &user("count to ten"), &user(RESUMED)));
        let retold = PromptMessage::User(vec!["count to ten".into(), RESUMED.into()]);
        assert_eq!(prompt.messages(), [retold]);
        assert!(size.omitted_messages > 0 && size.tokens <= 100);
    }

    #[test]
    fn a_message_cleared_from_the_queue_never_enters_it() {
        let mut log = Log::default();
        let cleared = RunId::new();
        log.user(cleared, "never mind");
        log.finish(cleared, Outcome::Cancelled, Some(EndReason::Cleared));
        log.turn("hello", "hi");

        assert_eq!(log.messages(), [user("hello"), assistant("hi")]);
    }

    #[test]
    fn speakers_alternate_and_a_user_speaks_first() {
        let mut log = Log::default();
        log.seed(Role::Assistant, "welcome");
        let failed = RunId::new();
        log.user(failed, "one");
        log.start(failed);
        log.finish(failed, Outcome::Failed, Some(EndReason::Failed));
        log.turn("two", "answer");

        let messages = log.messages();

        let expected = [
            user("(The conversation begins.)"),
            assistant("welcome"),
            PromptMessage::User(vec!["one".into(), "two".into()]),
            assistant("answer"),
        ];
        assert_eq!(messages, expected);
    }

    #[test]
    fn results_stand_in_the_order_of_their_calls() {
        let mut log = Log::default();
        let run_id = RunId::new();
        log.user(run_id, "what time is it?");
        log.start(run_id);
        let step = log.respond(run_id, "let me see");
        log.call(run_id, step, "a");
        log.call(run_id, step, "b");
        log.result(run_id, step, "b", "2");
        assert_eq!(log.conversation.open_calls().len(), 1);
        log.result(run_id, step, "a", "1");

        let messages = log.messages();

        let PromptMessage::Assistant { calls, .. } = &messages[1] else { panic!("{messages:?}") };
        let PromptMessage::ToolResults(results) = &messages[2] else { panic!("{messages:?}") };
        assert_eq!(calls.iter().map(|call| &call.id).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(results.iter().map(|result| &result.id).collect::<Vec<_>>(), ["a", "b"]);
        assert!(log.conversation.open_calls().is_empty());
    }

    #[test]
    fn the_oldest_turns_are_left_out_first_and_whole() {
        let mut log = Log::default();
        log.push(None, Durable::SystemMessage { content: "s".repeat(40) });
        for _ in 0..10 {
            log.turn(&"q".repeat(400), &"a".repeat(400));
        }
        let (_, all) = log.conversation.prompt(1_000_000, 0, &Extra::default()).unwrap();

        let (prompt, size) = log.conversation.prompt(all.tokens - 1, 0, &Extra::default()).unwrap();

        assert_eq!(size.omitted_messages, 2);
        assert_eq!(prompt.messages().len(), 18);
        assert_eq!(prompt.system().len(), 40, "the system message always stays");
        assert!(size.tokens < all.tokens);
    }

    #[test]
    fn what_cannot_fit_is_an_overflow() {
        let mut log = Log::default();
        log.turn(&"x".repeat(4_000), "");

        let problem = log.conversation.prompt(1_200, 400, &Extra::default()).unwrap_err();

        assert_eq!(problem.code, ErrorCode::ContextOverflow);
        assert!(log.conversation.prompt(1_500, 400, &Extra::default()).is_ok());
    }

    #[test]
    fn tokens_are_estimated_by_script() {
        assert_eq!(estimate_tokens(""), 0);
        assert_eq!(estimate_tokens("word"), 1);
        assert_eq!(estimate_tokens("日本語"), 3);
    }
}
