//! The built-in `demo` model: deterministic, without a network. For a first look, for tests and for load.
//!
//! A message that begins with a slash drives it; any other gets a short answer.

mod tracker;

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream, stream::BoxStream};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval_at, sleep};

use crate::core::{
    conversation::RESUMED,
    event::FinishReason,
    ports::{
        ModelError, ModelErrorKind, ModelEvent, ModelProvider, ModelRequest, PromptMessage, ToolCall,
        ToolResult,
    },
};

/// Pace of an answer to a plain message: fast, and slow enough to be seen streaming.
const WORD_PACE: Duration = Duration::from_millis(12);
/// Pace of `/lorem`.
const LOREM_PACE: Duration = Duration::from_millis(4);
/// Steps of one run, one less than it may have.
const MAX_STEPS: u64 = 15;
/// Numbers and words that one answer has at most.
const MAX_PIECES: u64 = 1_000_000;

const HELP: &str = "\
I am the built-in **demo** model: no key, no network, always the same answer. These messages drive me:

| message | what I do |
|---|---|
| `/echo TEXT` | answer TEXT |
| `/count N [MS]` | count to N, MS milliseconds apart |
| `/lorem N` | write N words with headings, a list, a table and code |
| `/think MS` | wait MS milliseconds before I answer |
| `/tool NAME {json}` | call a tool and answer with its result; several such lines are several calls at once |
| `/steps N [MS]` | work in N steps, MS milliseconds each, and report my progress after each |
| `/fail KIND` | fail like a provider: `auth`, `rate_limit`, `timeout`, `server` or `cut` |
";

pub struct ScriptedModel;

type Answer = BoxStream<'static, Result<ModelEvent, ModelError>>;

impl ModelProvider for ScriptedModel {
    fn stream(&self, request: ModelRequest) -> Answer {
        match request.prompt.last_message() {
            Some(PromptMessage::ToolResults(results)) => answer_results(&results, &request),
            Some(PromptMessage::User(texts)) => match texts.last().map_or("", String::as_str) {
                RESUMED => resume(&request),
                text => answer(text, &request),
            },
            Some(PromptMessage::Assistant { .. }) | None => say(words(HELP), WORD_PACE),
        }
    }
}

