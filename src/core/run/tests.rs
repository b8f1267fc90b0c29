use std::{collections::HashSet, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::core::{
    conversation::{Conversation, Extra},
    event::{Event, Queued, Timestamp, Trigger},
    ids::{Principal, Seq, SessionId, Topic},
    ports::PromptMessage,
    session::SessionState,
};

const WINDOW: PromptSize = PromptSize { tokens: 10, omitted_messages: 0, context_window: 1_000 };

/// A run with everything that the agent does for it, the log of its session included.
struct Bench {
    run: Run,
    log: Log,
    now: Instant,
    /// Batches that are not in the log yet, and what the run is told once they are.
    pending: Vec<(Vec<Entry>, Input)>,
    model_called: bool,
    calls: Vec<ToolCall>,
    shown: Vec<Ephemeral>,
    /// Pieces of the message that is streaming; the last is still being saved where `saving`.
    saved: Vec<String>,
    saving: bool,
    reminders: usize,
    pauses: usize,
    finished: Option<Outcome>,
}

struct Log {
    events: Vec<Arc<Event>>,
    conversation: Conversation,
    state: SessionState,
}

impl Default for Log {
    fn default() -> Self {
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: String::new(),
            title: None,
            forked_from: None,
        };
        let topic = Topic::Session(SessionId::new(&"helper".parse().unwrap(), 100));
        let created = Event::durable(topic, "e".into(), 1, Timestamp(0), created.into());
        let state = SessionState::begin(&created).unwrap();
        Self { events: Vec::new(), conversation: Conversation::default(), state }
    }
}

impl Log {
    fn append(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let seq = self.events.len() as Seq + 1;
            let topic = Topic::Session(SessionId::new(&"helper".parse().unwrap(), 100));
            let event = Arc::new(Event::durable(topic, "e".into(), seq, Timestamp(0), entry));
            self.conversation.apply(&event);
            self.state.apply(&event);
            self.events.push(event);
        }
    }

    /// The run that has begun and not ended.
    fn open_run(&self) -> Option<RunId> {
        self.events.iter().fold(None, |open, event| match event.as_durable() {
            Some(Durable::RunStarted { .. }) => event.run_id,
            Some(Durable::RunFinished { .. }) if open == event.run_id => None,
            _ => open,
        })
    }

    fn names(&self) -> Vec<&'static str> {
        let name = |event: &Arc<Event>| match event.as_durable().unwrap() {
            Durable::SessionCreated { .. } => "session_created",
            Durable::SystemMessage { .. } => "system_message",
            Durable::SeedMessage { .. } => "seed_message",
            Durable::UserMessage { .. } => "user_message",
            Durable::RunStarted { .. } => "run_started",
            Durable::ToolCallStarted { .. } => "tool_call.start",
            Durable::ToolCallEnded { .. } => "tool_call.end",
            Durable::AgentResponse(_) => "agent_response",
            Durable::ContextUpdated(_) => "context_update",
            Durable::Error { .. } => "error",
            Durable::RunFinished { .. } => "run_finished",
            Durable::SessionUpdated { .. } => "session_updated",
            Durable::SessionClosed { .. } => "session_closed",
            Durable::ApprovalRequested { .. } => "approval_requested",
            Durable::ApprovalResolved { .. } => "approval_resolved",
            Durable::StatePatched { .. } => "state.patch",
            Durable::Suggested { .. } => "suggestions",
            Durable::Task(_) => "task",
            Durable::Progressed(_) => "progress_update",
        };
        self.events.iter().map(name).collect()
    }
}

fn user_message(run_id: RunId, content: &str) -> Entry {
    Entry::of_run(
        run_id,
        Durable::UserMessage {
            message_id: MessageId::new(),
            command_id: None,
            content: content.to_owned(),
            author: Principal::local(),
            queue: Queued::No,
        },
    )
}

fn run_started(run_id: RunId) -> Entry {
    Entry::of_run(run_id, Durable::RunStarted { trigger: Trigger::UserMessage })
}

