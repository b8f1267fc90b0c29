//! A prompt of the core as the client library takes it (pure).

use std::hash::{DefaultHasher, Hash, Hasher};

use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest, ContentPart, MessageContent, ReasoningEffort, Tool, ToolResponse,
};
use serde_json::{Map, Value, json};

use super::{
    Api,
    state::{self, HiddenPart},
};
use crate::core::ports::{ModelRequest, PromptMessage, ToolCall, ToolResult, ToolSpec};

/// The prompt, for the provider of this name.
pub fn chat_request(api: Api, provider: &str, request: &ModelRequest) -> ChatRequest {
    let mut chat = ChatRequest::default();
    if !request.prompt.system().is_empty() {
        chat = chat.with_system(request.prompt.system());
    }
    for message in request.prompt.messages() {
        match message {
            PromptMessage::User(texts) => chat.messages.push(ChatMessage::user(texts.join("\n\n"))),
            PromptMessage::Assistant { text, calls, provider_state } => {
                let hidden = state::given_back(provider, provider_state.as_ref());
                let mut parts: Vec<_> = hidden.into_iter().map(HiddenPart::into_content).collect();
                // Anthropic refuses a text that is blank.
                if !text.trim().is_empty() {
                    parts.push(ContentPart::Text(text));
                }
                parts.extend(
                    calls.into_iter().map(|call| ContentPart::ToolCall(tool_call(api, provider, call))),
                );
                chat.messages.push(ChatMessage::assistant(MessageContent::from_parts(parts)));
            }
            PromptMessage::ToolResults(results) => {
                let results = results.into_iter().map(|result| tool_response(api, result));
                if api == Api::Ollama {
                    // Of several results in one message the library would send the last only.
                    chat.messages.extend(results.map(ChatMessage::from));
                } else {
                    // Anthropic wants the results of parallel calls together.
                    chat.messages.push(ChatMessage::from(results.collect::<Vec<_>>()));
                }
            }
        }
    }
    if !request.tools.is_empty() {
        chat = chat.with_tools(request.tools.iter().map(tool));
    }
    chat
}

pub fn chat_options(api: Api, request: &ModelRequest) -> ChatOptions {
    let mut options = ChatOptions::default().with_capture_usage(true);
    options.temperature = request.temperature;
    options.max_tokens = request.max_tokens;
    // Anthropic's reasoning comes back with its signature only as a pair. With Gemini, the same option
    // would have it write its thoughts out.
    options.capture_reasoning_content = Some(api == Api::Anthropic);
    // The library takes the end of names such as `qwen-max` for an effort and cuts it off, unless there is
    // one. Of this kind it sends nothing to these.
    if api.is_openai_like() && api != Api::DeepSeek {
        options.reasoning_effort = Some(ReasoningEffort::Budget(0));
    }
    options
}

fn tool(spec: &ToolSpec) -> Tool {
    Tool::new(spec.name.as_str())
        .with_description(spec.description.as_str())
        .with_schema(spec.parameters.clone())
}

fn tool_call(api: Api, provider: &str, call: ToolCall) -> genai::chat::ToolCall {
    let hidden = state::given_back(provider, call.provider_state.as_ref());
    let signatures: Vec<_> = hidden.into_iter().filter_map(HiddenPart::into_signature).collect();
    genai::chat::ToolCall {
        call_id: wire_id(api, call.id),
        fn_name: wire_name(&call.name),
        fn_arguments: wire_args(call.args),
        thought_signatures: (!signatures.is_empty()).then_some(signatures),
    }
}