/// A message that drives the model.
#[derive(Debug, PartialEq)]
enum Script<'a> {
    Echo(&'a str),
    Count {
        to: u64,
        pace: Duration,
    },
    Lorem {
        words: u64,
    },
    Think {
        wait: Duration,
    },
    Tools(Vec<Act>),
    Steps {
        count: u64,
        pace: Duration,
    },
    Fail(Failure),
    /// A plain message.
    Chat(&'a str),
    /// Asked for, or a slash with something after it that is not understood.
    Help {
        problem: Option<String>,
    },
}

/// A tool that the model wants called.
#[derive(Debug, PartialEq)]
struct Act {
    name: String,
    args: Value,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Failure {
    Auth,
    RateLimit,
    Timeout,
    Server,
    Cut,
}

impl<'a> Script<'a> {
    fn parse(message: &'a str) -> Self {
        let message = message.trim();
        if !message.starts_with('/') {
            return Script::Chat(message);
        }
        let (command, rest) = message.split_once(char::is_whitespace).unwrap_or((message, ""));
        let rest = rest.trim();
        let parsed = match command {
            "/echo" => Some(Script::Echo(rest)),
            "/count" => parse_count(rest).map(|(to, pace)| Script::Count { to, pace }),
            "/lorem" => parse_number(rest).map(|words| Script::Lorem { words: words.min(MAX_PIECES) }),
            "/think" => parse_millis(rest).map(|wait| Script::Think { wait }),
            "/tool" => parse_tools(message),
            "/steps" => {
                parse_count(rest).map(|(count, pace)| Script::Steps { count: count.min(MAX_STEPS), pace })
            }
            "/fail" => parse_failure(rest).map(Script::Fail),
            "/help" => Some(Script::Help { problem: None }),
            _ => None,
        };
        parsed.unwrap_or_else(|| Script::Help { problem: Some(format!("I do not understand `{message}`.")) })
    }
}

fn parse_number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn parse_millis(text: &str) -> Option<Duration> {
    const MAX: Duration = Duration::from_secs(3600);
    parse_number(text).map(|millis| Duration::from_millis(millis).min(MAX))
}

/// How many, and how far apart.
fn parse_count(rest: &str) -> Option<(u64, Duration)> {
    let mut parts = rest.split_whitespace();
    let to = parse_number(parts.next()?)?.min(MAX_PIECES);
    let pace = parts.next().map_or(Some(Duration::ZERO), parse_millis)?;
    parts.next().is_none().then_some((to, pace))
}

/// One call a line.
fn parse_tools(message: &str) -> Option<Script<'_>> {
    let mut acts = Vec::new();
    for call in message.split("\n/tool") {
        acts.push(parse_tool(call.strip_prefix("/tool").unwrap_or(call).trim())?);
    }
    Some(Script::Tools(acts))
}

fn parse_tool(rest: &str) -> Option<Act> {
    let (name, args) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if name.is_empty() {
        return None;
    }
    let args = match args.trim() {
        "" => Value::Object(serde_json::Map::new()),
        args => serde_json::from_str(args).ok()?,
    };
    Some(Act { name: name.to_owned(), args })
}

fn parse_failure(text: &str) -> Option<Failure> {
    match text {
        "auth" => Some(Failure::Auth),
        "rate_limit" => Some(Failure::RateLimit),
        "timeout" => Some(Failure::Timeout),
        "server" => Some(Failure::Server),
        "cut" => Some(Failure::Cut),
        _ => None,
    }
}

fn answer(message: &str, request: &ModelRequest) -> Answer {
    match tracker::act(message.trim(), request) {
        Some(Ok(acts)) => return call(acts, request),
        Some(Err(why)) => return say(words(&why), WORD_PACE),
        None => {}
    }
    match Script::parse(message) {
        Script::Echo(text) => say(words(text), Duration::ZERO),
        Script::Count { to, pace } => {
            let number = |number| if number == 1 { "1".to_owned() } else { format!(" {number}") };
            say((1..=to).map(number), pace)
        }
        Script::Lorem { words } => say(lorem(words), LOREM_PACE),
        Script::Think { wait } => {
            let text = format!("I thought about it for {} ms.", wait.as_millis());
            sleep(wait).map(move |()| say(words(&text), WORD_PACE)).flatten_stream().boxed()
        }
        Script::Tools(acts) => call(acts, request),
        Script::Steps { count, pace } => step(0, count, pace, request),
        Script::Fail(failure) => fail(failure),
        Script::Chat(message) => say(words(&chat(message)), WORD_PACE),
        Script::Help { problem: Some(problem) } => say(words(&format!("{problem}\n\n{HELP}")), WORD_PACE),
        Script::Help { problem: None } => say(words(HELP), WORD_PACE),
    }
}

/// Calls tools. Each call of a conversation has another id.
fn call(acts: Vec<Act>, request: &ModelRequest) -> Answer {
    let messages = request.prompt.messages();
    let earlier = messages.iter().map(|message| match message {
        PromptMessage::Assistant { calls, .. } => calls.len(),
        PromptMessage::User(_) | PromptMessage::ToolResults(_) => 0,
    });
    let first = earlier.sum::<usize>() + 1;
    let calls = acts.into_iter().zip(first..).map(|(Act { name, args }, number)| {
        let call = ToolCall { id: format!("call_{name}_{number}"), name, args, provider_state: None };
        Ok(ModelEvent::ToolCall(call))
    });
    let end = ModelEvent::End { finish_reason: FinishReason::ToolCalls, usage: None, provider_state: None };
    stream::iter(calls.chain([Ok(end)]).collect::<Vec<_>>()).boxed()
}

/// Works for a while, then reports how far it has come; after the last step it is done.
fn step(done: u64, count: u64, pace: Duration, request: &ModelRequest) -> Answer {
    if done >= count {
        return say(words(&format!("Done: {count} steps.")), WORD_PACE);
    }
    let progress = (done + 1) as f64 / count as f64;
    let message = format!("step {} of {count}", done + 1);
    let args = serde_json::json!({ "progress": progress, "message": message, "confidence": 0.9 });
    let report = call(vec![Act { name: "report_progress".to_owned(), args }], request);
    sleep(pace).map(move |()| report).flatten_stream().boxed()
}

/// Goes on with what a stop of the server interrupted.
fn resume(request: &ModelRequest) -> Answer {
    let (message, done) = progress_of(request);
    match Script::parse(&message) {
        Script::Steps { count, pace } => step(done, count, pace, request),
        _ => answer(&message, request),
    }
}

/// The user's message that a run is about, and how many steps it has had.
fn progress_of(request: &ModelRequest) -> (String, u64) {
    let mut message = String::new();
    let mut steps = 0;
    for part in request.prompt.messages() {
        match part {
            PromptMessage::User(texts) => {
                // A run that goes on after a restart has no message of its own.
                if let Some(text) = texts.into_iter().rfind(|text| text != RESUMED) {
                    (message, steps) = (text, 0);
                }
            }
            PromptMessage::ToolResults(_) => steps += 1,
            PromptMessage::Assistant { .. } => {}
        }
    }
    (message, steps)
}

fn answer_results(results: &[ToolResult], request: &ModelRequest) -> Answer {
    let (message, steps) = progress_of(request);
    if let Script::Steps { count, pace } = Script::parse(&message) {
        return step(steps, count, pace, request);
    }
    if results.iter().any(|result| result.name == "update_state" && result.outcome.is_ok())
        && let Some(text) = tracker::summary(request)
    {
        return say(words(&text), WORD_PACE);
    }
    let mut text = String::new();
    for ToolResult { name, outcome, .. } in results {
        match outcome {
            Ok(Value::String(result)) => text.push_str(&format!("`{name}` says: {result}\n")),
            Ok(result) => text.push_str(&format!("`{name}` says:\n\n```json\n{result:#}\n```\n")),
            Err(why) => text.push_str(&format!("`{name}` failed: {why}\n")),
        }
    }
    say(words(&text), WORD_PACE)
}

fn fail(failure: Failure) -> Answer {
    let (kind, message) = match failure {
        Failure::Auth => (ModelErrorKind::Auth, "the demo model was asked to fail as if its key were wrong"),
        Failure::RateLimit => {
            let retry_after = Some(Duration::from_secs(5));
            let message = "the demo model was asked to fail as if it had too many requests; try again in 5 s";
            (ModelErrorKind::RateLimited { retry_after }, message)
        }
        Failure::Timeout => {
            (ModelErrorKind::Timeout, "the demo model was asked to fail as if it had not answered in time")
        }
        Failure::Server => {
            (ModelErrorKind::Other, "the demo model was asked to fail as if its server had an error")
        }
        // Ends without an end, as a lost connection does.
        Failure::Cut => {
            let text = "This answer will be cut off in the middle of its";
            return pieces(words(text), WORD_PACE).map(|piece| Ok(ModelEvent::Text(piece))).boxed();
        }
    };
    stream::iter([Err(ModelError::new(kind, message))]).boxed()
}

fn chat(message: &str) -> String {
    const QUOTED: usize = 80;
    let mut quote: String = message.chars().take(QUOTED).collect();
    if quote.len() < message.len() {
        quote.push('…');
    }
    let quote = quote.replace(['\n', '\r'], " ");
    let words = message.split_whitespace().count();
    let (characters, plural) = (message.chars().count(), if words == 1 { "" } else { "s" });
    format!(
        "You wrote:\n\n> {quote}\n\nThat is **{words} word{plural}** and {characters} characters.\n\n{HELP}"
    )
}

/// Streams pieces, then the end.
fn say(text: impl Iterator<Item = String> + Send + 'static, pace: Duration) -> Answer {
    let end = ModelEvent::End { finish_reason: FinishReason::Stop, usage: None, provider_state: None };
    pieces(text, pace).map(ModelEvent::Text).chain(stream::iter([end])).map(Ok).boxed()
}

/// Pieces that come `pace` apart. After a pause of the whole process they go on at their pace, and do not
/// catch up in a burst.
fn pieces(text: impl Iterator<Item = String> + Send + 'static, pace: Duration) -> BoxStream<'static, String> {
    if pace.is_zero() {
        return stream::iter(text).boxed();
    }
    let mut ticks = interval_at(tokio::time::Instant::now() + pace, pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((text, ticks), |(mut text, mut ticks)| async move {
        let piece = text.next()?;
        ticks.tick().await;
        Some((piece, (text, ticks)))
    })
    .boxed()
}

/// The words of a text, each with the white space after it, so that together they are the text.
fn words(text: &str) -> impl Iterator<Item = String> + Send + use<> {
    let words: Vec<_> = text.split_inclusive(char::is_whitespace).map(str::to_owned).collect();
    words.into_iter()
}

/// Some `count` words in the shapes that an answer can have, over and over.
fn lorem(count: u64) -> impl Iterator<Item = String> + Send {
    const SECTION: &str = "\
## Lorem ipsum dolor

Lorem ipsum dolor sit amet, *consectetur* adipiscing elit, sed do eiusmod tempor **incididunt** ut labore et \
dolore magna aliqua. Ut enim ad minim veniam, quis nostrud `exercitation` ullamco laboris nisi ut aliquip.

- Duis aute irure dolor
- in reprehenderit in voluptate
- velit esse cillum dolore

| lorem | ipsum | dolor |
|---|--:|:-:|
| sit | 1 | amet |
| elit | 22 | sed |

```rust
fn lorem(ipsum: u32) -> u32 {
    let dolor = ipsum + 1; // sit amet
    dolor * 2
}
```

Excepteur sint occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum.

";
    let pieces = SECTION.split_inclusive(char::is_whitespace).cycle();
    let mut words = 0;
    pieces
        .take_while(move |piece| {
            words += u64::from(!piece.trim().is_empty());
            words <= count
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{conversation::Prompt, ports::ToolSpec};

    async fn ask(message: &str) -> Vec<Result<ModelEvent, ModelError>> {
        let messages = vec![PromptMessage::User(vec!["before".to_owned(), message.to_owned()])];
        ask_with(messages).await
    }

    async fn ask_with(messages: Vec<PromptMessage>) -> Vec<Result<ModelEvent, ModelError>> {
        let request = ModelRequest {
            model: "demo".to_owned(),
            prompt: Prompt::new("", messages),
            temperature: None,
            max_tokens: None,
            tools: Default::default(),
        };
        ScriptedModel.stream(request).collect().await
    }

    fn text(events: &[Result<ModelEvent, ModelError>]) -> String {
        let texts = events.iter().filter_map(|event| match event {
            Ok(ModelEvent::Text(text)) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    fn ends_well(events: &[Result<ModelEvent, ModelError>]) -> bool {
        matches!(events.last(), Some(Ok(ModelEvent::End { .. })))
    }

    #[tokio::test(start_paused = true)]
    async fn it_echoes() {
        let events = ask("/echo two  words\nand a line").await;

        assert_eq!(text(&events), "two  words\nand a line");
        assert!(ends_well(&events));
    }

    #[tokio::test(start_paused = true)]
    async fn it_counts_one_number_a_delta_at_the_pace_asked_for() {
        let began = tokio::time::Instant::now();

        let events = ask("/count 5 100").await;

        assert_eq!(text(&events), "1 2 3 4 5");
        assert_eq!(events.len(), 6);
        assert_eq!(began.elapsed(), Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn lorem_has_as_many_words_as_asked_for() {
        for count in [0, 1, 17, 400] {
            let events = ask(&format!("/lorem {count}")).await;

            assert_eq!(text(&events).split_whitespace().count(), count);
        }
        let long = text(&ask("/lorem 400").await);
        for part in ["## ", "\n- ", "\n|---", "```rust\n"] {
            assert!(long.contains(part), "{part:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_thinks_first() {
        let began = tokio::time::Instant::now();

        let events = ask("/think 3000").await;

        assert!(began.elapsed() >= Duration::from_secs(3));
        assert!(ends_well(&events));
    }

    #[tokio::test(start_paused = true)]
    async fn it_calls_a_tool_and_answers_with_the_result() {
        let events = ask(r#"/tool clock {"zone":"UTC"}"#).await;
        let Some(Ok(ModelEvent::ToolCall(call))) = events.first() else { panic!("{events:?}") };
        assert_eq!((call.name.as_str(), &call.args), ("clock", &serde_json::json!({ "zone": "UTC" })));

        let result = |outcome| ToolResult { id: call.id.clone(), name: "clock".to_owned(), outcome };
        let well = vec![PromptMessage::ToolResults(vec![result(Ok("noon".into()))])];
        let badly = vec![PromptMessage::ToolResults(vec![result(Err("no such tool".to_owned()))])];

        assert!(text(&ask_with(well).await).contains("noon"));
        assert!(text(&ask_with(badly).await).contains("`clock` failed: no such tool"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_calls_several_tools_at_once() {
        let events = ask("/tool clock\n/tool clock {\"timezone\":\"UTC\"}\n/tool other").await;

        let calls: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Ok(ModelEvent::ToolCall(call)) => Some(call.id.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(calls, ["call_clock_1", "call_clock_2", "call_other_3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_works_in_steps_and_reports_each() {
        let mut messages = vec![PromptMessage::User(vec!["/steps 3 100".to_owned()])];
        for step in 1..=3_u32 {
            let mut events = ask_with(messages.clone()).await;
            let Ok(ModelEvent::ToolCall(call)) = events.remove(0) else { panic!("{events:?}") };
            assert_eq!(call.args["progress"], f64::from(step) / 3.0);
            let result =
                ToolResult { id: call.id.clone(), name: call.name.clone(), outcome: Ok("noted".into()) };
            messages.push(PromptMessage::Assistant {
                text: String::new(),
                calls: vec![call],
                provider_state: None,
            });
            messages.push(PromptMessage::ToolResults(vec![result]));
        }

        assert_eq!(text(&ask_with(messages).await), "Done: 3 steps.");
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_a_fight_in_the_document_that_it_is_told_of() {
        let spec = |name: &str| ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            parameters: Value::Null,
        };
        let ask = async |message: &str, state: &str| {
            let request = ModelRequest {
                model: "demo".to_owned(),
                prompt: Prompt::new(
                    format!("Keep it.\n\nThe document:\n{state}"),
                    [PromptMessage::User(vec![message.to_owned()])],
                ),
                temperature: None,
                max_tokens: None,
                tools: vec![spec("update_state")].into(),
            };
            ScriptedModel.stream(request).collect::<Vec<_>>().await
        };
        const STATE: &str = r#"{"round":1,"turn":1,"combatants":[
            {"name":"Mira","hp":5,"max_hp":9,"conditions":[]},{"name":"Goblin","hp":7,"max_hp":7,"conditions":["prone"]}]}"#;
        let state = STATE.replace('\n', "");
        let patch = |events: &[Result<ModelEvent, ModelError>]| match &events[0] {
            Ok(ModelEvent::ToolCall(call)) => call.args["patch"].clone(),
            other => panic!("{other:?}"),
        };

        let hit = patch(&ask("/hit goblin 30", &state).await);
        assert_eq!(hit, serde_json::json!([{ "op": "replace", "path": "/combatants/1/hp", "value": 0 }]));
        let heal = patch(&ask("/heal Mira 100", &state).await);
        assert_eq!(heal[0]["value"], 9);
        let stands = patch(&ask("/condition Goblin prone", &state).await);
        assert_eq!(stands, serde_json::json!([{ "op": "remove", "path": "/combatants/1/conditions/0" }]));
        let next = patch(&ask("/next", &state).await);
        assert_eq!((&next[0]["value"], &next[1]["value"]), (&0.into(), &2.into()));
        assert!(text(&ask("/hit Dragon 1", &state).await).contains("there are Mira, Goblin"));
        assert!(text(&ask("/next", "no document").await).contains("no fight here"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_as_asked() {
        for (kind, expected) in [
            ("auth", ModelErrorKind::Auth),
            ("rate_limit", ModelErrorKind::RateLimited { retry_after: Some(Duration::from_secs(5)) }),
            ("timeout", ModelErrorKind::Timeout),
            ("server", ModelErrorKind::Other),
        ] {
            let events = ask(&format!("/fail {kind}")).await;

            assert!(matches!(&events[..], [Err(error)] if error.kind == expected), "{kind}: {events:?}");
        }
        let cut = ask("/fail cut").await;
        assert!(!text(&cut).is_empty());
        assert!(!ends_well(&cut), "a cut answer has no end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_does_not_understand_it_explains() {
        for message in ["hello", "", "/count", "/count x", "/count 1 2 3", "/fail", "/nonsense", "/tool"] {
            let events = ask(message).await;

            assert!(text(&events).contains("/count N [MS]"), "{message:?}");
            assert!(ends_well(&events));
        }
    }
}
