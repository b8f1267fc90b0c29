//! The built-in `demo` model: deterministic, without a network. For a first look, for tests and for load.
//!
//! A message that begins with a slash drives it; any other gets a short answer.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream, stream::BoxStream};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval_at, sleep};

use crate::core::{
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
| `/tool NAME {json}` | call a tool and answer with its result |
| `/fail KIND` | fail like a provider: `auth`, `rate_limit`, `timeout`, `server` or `cut` |
";

pub struct ScriptedModel;

type Answer = BoxStream<'static, Result<ModelEvent, ModelError>>;

impl ModelProvider for ScriptedModel {
    fn stream(&self, request: ModelRequest) -> Answer {
        match request.prompt.last_message() {
            Some(PromptMessage::ToolResults(results)) => answer_results(&results),
            Some(PromptMessage::User(texts)) => answer(texts.last().map_or("", String::as_str)),
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
    Tool {
        name: &'a str,
        args: Value,
    },
    Fail(Failure),
    /// A plain message.
    Chat(&'a str),
    /// Asked for, or a slash with something after it that is not understood.
    Help {
        problem: Option<String>,
    },
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
            "/count" => parse_count(rest),
            "/lorem" => parse_number(rest).map(|words| Script::Lorem { words: words.min(MAX_PIECES) }),
            "/think" => parse_millis(rest).map(|wait| Script::Think { wait }),
            "/tool" => parse_tool(rest),
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

fn parse_count(rest: &str) -> Option<Script<'_>> {
    let mut parts = rest.split_whitespace();
    let to = parse_number(parts.next()?)?.min(MAX_PIECES);
    let pace = parts.next().map_or(Some(Duration::ZERO), parse_millis)?;
    parts.next().is_none().then_some(Script::Count { to, pace })
}

fn parse_tool(rest: &str) -> Option<Script<'_>> {
    let (name, args) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if name.is_empty() {
        return None;
    }
    let args = match args.trim() {
        "" => Value::Object(serde_json::Map::new()),
        args => serde_json::from_str(args).ok()?,
    };
    Some(Script::Tool { name, args })
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

fn answer(message: &str) -> Answer {
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
        Script::Tool { name, args } => {
            // The same call has the same id each time: it is one of its kind within its run.
            let call =
                ToolCall { id: format!("call_{name}"), name: name.to_owned(), args, provider_state: None };
            let end =
                ModelEvent::End { finish_reason: FinishReason::ToolCalls, usage: None, provider_state: None };
            stream::iter([Ok(ModelEvent::ToolCall(call)), Ok(end)]).boxed()
        }
        Script::Fail(failure) => fail(failure),
        Script::Chat(message) => say(words(&chat(message)), WORD_PACE),
        Script::Help { problem: Some(problem) } => say(words(&format!("{problem}\n\n{HELP}")), WORD_PACE),
        Script::Help { problem: None } => say(words(HELP), WORD_PACE),
    }
}

fn answer_results(results: &[ToolResult]) -> Answer {
    let mut text = String::new();
    for ToolResult { name, outcome, .. } in results {
        match outcome {
            Ok(Value::String(result)) => text.push_str(&format!("`{name}` says: {result}\n")),
            Ok(result) => text.push_str(&format!("`{name}` says:\n\n```json\n{result:#}\n```\n")),
            // This model has nothing to say without the result.
            Err(why) => {
                let error = ModelError::new(ModelErrorKind::Tool, format!("the tool {name:?} failed: {why}"));
                return stream::iter([Err(error)]).boxed();
            }
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
    use crate::core::conversation::Prompt;

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
            tools: Vec::new(),
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
        let events = ask_with(badly).await;
        assert!(matches!(events[..], [Err(ModelError { kind: ModelErrorKind::Tool, .. })]), "{events:?}");
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