fn tool_response(api: Api, result: ToolResult) -> ToolResponse {
    let content = match result.outcome {
        Ok(Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(why) => format!("The tool failed: {why}"),
    };
    ToolResponse::new(wire_id(api, result.id), content).with_fn_name(wire_name(&result.name))
}

/// A call's id as this API takes it: a conversation may have begun with another provider.
fn wire_id(api: Api, id: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let fits = match api {
        Api::Gemini | Api::Ollama => true,
        Api::Mistral => id.len() == 9 && id.chars().all(|c| c.is_ascii_alphanumeric()),
        _ => (1..=40).contains(&id.len()) && id.chars().all(plain),
    };
    if fits {
        return id;
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    // Nine letters and digits, as Mistral wants them and the others take them.
    let hash = format!("{:016x}", hasher.finish());
    hash[..9].to_owned()
}

/// A tool's name as every API takes it: models make up names, which stay in the conversation.
fn wire_name(name: &str) -> String {
    /// The longest that providers take.
    const MAX_NAME: usize = 64;
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    match name {
        "" => "_".to_owned(),
        name => name.chars().take(MAX_NAME).map(plain).collect(),
    }
}

/// Arguments as every API takes them: an object, even where a model gave something else.
fn wire_args(args: Value) -> Value {
    match args {
        Value::Object(_) => args,
        Value::Null => Value::Object(Map::new()),
        other => json!({ "arguments": other }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{conversation::Prompt, event::ProviderState};

    fn request(messages: Vec<PromptMessage>) -> ModelRequest {
        ModelRequest {
            model: "m".into(),
            prompt: Prompt::new("be brief", messages),
            temperature: Some(0.5),
            max_tokens: Some(100),
            tools: vec![ToolSpec {
                name: "clock".into(),
                description: "tells the time".into(),
                parameters: json!({ "type": "object" }),
            }]
            .into(),
        }
    }

    fn call(id: &str, args: Value, provider_state: Option<ProviderState>) -> ToolCall {
        ToolCall { id: id.into(), name: "clock".into(), args, provider_state }
    }

    fn result(id: &str, outcome: Result<Value, String>) -> ToolResult {
        ToolResult { id: id.into(), name: "clock".into(), outcome }
    }

    fn state(provider: &str, state: Value) -> Option<ProviderState> {
        Some(ProviderState { provider: provider.into(), state })
    }

    /// A short form of messages: the role's first letter and the kinds of its parts.
    fn outline(request: &ChatRequest) -> Vec<String> {
        let part = |part: &ContentPart| match part {
            ContentPart::Text(text) => format!("text {text}"),
            ContentPart::ToolCall(call) => format!("call {} {}", call.call_id, call.fn_arguments),
            ContentPart::ToolResponse(result) => format!("result {} {}", result.call_id, result.content),
            ContentPart::ThoughtSignature(signature) => format!("signature {signature}"),
            ContentPart::ReasoningContent(reasoning) => format!("reasoning {reasoning}"),
            other => format!("{other:?}"),
        };
        let message = |message: &ChatMessage| {
            let parts: Vec<_> = message.content.parts().iter().map(part).collect();
            format!("{}: {}", message.role, parts.join(", "))
        };
        request.messages.iter().map(message).collect()
    }

    #[test]
    fn a_prompt_is_passed_on_in_order() {
        let messages = vec![
            PromptMessage::User(vec!["one".into(), "two".into()]),
            PromptMessage::Assistant {
                text: "let me see".into(),
                calls: vec![call("a", json!({ "zone": "UTC" }), None), call("b", Value::Null, None)],
                provider_state: None,
            },
            PromptMessage::ToolResults(vec![
                result("a", Ok("noon".into())),
                result("b", Err("no such clock".into())),
            ]),
        ];

        let chat = chat_request(Api::OpenAi, "openai", &request(messages));

        let expected = [
            "User: text one\n\ntwo",
            "Assistant: text let me see, call a {\"zone\":\"UTC\"}, call b {}",
            "Tool: result a noon, result b The tool failed: no such clock",
        ];
        assert_eq!(outline(&chat), expected);
        assert_eq!(chat.system.as_deref(), Some("be brief"));
        assert_eq!(chat.tools.map(|tools| tools.len()), Some(1));
    }

    #[test]
    fn ollama_gets_each_result_as_a_message_of_its_own() {
        let results = vec![result("a", Ok(json!({ "x": 1 }))), result("b", Ok("2".into()))];

        let chat = chat_request(Api::Ollama, "ollama", &request(vec![PromptMessage::ToolResults(results)]));

        assert_eq!(outline(&chat), ["Tool: result a {\"x\":1}", "Tool: result b 2"]);
    }

    #[test]
    fn state_goes_back_to_its_maker_and_to_nobody_else() {
        let signed = json!([{ "signature": "s1" }, { "reasoning": "because" }]);
        let message = PromptMessage::Assistant {
            text: "well".into(),
            calls: vec![call("a", json!({}), state("anthropic", json!([{ "signature": "s2" }])))],
            provider_state: state("anthropic", signed),
        };
        let request = request(vec![PromptMessage::User(vec!["go".into()]), message]);

        let own = chat_request(Api::Anthropic, "anthropic", &request);
        let other = chat_request(Api::Gemini, "gemini", &request);

        assert_eq!(outline(&own)[1..], ["Assistant: signature s1, reasoning because, text well, call a {}"]);
        assert_eq!(outline(&other)[1..], ["Assistant: text well, call a {}"]);
        let signatures =
            |chat: &ChatRequest| chat.messages[1].content.tool_calls()[0].thought_signatures.clone();
        assert_eq!(signatures(&own), Some(vec!["s2".to_owned()]));
        assert_eq!(signatures(&other), None);
    }

    #[test]
    fn a_blank_text_and_an_empty_system_prompt_are_left_out() {
        let user = PromptMessage::User(vec!["go".into()]);
        let message = PromptMessage::Assistant {
            text: " \n".into(),
            calls: vec![call("a", json!({}), None)],
            provider_state: None,
        };
        let request = ModelRequest { prompt: Prompt::new("", [user, message]), ..request(Vec::new()) };

        let chat = chat_request(Api::Anthropic, "anthropic", &request);

        assert_eq!(outline(&chat), ["User: text go", "Assistant: call a {}"]);
        assert_eq!(chat.system, None);
    }

    #[test]
    fn ids_of_other_providers_are_made_to_fit() {
        for (api, id) in [
            (Api::OpenAi, "call_0123456789"),
            (Api::Anthropic, "toolu_01A-b"),
            (Api::Mistral, "D681PevKs"),
            (Api::Gemini, "call#clock#0"),
        ] {
            assert_eq!(wire_id(api, id.to_owned()), id);
        }
        for (api, id) in [
            (Api::OpenAi, "x".repeat(41)),
            (Api::Anthropic, "call#clock#0".to_owned()),
            (Api::Mistral, "call_0123456789".to_owned()),
            (Api::Anthropic, String::new()),
        ] {
            let fitted = wire_id(api, id.clone());
            assert!(fitted.len() == 9 && fitted.chars().all(|c| c.is_ascii_alphanumeric()), "{fitted}");
            assert_eq!(fitted, wire_id(api, id), "a call and its result have the same");
        }
        assert_ne!(wire_id(Api::Mistral, "call_a".into()), wire_id(Api::Mistral, "call_b".into()));
    }

    #[test]
    fn names_that_a_model_made_up_are_made_to_fit() {
        let long = "x".repeat(100);
        let names = ["read_file-2", "functions.read_file", "web search", "", "größe", &long];
        let fitted = ["read_file-2", "functions_read_file", "web_search", "_", "gr__e", &long[..64]];
        let messages = names.map(|name| {
            let call = ToolCall { name: name.into(), ..call("a", json!({}), None) };
            let failed = ToolResult { name: name.into(), ..result("a", Err("no such tool".into())) };
            let asked = PromptMessage::Assistant { text: "".into(), calls: vec![call], provider_state: None };
            [asked, PromptMessage::ToolResults(vec![failed])]
        });
        let begin = PromptMessage::User(vec!["go".into()]);
        let request = request([begin].into_iter().chain(messages.into_iter().flatten()).collect());

        for api in [Api::OpenAi, Api::Anthropic, Api::Gemini, Api::Mistral, Api::Ollama] {
            let chat = chat_request(api, "any", &request);

            let parts = chat.messages.iter().flat_map(|message| message.content.parts());
            let sent: Vec<_> = parts
                .filter_map(|part| match part {
                    ContentPart::ToolCall(call) => Some(call.fn_name.as_str()),
                    ContentPart::ToolResponse(result) => result.fn_name.as_deref(),
                    _ => None,
                })
                .collect();
            let calls_and_results: Vec<_> = fitted.iter().flat_map(|name| [*name, *name]).collect();
            assert_eq!(sent, calls_and_results, "{api:?}");
        }
    }

    #[test]
    fn arguments_that_are_no_object_become_one() {
        assert_eq!(wire_args(json!({ "a": 1 })), json!({ "a": 1 }));
        assert_eq!(wire_args(Value::Null), json!({}));
        assert_eq!(wire_args(json!("{\"a\":")), json!({ "arguments": "{\"a\":" }));
    }

    #[test]
    fn options_are_passed_on() {
        let options = chat_options(Api::Gemini, &request(Vec::new()));

        assert_eq!((options.temperature, options.max_tokens), (Some(0.5), Some(100)));
        assert_eq!(options.capture_usage, Some(true));
        assert!(options.reasoning_effort.is_none(), "Gemini would be sent a budget");
    }
}