impl Bench {
    fn new(log: Log) -> Self {
        let (run_id, now) = (RunId::new(), Instant::now());
        Self {
            run: Run::starting(run_id, "demo", 16, now),
            log,
            now,
            pending: vec![(vec![user_message(run_id, "hello"), run_started(run_id)], Input::Committed)],
            model_called: false,
            calls: Vec::new(),
            shown: Vec::new(),
            saved: Vec::new(),
            saving: false,
            reminders: 0,
            pauses: 0,
            finished: None,
        }
    }

    fn started() -> Self {
        let mut bench = Self::new(Log::default());
        bench.commit();
        assert!(bench.model_called);
        bench
    }

    fn feed(&mut self, input: Input) {
        for effect in self.run.handle(input, self.now) {
            match effect {
                Effect::CallModel => {
                    self.model_called = true;
                    assert!(self.run.handle(Input::Prompted(WINDOW), self.now).is_empty());
                }
                Effect::DropModel => self.model_called = false,
                Effect::CallTools(calls) => self.calls.extend(calls),
                Effect::Paused => self.pauses += 1,
                Effect::DropTools => self.calls.clear(),
                Effect::Show(event) => self.shown.push(event),
                Effect::Save { text, .. } => {
                    assert!(!std::mem::replace(&mut self.saving, true), "one piece at a time");
                    self.saved.push(text);
                }
                Effect::Remind(_) => self.reminders += 1,
                Effect::Append(entries) | Effect::End(entries, _) => {
                    self.pending.push((entries, Input::Committed));
                }
                Effect::Finished(outcome) => {
                    assert!(self.finished.replace(outcome).is_none(), "a run ends once");
                }
            }
        }
    }

    /// The oldest batch that is on its way gets into the log.
    fn commit(&mut self) {
        if !self.pending.is_empty() {
            let (entries, then) = self.pending.remove(0);
            self.log.append(entries);
            self.feed(then);
        }
    }

    fn commit_all(&mut self) {
        while !self.pending.is_empty() {
            self.commit();
        }
    }

    fn say(&mut self, text: &str) {
        self.feed(Input::Text(text.to_owned()));
    }

    fn ask_for(&mut self, call: ToolCall) {
        self.feed(Input::ToolCall { call, needs_approval: false });
    }

    fn end_model(&mut self) {
        let finish_reason = FinishReason::Stop;
        self.feed(Input::ModelEnded { finish_reason, usage: None, provider_state: None });
    }

    fn save(&mut self, outcome: Result<(), Problem>) {
        self.saving = false;
        self.feed(Input::Saved(outcome));
    }

    fn end_tool(&mut self, id: &str, outcome: Result<Value, Problem>) {
        self.calls.retain(|call| call.id != id);
        self.feed(Input::ToolEnded { tool_call_id: id.to_owned(), outcome, done: Vec::new() });
    }

    /// Somebody allows or denies a call, as the agent has it done; whether that could be.
    fn settle(&mut self, id: &str, decision: Decision) -> bool {
        if self.run.asked(id).is_none() {
            return false;
        }
        let end = self.run.denied(id, Some("no")).filter(|_| decision == Decision::Denied);
        let resolved = Durable::ApprovalResolved {
            tool_call_id: id.to_owned(),
            decision,
            by: Some(Principal::local()),
            reason: None,
            args: None,
        };
        let entries = std::iter::once(Entry::of_run(self.run.id(), resolved)).chain(end).collect();
        self.feed(Input::Settling { tool_call_id: id.to_owned() });
        let settled = Input::Settled { tool_call_id: id.to_owned(), decision, args: None };
        self.pending.push((entries, settled));
        true
    }

    /// The store refuses somebody's answer, if that is what comes next.
    fn refuse_settlement(&mut self) {
        if let Some((_, Input::Settled { tool_call_id, .. })) = self.pending.first() {
            let tool_call_id = tool_call_id.clone();
            self.pending.remove(0);
            self.feed(Input::Unsettled { tool_call_id });
        }
    }

