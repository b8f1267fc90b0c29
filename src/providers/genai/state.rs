//! What a provider demands back with the next prompt, as it is kept (pure).
//!
//! A format of our own, because stored conversations outlive the client library's.

use genai::chat::{ContentPart, CustomPart};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::event::ProviderState;

/// Bytes kept of one answer, or of one call. Signed reasoning can be long; an event is not to be.
const MAX_BYTES: usize = 512 * 1024;

/// A part of an answer that is not shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenPart {
    /// Proof that the reasoning is the provider's own.
    Signature(String),
    Reasoning(String),
    /// Something that only the provider can read.
    Block(Value),
}

impl HiddenPart {
    /// `None` for what is shown, and for calls.
    pub fn of(part: ContentPart) -> Option<Self> {
        match part {
            ContentPart::ThoughtSignature(signature) => Some(Self::Signature(signature)),
            ContentPart::ReasoningContent(reasoning) => Some(Self::Reasoning(reasoning)),
            ContentPart::Custom(CustomPart { data, .. }) => Some(Self::Block(data)),
            ContentPart::Text(_)
            | ContentPart::Binary(_)
            | ContentPart::ToolCall(_)
            | ContentPart::ToolResponse(_) => None,
        }
    }

    pub fn into_content(self) -> ContentPart {
        match self {
            Self::Signature(signature) => ContentPart::ThoughtSignature(signature),
            Self::Reasoning(reasoning) => ContentPart::ReasoningContent(reasoning),
            Self::Block(data) => ContentPart::Custom(CustomPart { model_iden: None, data }),
        }
    }

    pub fn into_signature(self) -> Option<String> {
        match self {
            Self::Signature(signature) => Some(signature),
            Self::Reasoning(_) | Self::Block(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Signature(text) | Self::Reasoning(text) => text.len(),
            Self::Block(data) => data.to_string().len(),
        }
    }
}

/// What is kept for this provider; `None` if there is nothing, or too much of it.
pub fn keep(provider: &str, parts: Vec<HiddenPart>) -> Option<ProviderState> {
    let bytes: usize = parts.iter().map(HiddenPart::bytes).sum();
    if bytes > MAX_BYTES {
        log::warn!(
            "provider {provider}: {bytes} bytes to be given back with the next prompt are too many to keep"
        );
        return None;
    }
    if parts.is_empty() {
        return None;
    }
    let state = serde_json::to_value(parts).ok()?;
    Some(ProviderState { provider: provider.to_owned(), state })
}

/// What was kept, for the provider that made it; nothing for another.
pub fn given_back(provider: &str, state: Option<&ProviderState>) -> Vec<HiddenPart> {
    let own = state.filter(|state| state.provider == provider);
    own.and_then(|state| Vec::deserialize(&state.state).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<HiddenPart> {
        vec![
            HiddenPart::Signature("s".into()),
            HiddenPart::Reasoning(String::new()),
            HiddenPart::Block(serde_json::json!({ "type": "redacted_thinking", "data": "x" })),
        ]
    }

    #[test]
    fn what_was_kept_is_given_back_to_its_maker_only() {
        let state = keep("anthropic", parts()).unwrap();

        assert_eq!(given_back("anthropic", Some(&state)), parts());
        assert_eq!(given_back("gemini", Some(&state)), []);
        assert_eq!(given_back("anthropic", None), []);
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let state = ProviderState { provider: "a".into(), state: serde_json::json!({ "from": "elsewhere" }) };

        assert_eq!(given_back("a", Some(&state)), []);
    }

    #[test]
    fn nothing_and_too_much_are_not_kept() {
        assert_eq!(keep("a", Vec::new()), None);
        assert_eq!(keep("a", vec![HiddenPart::Reasoning("x".repeat(MAX_BYTES + 1))]), None);
    }
}
