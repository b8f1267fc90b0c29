use genai::{
    ModelIden,
    adapter::AdapterKind,
    chat::{ContentPart, CustomPart, MessageContent, StreamChunk, ToolChunk},
};
use serde_json::json;

use super::*;

fn identity() -> Identity {
    Identity { name: "acme".into(), address: None, key: None, key_env: None }
}

fn chunk(content: &str) -> StreamChunk {
    StreamChunk { content: content.into() }
}

fn call(id: &str, name: &str, args: impl Into<Value>) -> ChatStreamEvent {
    signed_call(id, name, args, None)
}

fn signed_call(id: &str, name: &str, args: impl Into<Value>, signature: Option<&str>) -> ChatStreamEvent {
    let tool_call = genai::chat::ToolCall {
        call_id: id.into(),
        fn_name: name.into(),
        fn_arguments: args.into(),
        thought_signatures: signature.map(|signature| vec![signature.to_owned()]),
    };
    ChatStreamEvent::ToolCallChunk(ToolChunk { tool_call })
}

fn end(reason: &str) -> StreamEnd {
    let usage =
        genai::chat::Usage { prompt_tokens: Some(3), completion_tokens: Some(4), ..Default::default() };
    StreamEnd {
        captured_usage: Some(usage),
        captured_stop_reason: Some(StopReason::from(reason.to_owned())),
        ..StreamEnd::default()
    }
}

/// What an answer of these pieces ends with.
fn answer(api: Api, pieces: Vec<ChatStreamEvent>, end: StreamEnd) -> Result<Vec<ModelEvent>, Failure> {
    let identity = identity();
    let mut answer = Answer::new(api, &identity);
    for piece in pieces {
        answer.take(piece, String::new)?;
    }
    match answer.take(ChatStreamEvent::End(end), String::new)? {
        Piece::End(events) => Ok(events),
        other => panic!("{other:?}"),
    }
}

fn calls(events: &[ModelEvent]) -> Vec<(&str, &str, &Value)> {
    let mut calls = Vec::new();
    for event in events {
        if let ModelEvent::ToolCall(call) = event {
            calls.push((call.id.as_str(), call.name.as_str(), &call.args));
        }
    }
    calls
}

