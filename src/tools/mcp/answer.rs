//! What comes of a call, from what a server answers (pure).

use rmcp::model::{CallToolResult, ErrorData};
use serde_json::{Map, Value, json};

use crate::core::error::{ErrorCode, Problem};

/// Letters of a server's words on what went wrong: they go to the model, which pays for each.
const MAX_WORDS: usize = 4000;

/// The result of a tool, or its failure in its own words.
pub fn outcome(result: CallToolResult) -> Result<Value, Problem> {
    let CallToolResult { content, structured_content, is_error, .. } = result;
    let content: Vec<Value> =
        content.into_iter().filter_map(|part| serde_json::to_value(part).ok()).map(light).collect();
    if is_error == Some(true) {
        let words = texts(&content).join("\n");
        return Err(failure(&words));
    }
    if let Some(value) = structured_content {
        return Ok(value);
    }
    let texts = texts(&content);
    Ok(if texts.len() == content.len() { Value::from(texts.join("\n")) } else { Value::Array(content) })
}

/// The server's refusal of a call; also how some say that there is no such tool.
pub fn refusal(error: &ErrorData) -> Problem {
    failure(&error.message)
}

fn failure(words: &str) -> Problem {
    let words = words.trim();
    if words.is_empty() {
        return Problem::new(ErrorCode::ToolError, "the tool failed and did not say why");
    }
    let mut message: String = words.chars().take(MAX_WORDS).collect();
    if message.len() < words.len() {
        message.push('…');
    }
    Problem::new(ErrorCode::ToolError, message)
}

fn texts(content: &[Value]) -> Vec<&str> {
    content.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str()).collect()
}

/// A part of the content without what is of no use to a model: pictures and sounds are told of, not shown.
fn light(mut part: Value) -> Value {
    let kind = part["type"].as_str().unwrap_or_default().to_owned();
    if let Value::Object(fields) = &mut part {
        fields.remove("_meta");
        match kind.as_str() {
            "image" | "audio" => measure(fields, "data"),
            "resource" => {
                if let Some(Value::Object(resource)) = fields.get_mut("resource") {
                    resource.remove("_meta");
                    measure(resource, "blob");
                }
            }
            _ => {}
        }
    }
    part
}

/// Puts the number of bytes in the place of what they are in base64.
fn measure(fields: &mut Map<String, Value>, name: &str) {
    if let Some(Value::String(data)) = fields.remove(name) {
        let padding = data.bytes().rev().take_while(|byte| *byte == b'=').count();
        fields.insert("bytes".to_owned(), json!((data.len() * 3 / 4).saturating_sub(padding)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome_of(result: Value) -> Result<Value, Problem> {
        outcome(serde_json::from_value(result).unwrap())
    }

    #[test]
    fn texts_are_one_text() {
        let content = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);

        assert_eq!(outcome_of(json!({ "content": content })), Ok(json!("a\nb")));
        assert_eq!(outcome_of(json!({ "content": [] })), Ok(json!("")));
    }

    #[test]
    fn what_is_structured_stays_so() {
        let result =
            json!({ "content": [{ "type": "text", "text": "{\"a\":1}" }], "structuredContent": { "a": 1 } });

        assert_eq!(outcome_of(result), Ok(json!({ "a": 1 })));
    }

    #[test]
    fn of_pictures_and_files_the_size_is_told() {
        let result = json!({ "content": [
            { "type": "text", "text": "a picture:" },
            { "type": "image", "data": "aGVsbG8=", "mimeType": "image/png" },
            { "type": "resource", "resource": { "uri": "file:///a", "mimeType": "text/plain", "text": "hi" } },
            { "type": "resource", "resource": { "uri": "file:///b", "mimeType": "a/b", "blob": "aGVsbG8h" } },
        ] });

        assert_eq!(
            outcome_of(result),
            Ok(json!([
                { "type": "text", "text": "a picture:" },
                { "type": "image", "mimeType": "image/png", "bytes": 5 },
                { "type": "resource", "resource": { "uri": "file:///a", "mimeType": "text/plain", "text": "hi" } },
                { "type": "resource", "resource": { "uri": "file:///b", "mimeType": "a/b", "bytes": 6 } },
            ]))
        );
    }

    #[test]
    fn a_failure_is_told_in_the_tools_own_words_if_not_in_all_of_them() {
        let failed = |text: &str| {
            let content = json!([{ "type": "text", "text": text }]);
            outcome_of(json!({ "content": content, "isError": true })).unwrap_err()
        };

        assert_eq!(failed("no such file"), Problem::new(ErrorCode::ToolError, "no such file"));
        assert_eq!(failed(" ").message, "the tool failed and did not say why");
        assert_eq!(failed(&"é".repeat(5000)).message.chars().count(), 4001);
    }
}