    /// The agent dies, and another finds the log: with a run that only waits it goes on.
    fn crash(self) -> Self {
        let mut log = self.log;
        let Some(run_id) = log.open_run() else { return Self::new(log) };
        let waiting = log.conversation.waiting_run(run_id, &log.state.approvals);
        let is_streaming = !self.run.step.text.is_empty();
        if let Some(waiting) =
            waiting.filter(|run| !is_streaming && (!run.calls.is_empty() || self.run.is_paused()))
        {
            let mut bench = Self::new(log);
            bench.pending.clear();
            bench.run = Run::waiting(waiting, "demo", 16, bench.now);
            bench.feed(Input::Restored);
            return bench;
        }
        let text = Some((self.run.step.message_id, self.run.step.text.clone()));
        let open_calls = log.conversation.open_calls();
        let approvals = log.state.approvals.clone();
        log.append(crashed(run_id, "demo", text, open_calls, &approvals));
        Self::new(log)
    }

    fn last_response(&self) -> &AgentResponse {
        let responses = self.log.events.iter().rev().filter_map(|event| match event.as_durable()? {
            Durable::AgentResponse(response) => Some(response),
            _ => None,
        });
        responses.into_iter().next().expect("a response")
    }
}

fn call(id: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: "clock".to_owned(), args: Value::Null, provider_state: None }
}

fn failure() -> Problem {
    Problem::new(ErrorCode::ProviderError, "it broke")
}

#[test]
fn an_answer_ends_the_run_in_one_batch() {
    let mut bench = Bench::started();
    bench.say("hel");
    bench.say("lo");
    bench.end_model();
    assert_eq!(bench.pending.len(), 1);
    bench.commit_all();

    assert_eq!(bench.finished, Some(Outcome::Completed));
    let expected = ["user_message", "run_started", "agent_response", "context_update", "run_finished"];
    assert_eq!(bench.log.names(), expected);
    assert_eq!(bench.last_response().content, "hello");
}

#[test]
fn offsets_count_code_points() {
    let mut bench = Bench::started();
    for text in ["é日", "😀", "x"] {
        bench.say(text);
    }

    let offsets: Vec<_> = bench
        .shown
        .iter()
        .filter_map(|event| match event {
            Ephemeral::MessageDelta { offset, .. } => Some(*offset),
            _ => None,
        })
        .collect();
    assert_eq!(offsets, [0, 2, 3]);
}

#[test]
fn two_kibibytes_of_an_answer_are_saved_and_what_came_meanwhile_after_them() {
    let mut bench = Bench::started();
    bench.say(&"a".repeat(SAVE_BYTES - 1));
    assert!(bench.saved.is_empty());
    bench.say("b");
    bench.say(&"c".repeat(SAVE_BYTES));
    assert_eq!(bench.saved.len(), 1, "the next piece waits for the one before");

    bench.save(Ok(()));

    assert!(bench.saving);
    assert_eq!(bench.saved.concat(), bench.run.step.text);
}

#[test]
fn what_comes_slowly_is_saved_in_time() {
    let mut bench = Bench::started();
    bench.say("a");
    assert_eq!((bench.reminders, bench.saved.len()), (1, 0));

    bench.now += SAVE_AFTER;
    bench.feed(Input::Reminded);
    assert_eq!(bench.saved, ["a"]);

    bench.save(Ok(()));
    bench.say("b");
    assert_eq!((bench.reminders, bench.saved.len()), (2, 1), "its own time begins with it");
    bench.now += SAVE_AFTER;
    bench.say("c");
    assert_eq!(bench.saved, ["a", "bc"]);
}

#[test]
fn a_store_that_refuses_ends_the_answer() {
    let mut bench = Bench::started();
    bench.say(&"a".repeat(SAVE_BYTES));
    bench.save(Err(Problem::unavailable("full")));

    assert!(!bench.model_called, "the provider is no longer read");
    bench.commit_all();
    assert_eq!(bench.finished, Some(Outcome::Failed));
    assert_eq!(bench.last_response().content.len(), SAVE_BYTES, "what was shown is kept");
}