fn finish(events: &[ModelEvent]) -> FinishReason {
    match events.last() {
        Some(ModelEvent::End { finish_reason, .. }) => *finish_reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pieces_of_calls_go_to_the_call_they_are_of() {
    let pieces = vec![
        call("call_abc", "clock", ""),
        call("call_0", "", "{\"zone\":"),
        call("call_def", "files", "{}"),
        // By its index, although the second has begun.
        call("call_0", "", "\"UTC\"}"),
    ];

    let events = answer(Api::OpenAi, pieces, end("stop")).unwrap();

    let expected = [("call_abc", "clock", &json!({ "zone": "UTC" })), ("call_def", "files", &json!({}))];
    assert_eq!(calls(&events), expected);
    assert_eq!(finish(&events), FinishReason::ToolCalls, "whatever the provider calls it");
}

#[test]
fn an_index_beyond_all_calls_means_the_last() {
    let pieces = vec![call("call_abc", "clock", ""), call("call_4294967295", "", "{\"a\":1}")];

    let events = answer(Api::OpenAi, pieces, end("tool_calls")).unwrap();

    assert_eq!(calls(&events), [("call_abc", "clock", &json!({ "a": 1 }))]);
}

#[test]
fn anthropic_repeats_what_came_before() {
    let pieces = vec![
        call("toolu_1", "clock", ""),
        call("toolu_1", "clock", "{\"zone\""),
        call("toolu_1", "clock", "{\"zone\":\"UTC\"}"),
        call("toolu_2", "clock", ""),
    ];

    let events = answer(Api::Anthropic, pieces, end("tool_use")).unwrap();

    let expected = [("toolu_1", "clock", &json!({ "zone": "UTC" })), ("toolu_2", "clock", &json!({}))];
    assert_eq!(calls(&events), expected);
}

#[test]
fn calls_without_an_id_of_their_own_get_one() {
    let pieces = vec![
        call("call#clock#0", "clock", json!({ "n": 1 })),
        call("call#clock#0", "clock", json!({ "n": 2 })),
        call("given", "clock", json!({ "n": 3 })),
        call("given", "clock", json!({ "n": 4 })),
    ];

    let events = answer(Api::Gemini, pieces, end("STOP")).unwrap();

    let calls = calls(&events);
    let mut ids: Vec<_> = calls.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids[2], "given");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert!(ids.iter().filter(|id| id.starts_with("call#clock#")).count() == 3, "{ids:?}");
}

#[test]
fn arguments_that_are_no_json_are_the_tools_affair_unless_they_were_cut() {
    let broken = || vec![call("a", "clock", "{\"zone\":")];

    let events = answer(Api::OpenAi, broken(), end("tool_calls")).unwrap();
    assert_eq!(calls(&events), [("a", "clock", &json!("{\"zone\":"))]);

    let failure = answer(Api::OpenAi, broken(), end("length")).unwrap_err();
    assert!(failure.error.message.contains("max_tokens"), "{}", failure.error.message);
}

#[test]
fn too_many_calls_and_too_long_arguments_break_the_answer_off() {
    let many = (0..=MAX_CALLS).map(|n| call(&format!("id{n}"), "clock", "{}")).collect();
    let long = vec![call("a", "clock", "x".repeat(MAX_ARGS_BYTES)), call("a", "", "x")];
    let whole = vec![call("a", "clock", json!({ "x": "x".repeat(MAX_ARGS_BYTES) }))];
    for (api, pieces) in [(Api::OpenAi, many), (Api::OpenAi, long), (Api::Ollama, whole)] {
        let failure = answer(api, pieces, end("stop")).unwrap_err();

        assert_eq!(failure.error.kind, ModelErrorKind::Other);
        assert!(failure.error.message.contains("more than"), "{}", failure.error.message);
    }
    let fits = vec![call("a", "clock", format!("\"{}\"", "x".repeat(MAX_ARGS_BYTES - 8)))];
    assert!(answer(Api::OpenAi, fits, end("stop")).is_ok());
}

#[test]
fn endless_reasoning_is_broken_off() {
    let megabyte = "x".repeat(1024 * 1024);
    let reasoning = |_| ChatStreamEvent::ReasoningChunk(chunk(&megabyte));

    let failure = answer(Api::Anthropic, (0..5).map(reasoning).collect(), end("end_turn")).unwrap_err();

    assert!(failure.error.message.contains("reasoning"), "{}", failure.error.message);
}

#[test]
fn ends_have_their_reasons() {
    let said = || vec![ChatStreamEvent::Chunk(chunk("well"))];
    for (reason, expected) in [
        ("stop", FinishReason::Stop),
        ("end_turn", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("SAFETY", FinishReason::ContentFilter),
        ("eos", FinishReason::Stop),
    ] {
        assert_eq!(finish(&answer(Api::OpenAi, said(), end(reason)).unwrap()), expected, "{reason}");
    }
    let failure = answer(Api::Gemini, Vec::new(), end("MALFORMED_FUNCTION_CALL")).unwrap_err();
    assert!(failure.error.message.contains("MALFORMED_FUNCTION_CALL"), "{}", failure.error.message);
}

#[test]
fn an_end_that_the_library_made_up_is_a_cut() {
    let said = || vec![ChatStreamEvent::Chunk(chunk("well"))];
    let no_usage = StreamEnd { captured_usage: None, ..end("stop") };
    let no_reason = StreamEnd { captured_stop_reason: None, ..end("stop") };

    assert_eq!(answer(Api::Ollama, said(), no_usage).unwrap_err(), Failure::cut());
    assert_eq!(answer(Api::Gemini, said(), no_reason).unwrap_err(), Failure::cut());
    // These say themselves that they are done; not all give a reason or a count.
    assert!(answer(Api::OpenAi, said(), StreamEnd::default()).is_ok());
}

#[test]
fn ollamas_last_words_are_heard() {
    let identity = identity();
    let mut answer = Answer::new(Api::Ollama, &identity);
    let frame = || r#"{"error":"out of memory"}"#.to_owned();

    let failure = answer.take(ChatStreamEvent::End(StreamEnd::default()), frame).unwrap_err();

    assert!(failure.error.message.contains("out of memory"), "{}", failure.error.message);
}

#[test]
fn what_was_not_counted_is_no_usage() {
    let usage_of = |prompt, completion| {
        usage(genai::chat::Usage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            ..Default::default()
        })
    };

    assert_eq!(usage_of(None, None), None);
    assert_eq!(usage_of(Some(0), Some(0)), None);
    assert_eq!(usage_of(Some(-1), None), None);
    assert_eq!(usage_of(Some(3), None), Some(Usage { prompt_tokens: 3, completion_tokens: 0 }));
}

#[test]
fn signatures_stay_with_their_calls_and_the_rest_with_the_answer() {
    let pieces = vec![
        ChatStreamEvent::ThoughtSignatureChunk(chunk("of the text")),
        ChatStreamEvent::Chunk(chunk("well")),
        signed_call("a", "clock", json!({}), Some("of the call")),
    ];
    let signature = |text: &str| ContentPart::ThoughtSignature(text.into());
    let content = MessageContent::from_parts(vec![signature("of the text"), signature("of the call")]);
    let end = StreamEnd { captured_content: Some(content), ..end("STOP") };

    let events = answer(Api::Gemini, pieces, end).unwrap();

    let [ModelEvent::ToolCall(call), ModelEvent::End { provider_state, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    let state = |state: &Option<crate::core::event::ProviderState>| {
        state.as_ref().map(|state| (state.provider.clone(), state.state.clone()))
    };
    assert_eq!(state(&call.provider_state), Some(("acme".into(), json!([{ "signature": "of the call" }]))));
    assert_eq!(state(provider_state), Some(("acme".into(), json!([{ "signature": "of the text" }]))));
}

#[test]
fn anthropics_thoughts_are_kept_in_their_order() {
    let content = MessageContent::from_parts(vec![
        ContentPart::ThoughtSignature("s".into()),
        ContentPart::ReasoningContent("because".into()),
        ContentPart::Custom(CustomPart {
            model_iden: Some(ModelIden::new(AdapterKind::Anthropic, "claude")),
            data: json!({ "type": "redacted_thinking" }),
        }),
    ]);
    let end = StreamEnd { captured_content: Some(content), ..end("end_turn") };

    let events = answer(Api::Anthropic, Vec::new(), end).unwrap();

    let [ModelEvent::End { provider_state: Some(state), .. }] = &events[..] else { panic!("{events:?}") };
    let expected = json!([{ "signature": "s" }, { "reasoning": "because" }, { "block": { "type": "redacted_thinking" } }]);
    assert_eq!(state.state, expected);
}

#[test]
fn deepseeks_reasoning_is_kept_where_tools_follow() {
    let think = || ChatStreamEvent::ReasoningChunk(chunk("hm"));
    let state = |events: Vec<ModelEvent>| match events.into_iter().last() {
        Some(ModelEvent::End { provider_state, .. }) => provider_state.map(|state| state.state),
        other => panic!("{other:?}"),
    };

    let plain = answer(Api::DeepSeek, vec![think()], end("stop")).unwrap();
    let with_call =
        answer(Api::DeepSeek, vec![think(), call("a", "clock", "{}")], end("tool_calls")).unwrap();
    let elsewhere = answer(Api::OpenAi, vec![think(), call("a", "clock", "{}")], end("tool_calls")).unwrap();

    assert_eq!(state(plain), None);
    assert_eq!(state(with_call), Some(json!([{ "reasoning": "hm" }])));
    assert_eq!(state(elsewhere), None);
}
