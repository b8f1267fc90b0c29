//! Models of real providers: each API against `aimock`, and against servers that do what no provider should.

pub mod faults;

use std::{net::SocketAddr, time::Duration};

use duologue::{
    core::{
        conversation::Prompt,
        event::{FinishReason, Usage},
        ports::{
            ModelError, ModelErrorKind, ModelEvent, ModelProvider, ModelRequest, PromptMessage, ToolCall,
            ToolResult, ToolSpec,
        },
    },
    providers::genai::{Api, GenaiProvider, ProviderOptions},
    runtime::AdapterRuntime,
};
use futures_util::{StreamExt, future::join_all, stream::BoxStream};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use self::faults::{RawServer, unused_address};
use crate::{
    aimock::{self, Aimock},
    support::{PATIENCE, within},
};

const APIS: [Api; 4] = [Api::OpenAi, Api::Anthropic, Api::Gemini, Api::Ollama];
/// For deadlines that a test waits for.
const SOON: Duration = Duration::from_millis(400);

type Answer = BoxStream<'static, Result<ModelEvent, ModelError>>;

// ---- asking ----

/// A provider, and the thread that its calls run on.
struct Asked {
    provider: GenaiProvider,
    _runtime: AdapterRuntime,
}

impl Asked {
    fn new(api: Api, base_url: String) -> Self {
        Self::with(api, base_url, |_| ())
    }

    fn with(api: Api, base_url: String, change: impl FnOnce(&mut ProviderOptions)) -> Self {
        let runtime = AdapterRuntime::start("providers").expect("a runtime");
        let mut options = ProviderOptions {
            name: "acme".to_owned(),
            api,
            base_url: Some(base_url),
            key: Some(SecretString::from(aimock::KEY)),
            key_env: Some("ACME_API_KEY".to_owned()),
            first_token_timeout: PATIENCE,
            idle_timeout: PATIENCE,
        };
        change(&mut options);
        let provider = GenaiProvider::new(options, runtime.handle()).expect("a provider");
        Self { provider, _runtime: runtime }
    }

    fn of_aimock(aimock: &Aimock, api: Api) -> Self {
        Self::new(api, aimock.url(path(api)))
    }

    fn stream(&self, text: &str) -> Answer {
        self.stream_prompt(vec![user(text)])
    }

    fn stream_prompt(&self, messages: Vec<PromptMessage>) -> Answer {
        self.provider.stream(ModelRequest {
            model: "some-model".to_owned(),
            prompt: Prompt::new("You are brief.", messages),
            temperature: Some(0.5),
            max_tokens: Some(200),
            tools: vec![ToolSpec {
                name: "clock".to_owned(),
                description: "Tells the time".to_owned(),
                parameters: json!({ "type": "object", "properties": { "zone": { "type": "string" } } }),
            }]
            .into(),
        })
    }

    async fn ask(&self, text: &str) -> Vec<Result<ModelEvent, ModelError>> {
        whole(self.stream(text)).await
    }

    /// The error of an answer that has nothing else.
    async fn refusal(&self, text: &str) -> ModelError {
        match &self.ask(text).await[..] {
            [Err(error)] => error.clone(),
            other => panic!("expected an error alone, got {other:?}"),
        }
    }
}

/// Where `aimock` has an API.
fn path(api: Api) -> &'static str {
    match api {
        Api::Gemini => "/v1beta/",
        Api::Ollama => "/",
        _ => "/v1/",
    }
}

async fn whole(answer: Answer) -> Vec<Result<ModelEvent, ModelError>> {
    within("the end of the answer", answer.collect()).await
}

fn user(text: &str) -> PromptMessage {
    PromptMessage::User(vec![text.to_owned()])
}

fn texts(events: &[Result<ModelEvent, ModelError>]) -> Vec<&str> {
    let mut texts = Vec::new();
    for event in events {
        if let Ok(ModelEvent::Text(text)) = event {
            texts.push(text.as_str());
        }
    }
    texts
}

fn calls(events: &[Result<ModelEvent, ModelError>]) -> Vec<ToolCall> {
    let mut calls = Vec::new();
    for event in events {
        if let Ok(ModelEvent::ToolCall(call)) = event {
            calls.push(call.clone());
        }
    }
    calls
}

