//! Real models through the whole server: `agents.toml` and `.env` name a provider, a client talks to it. What each
//! API does in detail is in `providers`.

use serde_json::{Value, json};

use crate::{
    aimock::{self, Aimock},
    providers::faults::RawServer,
    support::{
        Client, Server, assert_contiguous, assert_well_formed, durable, scratch_dir, stop, types, within,
    },
};

/// Each kind of provider, and where aimock speaks its API.
const KINDS: [(&str, &str); 4] =
    [("openai", "/v1/"), ("anthropic", "/v1/"), ("gemini", "/v1beta/"), ("ollama", "/")];

/// A server with an agent for each kind of provider, the key in its `.env`.
fn server_of(aimock: &Aimock, key: &str) -> Server {
    let dir = scratch_dir();
    let agents: String = KINDS
        .iter()
        .map(|(kind, path)| {
            format!(
                r#"
[[agents]]
id = "{kind}"
name = "{kind}"
model = "my-{kind}::some-model"
system_prompt = "You are brief."
context_window = 1000
tools = ["clock", {{ name = "update_state", approval = "ask" }}]

[providers.my-{kind}]
kind = "{kind}"
base_url = "{url}"
api_key_env = "MOCK_API_KEY"
first_token_timeout_secs = 1
idle_timeout_secs = 1
"#,
                url = aimock.url(path)
            )
        })
        .collect();
    std::fs::write(dir.join("agents.toml"), agents).expect("a file can be written");
    std::fs::write(dir.join(".env"), format!("MOCK_API_KEY={key}\n")).expect("a file can be written");
    Server::start_in(&dir, &[])
}

/// Sends a message; what came of its run.
async fn ask(client: &mut Client, session: &str, content: &str) -> Vec<Value> {
    let run_id = client.chat(session, content).await;
    client.until_run_ends(&run_id).await
}

fn the<'a>(frames: &'a [Value], kind: &str) -> &'a Value {
    frames.iter().find(|frame| frame["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {frames:?}"))
}

