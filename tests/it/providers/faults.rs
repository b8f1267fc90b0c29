//! Providers that hang, break off, flood, send rubbish, or point elsewhere. Each is a TCP server in the test.

use futures_util::FutureExt;

use super::*;

// ---- a provider that does as it is told ----

/// A server that speaks HTTP as far as a test has it.
pub struct RawServer {
    listener: TcpListener,
    address: SocketAddr,
}

/// A connection whose request has been read.
pub struct Connection {
    stream: TcpStream,
    head: String,
    body: Vec<u8>,
}

impl RawServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self { listener, address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next connection.
    pub async fn connection(&self) -> Connection {
        let (mut stream, _) = within("a connection", self.listener.accept()).await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("a request", stream.read_u8()).await.expect("a request"));
        }
        let head = String::from_utf8(head).expect("text").to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        within("a body", stream.read_exact(&mut body)).await.expect("a body");
        Connection { stream, head, body }
    }

    /// Whether nobody else has come.
    fn is_alone(&self) -> bool {
        self.listener.accept().now_or_never().is_none()
    }
}

impl Connection {
    pub fn body(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Answers as a whole.
    async fn respond(mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} Because\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        self.stream.write_all(answer.as_bytes()).await.expect("an open connection");
    }

    /// Begins an answer that is streamed.
    async fn begin(&mut self) {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        self.stream.write_all(head.as_bytes()).await.expect("an open connection");
    }

    async fn send(&mut self, text: &str) {
        self.try_send(text).await.expect("an open connection");
    }

    /// Sends a piece; fails once the other side has hung up.
    async fn try_send(&mut self, text: &str) -> std::io::Result<()> {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.stream.write_all(chunk.as_bytes()).await
    }

    /// Ends the answer as one that is whole.
    async fn finish(mut self) {
        self.stream.write_all(b"0\r\n\r\n").await.expect("an open connection");
    }

    /// Ends the connection as a crash does.
    fn reset(self) {
        self.stream.set_zero_linger().expect("a socket option");
    }

    /// Waits until the other side has hung up.
    pub async fn closed(mut self) {
        let mut rest = Vec::new();
        // A reset is as good an end as any.
        let _ = within("the end of the connection", self.stream.read_to_end(&mut rest)).await;
    }
}

/// An address where nobody listens.
pub async fn unused_address() -> SocketAddr {
    RawServer::start().await.address
}

/// A piece of text in the form of an API.
fn say(api: Api, text: &str) -> String {
    match api {
        Api::Anthropic => {
            let delta = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } });
            format!("event: content_block_delta\ndata: {delta}\n\n")
        }
        Api::Gemini => {
            let candidate = json!({ "content": { "role": "model", "parts": [{ "text": text }] } });
            format!("data: {}\n\n", json!({ "candidates": [candidate] }))
        }
        Api::Ollama => {
            format!("{}\n", json!({ "message": { "role": "assistant", "content": text }, "done": false }))
        }
        _ => format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "content": text } }] })),
    }
}

/// A piece of a call in OpenAI's form.
fn call(index: u32, id: &str, name: &str, args: &str) -> String {
    let call = json!({ "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": args } });
    format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] }))
}

const OPENAI_END: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// A call of a provider that has just begun to answer.
async fn begun(api: Api) -> (RawServer, Asked, Connection, Answer) {
    begun_with(api, |_| ()).await
}

async fn begun_with(
    api: Api,
    change: impl FnOnce(&mut ProviderOptions),
) -> (RawServer, Asked, Connection, Answer) {
    let server = RawServer::start().await;
    let asked = Asked::with(api, server.url("/v1/"), change);
    let answer = asked.stream("go on");
    let mut connection = server.connection().await;
    connection.begin().await;
    (server, asked, connection, answer)
}

async fn next(answer: &mut Answer) -> Option<Result<ModelEvent, ModelError>> {
    within("an event", answer.next()).await
}

