use super::*;

fn identity() -> Identity {
    Identity {
        name: "acme".into(),
        address: Some("http://127.0.0.1:1".into()),
        key: Some(SecretString::from("zq81-Fh3kPmWx77Tt0Lr")),
        key_env: Some("ACME_API_KEY".into()),
    }
}

fn refused(status: u16, body: &str) -> Failure {
    identity().refused(status, body, |_| None)
}

#[test]
fn a_long_conversation_is_recognised_however_it_is_said() {
    for (status, body) in [
        // OpenAI; vLLM, DeepSeek and OpenRouter say much the same.
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Your input exceeds the context window of this model.","type":"invalid_request_error","code":null}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens","code":400}}"#,
        ),
        // Anthropic.
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 209353 tokens > 199999 maximum"}}"#,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length or `max_tokens` and try again"}}"#,
        ),
        (
            413,
            r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
        ),
        // OpenRouter, for Anthropic.
        (
            400,
            r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"prompt is too long: 2 tokens > 1 maximum\"}}","provider_name":"Anthropic"}}}"#,
        ),
        // Gemini, once in an array.
        (
            400,
            r#"{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"The input token count exceeds the maximum number of tokens allowed (1048576)."}}]"#,
        ),
        // Ollama.
        (400, r#"{"error":"the input length exceeds the context length"}"#),
        (500, r#"{"error":"prompt too long; exceeded max context length by 512 tokens"}"#),
        // llama.cpp.
        (
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}"#,
        ),
        // xAI.
        (
            400,
            r#"{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens."}"#,
        ),
        // Mistral.
        (
            400,
            r#"{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_error","code":"3051"}"#,
        ),
    ] {
        let failure = refused(status, body);

        assert_eq!(failure.error.kind, ModelErrorKind::ContextOverflow, "{body}");
        assert_eq!(failure.retry, Retry::Never);
    }
}

#[test]
fn a_wrong_key_is_recognised_and_never_shown() {
    for (status, body) in [
        (401, r#"{"error":{"message":"Incorrect API key provided: zq81-Fh3*******t0Lr."}}"#),
        (401, "no JSON: zq81-Fh3kPmWx77Tt0Lr"),
        (403, r#"{"error":{"message":"This key may not do that","type":"permission_error"}}"#),
        (
            400,
            r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#,
        ),
        (
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: zq***Lr."}"#,
        ),
    ] {
        let failure = refused(status, body);

        assert_eq!(failure.error.kind, ModelErrorKind::Auth, "{body}");
        let message = &failure.error.message;
        assert!(message.starts_with("acme ") && message.contains("ACME_API_KEY"), "{message}");
        assert!(!message.contains("zq") && !message.contains("t0Lr"), "{message}");
    }
}

#[test]
fn a_missing_key_names_its_variable() {
    let without = Identity { key: None, ..identity() };
    let error = without.missing_key().unwrap();

    assert_eq!(error.kind, ModelErrorKind::Auth);
    assert!(error.message.contains("ACME_API_KEY"), "{}", error.message);
    assert_eq!(identity().missing_key(), None);
    assert_eq!(Identity { key_env: None, ..without }.missing_key(), None);
}

#[test]
fn the_other_refusals_have_their_kinds_and_chances() {
    let limited = |retry_after| ModelErrorKind::RateLimited { retry_after };
    for (status, body, kind, retry) in [
        (429, r#"{"error":{"message":"slow down"}}"#, limited(None), Retry::Never),
        (
            429,
            r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"3.5s"}]}}"#,
            limited(Some(Duration::from_millis(3500))),
            Retry::After(Duration::from_millis(3500)),
        ),
        (
            413,
            r#"{"error":{"message":"too large, TPM","code":"rate_limit_exceeded"}}"#,
            limited(None),
            Retry::Never,
        ),
        (408, "", ModelErrorKind::Timeout, Retry::Never),
        (504, "<html>gateway</html>", ModelErrorKind::Timeout, Retry::Never),
        (500, "{}", ModelErrorKind::Other, Retry::Backoff),
        (502, "<html>bad gateway</html>", ModelErrorKind::Other, Retry::Backoff),
        (503, "", ModelErrorKind::Other, Retry::Backoff),
        (
            529,
            r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            ModelErrorKind::Other,
            Retry::Backoff,
        ),
        (404, r#"{"error":{"message":"no such model"}}"#, ModelErrorKind::Other, Retry::Never),
        (402, r#"{"error":{"message":"no credit"}}"#, ModelErrorKind::Other, Retry::Never),
        (308, "", ModelErrorKind::Other, Retry::Never),
        (422, r#"{"detail":[{"msg":"field required"}]}"#, ModelErrorKind::Other, Retry::Never),
    ] {
        let failure = refused(status, body);

        assert_eq!((failure.error.kind, failure.retry), (kind, retry), "{status} {body}");
        assert!(failure.error.message.contains(&status.to_string()), "{}", failure.error.message);
        assert!(!failure.error.message.contains('<'), "{}", failure.error.message);
        assert_eq!(failure.what, format!("HTTP {status}"), "the log says nothing of the body");
    }
}

#[test]
fn errors_in_the_middle_of_a_stream_have_their_kinds_too() {
    for (body, kind) in [
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            ModelErrorKind::Other,
        ),
        (
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#,
            ModelErrorKind::RateLimited { retry_after: None },
        ),
        (r#"{"message":"bad key","type":"authentication_error"}"#, ModelErrorKind::Auth),
        (
            r#"{"error":{"code":504,"message":"upstream","status":"DEADLINE_EXCEEDED"}}"#,
            ModelErrorKind::Timeout,
        ),
        (
            r#"{"message":"prompt is too long: 2 > 1","type":"invalid_request_error"}"#,
            ModelErrorKind::ContextOverflow,
        ),
        (r#"{"message":"who knows"}"#, ModelErrorKind::Other),
        (r#""just a text""#, ModelErrorKind::Other),
    ] {
        let failure = identity().broke_off(&serde_json::from_str(body).unwrap(), "");

        assert_eq!(failure.error.kind, kind, "{body}");
    }
    let overloaded = serde_json::json!({ "type": "overloaded_error", "message": "Overloaded" });
    assert_eq!(identity().broke_off(&overloaded, "").retry, Retry::Backoff);
}

#[test]
fn a_blocked_prompt_says_why() {
    let frame = r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{}}"#;

    let failure = identity().broke_off(&Value::Null, frame);

    assert!(failure.error.message.contains("SAFETY"), "{}", failure.error.message);
}

#[test]
fn last_words_are_found_where_there_are_some() {
    let failure = identity().last_words(r#"{"error":"the model runner has stopped"}"#).unwrap();

    assert!(failure.error.message.contains("runner has stopped"), "{}", failure.error.message);
    assert_eq!(identity().last_words(r#"{"message":{"content":"hi"}}"#), None);
    assert_eq!(identity().last_words("cut {"), None);
}