fn streamed(frames: &[Value]) -> String {
    let deltas = frames.iter().filter(|frame| frame["type"] == "message.delta");
    deltas.map(|delta| delta["data"]["text"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn an_answer_streams_through_each_api() {
    let text = "Greetings to you, my good friend — äöü 日本語.";
    let usage = json!({
        "prompt_tokens": 110, "completion_tokens": 70, "input_tokens": 110, "output_tokens": 70,
        "promptTokenCount": 110, "candidatesTokenCount": 70,
    });
    let aimock = Aimock::start(json!([{
        "match": { "userMessage": "hello", "systemMessage": "You are brief." },
        "response": { "content": text, "usage": usage }, "chunkSize": 5,
    }]));
    let server = server_of(&aimock, aimock::KEY);
    for (kind, _) in KINDS {
        let mut client = server.client().await;
        let session = client.create(kind).await;

        let frames = ask(&mut client, &session, "hello").await;

        assert!(
            frames.iter().filter(|frame| frame["type"] == "message.delta").count() > 3,
            "{kind}: {frames:?}"
        );
        assert_eq!(streamed(&frames), text, "{kind}");
        let response = the(&frames, "agent_response");
        assert_eq!(
            (&response["data"]["content"], &response["data"]["model"], &response["data"]["finish_reason"]),
            (&json!(text), &json!(format!("my-{kind}::some-model")), &json!("stop")),
            "{kind}"
        );
        let context = &the(&frames, "context_update")["data"];
        assert_eq!(context["context_window"], 1000, "{kind}");
        if kind == "ollama" {
            // It does not take what a fixture counts.
            assert!(context["tokens_used"].as_u64().is_some_and(|tokens| tokens > 0), "{kind}: {context}");
        } else {
            assert_eq!(
                (&context["tokens_used"], &context["percentage"], &context["source"]),
                (&json!(180), &json!(18), &json!("provider")),
                "{kind}"
            );
        }
        assert_eq!(the(&frames, "run_finished")["data"]["outcome"], "completed", "{kind}");
        let log = client.history(&session).await;
        assert_contiguous(&durable(&log, &session), 0);
        assert_well_formed(&log);
    }
}

/// The model asks for two tools at once, of which one must be allowed, and answers with what they say.
#[tokio::test]
async fn tools_are_called_and_allowed_through_each_api() {
    let patch = json!([{ "op": "add", "path": "/place", "value": "Kathmandu" }]);
    let aimock = Aimock::start(json!([
        {
            "match": { "userMessage": "what time", "hasToolResult": false },
            "response": { "content": "Let me see.", "toolCalls": [
                { "id": "call_a1", "name": "clock", "arguments": { "timezone": "Asia/Kathmandu" } },
                { "id": "call_b2", "name": "update_state", "arguments": { "patch": patch } },
            ] },
            "chunkSize": 4,
        },
        { "match": { "toolResultContains": "version" }, "response": { "content": "It is late, and noted." } },
    ]));
    let server = server_of(&aimock, aimock::KEY);
    for (kind, _) in KINDS {
        let mut client = server.client().await;
        let session = client.create(kind).await;
        let run_id = client.chat(&session, "what time is it?").await;
        let asked =
            client.frontend.next_where("a request", |frame| frame["type"] == "approval_requested").await;
        let call = &asked["data"]["tool_call_id"];
        let data = json!({ "tool_call_id": call, "decision": "approve" });

        client.must(json!({ "type": "tool_approval", "session_id": session, "data": data })).await;
        client.until_run_ends(&run_id).await;

        let log = client.history(&session).await;
        let started: Vec<_> = log.iter().filter(|event| event["type"] == "tool_call.start").collect();
        assert_eq!(started[0]["data"]["args"], json!({ "timezone": "Asia/Kathmandu" }), "{kind}");
        assert_eq!(started[1]["data"]["args"], json!({ "patch": patch }), "{kind}");
        assert_eq!(the(&log, "state.patch")["data"]["patch"], patch, "{kind}");
        let answers: Vec<_> = log.iter().filter(|event| event["type"] == "agent_response").collect();
        assert_eq!(answers[0]["data"]["content"], "Let me see.", "{kind}");
        assert_eq!(answers[1]["data"]["content"], "It is late, and noted.", "{kind}");
        assert_eq!(the(&log, "run_finished")["data"]["outcome"], "completed", "{kind}");
        assert_well_formed(&log);
        // What the provider was told: both tools, both results in the order of the calls, the document as it is.
        let sent = aimock.requests().await;
        let last = sent.last().expect("a request");
        let names: Vec<_> =
            last["tools"].as_array().expect("tools").iter().map(|tool| &tool["function"]["name"]).collect();
        assert_eq!(names, ["clock", "update_state"], "{kind}");
        let messages = last["messages"].as_array().expect("messages");
        let results: Vec<_> = messages
            .iter()
            .filter(|message| message["role"] == "tool")
            .map(|message| message["content"].to_string())
            .collect();
        assert!(
            results[0].contains("Asia/Kathmandu") && results[1].contains("version"),
            "{kind}: {results:?}"
        );
        assert!(messages[0].to_string().contains("Kathmandu"), "{kind}: {}", messages[0]);
    }
}

#[tokio::test]
async fn what_was_said_before_goes_along() {
    let aimock = Aimock::start(json!([
        { "match": { "userMessage": "my name is Ada" }, "response": { "content": "Hello, Ada." } },
        { "match": { "userMessage": "who am I" }, "response": { "content": "You are Ada." } },
    ]));
    let server = server_of(&aimock, aimock::KEY);
    let mut client = server.client().await;
    let session = client.create("openai").await;
    ask(&mut client, &session, "my name is Ada").await;

    ask(&mut client, &session, "who am I").await;

    let sent = aimock.requests().await;
    let messages = sent.last().expect("a request")["messages"].as_array().expect("messages").clone();
    let said: Vec<_> = messages.iter().map(|message| (&message["role"], &message["content"])).collect();
    let expected = [
        (json!("system"), json!("You are brief.")),
        (json!("user"), json!("my name is Ada")),
        (json!("assistant"), json!("Hello, Ada.")),
        (json!("user"), json!("who am I")),
    ];
    assert_eq!(said, expected.iter().map(|(role, content)| (role, content)).collect::<Vec<_>>());
}

#[tokio::test]
async fn each_failure_of_each_api_ends_in_its_error_and_the_session_goes_on() {
    let aimock = Aimock::start(json!([
        // Goes before the others: what got no answer is asked again with it.
        { "match": { "userMessage": "hello" }, "response": { "content": "Here I am." } },
        {
            "match": { "userMessage": "limited" },
            "response": { "error": { "message": "slow down", "type": "rate_limit_error" }, "status": 429, "retryAfter": 42 },
        },
        { "match": { "userMessage": "broken" }, "response": { "error": { "message": "oops" }, "status": 500 } },
        {
            "match": { "userMessage": "cut" },
            "response": { "content": "This will be cut off in the middle of its words." },
            "chunkSize": 4, "latency": 20, "truncateAfterChunks": 6,
        },
        {
            "match": { "userMessage": "hang" },
            "response": { "content": "This will never be said to its end." },
            "chunkSize": 4, "streamingProfile": { "ttft": 10, "tps": 0.001 },
        },
    ]));
    let server = server_of(&aimock, aimock::KEY);
    for (kind, _) in KINDS {
        let mut client = server.client().await;
        for (message, code) in [
            ("limited", "provider_rate_limited"),
            ("broken", "provider_error"),
            ("cut", "provider_error"),
            ("hang", "provider_timeout"),
        ] {
            let session = client.create(kind).await;

            let frames = ask(&mut client, &session, message).await;

            let error = &the(&frames, "error")["error"];
            assert_eq!(error["code"], code, "{kind} {message}: {error}");
            assert!(error["message"].as_str().is_some_and(|text| text.contains("my-")), "{error}");
            if message == "limited" {
                assert_eq!(error["details"]["retry_after_ms"], 42_000, "{kind}: {error}");
            }
            if message == "cut" {
                let response = &the(&frames, "agent_response")["data"];
                assert_eq!(
                    (&response["content"], &response["incomplete"]),
                    (&json!(streamed(&frames)), &json!(true))
                );
            }
            assert_eq!(the(&frames, "run_finished")["data"]["outcome"], "failed", "{kind} {message}");

            let frames = ask(&mut client, &session, "hello").await;

            assert_eq!(streamed(&frames), "Here I am.", "{kind} {message}");
            assert_well_formed(&client.history(&session).await);
        }
    }
}

#[tokio::test]
async fn a_wrong_key_is_an_error_of_the_run_and_shown_to_nobody() {
    const WRONG: &str = "wrong-key-77aa88bb";
    let aimock = Aimock::start(json!([]));
    let server = server_of(&aimock, WRONG);
    for (kind, _) in KINDS {
        let mut client = server.client().await;
        let session = client.create(kind).await;

        let frames = ask(&mut client, &session, "hello").await;

        let error = &the(&frames, "error")["error"];
        assert_eq!(error["code"], "provider_auth", "{kind}: {error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("MOCK_API_KEY")), "{error}");
        let log = client.history(&session).await;
        assert!(!format!("{frames:?}{log:?}").contains(WRONG), "{kind}");
        assert_eq!(types(&durable(&log, &session)).last(), Some(&"run_finished"));
    }
}

#[tokio::test]
async fn a_stop_closes_the_providers_connection() {
    let provider = RawServer::start().await;
    let agents = format!(
        r#"
[[agents]]
id = "slow"
name = "Slow"
model = "raw::some-model"

[providers.raw]
kind = "openai"
base_url = "{}"
"#,
        provider.url("/v1/")
    );
    let server = Server::with_agents(&agents, &[]);
    let mut client = server.client().await;
    let session = client.create("slow").await;
    let run_id = client.chat(&session, "go on and on").await;
    let connection = provider.connection().await;

    let stopped = client.must(stop(&session, json!({ "run_id": run_id }))).await;

    assert_eq!(stopped["outcome"], "cancelled");
    within("the provider's connection to be closed", connection.closed()).await;
    assert_well_formed(&client.history(&session).await);
}