fn said(text: &str) -> Option<Result<ModelEvent, ModelError>> {
    Some(Ok(ModelEvent::Text(text.to_owned())))
}

// ---- broken off ----

#[tokio::test]
async fn an_end_without_an_end_is_a_cut() {
    for api in APIS {
        let (server, _asked, mut connection, answer) = begun(api).await;
        connection.send(&say(api, "half of")).await;
        connection.finish().await;

        let events = whole(answer).await;

        assert_eq!(texts(&events), ["half of"], "{api:?}");
        assert_eq!(failure(&events), &ModelError::cut(), "{api:?}");
        assert!(server.is_alone(), "{api:?}: what was said would be said twice");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_and_no_second_attempt() {
    for api in APIS {
        let (server, _asked, mut connection, mut answer) = begun(api).await;
        connection.send(&say(api, "half of")).await;
        assert_eq!(next(&mut answer).await, said("half of"), "{api:?}");
        connection.reset();

        let events = whole(answer).await;

        let error = failure(&events);
        assert_eq!(error.kind, ModelErrorKind::Other, "{api:?}");
        assert!(error.message.contains("acme broke off"), "{error}");
        assert!(server.is_alone(), "{api:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_made_anew() {
    let (server, _asked, connection, answer) = begun(Api::OpenAi).await;
    connection.reset();
    server.connection().await.respond(503, "", "busy").await;
    let mut connection = server.connection().await;
    connection.begin().await;
    connection.send(&format!("{}{OPENAI_END}", say(Api::OpenAi, "here I am"))).await;

    let events = whole(answer).await;

    assert_eq!(texts(&events), ["here I am"]);
    assert_eq!(end(&events).0, FinishReason::Stop);
}

#[tokio::test]
async fn where_nobody_listens_the_error_says_so() {
    let address = unused_address().await;
    let asked = Asked::new(Api::Anthropic, format!("http://{address}/v1/?key=in-the-query"));

    let error = asked.refusal("hello").await;

    assert_eq!(error.kind, ModelErrorKind::Other);
    for part in ["acme", "connection refused", &address.to_string()] {
        assert!(error.message.contains(part), "{error}");
    }
    assert!(!error.message.contains("in-the-query"), "{error}");
}

#[tokio::test]
async fn an_error_in_the_stream_is_the_answers_error() {
    for (api, sent, kind) in [
        (
            Api::OpenAi,
            "data: {\"error\":{\"message\":\"upstream fell over\",\"type\":\"server_error\"}}\n\n",
            ModelErrorKind::Other,
        ),
        (
            Api::Anthropic,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"upstream fell over\"}}\n\n",
            ModelErrorKind::RateLimited { retry_after: None },
        ),
        (
            Api::Gemini,
            "data: {\"error\":{\"code\":504,\"message\":\"upstream fell over\",\"status\":\"DEADLINE_EXCEEDED\"}}\n\n",
            ModelErrorKind::Timeout,
        ),
        (Api::Ollama, "{\"error\":\"upstream fell over\"}\n", ModelErrorKind::Other),
    ] {
        let (_server, _asked, mut connection, answer) = begun(api).await;
        connection.send(&say(api, "well")).await;
        connection.send(sent).await;
        connection.finish().await;

        let events = whole(answer).await;

        let error = failure(&events);
        assert_eq!(error.kind, kind, "{api:?}");
        assert!(error.message.contains("upstream fell over"), "{api:?}: {error}");
    }
}

// ---- slow ----

#[tokio::test]
async fn a_pause_in_the_answer_that_is_too_long_ends_it_and_the_connection() {
    for api in APIS {
        let soon = |options: &mut ProviderOptions| options.idle_timeout = SOON;
        let (_server, _asked, mut connection, mut answer) = begun_with(api, soon).await;
        connection.send(&say(api, "half of")).await;
        assert_eq!(next(&mut answer).await, said("half of"), "{api:?}");

        let events = whole(answer).await;

        let error = failure(&events);
        assert_eq!(error.kind, ModelErrorKind::Timeout, "{api:?}");
        assert!(error.message.contains("idle_timeout_secs"), "{error}");
        connection.closed().await;
    }
}

#[tokio::test]
async fn signs_of_life_are_no_answer() {
    let soon = |options: &mut ProviderOptions| options.first_token_timeout = SOON;
    let (_server, _asked, mut connection, answer) = begun_with(Api::Anthropic, soon).await;
    let pings = async {
        while connection.try_send("event: ping\ndata: {\"type\":\"ping\"}\n\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };

    let (events, ()) = tokio::join!(whole(answer), within("the end of the connection", pings));

    assert_eq!(failure(&events).kind, ModelErrorKind::Timeout);
}

#[tokio::test]
async fn a_short_wish_for_patience_is_granted_and_a_long_one_passed_on() {
    let server = RawServer::start().await;
    let asked = Asked::new(Api::OpenAi, server.url("/v1/"));
    let answer = asked.stream("hello");
    server.connection().await.respond(429, "Retry-After-Ms: 50\r\nConnection: close\r\n", "{}").await;
    server.connection().await.respond(429, "Retry-After: 11\r\nConnection: close\r\n", "{}").await;

    let events = whole(answer).await;

    let retry_after = Some(Duration::from_secs(11));
    assert_eq!(failure(&events).kind, ModelErrorKind::RateLimited { retry_after });
    assert!(failure(&events).message.contains("11 s"), "{}", failure(&events));
    assert!(server.is_alone());
}

// ---- rubbish ----

#[tokio::test]
async fn rubbish_is_an_error_that_shows_some_of_it() {
    for (api, sent) in [
        (Api::OpenAi, "data: {\"choices\": rubbish\u{7}\n\n"),
        (Api::Anthropic, "event: content_block_start\ndata: {\"content_block\": rubbish\n\n"),
        (Api::Anthropic, "event: content_block_delta\ndata: {\"delta\": {\"rubbish\": 1}}\n\n"),
        (Api::Gemini, "data: rubbish\n\n"),
        (Api::Ollama, "rubbish\n"),
    ] {
        let (_server, _asked, mut connection, answer) = begun(api).await;
        connection.send(sent).await;

        let events = whole(answer).await;

        let error = failure(&events);
        assert_eq!(error.kind, ModelErrorKind::Other, "{api:?}");
        assert!(error.message.contains("rubbish") && !error.message.contains('\u{7}'), "{api:?}: {error}");
        connection.closed().await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_an_error() {
    let (_server, _asked, mut connection, answer) = begun(Api::OpenAi).await;
    connection.stream.write_all(b"4\r\n\xff\xfe\xfd\xfc\r\n").await.expect("an open connection");

    let events = whole(answer).await;

    assert_eq!(failure(&events).kind, ModelErrorKind::Other);
}

#[tokio::test]
async fn a_page_in_the_place_of_an_answer_points_at_the_address() {
    let server = RawServer::start().await;
    let asked = Asked::new(Api::OpenAi, server.url("/"));
    let answer = asked.stream("hello");
    server.connection().await.respond(200, "Content-Type: text/html\r\n", "<html>Welcome!</html>").await;

    let events = whole(answer).await;

    assert!(failure(&events).message.contains("base_url"), "{}", failure(&events));
}

#[tokio::test]
async fn a_call_with_an_absurd_index_costs_nothing() {
    let (_server, _asked, mut connection, answer) = begun(Api::OpenAi).await;
    connection.send(&call(u32::MAX, "call_x", "clock", "{\"zone\":\"UTC\"}")).await;
    connection.send(OPENAI_END).await;

    let events = whole(answer).await;

    assert_eq!(calls(&events).len(), 1);
    assert_eq!(calls(&events)[0].args, json!({ "zone": "UTC" }));
}

// ---- floods ----

#[tokio::test]
async fn an_answer_in_one_piece_comes_in_many() {
    let text = "0123456789abcdé\n".repeat(1024 * 1024 / 17);
    let (_server, _asked, mut connection, answer) = begun(Api::OpenAi).await;
    let sent = format!("{}{OPENAI_END}", say(Api::OpenAi, &text));

    let (events, ()) = tokio::join!(whole(answer), connection.send(&sent));

    assert!(texts(&events).iter().all(|piece| piece.len() <= 16 * 1024));
    assert!(texts(&events).concat() == text, "all of it, in its order");
    assert_eq!(end(&events).0, FinishReason::Stop);
}

#[tokio::test]
async fn ten_megabytes_at_once_are_an_error_and_the_next_answer_is_fine() {
    let (server, asked, mut connection, answer) = begun(Api::OpenAi).await;
    let sent = say(Api::OpenAi, &"x".repeat(10 * 1024 * 1024));

    let (events, _) = tokio::join!(whole(answer), connection.try_send(&sent));

    let error = failure(&events);
    assert_eq!(error.kind, ModelErrorKind::Other);
    assert!(error.message.contains("acme sent"), "{error}");
    let answer = asked.stream("again");
    let mut connection = server.connection().await;
    connection.begin().await;
    connection.send(&format!("{}{OPENAI_END}", say(Api::OpenAi, "of course"))).await;
    assert_eq!(texts(&whole(answer).await), ["of course"]);
}

#[tokio::test]
async fn arguments_without_an_end_break_the_answer_off() {
    let (_server, _asked, mut connection, answer) = begun(Api::OpenAi).await;
    let flood = async {
        connection.send(&call(0, "call_x", "clock", "\"")).await;
        let more = call(0, "call_x", "", &"x".repeat(10_000));
        while connection.try_send(&more).await.is_ok() {}
    };

    let (events, ()) = tokio::join!(whole(answer), within("the end of the connection", flood));

    let error = failure(&events);
    assert_eq!(error.kind, ModelErrorKind::Other);
    assert!(error.message.contains("tool calls"), "{error}");
}

#[tokio::test]
async fn a_line_without_an_end_is_broken_off() {
    let (_server, _asked, mut connection, answer) = begun(Api::OpenAi).await;
    let flood = async {
        connection.send("data: {\"choices\":[{\"delta\":{\"content\":\"").await;
        let more = "x".repeat(64 * 1024);
        while connection.try_send(&more).await.is_ok() {}
    };

    let (events, ()) = tokio::join!(whole(answer), within("the end of the connection", flood));

    assert!(failure(&events).message.contains("more at once"), "{}", failure(&events));
}

#[tokio::test]
async fn an_error_without_an_end_is_broken_off() {
    let server = RawServer::start().await;
    let asked = Asked::new(Api::OpenAi, server.url("/v1/"));
    let answer = asked.stream("hello");
    let mut stream = server.connection().await.stream;
    let flood = async {
        stream.write_all(b"HTTP/1.1 400 Because\r\n\r\n").await.expect("an open connection");
        let more = [b'x'; 64 * 1024];
        while stream.write_all(&more).await.is_ok() {}
    };

    let (events, ()) = tokio::join!(whole(answer), within("the end of the connection", flood));

    assert!(failure(&events).message.contains("more at once"), "{}", failure(&events));
}

#[tokio::test]
async fn who_does_not_read_holds_the_provider_up() {
    let (_server, _asked, mut connection, mut answer) = begun(Api::OpenAi).await;
    // Far more than all the buffers between here and there.
    let deltas = say(Api::OpenAi, &"x".repeat(4_000)).repeat(250);
    let flood = async {
        for _ in 0..1_000 {
            let stalled =
                tokio::time::timeout(Duration::from_secs(2), connection.send(&deltas)).await.is_err();
            if stalled {
                return true;
            }
        }
        false
    };

    assert!(within("a provider that is held up", flood).await, "a gigabyte went somewhere");
    assert!(matches!(next(&mut answer).await, Some(Ok(ModelEvent::Text(_)))), "what it said is still there");
}

// ---- hanging up ----

#[tokio::test]
async fn a_dropped_answer_closes_the_connection_at_once() {
    for api in APIS {
        // Before the provider has said anything at all.
        let server = RawServer::start().await;
        let asked = Asked::new(api, server.url("/v1/"));
        let answer = asked.stream("hello");
        let connection = server.connection().await;
        drop(answer);
        connection.closed().await;

        // In the middle of its answer.
        let (_server, _asked, mut connection, mut answer) = begun(api).await;
        connection.send(&say(api, "half of")).await;
        assert_eq!(next(&mut answer).await, said("half of"), "{api:?}");
        drop(answer);
        connection.closed().await;

        // While it waits for somebody to read.
        let (_server, _asked, mut connection, answer) = begun(api).await;
        let piece = say(api, "more and ").repeat(1_000);
        connection.send(&piece).await;
        drop(answer);
        connection.closed().await;
    }
}

#[tokio::test]
async fn a_dropped_answer_is_not_tried_again() {
    let server = RawServer::start().await;
    let asked = Asked::new(Api::OpenAi, server.url("/v1/"));
    let answer = asked.stream("hello");
    let connection = server.connection().await;
    connection.respond(500, "Connection: close\r\n", "{}").await;
    drop(answer);

    // The wait before the second attempt is half a second at most.
    let second = tokio::time::timeout(Duration::from_secs(1), server.listener.accept()).await;

    assert!(second.is_err(), "somebody came back");
}

// ---- keys ----

#[tokio::test]
async fn without_its_key_a_provider_is_not_even_called() {
    let server = RawServer::start().await;
    let asked = Asked::with(Api::OpenAi, server.url("/v1/"), |options| options.key = None);

    let error = asked.refusal("hello").await;

    assert_eq!(error.kind, ModelErrorKind::Auth);
    assert!(error.message.contains("ACME_API_KEY"), "{error}");
    let error = within("a probe", asked.provider.probe("some-model")).await.expect_err("no key");
    assert_eq!(error.kind, ModelErrorKind::Auth);
    assert!(server.is_alone(), "nobody was called");
}

#[tokio::test]
async fn a_server_that_needs_no_key_is_called_without_one() {
    let server = RawServer::start().await;
    let asked = Asked::with(Api::OpenAi, server.url("/v1/"), |options| {
        options.key = None;
        options.key_env = None;
    });
    let _answer = asked.stream("hello");

    assert!(server.connection().await.head.contains("authorization: bearer none\r\n"));
}

#[tokio::test]
async fn a_key_goes_with_the_request_and_never_into_an_error() {
    for (api, header) in [
        (Api::OpenAi, "authorization: bearer"),
        (Api::Anthropic, "x-api-key:"),
        (Api::Gemini, "x-goog-api-key:"),
        (Api::Ollama, "authorization: bearer"),
    ] {
        let server = RawServer::start().await;
        let asked = Asked::new(api, server.url("/v1/"));
        let answer = asked.stream("hello");
        let connection = server.connection().await;
        let expected = format!("{header} {}\r\n", aimock::KEY.to_lowercase());
        assert!(connection.head.contains(&expected), "{api:?}: {}", connection.head);
        let key = aimock::KEY;
        let body =
            format!("{{\"error\":{{\"message\":\"Incorrect key {key} at https://x.y/z?key={key}\"}}}}");
        connection.respond(401, "", &body).await;

        let events = whole(answer).await;

        let error = failure(&events);
        assert_eq!(error.kind, ModelErrorKind::Auth, "{api:?}");
        assert!(!error.message.contains(key) && !error.message.contains("5Tq80zLw"), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_no_header_can_hold_is_an_error_without_it() {
    let server = RawServer::start().await;
    let asked = Asked::with(Api::OpenAi, server.url("/v1/"), |options| {
        options.key = Some(SecretString::from("two-lines-of\nkey-77aa88bb"));
    });

    let error = asked.refusal("hello").await;

    assert!(error.message.contains("ACME_API_KEY") && !error.message.contains("77aa"), "{error}");
    assert!(server.is_alone());
}

#[tokio::test]
async fn a_key_does_not_follow_a_redirect() {
    let (server, other) = (RawServer::start().await, RawServer::start().await);
    let asked = Asked::new(Api::Anthropic, server.url("/v1/"));
    let answer = asked.stream("hello");
    let location = format!("Location: {}\r\n", other.url("/v1/messages"));
    server.connection().await.respond(307, &location, "").await;

    let events = whole(answer).await;

    assert!(failure(&events).message.contains("base_url"), "{}", failure(&events));
    assert!(other.is_alone(), "the key went elsewhere");
}

// ---- what is sent ----

#[tokio::test]
async fn a_models_name_is_passed_on_as_it_is() {
    for api in [Api::OpenAi, Api::Groq, Api::Mistral, Api::OpenRouter, Api::Together, Api::Xai] {
        let server = RawServer::start().await;
        let asked = Asked::new(api, server.url("/v1/"));
        let request = ModelRequest {
            // The library would make of it `qwen`, with an effort.
            model: "vendor/qwen-max".to_owned(),
            prompt: Prompt::new("", [user("hello")]),
            temperature: None,
            max_tokens: None,
            tools: Default::default(),
        };
        let _answer = asked.provider.stream(request);

        let connection = server.connection().await;

        let expected = json!({
            "model": "vendor/qwen-max",
            "messages": [{ "role": "user", "content": "hello" }],
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        assert_eq!(connection.body(), expected, "{api:?}");
        assert!(connection.head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{}", connection.head);
    }
}

#[tokio::test]
async fn geminis_signatures_go_back_with_their_calls() {
    let (server, asked, mut connection, answer) = begun(Api::Gemini).await;
    let parts = json!([
        { "text": "Let me see.", "thoughtSignature": "of-the-text" },
        { "functionCall": { "name": "clock", "args": { "zone": "UTC" } }, "thoughtSignature": "of-the-call" },
        { "functionCall": { "name": "clock", "args": { "zone": "CET" } } },
    ]);
    let candidate = json!({ "content": { "role": "model", "parts": parts }, "finishReason": "STOP" });
    connection.send(&format!("data: {}\n\n", json!({ "candidates": [candidate] }))).await;
    connection.finish().await;
    let events = whole(answer).await;
    let calls = calls(&events);
    assert_eq!(calls.len(), 2, "{events:?}");

    let result = |call: &ToolCall| ToolResult {
        id: call.id.clone(),
        name: call.name.clone(),
        outcome: Ok("noon".into()),
    };
    let results = calls.iter().map(result).collect();
    let (text, provider_state) = (texts(&events).concat(), end(&events).2);
    let prompt = vec![
        user("go on"),
        PromptMessage::Assistant { text, calls, provider_state },
        PromptMessage::ToolResults(results),
    ];
    let _answer = asked.stream_prompt(prompt);
    let sent = server.connection().await.body();

    let parts = &sent["contents"][1]["parts"];
    let signatures: Vec<_> = (0..3).map(|part| parts[part]["thoughtSignature"].as_str()).collect();
    assert_eq!(signatures, [Some("of-the-text"), Some("of-the-call"), None], "{sent}");
    assert_eq!(parts[1]["functionCall"]["args"], json!({ "zone": "UTC" }));
    assert_eq!(parts[1]["functionCall"]["id"], Value::Null, "it gave none, so it gets none");
    assert_eq!(sent["contents"][2]["parts"][1]["functionResponse"]["name"], "clock");
}
