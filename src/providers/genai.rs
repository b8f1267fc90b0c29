//! Real models, through the `genai` crate; nothing outside this module names it.
//!
//! Owns: the connections to one provider, its key, deadlines and retries.
//! Does not own: what a run does with an answer (`core::run`), or where the key came from (`config`).
//! Talks to: the provider over HTTP, on a thread that is given; its answer goes to
//! whoever asked through a bounded channel, so a slow reader holds the provider up and memory stays level.

mod answer;
mod call;
mod failure;
mod redact;
mod request;
mod said;
mod state;

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use genai::{
    Client, WebConfig,
    adapter::AdapterKind,
    resolver::{AuthData, Endpoint, ProviderConfig},
};
use reqwest::{Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};

use self::{call::Provider, failure::Identity};
use crate::core::ports::{ModelError, ModelErrorKind, ModelEvent, ModelProvider, ModelRequest};

/// Events of an answer that wait to be read; with that many, the provider waits.
const WAITING_EVENTS: usize = 32;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What servers that need no key are given for one: the client library insists.
const NO_KEY: &str = "none";

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
    DeepSeek,
    Groq,
    Mistral,
    OpenRouter,
    Together,
    Xai,
}

impl Api {
    fn adapter(self) -> AdapterKind {
        match self {
            Api::OpenAi => AdapterKind::OpenAI,
            Api::Anthropic => AdapterKind::Anthropic,
            Api::Gemini => AdapterKind::Gemini,
            Api::Ollama => AdapterKind::Ollama,
            Api::DeepSeek => AdapterKind::DeepSeek,
            Api::Groq => AdapterKind::Groq,
            Api::Mistral => AdapterKind::Mistral,
            Api::OpenRouter => AdapterKind::OpenRouter,
            Api::Together => AdapterKind::Together,
            Api::Xai => AdapterKind::Xai,
        }
    }

    /// Whether it is OpenAI's, more or less.
    fn is_openai_like(self) -> bool {
        !matches!(self, Api::Anthropic | Api::Gemini | Api::Ollama)
    }
}

#[derive(Debug)]
pub struct ProviderOptions {
    /// As the settings and errors name it.
    pub name: String,
    pub api: Api,
    /// Ends with a slash; `None` for the provider's own.
    pub base_url: Option<String>,
    pub key: Option<SecretString>,
    /// The variable that the key was looked for in; `None` where none is needed.
    pub key_env: Option<String>,
    /// The time from a call to the first content of its answer.
    pub first_token_timeout: Duration,
    /// The time from one content to the next.
    pub idle_timeout: Duration,
}

/// A provider of models.
pub struct GenaiProvider {
    provider: Arc<Provider>,
    runtime: Handle,
}

impl GenaiProvider {
    /// A provider whose calls run on `runtime`, which must do their I/O and keep their time.
    ///
    /// # Errors
    /// When the system gives no TLS to work with.
    pub fn new(options: ProviderOptions, runtime: Handle) -> Result<Self, ModelError> {
        let ProviderOptions { name, api, base_url, key, key_env, first_token_timeout, idle_timeout } =
            options;
        let client = client(api, base_url.as_deref(), key.as_ref()).map_err(|error| {
            let message = format!("the client of provider {name} could not be set up: {error}");
            ModelError::new(ModelErrorKind::Other, message)
        })?;
        let address = base_url.and_then(|url| Some(Url::parse(&url).ok()?.origin().ascii_serialization()));
        let identity = Identity { name, address, key, key_env };
        let provider = Provider { api, identity, client, first_token_timeout, idle_timeout };
        Ok(Self { provider: Arc::new(provider), runtime })
    }

    /// Whether the model can be asked: the provider is there, takes the key and knows the model.
    ///
    /// Looks into the provider's list of models; where that does not tell, asks for one token.
    pub async fn probe(&self, model: &str) -> Result<(), ModelError> {
        if let Some(error) = self.provider.identity.missing_key() {
            return Err(error);
        }
        let (provider, model) = (self.provider.clone(), model.to_owned());
        let probe = async move { provider.probe(model).await };
        let mut task = Task(self.runtime.spawn(probe));
        let broken_off = |_| Err(ModelError::new(ModelErrorKind::Other, "the probe was broken off"));
        (&mut task.0).await.unwrap_or_else(broken_off)
    }
}

impl ModelProvider for GenaiProvider {
    fn stream(&self, request: ModelRequest) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        if let Some(error) = self.provider.identity.missing_key() {
            return stream::iter([Err(error)]).boxed();
        }
        let (events, mut answer) = mpsc::channel(WAITING_EVENTS);
        let provider = self.provider.clone();
        let task = Task(self.runtime.spawn(async move { provider.answer(request, events).await }));
        stream::poll_fn(move |context| {
            // The stream owns the task, which ends with it.
            let _ = &task;
            answer.poll_recv(context)
        })
        .boxed()
    }
}

/// Work on the providers' thread that ends when it is dropped, and closes its connection.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client of its own for each provider, with its key: the library is to look for none.
fn client(
    api: Api,
    base_url: Option<&str>,
    key: Option<&SecretString>,
) -> Result<Client, Box<dyn std::error::Error>> {
    // What is packed could unpack to any size.
    let web = WebConfig { connect_timeout: Some(CONNECT_TIMEOUT), gzip: false, ..WebConfig::default() };
    let mut http = web.apply_to_builder(reqwest::Client::builder()).no_gzip();
    // Keys in headers of a provider's own would go along to wherever it points.
    http = http.redirect(redirect::Policy::none());
    if base_url.is_some_and(is_on_this_machine) {
        http = http.no_proxy();
    }
    let target = ProviderConfig {
        endpoint: base_url.map(Endpoint::from_owned),
        auth: Some(AuthData::from_single(key.map_or(NO_KEY, ExposeSecret::expose_secret))),
    };
    Ok(Client::builder().with_reqwest(http.build()?).append_provider_config(api.adapter(), target).build()?)
}

fn is_on_this_machine(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_needs_no_proxy() {
        for url in ["http://127.0.0.1:1234/v1/", "http://localhost/", "http://[::1]:8080/"] {
            assert!(is_on_this_machine(url), "{url}");
        }
        for url in
            ["https://api.openai.com/v1/", "http://10.0.0.1/", "http://localhost.example.com/", "nonsense"]
        {
            assert!(!is_on_this_machine(url), "{url}");
        }
    }
}
