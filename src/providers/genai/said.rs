//! What a provider says when it refuses: the meaning of its errors' bodies and headers (pure).
//!
//! Each says it in its own way: by HTTP status, by a code in a JSON body, or in prose.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use serde_json::Value;

use super::redact::prefix;
use crate::core::ports::ModelErrorKind;

/// Bytes of a body that are looked at.
const READ: usize = 64 * 1024;

/// An error's body: what is for people in it, and what is for programs.
#[derive(Debug, Default)]
pub struct Said {
    pub message: String,
    /// Types, codes and reasons, in small letters.
    codes: Vec<String>,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
}

impl Said {
    pub fn parse(body: &str) -> Self {
        let body = prefix(body, READ);
        match serde_json::from_str(body) {
            Ok(body) => Self::of(&body),
            // A proxy's page tells people nothing.
            Err(_) if body.trim_start().starts_with('<') => Self::default(),
            Err(_) => Self { message: body.to_owned(), ..Self::default() },
        }
    }

    pub fn of(body: &Value) -> Self {
        // Gemini may put the object into an array.
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
        let message =
            [&error["message"], &body["error"], &body["message"], &body["detail"], &body["detail"][0]["msg"]]
                .into_iter()
                .find_map(Value::as_str)
                .unwrap_or_default();
        let mut codes = Vec::new();
        // OpenRouter passes on, at the last of these, what the provider behind it said.
        let raw = &error["metadata"]["raw"];
        for value in [&error["type"], &error["code"], &error["status"], &body["code"], &body["type"], raw] {
            match value {
                Value::String(code) => codes.push(code.to_ascii_lowercase()),
                Value::Number(code) => codes.push(code.to_string()),
                _ => {}
            }
        }
        let details = || error["details"].as_array().into_iter().flatten();
        let reasons = details().filter_map(|detail| detail["reason"].as_str());
        codes.extend(reasons.map(str::to_ascii_lowercase));
        let retry_after =
            details().find_map(|detail| seconds(detail["retryDelay"].as_str()?.strip_suffix('s')?));
        Self { message: message.to_owned(), codes, retry_after }
    }

    /// The HTTP status that would say the same.
    pub fn status(&self) -> Option<u16> {
        self.codes.iter().find_map(|code| match code.as_str() {
            "authentication_error" | "unauthenticated" | "invalid_api_key" => Some(401),
            "permission_error" | "permission_denied" => Some(403),
            "not_found_error" | "not_found" | "model_not_found" => Some(404),
            "request_too_large" => Some(413),
            "rate_limit_error" | "rate_limit_exceeded" | "resource_exhausted" | "insufficient_quota" => {
                Some(429)
            }
            "overloaded_error" => Some(529),
            "unavailable" => Some(503),
            "timeout_error" | "deadline_exceeded" => Some(504),
            "api_error" | "server_error" | "internal_error" | "internal" => Some(500),
            code => code.parse().ok().filter(|status| (400..600).contains(status)),
        })
    }

    pub fn kind(&self, status: Option<u16>, retry_after: Option<Duration>) -> ModelErrorKind {
        let rate_limited = self.codes.iter().any(|code| code == "rate_limit_exceeded");
        match status {
            Some(401 | 403) => ModelErrorKind::Auth,
            Some(429) => ModelErrorKind::RateLimited { retry_after },
            // Groq has a request that is over the limit of a minute so.
            Some(413) if rate_limited => ModelErrorKind::RateLimited { retry_after },
            Some(413) => ModelErrorKind::ContextOverflow,
            Some(408 | 504) => ModelErrorKind::Timeout,
            _ if self.is_about(OVERFLOW) => ModelErrorKind::ContextOverflow,
            // Gemini and xAI have a wrong key as a bad request.
            Some(400) if self.is_about(BAD_KEY) => ModelErrorKind::Auth,
            _ => ModelErrorKind::Other,
        }
    }

    fn is_about(&self, signs: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        let found = |text: &String| signs.iter().any(|sign| text.contains(sign));
        found(&message) || self.codes.iter().any(found)
    }
}

/// How providers say that a conversation is too long.
const OVERFLOW: &[&str] = &[
    // OpenAI and Groq, by code; then in prose, with vLLM, DeepSeek and OpenRouter.
    "context_length_exceeded",
    "maximum context length",
    "exceeds the context window",
    "reduce the length of the messages",
    // Anthropic.
    "prompt is too long",
    "exceed context limit",
    // Gemini.
    "exceeds the maximum number of tokens",
    // Ollama.
    "prompt too long",
    "exceeds the context length",
    // llama.cpp.
    "exceed_context_size",
    "exceeds the available context size",
    // xAI.
    "maximum prompt length",
    // vLLM.
    "maximum model length",
    // Together.
    "`inputs` tokens + `max_new_tokens`",
];

const BAD_KEY: &[&str] =
    &["api_key_invalid", "api key not valid", "api key expired", "incorrect api key", "invalid api key"];

/// How long the provider asks to wait: in milliseconds, in seconds, or until a date.
pub fn retry_after<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Duration> {
    if let Some(millis) = header("retry-after-ms").and_then(seconds) {
        return Some(millis / 1000);
    }
    let value = header("retry-after")?;
    seconds(value).or_else(|| {
        let at = rfc2822::parse(value).ok()?.timestamp();
        let wait = at.duration_since(Timestamp::now());
        Some(wait.try_into().unwrap_or(Duration::ZERO))
    })
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

/// Why Gemini answered a prompt with nothing at all.
pub fn block_reason(frame: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(frame).ok()?;
    frame["promptFeedback"]["blockReason"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(name: &'static str, value: &'static str) -> Option<Duration> {
        retry_after(|asked| (asked == name).then_some(value))
    }

    #[test]
    fn a_wait_is_read_in_each_of_its_forms() {
        assert_eq!(waiting("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(waiting("retry-after", " 0.5 "), Some(Duration::from_millis(500)));
        assert_eq!(waiting("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(waiting("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let far = waiting("retry-after", "Thu, 01 Jan 2099 00:00:00 GMT").unwrap();
        assert!(far > Duration::from_secs(3600 * 24 * 365), "{far:?}");
        for nonsense in ["", "soon", "-3", "1e300", "NaN", "inf"] {
            assert_eq!(waiting("retry-after", nonsense), None, "{nonsense}");
        }
    }
}
