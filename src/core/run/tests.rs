use std::{collections::HashSet, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::core::{
    conversation::Conversation,
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
    /// Batches that the run has asked for and that are not in the log yet.
    pending: Vec<Vec<Entry>>,
    model_called: bool,
    calls: Vec<ToolCall>,
    shown: Vec<Ephemeral>,
    /// Pieces of the message that is streaming; the last is still being saved where `saving`.
    saved: Vec<String>,
    saving: bool,
    reminders: usize,
    finished: Option<Outcome>,
}

#[derive(Default)]
struct Log {
    events: Vec<Arc<Event>>,
    conversation: Conversation,
}

impl Log {
    fn append(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let seq = self.events.len() as Seq + 1;
            let topic = Topic::Session(SessionId::new(&"helper".parse().unwrap(), 100));
            let event = Arc::new(Event::durable(topic, "e".into(), seq, Timestamp(0), entry));
            self.conversation.apply(&event);
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
            run: Run::starting(run_id, "demo", now),
            log,
            now,
            pending: vec![vec![user_message(run_id, "hello"), run_started(run_id)]],
            model_called: false,
            calls: Vec::new(),
            shown: Vec::new(),
            saved: Vec::new(),
            saving: false,
            reminders: 0,
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
                Effect::CallTools(calls) => self.calls = calls,
                Effect::DropTools => self.calls.clear(),
                Effect::Show(event) => self.shown.push(event),
                Effect::Save { text, .. } => {
                    assert!(!std::mem::replace(&mut self.saving, true), "one piece at a time");
                    self.saved.push(text);
                }
                Effect::Remind(_) => self.reminders += 1,
                Effect::Append(entries) | Effect::End(entries, _) => self.pending.push(entries),
                Effect::Finished(outcome) => {
                    assert!(self.finished.replace(outcome).is_none(), "a run ends once");
                }
            }
        }
    }

    /// The oldest batch that is on its way gets into the log.
    fn commit(&mut self) {
        if !self.pending.is_empty() {
            let entries = self.pending.remove(0);
            self.log.append(entries);
            self.feed(Input::Committed);
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

    fn end_model(&mut self) {
        let finish_reason = FinishReason::Stop;
        self.feed(Input::ModelEnded { finish_reason, usage: None, provider_state: None });
    }

    fn save(&mut self, outcome: Result<(), Problem>) {
        self.saving = false;
        self.feed(Input::Saved(outcome));
    }

    fn end_tool(&mut self, id: &str, outcome: Result<Value, Problem>) {
        self.feed(Input::ToolEnded { tool_call_id: id.to_owned(), outcome });
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
    bench.feed(Input::ToolCall(call("a")));
    bench.feed(Input::ToolCall(call("b")));
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
        bench.feed(Input::ToolCall(call(id)));
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

#[test]
fn a_model_that_only_calls_tools_is_ended() {
    let mut bench = Bench::started();
    for round in 0..100 {
        if bench.finished.is_some() {
            break;
        }
        let id = format!("call-{round}");
        bench.feed(Input::ToolCall(call(&id)));
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
    /// A call with this id, so that ids repeat within a run.
    Call(u8),
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
        3 => (0..3_u8).prop_map(Step::Call),
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
            Step::Call(id) => bench.feed(Input::ToolCall(call(&format!("call-{id}")))),
            Step::EndModel => bench.end_model(),
            Step::FailModel => bench.feed(Input::ModelFailed(failure())),
            Step::EndTool(id, well) => {
                bench.end_tool(&format!("call-{id}"), if well { Ok(1.into()) } else { Err(failure()) });
            }
            Step::Stop(reason) => bench.feed(Input::Stop(reason)),
            Step::Crash => {
                let mut log = bench.log;
                if let Some(run_id) = log.open_run() {
                    let text = Some((bench.run.step.message_id, bench.run.step.text.clone()));
                    let open_calls = log.conversation.open_calls();
                    log.append(crashed(run_id, "demo", text, open_calls));
                }
                bench = Bench::new(log);
            }
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
    fn any_sequence_leaves_a_conversation_that_providers_accept(
        steps in proptest::collection::vec(step(), 0..80)
    ) {
        let log = play(steps);
        check_log(&log);
        check_accepted(&log.conversation.prompt(1_000_000, 0).unwrap().0.messages());
        // Also wherever the oldest turns have to be left out.
        for window in [60, 120, 400] {
            if let Ok((prompt, _)) = log.conversation.prompt(window, 10) {
                check_accepted(&prompt.messages());
            }
        }
    }

    #[test]
    fn the_fold_of_the_session_ends_idle(steps in proptest::collection::vec(step(), 0..80)) {
        let log = play(steps);
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: String::new(),
            title: None,
            forked_from: None,        };
        let topic = Topic::Session(SessionId::new(&"helper".parse().unwrap(), 100));
        let created = Event::durable(topic, "e".into(), 1, Timestamp(0), created.into());
        let mut state = SessionState::begin(&created).unwrap();
        log.events.iter().for_each(|event| state.apply(event));
        assert_eq!((state.run, state.queue.len()), (None, 0));
        assert_eq!(state.record.status, crate::core::session::SessionStatus::Idle);
    }
}