/// How an answer ended well: its reason, count and state.
fn end(
    events: &[Result<ModelEvent, ModelError>],
) -> (FinishReason, Option<Usage>, Option<duologue::core::event::ProviderState>) {
    match events.last() {
        Some(Ok(ModelEvent::End { finish_reason, usage, provider_state })) => {
            (*finish_reason, *usage, provider_state.clone())
        }
        other => panic!("expected an end, got {other:?}"),
    }
}

/// The error that an answer ended with.
fn failure(events: &[Result<ModelEvent, ModelError>]) -> &ModelError {
    match events.last() {
        Some(Err(error)) => error,
        other => panic!("expected an error, got {other:?}"),
    }
}

// ---- each API, against aimock ----

#[tokio::test]
async fn text_comes_in_pieces_through_each_api() {
    let text = "Greetings to you, my good friend — äöü 日本語.";
    let aimock = Aimock::start(json!([
        { "match": { "userMessage": "hello", "systemMessage": "You are brief." }, "response": { "content": text }, "chunkSize": 5 },
    ]));
    for api in APIS {
        let asked = Asked::of_aimock(&aimock, api);

        let events = asked.ask("hello").await;

        assert!(texts(&events).len() > 3, "{api:?}: {events:?}");
        assert_eq!(texts(&events).concat(), text, "{api:?}");
        assert_eq!(end(&events).0, FinishReason::Stop, "{api:?}");
    }
    let sent = aimock.requests().await;
    assert_eq!(sent.len(), APIS.len());
    assert_eq!((&sent[0]["temperature"], &sent[0]["max_tokens"]), (&json!(0.5), &json!(200)));
    assert!(sent.iter().all(|request| request["tools"][0]["function"]["name"] == "clock"), "{sent:?}");
}

