//! What went wrong with a call: its kind, words for people, and whether another attempt can help.

use std::{error::Error as StdError, io, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{
    redact::shown,
    said::{Said, block_reason, retry_after},
};
use crate::core::ports::{ModelError, ModelErrorKind};

/// A call that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub error: ModelError,
    pub retry: Retry,
    /// For the log: without anything that the provider said.
    pub what: String,
}

/// Whether the same call may do better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Retry {
    Never,
    Backoff,
    /// As the provider asked.
    After(Duration),
}

impl Failure {
    pub fn new(kind: ModelErrorKind, what: impl Into<String>, message: String) -> Self {
        Self { error: ModelError::new(kind, message), retry: Retry::Never, what: what.into() }
    }

    /// A stream that ended before its answer.
    pub fn cut() -> Self {
        Self { error: ModelError::cut(), retry: Retry::Never, what: "the answer was cut".to_owned() }
    }

    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}

/// A provider as errors speak of it.
#[derive(Debug)]
pub struct Identity {
    pub name: String,
    /// Where it is; `None` for its own public address.
    pub address: Option<String>,
    pub key: Option<SecretString>,
    /// The variable that the key was looked for in.
    pub key_env: Option<String>,
}

impl Identity {
    /// The error of a provider that needs a key and has none.
    pub fn missing_key(&self) -> Option<ModelError> {
        let key_env = self.key_env.as_deref().filter(|_| self.key.is_none())?;
        let message = format!(
            "{} needs a key: set {key_env} in the environment or in .env, and start the server again",
            self.name
        );
        Some(ModelError::new(ModelErrorKind::Auth, message))
    }

    /// What the client library reports; `frame` is the last piece of the answer that came.
    pub fn failure(&self, error: &genai::Error, frame: &str) -> Failure {
        use genai::{Error, webc};
        match error {
            Error::HttpError { status, body, .. } => {
                let headers = |name: &str| header(error, name);
                self.refused(status.as_u16(), body, headers)
            }
            Error::WebModelCall { webc_error, .. } | Error::WebAdapterCall { webc_error, .. } => {
                match webc_error {
                    webc::Error::ResponseFailedStatus { status, body, .. } => {
                        let headers = |name: &str| header(error, name);
                        self.refused(status.as_u16(), body, headers)
                    }
                    webc::Error::Reqwest(error) => self.transport(error),
                    webc::Error::ResponseFailedNotJson { body, .. }
                    | webc::Error::ResponseFailedInvalidJson { body, .. } => self.rubbish(body),
                    webc::Error::JsonValueExt(_) => self.rubbish(frame),
                }
            }
            // The library wraps what it gets while it streams.
            Error::WebStream { error, .. } => {
                if let Some(error) = error.downcast_ref::<Error>() {
                    self.failure(error, frame)
                } else if let Some(error) = error.downcast_ref::<reqwest::Error>() {
                    self.transport(error)
                } else {
                    self.rubbish(frame)
                }
            }
            Error::ChatResponse { body, .. } => self.broke_off(body, frame),
            Error::StreamParse { .. } | Error::JsonValueExt(_) | Error::SerdeJson(_) => self.rubbish(frame),
            other => {
                let message = format!("{} cannot be asked: {}", self.name, self.shown(&other.to_string()));
                Failure::new(ModelErrorKind::Other, "the request could not be made", message)
            }
        }
    }