#[test]
fn a_large_delta_is_shown_in_pieces() {
    let mut bench = Bench::started();
    bench.say(&"日".repeat(MAX_DELTA_BYTES));

    let mut text = String::new();
    for event in &bench.shown {
        if let Ephemeral::MessageDelta { offset, text: piece, .. } = event {
            assert_eq!(*offset, text.chars().count() as u64);
            assert!(piece.len() <= MAX_DELTA_BYTES);
            text.push_str(piece);
        }
    }
    assert_eq!(text, "日".repeat(MAX_DELTA_BYTES));
}

#[test]
fn an_answer_past_the_limit_is_cut_there() {
    for unit in ["x", "日", "\u{1}", "\"\\", "😀\n"] {
        let mut bench = Bench::started();
        let flood = unit.repeat(100 * 1024);
        for _ in 0..20 {
            bench.say(&flood);
        }
        assert!(!bench.model_called, "the provider is let go");
        bench.commit_all();

        assert_eq!(bench.finished, Some(Outcome::Completed));
        let response = bench.last_response();
        assert_eq!((response.finish_reason, response.incomplete), (FinishReason::Length, true));
        let json = serde_json::to_string(&response.content).unwrap().len() - 2;
        assert!(json <= MAX_ANSWER_BYTES && json > MAX_ANSWER_BYTES - 16, "{unit:?}: {json}");
    }
}

#[test]
fn a_stop_keeps_the_text_and_lets_the_provider_go() {
    let mut bench = Bench::started();
    bench.say("half an ans");
    bench.feed(Input::Stop(EndReason::Stopped));
    assert!(!bench.model_called);
    bench.say("wer that comes late");
    bench.commit_all();

    assert_eq!(bench.finished, Some(Outcome::Cancelled));
    assert_eq!(bench.last_response().content, "half an ans");
    assert!(bench.last_response().incomplete);
}

#[test]
fn a_stop_while_the_run_is_being_logged_waits_for_the_log() {
    let mut bench = Bench::new(Log::default());
    bench.feed(Input::Stop(EndReason::Stopped));
    assert_eq!(bench.pending.len(), 1);
    bench.commit_all();

    assert!(!bench.model_called, "the model is never called");
    assert_eq!(bench.log.names(), ["user_message", "run_started", "run_finished"]);
    assert_eq!(bench.finished, Some(Outcome::Cancelled));
}

#[test]
fn a_failure_says_why_and_keeps_the_text() {
    let mut bench = Bench::started();
    bench.say("half");
    bench.feed(Input::ModelFailed(failure()));
    bench.commit_all();

    assert_eq!(bench.finished, Some(Outcome::Failed));
    let expected =
        ["user_message", "run_started", "agent_response", "context_update", "error", "run_finished"];
    assert_eq!(bench.log.names(), expected);
}

#[test]
fn a_failure_without_text_has_no_response() {
    let mut bench = Bench::started();
    bench.feed(Input::ModelFailed(failure()));
    bench.commit_all();

    assert_eq!(bench.log.names(), ["user_message", "run_started", "error", "run_finished"]);
}

#[test]
fn tools_are_called_once_the_calls_are_in_the_log() {
    let mut bench = Bench::started();
    bench.say("let me see");
    bench.ask_for(call("a"));
    bench.ask_for(call("b"));
    bench.end_model();
    assert!(bench.calls.is_empty());
    bench.model_called = false;
    bench.commit();
    assert_eq!(bench.calls.len(), 2);

    bench.end_tool("b", Ok(2.into()));
    bench.end_tool("b", Ok(3.into()));
    bench.commit_all();
    assert!(!bench.model_called, "one call is still open");
    bench.end_tool("a", Err(failure()));
    bench.commit_all();
    assert!(bench.model_called, "the results go back to the model");
    bench.say("it is noon");
    bench.end_model();
    bench.commit_all();

    assert_eq!(bench.finished, Some(Outcome::Completed));
    let expected = [
        "user_message",
        "run_started",
        "agent_response",
        "context_update",
        "tool_call.start",
        "tool_call.start",
        "tool_call.end",
        "tool_call.end",
        "agent_response",
        "context_update",
        "run_finished",
    ];
    assert_eq!(bench.log.names(), expected);
}