#[tokio::test]
async fn what_each_api_counts_is_the_usage() {
    // Each API has names of its own; aimock takes them as they are.
    let usage = json!({
        "prompt_tokens": 11, "completion_tokens": 7, "input_tokens": 11, "output_tokens": 7,
        "promptTokenCount": 11, "candidatesTokenCount": 7,
    });
    let aimock = Aimock::start(json!([
        { "match": { "userMessage": "count" }, "response": { "content": "counted", "usage": usage } },
    ]));
    for api in [Api::OpenAi, Api::Anthropic, Api::Gemini] {
        let events = Asked::of_aimock(&aimock, api).ask("count").await;

        assert_eq!(end(&events).1, Some(Usage { prompt_tokens: 11, completion_tokens: 7 }), "{api:?}");
    }
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_answered_through_each_api() {
    let aimock = Aimock::start(json!([
        {
            "match": { "userMessage": "what time", "hasToolResult": false },
            "response": { "content": "Let me see.", "toolCalls": [
                { "id": "call_a1", "name": "clock", "arguments": { "zone": "UTC" } },
                { "id": "call_b2", "name": "clock", "arguments": { "zone": "CET" } },
            ] },
            "chunkSize": 4,
        },
        { "match": { "toolResultContains": "one o'clock" }, "response": { "content": "It is noon, or one." } },
    ]));
    for api in APIS {
        let asked = Asked::of_aimock(&aimock, api);

        let events = asked.ask("what time is it?").await;

        let calls = calls(&events);
        let args: Vec<_> = calls.iter().map(|call| &call.args).collect();
        assert_eq!(args, [&json!({ "zone": "UTC" }), &json!({ "zone": "CET" })], "{api:?}: {events:?}");
        assert!(calls.iter().all(|call| call.name == "clock"));
        assert_ne!(calls[0].id, calls[1].id, "{api:?}");
        let (finish_reason, _, provider_state) = end(&events);
        assert_eq!(finish_reason, FinishReason::ToolCalls, "{api:?}");

        let result =
            |call: &ToolCall, outcome| ToolResult { id: call.id.clone(), name: call.name.clone(), outcome };
        let results = vec![result(&calls[0], Ok("noon".into())), result(&calls[1], Ok("one o'clock".into()))];
        let text = texts(&events).concat();
        let prompt = vec![
            user("what time is it?"),
            PromptMessage::Assistant { text, calls, provider_state },
            PromptMessage::ToolResults(results),
        ];
        let events = whole(asked.stream_prompt(prompt)).await;

        assert_eq!(texts(&events).concat(), "It is noon, or one.", "{api:?}: {events:?}");
        let sent = aimock.requests().await;
        let messages = sent.last().expect("a request")["messages"].as_array().expect("messages").clone();
        let contents: Vec<_> =
            messages.iter().filter(|m| m["role"] == "tool").map(|m| m["content"].to_string()).collect();
        assert_eq!(contents.len(), 2, "{api:?}: {messages:?}");
        assert!(contents[0].contains("noon") && contents[1].contains("one o'clock"), "{api:?}: {contents:?}");
        if matches!(api, Api::OpenAi | Api::Anthropic) {
            let ids: Vec<_> =
                messages.iter().filter(|m| m["role"] == "tool").map(|m| &m["tool_call_id"]).collect();
            assert_eq!(ids, ["call_a1", "call_b2"], "{api:?}");
        }
    }
}

#[tokio::test]
async fn each_api_refuses_in_its_way() {
    let aimock = Aimock::start(json!([
        {
            "match": { "userMessage": "limited" },
            "response": { "error": { "message": "slow down", "type": "rate_limit_error" }, "status": 429, "retryAfter": 42 },
        },
        {
            "match": { "userMessage": "long" },
            "response": {
                "error": { "message": "prompt is too long: 2 tokens > 1 maximum", "type": "invalid_request_error" },
                "status": 400,
            },
        },
        { "match": { "userMessage": "broken" }, "response": { "error": { "message": "oops", "type": "server_error" }, "status": 500 } },
    ]));
    let refusals = APIS.map(async |api| {
        let asked = Asked::of_aimock(&aimock, api);

        let limited = asked.refusal("limited").await;
        let retry_after = Some(Duration::from_secs(42));
        assert_eq!(limited.kind, ModelErrorKind::RateLimited { retry_after }, "{api:?}");
        assert!(limited.message.contains("acme") && limited.message.contains("slow down"), "{limited}");
        assert_eq!(asked.refusal("long").await.kind, ModelErrorKind::ContextOverflow, "{api:?}");
        let broken = asked.refusal("broken").await;
        assert_eq!(broken.kind, ModelErrorKind::Other, "{api:?}");
        assert!(broken.message.contains("oops"), "{broken}");

        let wrong = Asked::with(api, aimock.url(path(api)), |options| {
            options.key = Some(SecretString::from("wrong-key-77aa88bb"));
        });
        let denied = wrong.refusal("hello").await;
        assert_eq!(denied.kind, ModelErrorKind::Auth, "{api:?}");
        assert!(denied.message.contains("ACME_API_KEY") && !denied.message.contains("77aa"), "{denied}");
    });
    join_all(refusals).await;
    // What can get better is tried three times, what cannot but once.
    let sent = aimock.requests().await;
    let tries =
        |text: &str| sent.iter().filter(|request| request["messages"].to_string().contains(text)).count();
    assert_eq!([tries("broken"), tries("limited"), tries("long")], [3 * APIS.len(), APIS.len(), APIS.len()]);
}

#[tokio::test]
async fn a_stream_that_is_cut_is_an_error_through_each_api() {
    let aimock = Aimock::start(json!([{
        "match": { "userMessage": "cut" },
        "response": { "content": "This will be cut off in the middle of its words." },
        "chunkSize": 4, "latency": 20, "truncateAfterChunks": 6,
    }]));
    for api in APIS {
        let events = Asked::of_aimock(&aimock, api).ask("cut").await;

        assert!(!texts(&events).is_empty(), "{api:?}: {events:?}");
        assert_eq!(failure(&events).kind, ModelErrorKind::Other, "{api:?}");
    }
    assert_eq!(aimock.requests().await.len(), APIS.len(), "an answer that has begun is not asked for again");
}

#[tokio::test]
async fn a_stream_that_hangs_times_out_through_each_api() {
    let aimock = Aimock::start(json!([{
        "match": { "userMessage": "hang" },
        "response": { "content": "This will never be said to its end." },
        "chunkSize": 4, "streamingProfile": { "ttft": 10, "tps": 0.001 },
    }]));
    for api in APIS {
        let asked = Asked::with(api, aimock.url(path(api)), |options| {
            options.first_token_timeout = SOON;
            options.idle_timeout = SOON;
        });

        let error = failure(&asked.ask("hang").await).clone();

        assert_eq!(error.kind, ModelErrorKind::Timeout, "{api:?}");
        assert!(error.message.contains("_timeout_secs"), "{error}");
    }
}

#[tokio::test]
async fn a_second_attempt_answers_once() {
    let aimock = Aimock::start(json!([
        { "match": { "userMessage": "flaky", "sequenceIndex": 0 }, "response": { "error": { "message": "oops" }, "status": 500 } },
        { "match": { "userMessage": "flaky", "sequenceIndex": 1 }, "response": { "content": "Fine now." } },
    ]));
    let asked = Asked::of_aimock(&aimock, Api::OpenAi);

    let events = asked.ask("flaky").await;

    assert_eq!(texts(&events).concat(), "Fine now.");
    assert_eq!(end(&events).0, FinishReason::Stop);
    assert_eq!(aimock.requests().await.len(), 2);
}

#[tokio::test]
async fn anthropics_signed_thoughts_go_back_with_the_results() {
    let aimock = Aimock::start(json!([
        {
            "match": { "userMessage": "think", "hasToolResult": false },
            "response": {
                "reasoning": "The clock knows.", "reasoningSignature": "c2lnbmVk", "redactedThinking": ["ZW5j"],
                "toolCalls": [{ "id": "toolu_1", "name": "clock", "arguments": {} }],
            },
        },
    ]));
    let asked = Asked::of_aimock(&aimock, Api::Anthropic);

    let events = asked.ask("think").await;

    assert_eq!(texts(&events), Vec::<&str>::new(), "reasoning is not part of the answer");
    let (_, _, provider_state) = end(&events);
    let state = provider_state.clone().expect("a state");
    assert_eq!(state.provider, "acme");
    assert!(state.state.to_string().contains("c2lnbmVk"), "{state:?}");

    let server = RawServer::start().await;
    let raw = Asked::new(Api::Anthropic, server.url("/v1/"));
    let calls = calls(&events);
    let result = ToolResult { id: "toolu_1".into(), name: "clock".into(), outcome: Ok("noon".into()) };
    let prompt = vec![
        user("think"),
        PromptMessage::Assistant { text: String::new(), calls, provider_state },
        PromptMessage::ToolResults(vec![result]),
    ];
    let _answer = raw.stream_prompt(prompt);
    let sent = server.connection().await.body();

    let blocks = sent["messages"][1]["content"].as_array().expect("blocks").clone();
    let kinds: Vec<_> = blocks.iter().map(|block| block["type"].as_str().unwrap_or_default()).collect();
    assert!(kinds.contains(&"thinking") && kinds.contains(&"redacted_thinking"), "{blocks:?}");
    assert_eq!(kinds.last(), Some(&"tool_use"));
    let thinking = blocks.iter().find(|block| block["type"] == "thinking").expect("a block");
    assert_eq!(
        thinking,
        &json!({ "type": "thinking", "thinking": "The clock knows.", "signature": "c2lnbmVk" })
    );
}

#[tokio::test]
async fn a_probe_says_whether_a_model_can_be_asked() {
    let aimock =
        Aimock::start(json!([{ "match": { "userMessage": "Hi" }, "response": { "content": "Hi." } }]));
    for api in APIS {
        let asked = Asked::of_aimock(&aimock, api);
        let probe = async |model| within("a probe", asked.provider.probe(model)).await;
        // The first is in aimock's lists, the second answers all the same.
        assert_eq!(probe("gpt-4o").await, Ok(()), "{api:?}");
        assert_eq!(probe("unlisted").await, Ok(()), "{api:?}");

        let wrong = Asked::with(api, aimock.url(path(api)), |options| {
            options.key = Some(SecretString::from("wrong-key-77aa88bb"));
        });
        let error = within("a probe", wrong.provider.probe("gpt-4o")).await.expect_err("a wrong key");
        assert_eq!(error.kind, ModelErrorKind::Auth, "{api:?}");
    }
    let nowhere = Asked::with(Api::OpenAi, format!("http://{}/v1/", unused_address().await), |_| ());
    let error = within("a probe", nowhere.provider.probe("gpt-4o")).await.expect_err("nobody is there");
    assert!(error.message.contains("connection refused"), "{error}");
}
