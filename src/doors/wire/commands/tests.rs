use proptest::prelude::*;

use super::*;
use crate::doors::wire::frames;

/// What clients may send, as JSON text.
const VALID: &[&str] = &[
    r#"{"type":"session_management","message_id":"c-1","agent_id":"helper","data":{"action":"create","title":"x"}}"#,
    r#"{"type":"session_management","data":{"action":"list","query":"x","cursor":"0~helper_100","limit":50}}"#,
    r#"{"type":"session_management","session_id":"helper_417","data":{"action":"history","after":3,"limit":1}}"#,
    r#"{"type":"session_management","session_id":"helper_417","data":{"action":"rename","title":"grün 🦀"}}"#,
    r#"{"type":"session_management","data":{"action":"close","session_id":"helper_417"}}"#,
    r#"{"type":"agent_refresh","agent_id":"helper","session_id":"helper_417"}"#,
    r#"{"type":"chat_message","session_id":"helper_417","data":{"content":"Hi\n","on_busy":"interrupt"}}"#,
    r#"{"type":"stop_run","session_id":"helper_417","data":{"run_id":"01890000-0000-7000-8000-000000000000"}}"#,
    r#"{"type":"typing","session_id":"helper_417","data":{"typing":true}}"#,
    r#"{"type":"subscribe","data":{"topics":["system"],"positions":{"system":{"epoch":"e","seq":18446744073709551615}}}}"#,
    r#"{"type":"subscribe","agent_id":"helper","session_id":"helper_417"}"#,
    r#"{"type":"unsubscribe","topics":["session:helper_417","agent:helper"]}"#,
    r#"{"type":"get_agents"}"#,
    r#"{"type":"get_models"}"#,
    r#"{"type":"ping","message_id":"p"}"#,
    r#"{"type":"heartbeat"}"#,
];

const FIELDS: &[&str] = &[
    "type",
    "message_id",
    "agent_id",
    "session_id",
    "data",
    "action",
    "title",
    "query",
    "cursor",
    "limit",
    "after",
    "before",
    "content",
    "on_busy",
    "run_id",
    "clear_queue",
    "typing",
    "topics",
    "positions",
    "epoch",
    "seq",
];

const WORDS: &[&str] = &[
    "session_management",
    "agent_refresh",
    "chat_message",
    "stop_run",
    "typing",
    "subscribe",
    "unsubscribe",
    "create",
    "close",
    "list",
    "history",
    "rename",
    "queue",
    "helper",
    "helper_417",
    "session:helper_417",
    "system",
];

/// Values of which some are nearly right.
fn value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(WORDS).prop_map(Value::from);
    let leaf = prop_oneof![
        word,
        any::<String>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let field =
            prop_oneof![4 => prop::sample::select(FIELDS).prop_map(str::to_owned), 1 => any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(field, inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A frame of a client, with some of its parts replaced.
fn frame() -> impl Strategy<Value = Value> {
    let base = prop::sample::select(VALID).prop_map(|text| serde_json::from_str::<Value>(text).unwrap());
    let changes = prop::collection::vec((any::<bool>(), prop::sample::select(FIELDS), value()), 0..4);
    (base, changes).prop_map(|(mut frame, changes)| {
        for (in_data, field, value) in changes {
            match frame.get_mut("data").and_then(Value::as_object_mut).filter(|_| in_data) {
                Some(data) => drop(data.insert(field.to_owned(), value)),
                None => frame[field] = value,
            }
        }
        frame
    })
}

/// Bytes of the reply that says what was wrong, at most: whatever a client sends, it gets little of it back.
const MAX_REFUSAL_BYTES: usize = 4 * 1024;

fn check(text: &str) {
    let task = Path::Task("helper_417".parse().unwrap());
    for path in [Path::Frontend, Path::Backend, task] {
        let Inbound { reply_to, request } = decode(text, &path);
        match request {
            Ok(Request::Subscribe(_) | Request::Unsubscribe(_)) => assert_eq!(path, Path::Frontend, "{text}"),
            Ok(Request::Ping | Request::Heartbeat) => {}
            Ok(_) => assert_eq!(path, Path::Backend, "{text}"),
            Err(problem) => {
                let refusal = frames::refused(reply_to.as_deref(), &problem);
                assert!(refusal.len() <= MAX_REFUSAL_BYTES, "{} bytes: {refusal:.200}", refusal.len());
                assert!(!problem.message.is_empty(), "{text}");
            }
        }
    }
}

#[test]
fn what_is_valid_is_understood_on_its_path() {
    for text in VALID {
        let understood = [Path::Frontend, Path::Backend].map(|path| decode(text, &path).request.is_ok());
        assert!(understood.contains(&true), "{text}");
    }
}

#[test]
fn a_key_that_stands_twice_is_not_repeated_whole() {
    let key = "x".repeat(100_000);
    check(&format!(r#"{{"{key}":1,"{key}":1}}"#));
}

#[test]
fn a_refusal_repeats_little_of_what_was_sent() {
    let long = "\u{1}\"".repeat(10_000);
    for text in VALID {
        let valid: Value = serde_json::from_str(text).unwrap();
        for field in FIELDS {
            for value in [json!(long), json!([long]), json!({ &*long: 1 }), json!({ "topics": [long] })] {
                let mut outside = valid.clone();
                outside[field] = value.clone();
                check(&outside.to_string());
                let mut inside = valid.clone();
                if !inside["data"].is_object() {
                    inside["data"] = json!({});
                }
                inside["data"][field] = value;
                check(&inside.to_string());
            }
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_understood_or_refused(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_json_is_understood_or_refused(frame in prop_oneof![frame(), value()]) {
        check(&frame.to_string());
    }

    #[test]
    fn what_is_cut_or_spoilt_is_understood_or_refused(
        text in prop::sample::select(VALID),
        at in any::<prop::sample::Index>(),
        with in prop::option::of(any::<char>()),
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        match with {
            Some(with) => chars[at] = with,
            None => chars.truncate(at),
        }
        check(&String::from_iter(chars));
    }
}

#[test]
fn what_is_kept_as_json_is_bounded() {
    let approval = |args: &str| {
        format!(
            r#"{{"type":"tool_approval","session_id":"helper_417","data":{{"tool_call_id":"a","decision":"approve","args":{{"x":{args}}}}}}}"#
        )
    };
    let patch = |value: &str| {
        format!(
            r#"{{"type":"update_state","session_id":"helper_417","data":{{"if_version":1,"patch":[{{"op":"test","path":"","value":{value}}}]}}}}"#
        )
    };
    let text = |length: usize| format!("\"{}\"", "x".repeat(length));
    let request = |frame: &str| decode(frame, &Path::Backend).request;

    // `{"x":""}`, and the operation around the value.
    let fitting = approval(&text(MAX_CONTENT_BYTES - 8));
    assert!(request(&fitting).is_ok(), "{:?}", request(&fitting));
    assert!(request(&patch(&text(MAX_CONTENT_BYTES - 100))).is_ok());
    for (frame, field) in [
        (approval(&text(MAX_CONTENT_BYTES - 7)), "data.args"),
        // Escaped, it is six times as long.
        (approval(&format!("\"{}\"", "\\u0001".repeat(MAX_CONTENT_BYTES / 6 + 1))), "data.args"),
        (patch(&text(MAX_CONTENT_BYTES)), "data.patch"),
    ] {
        let problem = request(&frame).expect_err(field);
        assert_eq!(problem.code, ErrorCode::PayloadTooLarge, "{problem}");
        assert_eq!(problem.details["field"], field);
        assert!(problem.message.contains(field), "{problem}");
    }
}