#[test]
fn a_stop_closes_every_open_call_first() {
    let mut bench = Bench::started();
    for id in ["a", "b"] {
        bench.ask_for(call(id));
    }
    bench.end_model();
    bench.commit();
    bench.end_tool("a", Ok(1.into()));
    bench.feed(Input::Stop(EndReason::Stopped));
    bench.commit_all();

    let names = bench.log.names();
    assert_eq!(names[names.len() - 3..], ["tool_call.end", "tool_call.end", "run_finished"]);
    assert!(bench.log.conversation.open_calls().is_empty());
    assert_eq!(bench.finished, Some(Outcome::Cancelled));
}

/// A step with calls of which the last needs to be allowed, in the log.
fn asking(ids: &[&str]) -> Bench {
    let mut bench = Bench::started();
    for (at, id) in ids.iter().enumerate() {
        bench.feed(Input::ToolCall { call: call(id), needs_approval: at + 1 == ids.len() });
    }
    bench.end_model();
    bench.model_called = false;
    bench.commit_all();
    bench
}

fn last_status(bench: &Bench) -> Option<AgentStatus> {
    let statuses = bench.shown.iter().rev().filter_map(|event| match event {
        Ephemeral::AgentStatus(status) => Some(*status),
        _ => None,
    });
    statuses.into_iter().next()
}