    /// An answer with an HTTP status that is not one of success.
    fn refused<'a>(&self, status: u16, body: &str, header: impl Fn(&str) -> Option<&'a str>) -> Failure {
        let said = Said::parse(body);
        let retry_after = retry_after(header).or(said.retry_after);
        self.judged(Some(status), &format!("HTTP {status}"), &said, retry_after)
    }

    /// An error in the middle of a stream.
    fn broke_off(&self, body: &Value, frame: &str) -> Failure {
        if let Some(reason) = block_reason(frame) {
            let message = format!(
                "{} refused to answer this conversation ({}); rephrase it",
                self.name,
                self.shown(&reason)
            );
            return Failure::new(ModelErrorKind::Other, "the prompt was blocked", message);
        }
        let said = Said::of(body);
        self.judged(said.status(), "error in the stream", &said, said.retry_after)
    }

    /// An error that the provider sent as its last words, where the library saw a mere end.
    pub fn last_words(&self, frame: &str) -> Option<Failure> {
        let body = serde_json::from_str::<Value>(frame).ok()?;
        body.get("error")?;
        Some(self.broke_off(&body, ""))
    }

    /// `status` is the HTTP status, or the one that would say the same; `place` is where it was said.
    fn judged(
        &self,
        status: Option<u16>,
        place: &str,
        said: &Said,
        retry_after: Option<Duration>,
    ) -> Failure {
        let name = &self.name;
        let kind = said.kind(status, retry_after);
        let words = match self.shown(&said.message) {
            words if words.is_empty() => format!("({place})"),
            words => format!("({place}): {}", words.trim_end_matches(['.', ';'])),
        };
        let message = match (kind, status) {
            (ModelErrorKind::Auth, _) => {
                let advice = match &self.key_env {
                    Some(key_env) => format!("check the key in {key_env}"),
                    None => "if it needs a key, name its variable with api_key_env in agents.toml".to_owned(),
                };
                format!("{name} refused the key {words}; {advice}")
            }
            (ModelErrorKind::RateLimited { retry_after: Some(wait) }, _) => {
                let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                format!("{name} has had too many requests {words}; try again in {secs} s")
            }
            (ModelErrorKind::RateLimited { retry_after: None }, _) => {
                format!("{name} has had too many requests {words}; try again later")
            }
            (ModelErrorKind::Timeout, _) => format!("{name} did not answer in time {words}; try again"),
            (ModelErrorKind::ContextOverflow, _) => format!(
                "the conversation is too long for this model of {name} {words}; send a shorter message, start a \
                 new chat, or set the agent's context_window"
            ),
            (_, Some(404)) => {
                format!("{name} does not know the model {words}; check its name, and the provider's base_url")
            }
            (_, Some(300..400)) => format!("{name} is somewhere else {words}; check its base_url"),
            (_, Some(400..500)) => format!("{name} refused the request {words}"),
            _ => format!("{name} failed {words}; try again"),
        };
        let retry = match (kind, status) {
            (ModelErrorKind::RateLimited { retry_after: Some(wait) }, _) => Retry::After(wait),
            (ModelErrorKind::Other, Some(500 | 502 | 503 | 529)) => {
                retry_after.map_or(Retry::Backoff, Retry::After)
            }
            _ => Retry::Never,
        };
        Failure::new(kind, place, message).with_retry(retry)
    }

    /// A connection that was not made, or broke.
    fn transport(&self, error: &reqwest::Error) -> Failure {
        let name = &self.name;
        let cause = self.shown(&root_cause(error));
        if error.is_builder() {
            let key = self.key_env.as_deref().unwrap_or("its variable");
            let message =
                format!("{name} cannot be asked ({cause}); check its base_url, and the key in {key}");
            return Failure::new(ModelErrorKind::Other, "the request could not be made", message);
        }
        let (kind, what, message) = if error.is_body() || error.is_decode() {
            let message = format!("{name} broke off in the middle of its answer ({cause}); try again");
            (ModelErrorKind::Other, "the connection broke", message)
        } else if error.is_timeout() {
            let message = format!("{name} could not be reached in time; check the network, and try again");
            (ModelErrorKind::Timeout, "no connection in time", message)
        } else {
            let message = match &self.address {
                Some(address) => format!(
                    "{name} cannot be reached at {address} ({cause}); check that it is running, and its base_url"
                ),
                None => format!("{name} cannot be reached ({cause}); check the network"),
            };
            (ModelErrorKind::Other, "no connection", message)
        };
        Failure::new(kind, what, message).with_retry(Retry::Backoff)
    }

    /// More than an answer may have.
    pub fn too_much(&self, what: &str) -> Failure {
        let message = format!("{} sent {what}; the answer was broken off", self.name);
        Failure::new(ModelErrorKind::Other, "the answer was too large", message)
    }

    /// Something that is not of the API.
    pub fn rubbish(&self, sent: &str) -> Failure {
        let sent = match self.shown(sent) {
            sent if sent.is_empty() => String::new(),
            sent => format!(": {sent}"),
        };
        let message = format!(
            "{} sent what is no answer; check the kind and the base_url of the provider{sent}",
            self.name
        );
        Failure::new(ModelErrorKind::Other, "the answer could not be read", message)
    }

    /// What the provider said, fit to be shown.
    pub fn shown(&self, text: &str) -> String {
        shown(text, self.key.as_ref().map(ExposeSecret::expose_secret))
    }
}

fn header<'a>(error: &'a genai::Error, name: &str) -> Option<&'a str> {
    error.headers()?.get(name)?.to_str().ok()
}

/// The innermost error, which says most and names no address.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    let mut refused = false;
    while let Some(source) = cause.source() {
        cause = source;
        let io = cause.downcast_ref::<io::Error>();
        refused |= io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
    }
    if refused { "connection refused".to_owned() } else { cause.to_string() }
}

#[cfg(test)]
mod tests;