#[test]
fn a_call_that_must_be_allowed_waits_and_the_others_do_not() {
    let mut bench = asking(&["a", "b"]);
    assert_eq!(bench.calls.iter().map(|call| call.id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(bench.log.names().last(), Some(&"approval_requested"));
    assert_eq!(last_status(&bench), Some(AgentStatus::CallingTool));
    bench.end_tool("a", Ok(1.into()));
    bench.commit_all();
    assert_eq!(last_status(&bench), Some(AgentStatus::WaitingApproval));
    assert!(!bench.model_called);

    assert!(bench.settle("b", Decision::Approved));
    assert!(!bench.settle("b", Decision::Denied), "the first answer counts");
    assert!(bench.calls.is_empty(), "not before it is in the log");
    bench.commit_all();
    assert_eq!(bench.calls[0].id, "b");
    bench.end_tool("b", Ok(2.into()));
    bench.commit_all();

    assert!(bench.model_called);
}

#[test]
fn a_call_that_is_denied_is_not_made_and_the_model_is_told() {
    let mut bench = asking(&["a"]);
    bench.settle("a", Decision::Denied);
    bench.commit_all();

    assert!(bench.calls.is_empty());
    assert!(bench.model_called);
    let messages = bench.log.conversation.prompt(1_000_000, 0, &Extra::default()).unwrap().0.messages();
    let Some(PromptMessage::ToolResults(results)) = messages.last() else { panic!("{messages:?}") };
    assert!(results[0].outcome.as_ref().unwrap_err().contains("did not allow this call: no"), "{results:?}");
}

#[test]
fn a_call_that_nobody_answers_is_denied_in_time() {
    let mut bench = asking(&["a"]);
    assert!(bench.reminders > 0);
    bench.now += APPROVAL_TIME - Duration::from_secs(1);
    bench.feed(Input::Reminded);
    assert!(bench.run.asked("a").is_some());

    bench.now += Duration::from_secs(1);
    bench.feed(Input::Reminded);
    assert!(bench.run.asked("a").is_none());
    bench.commit_all();

    assert!(bench.model_called);
    assert_eq!(bench.log.state.approvals, []);
}

#[test]
fn a_stop_while_a_call_is_being_denied_ends_it_once() {
    let mut bench = asking(&["a"]);
    bench.settle("a", Decision::Denied);
    bench.feed(Input::Stop(EndReason::Stopped));
    bench.commit_all();

    assert_eq!(bench.finished, Some(Outcome::Cancelled));
    assert_eq!(bench.log.names().iter().filter(|name| **name == "tool_call.end").count(), 1);
}

#[test]
fn an_answer_that_the_store_refuses_can_be_given_again() {
    let mut bench = asking(&["a"]);
    bench.settle("a", Decision::Denied);
    bench.refuse_settlement();

    assert!(bench.settle("a", Decision::Approved));
    bench.commit_all();
    assert_eq!(bench.calls.len(), 1);
}

#[test]
fn a_run_that_waits_for_approval_outlives_its_agent() {
    let mut bench = asking(&["a"]).crash();
    assert_eq!(bench.run.asked("a").map(|call| call.name.as_str()), Some("clock"));
    assert_eq!(last_status(&bench), Some(AgentStatus::WaitingApproval));

    bench.settle("a", Decision::Approved);
    bench.commit_all();
    bench.end_tool("a", Ok(1.into()));
    bench.commit_all();
    assert!(bench.model_called);
    bench.say("done");
    bench.end_model();
    bench.commit_all();
    assert_eq!(bench.finished, Some(Outcome::Completed));
}

#[test]
fn a_call_that_was_being_made_is_not_made_again_after_a_crash() {
    let mut bench = asking(&["a", "b"]);
    bench = bench.crash();

    assert_eq!(bench.log.open_run(), None);
    let names = bench.log.names();
    assert_eq!(names[names.len() - 4..], ["tool_call.end", "tool_call.end", "error", "run_finished"]);
}

#[test]
fn a_crash_tells_calls_that_were_made_from_those_that_nobody_had_allowed() {
    let bench = asking(&["a", "b"]).crash();

    let errors: Vec<_> = bench
        .log
        .events
        .iter()
        .filter_map(|event| match event.as_durable()? {
            Durable::ToolCallEnded { outcome: Err(problem), .. } => problem.details["reason"].as_str(),
            _ => None,
        })
        .collect();
    assert_eq!(errors, ["unknown", "cancelled"]);
}

#[test]
fn a_stop_of_the_server_does_not_know_what_a_call_has_done() {
    for (reason, said) in [(EndReason::Shutdown, true), (EndReason::Stopped, false)] {
        let mut bench = asking(&["a", "b"]);
        bench.feed(Input::Stop(reason));
        let (entries, _) = bench.pending.last().unwrap();
        assert_eq!(entries.iter().filter(|entry| is_unknown(entry)).count(), usize::from(said), "{reason:?}");
    }
}

#[test]
fn a_pause_takes_effect_at_the_next_step() {
    let mut bench = Bench::started();
    bench.feed(Input::Pause);
    bench.ask_for(call("a"));
    bench.end_model();
    bench.model_called = false;
    bench.commit_all();
    bench.end_tool("a", Ok(1.into()));
    assert_eq!(bench.pauses, 0);
    bench.commit_all();
    assert_eq!((bench.pauses, bench.model_called), (1, false));

    bench = bench.crash();
    assert!(bench.run.is_paused(), "it outlives its agent");
    bench.feed(Input::Resume);
    assert!(bench.model_called);
}

#[test]
fn arguments_that_are_no_json_fit_into_an_event() {
    let mut bench = Bench::started();
    let args = Value::String("\u{1}".repeat(256 * 1024));
    bench.ask_for(ToolCall { args, ..call("a") });
    bench.end_model();
    bench.commit_all();

    let written = bench.calls[0].args.to_string().len();
    assert!(written > MAX_ANSWER_BYTES / 2 && written <= MAX_ANSWER_BYTES + 2, "{written}");
}

#[test]
fn two_calls_of_one_id_are_told_apart() {
    let mut bench = Bench::started();
    bench.ask_for(call("a"));
    bench.ask_for(call("a"));
    bench.end_model();
    bench.commit_all();

    assert_eq!(bench.calls.iter().map(|call| call.id.as_str()).collect::<Vec<_>>(), ["a", "a_2"]);
}

#[test]
fn a_model_that_only_calls_tools_is_ended() {
    let mut bench = Bench::started();
    for round in 0..100 {
        if bench.finished.is_some() {
            break;
        }
        let id = format!("call-{round}");
        bench.ask_for(call(&id));
        bench.end_model();
        bench.commit_all();
        bench.end_tool(&id, Ok(1.into()));
        bench.commit_all();
    }

    assert_eq!(bench.finished, Some(Outcome::Failed));
    assert_eq!(bench.log.names().iter().filter(|name| **name == "tool_call.start").count(), 16);
}

#[test]
fn the_context_is_counted_by_the_provider_or_estimated() {
    let context = |usage| {
        let mut bench = Bench::started();
        bench.say("twelve chars");
        bench.feed(Input::ModelEnded { finish_reason: FinishReason::Stop, usage, provider_state: None });
        bench.commit_all();
        let context = bench.log.events.iter().find_map(|event| match event.as_durable()? {
            Durable::ContextUpdated(context) => Some(*context),
            _ => None,
        });
        context.unwrap()
    };

    let counted = context(Some(Usage { prompt_tokens: 300, completion_tokens: 50 }));
    assert_eq!((counted.tokens_used, counted.source), (350, TokenSource::Provider));
    assert_eq!(counted.percentage(), 35);
    let estimated = context(None);
    assert_eq!((estimated.tokens_used, estimated.source), (13, TokenSource::Estimate));
}

// ---- any sequence ----

#[derive(Debug, Clone)]
enum Step {
    Commit,
    Text(String),
    /// A call with this id, so that ids repeat within a run; or one that somebody must allow.
    Call(u8, bool),
    Settle(u8, Decision),
    RefuseSettlement,
    /// Time passes: nobody has answered.
    Expire,
    Pause,
    Resume,
    EndModel,
    FailModel,
    EndTool(u8, bool),
    Stop(EndReason),
    /// The agent dies, and another finds the log.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Commit),
        4 => prop_oneof![Just(String::new()), Just("hi 😀".to_owned())].prop_map(Step::Text),
        4 => (0..3_u8, any::<bool>()).prop_map(|(id, asks)| Step::Call(id, asks)),
        4 => (0..3_u8, prop_oneof![Just(Decision::Approved), Just(Decision::Denied)])
            .prop_map(|(id, decision)| Step::Settle(id, decision)),
        1 => Just(Step::RefuseSettlement),
        1 => Just(Step::Expire),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        3 => Just(Step::EndModel),
        1 => Just(Step::FailModel),
        4 => (0..3_u8, any::<bool>()).prop_map(|(id, well)| Step::EndTool(id, well)),
        1 => prop_oneof![
            Just(EndReason::Stopped),
            Just(EndReason::Replaced),
            Just(EndReason::Closed),
            Just(EndReason::Shutdown)
        ]
        .prop_map(Step::Stop),
        1 => Just(Step::Crash),
    ]
}

/// Plays steps over as many runs as they make, then stops what is going; the log that this leaves.
fn play(steps: Vec<Step>) -> Log {
    let mut bench = Bench::new(Log::default());
    for step in steps {
        match step {
            Step::Commit => bench.commit(),
            Step::Text(text) => bench.say(&text),
            Step::Call(id, needs_approval) => {
                let call = call(&format!("call-{id}"));
                bench.feed(Input::ToolCall { call, needs_approval });
            }
            Step::Settle(id, decision) => {
                let asked: Vec<_> =
                    bench.log.state.approvals.iter().map(|asked| asked.tool_call_id.clone()).collect();
                if let Some(id) = asked.get(id as usize % asked.len().max(1)) {
                    bench.settle(id, decision);
                }
            }
            Step::RefuseSettlement => bench.refuse_settlement(),
            Step::Expire => {
                bench.now += APPROVAL_TIME;
                bench.feed(Input::Reminded);
            }
            Step::Pause => bench.feed(Input::Pause),
            Step::Resume => bench.feed(Input::Resume),
            Step::EndModel => bench.end_model(),
            Step::FailModel => bench.feed(Input::ModelFailed(failure())),
            Step::EndTool(id, well) => {
                let called: Vec<_> = bench.calls.iter().map(|call| call.id.clone()).collect();
                if let Some(id) = called.get(id as usize % called.len().max(1)) {
                    bench.end_tool(id, if well { Ok(1.into()) } else { Err(failure()) });
                }
            }
            Step::Stop(reason) => bench.feed(Input::Stop(reason)),
            Step::Crash => bench = bench.crash(),
        }
        if bench.finished.is_some() {
            bench = Bench::new(bench.log);
        }
    }
    bench.feed(Input::Stop(EndReason::Stopped));
    bench.commit_all();
    assert!(bench.finished.is_some(), "a stop ends any run");
    bench.log
}

/// What every provider accepts: a user first, speakers in turn, nobody silent, each call answered.
fn check_accepted(messages: &[PromptMessage]) {
    assert!(matches!(messages.first(), None | Some(PromptMessage::User(_))));
    for pair in messages.windows(2) {
        let accepted = match (&pair[0], &pair[1]) {
            (PromptMessage::User(_), PromptMessage::Assistant { .. }) => true,
            (PromptMessage::Assistant { calls, .. }, PromptMessage::ToolResults(results)) => {
                !calls.is_empty()
                    && calls.iter().map(|call| &call.id).eq(results.iter().map(|result| &result.id))
            }
            (PromptMessage::Assistant { calls, .. }, PromptMessage::User(_)) => calls.is_empty(),
            (PromptMessage::ToolResults(_), PromptMessage::Assistant { .. } | PromptMessage::User(_)) => true,
            _ => false,
        };
        assert!(accepted, "{pair:#?}");
    }
    for message in messages {
        if let PromptMessage::Assistant { text, calls, .. } = message {
            assert!(!text.is_empty() || !calls.is_empty());
        }
    }
    if let Some(PromptMessage::Assistant { calls, .. }) = messages.last() {
        assert!(calls.is_empty());
    }
}

fn check_log(log: &Log) {
    let mut started = HashSet::new();
    let mut finished = HashSet::new();
    let mut open_calls = 0;
    for event in &log.events {
        let run_id = event.run_id.unwrap();
        match event.as_durable().unwrap() {
            Durable::RunStarted { .. } => assert!(started.insert(run_id)),
            Durable::ToolCallStarted { .. } => open_calls += 1,
            Durable::ToolCallEnded { .. } => open_calls -= 1,
            Durable::RunFinished { .. } => {
                assert!(finished.insert(run_id), "a run has one end");
                assert_eq!(open_calls, 0, "each call ends before its run");
            }
            _ => {}
        }
        assert!(
            !finished.contains(&run_id) || matches!(event.as_durable().unwrap(), Durable::RunFinished { .. })
        );
    }
    assert_eq!(started, finished, "each run has an end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn providers_accept_the_conversation_wherever_the_log_ends(
        steps in proptest::collection::vec(step(), 0..40)
    ) {
        let log = play(steps);
        let mut conversation = Conversation::default();
        for event in &log.events {
            conversation.apply(event);
            check_accepted(&conversation.prompt(1_000_000, 0, &Extra::default()).unwrap().0.messages());
        }
    }

    #[test]
    fn any_sequence_leaves_a_conversation_that_providers_accept(
        steps in proptest::collection::vec(step(), 0..80)
    ) {
        let log = play(steps);
        check_log(&log);
        check_accepted(&log.conversation.prompt(1_000_000, 0, &Extra::default()).unwrap().0.messages());
        // Also wherever the oldest turns have to be left out.
        for window in [60, 120, 400] {
            if let Ok((prompt, _)) = log.conversation.prompt(window, 10, &Extra::default()) {
                check_accepted(&prompt.messages());
            }
        }
    }

    #[test]
    fn the_fold_of_the_session_ends_idle(steps in proptest::collection::vec(step(), 0..80)) {
        let log = play(steps);
        let state = &log.state;
        assert_eq!((state.run, state.queue.len(), state.approvals.len()), (None, 0, 0));
        assert_eq!(state.record.status, crate::core::session::SessionStatus::Idle);
    }
}
