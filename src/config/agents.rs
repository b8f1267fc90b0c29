//! `agents.toml`: the agents, the providers of their models, and the servers of their tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    time::Duration,
};

use secrecy::SecretString;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Environment, SettingError, nearest,
    tools::{self, ChosenTools, McpServer, McpSettings, ToolEntry},
};
use crate::core::{command::OnBusy, event::Role, ids::AgentId, profile::Seed};

/// The built-in model.
pub const DEMO: &str = "demo";

/// Providers that need no entry of their own, with the variable that holds the key.
const BUILT_IN: &[(ProviderKind, &str, Option<&str>)] = &[
    (ProviderKind::OpenAi, "openai", Some("OPENAI_API_KEY")),
    (ProviderKind::Anthropic, "anthropic", Some("ANTHROPIC_API_KEY")),
    (ProviderKind::Gemini, "gemini", Some("GEMINI_API_KEY")),
    (ProviderKind::Ollama, "ollama", None),
    (ProviderKind::DeepSeek, "deepseek", Some("DEEPSEEK_API_KEY")),
    (ProviderKind::Groq, "groq", Some("GROQ_API_KEY")),
    (ProviderKind::Mistral, "mistral", Some("MISTRAL_API_KEY")),
    (ProviderKind::OpenRouter, "openrouter", Some("OPENROUTER_API_KEY")),
    (ProviderKind::Together, "together", Some("TOGETHER_API_KEY")),
    (ProviderKind::Xai, "xai", Some("XAI_API_KEY")),
];

/// How long providers and servers of tools are waited for, unless they have times of their own.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A run calls its model this often, unless its agent says otherwise.
const DEFAULT_MAX_STEPS: u32 = 16;

/// The API that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
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

/// An agent, checked.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    pub id: AgentId,
    pub name: String,
    pub description: String,
    pub model: ModelName,
    pub system_prompt: Option<String>,
    pub seeds: Vec<Seed>,
    /// Tokens; `None` for what the model is known to have.
    pub context_window: Option<u64>,
    pub on_busy: OnBusy,
    pub temperature: Option<f64>,
    pub max_tokens: Option<u32>,
    /// A run calls the model this often at most.
    pub max_steps: u32,
    /// Its tools, each source once, in the order in which the sources are first named.
    pub tools: Vec<ChosenTools>,
    /// What the document of every session begins as: an object.
    pub initial_state: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelName {
    Demo,
    Of { provider: String, model: String },
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelName::Demo => f.write_str(DEMO),
            ModelName::Of { provider, model } => write!(f, "{provider}::{model}"),
        }
    }
}

/// A provider, checked.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    pub kind: ProviderKind,
    /// Ends with a slash; `None` for the provider's own.
    pub base_url: Option<String>,
    pub key: Option<SecretString>,
    /// The variable that the key was looked for in; `None` where none is needed.
    pub key_env: Option<String>,
    pub first_token_timeout: Duration,
    pub idle_timeout: Duration,
}

/// What `agents.toml` comes to.
#[derive(Debug)]
pub struct Checked {
    pub agents: Vec<AgentSettings>,
    pub providers: BTreeMap<String, ProviderSettings>,
    /// The servers of tools that agents use, by name.
    pub mcp: BTreeMap<String, McpSettings>,
    /// What should be mended, though the server can run.
    pub warnings: Vec<String>,
}

// ---- as written ----

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    agents: Vec<Spanned<Agent>>,
    #[serde(default)]
    providers: BTreeMap<Spanned<String>, Spanned<Provider>>,
    #[serde(default)]
    mcp: BTreeMap<Spanned<String>, McpServer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    id: Spanned<String>,
    name: Spanned<String>,
    #[serde(default)]
    description: String,
    model: Spanned<String>,
    system_prompt: Option<String>,
    #[serde(default)]
    seed_messages: Vec<SeedMessage>,
    context_window: Option<Spanned<u64>>,
    on_busy: Option<OnBusy>,
    temperature: Option<Spanned<f64>>,
    max_tokens: Option<Spanned<u32>>,
    max_steps: Option<Spanned<u32>>,
    #[serde(default)]
    tools: Vec<Spanned<ToolEntry>>,
    state: Option<Spanned<toml::Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedMessage {
    role: Role,
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    kind: Option<Spanned<String>>,
    base_url: Option<Spanned<String>>,
    api_key_env: Option<Spanned<String>>,
    first_token_timeout_secs: Option<Spanned<u64>>,
    idle_timeout_secs: Option<Spanned<u64>>,
}

// ---- checks ----

/// Checks the text of `agents.toml`; `name` is what the file is called in errors.
pub fn check(name: &str, text: &str, environment: &Environment) -> Result<Checked, SettingError> {
    let source = Source { name, text };
    let file: File = toml::from_str(text).map_err(|error| source.unreadable(&error))?;
    if file.agents.is_empty() {
        let problem = "there are no agents; add one: [[agents]] with id, name and model";
        return Err(SettingError::new(name, problem));
    }
    let providers = providers(&source, file.providers, environment)?;
    let mcp = tools::servers(&source, file.mcp, environment)?;
    let mut agents = Vec::new();
    let mut ids = BTreeSet::new();
    for agent in file.agents {
        let id = agent.get_ref().id.clone();
        let agent = check_agent(&source, agent.into_inner(), &providers, &mcp)?;
        if !ids.insert(agent.id.clone()) {
            return Err(source.error(&id.span(), "id", format!("there is another agent {:?}", agent.id)));
        }
        agents.push(agent);
    }
    let used: BTreeSet<_> = agents
        .iter()
        .filter_map(|agent| match &agent.model {
            ModelName::Of { provider, .. } => Some(provider.clone()),
            ModelName::Demo => None,
        })
        .collect();
    let providers = providers.into_iter().filter(|(name, _)| used.contains(name)).collect();
    let used: BTreeSet<_> =
        agents.iter().flat_map(|agent| &agent.tools).filter_map(|tools| tools.source.server()).collect();
    let mcp: BTreeMap<_, _> = mcp.into_iter().filter(|(name, _)| used.contains(name.as_str())).collect();
    let warnings = mcp.iter().flat_map(|(name, server)| server.missing_variables(name)).collect();
    Ok(Checked { agents, providers, mcp, warnings })
}

impl ProviderSettings {
    /// The variable that should hold the provider's key and does not.
    pub fn missing_key(&self) -> Option<&str> {
        self.key_env.as_deref().filter(|_| self.key.is_none())
    }
}

/// All providers that agents may name: the built-in ones, and those of the file.
fn providers(
    source: &Source<'_>,
    written: BTreeMap<Spanned<String>, Spanned<Provider>>,
    environment: &Environment,
) -> Result<BTreeMap<String, ProviderSettings>, SettingError> {
    let mut providers = BTreeMap::new();
    for (kind, name, key_env) in BUILT_IN {
        let key = key_env.and_then(|key_env| environment.secret(key_env));
        let settings = ProviderSettings {
            kind: *kind,
            base_url: None,
            key,
            key_env: key_env.map(str::to_owned),
            first_token_timeout: DEFAULT_TIMEOUT,
            idle_timeout: DEFAULT_TIMEOUT,
        };
        providers.insert((*name).to_owned(), settings);
    }
    for (name, provider) in written {
        let built_in = providers.get(name.get_ref());
        let provider = check_provider(source, &name, provider.into_inner(), built_in, environment)?;
        providers.insert(name.into_inner(), provider);
    }
    Ok(providers)
}

fn check_provider(
    source: &Source<'_>,
    name: &Spanned<String>,
    provider: Provider,
    built_in: Option<&ProviderSettings>,
    environment: &Environment,
) -> Result<ProviderSettings, SettingError> {
    if name.get_ref() == DEMO {
        let problem = "the built-in model has this name; take another";
        return Err(source.error(&name.span(), "providers", problem.to_owned()));
    }
    let kind = match (&provider.kind, built_in) {
        (Some(kind), _) => parse_kind(source, kind)?,
        (None, Some(built_in)) => built_in.kind,
        (None, None) => {
            let problem = format!("provider {:?} needs a kind: {}", name.get_ref(), kinds().join(", "));
            return Err(source.error(&name.span(), "kind", problem));
        }
    };
    let base_url = match (provider.base_url, built_in) {
        (Some(url), _) => {
            // Paths are joined to it.
            let url = check_url(source, &url, "base_url")?;
            Some(if url.ends_with('/') { url } else { format!("{url}/") })
        }
        (None, Some(_)) => None,
        (None, None) => {
            let problem =
                format!("provider {:?} needs a base_url, as http://127.0.0.1:11434/v1/", name.get_ref());
            return Err(source.error(&name.span(), "base_url", problem));
        }
    };
    let key_env = match provider.api_key_env {
        Some(variable) => Some(check_variable(source, &variable, "api_key_env")?),
        // A server of one's own needs no key unless one is named.
        None if base_url.is_some() => None,
        None => built_in.and_then(|built_in| built_in.key_env.clone()),
    };
    let timeout = |value, key| check_timeout(source, value, key);
    Ok(ProviderSettings {
        kind,
        base_url,
        key: key_env.as_deref().and_then(|variable| environment.secret(variable)),
        key_env,
        first_token_timeout: timeout(provider.first_token_timeout_secs, "first_token_timeout_secs")?,
        idle_timeout: timeout(provider.idle_timeout_secs, "idle_timeout_secs")?,
    })
}

fn check_agent(
    source: &Source<'_>,
    agent: Agent,
    providers: &BTreeMap<String, ProviderSettings>,
    mcp: &BTreeMap<String, McpSettings>,
) -> Result<AgentSettings, SettingError> {
    let id: AgentId = agent.id.get_ref().parse().map_err(|error: crate::core::ids::InvalidId| {
        let problem = format!("expected {}, found {:?}", error.expected, agent.id.get_ref());
        source.error(&agent.id.span(), "id", problem)
    })?;
    if agent.name.get_ref().trim().is_empty() {
        return Err(source.error(&agent.name.span(), "name", "expected a name".to_owned()));
    }
    if let Some(temperature) = &agent.temperature
        && !(0.0..=2.0).contains(temperature.get_ref())
    {
        let problem = format!("expected 0 to 2, found {}", temperature.get_ref());
        return Err(source.error(&temperature.span(), "temperature", problem));
    }
    if let Some(window) = &agent.context_window
        && !(256..=100_000_000).contains(window.get_ref())
    {
        let problem = format!("expected 256 to 100000000 tokens, found {}", window.get_ref());
        return Err(source.error(&window.span(), "context_window", problem));
    }
    if let Some(tokens) = &agent.max_tokens
        && *tokens.get_ref() == 0
    {
        return Err(source.error(&tokens.span(), "max_tokens", "expected at least 1 token".to_owned()));
    }
    if let Some(steps) = &agent.max_steps
        && !(1..=1000).contains(steps.get_ref())
    {
        let problem = format!("expected 1 to 1000 calls of the model, found {}", steps.get_ref());
        return Err(source.error(&steps.span(), "max_steps", problem));
    }
    let seeds = agent.seed_messages.into_iter().map(|SeedMessage { role, content }| Seed { role, content });
    Ok(AgentSettings {
        id,
        name: agent.name.into_inner(),
        description: agent.description,
        model: parse_model(source, &agent.model, providers)?,
        system_prompt: agent.system_prompt.filter(|prompt| !prompt.trim().is_empty()),
        seeds: seeds.collect(),
        context_window: agent.context_window.map(Spanned::into_inner),
        on_busy: agent.on_busy.unwrap_or_default(),
        temperature: agent.temperature.map(Spanned::into_inner),
        max_tokens: agent.max_tokens.map(Spanned::into_inner),
        max_steps: agent.max_steps.map_or(DEFAULT_MAX_STEPS, Spanned::into_inner),
        tools: tools::choose(source, &agent.tools, mcp)?,
        initial_state: agent.state.map(|state| tools::initial_state(source, state)).transpose()?,
    })
}

fn parse_model(
    source: &Source<'_>,
    written: &Spanned<String>,
    providers: &BTreeMap<String, ProviderSettings>,
) -> Result<ModelName, SettingError> {
    let error = |problem| Err(source.error(&written.span(), "model", problem));
    let text = written.get_ref();
    if text == DEMO {
        return Ok(ModelName::Demo);
    }
    let Some((provider, model)) = text.split_once("::").filter(|(_, model)| !model.is_empty()) else {
        return error(format!("expected {DEMO:?} or \"PROVIDER::MODEL\", found {text:?}"));
    };
    if !providers.contains_key(provider) {
        let names = || providers.keys().map(String::as_str);
        let hint = match nearest(provider, names()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        return error(format!("there is no provider {provider:?}; {hint}"));
    }
    Ok(ModelName::Of { provider: provider.to_owned(), model: model.to_owned() })
}

fn parse_kind(source: &Source<'_>, written: &Spanned<String>) -> Result<ProviderKind, SettingError> {
    let found = BUILT_IN.iter().find(|(_, name, _)| name == written.get_ref()).map(|(kind, ..)| *kind);
    found.ok_or_else(|| {
        let hint = nearest(written.get_ref(), kinds().into_iter())
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        let problem = format!("expected one of {}, found {:?}{hint}", kinds().join(", "), written.get_ref());
        source.error(&written.span(), "kind", problem)
    })
}

fn kinds() -> Vec<&'static str> {
    BUILT_IN.iter().map(|(_, name, _)| *name).collect()
}

/// A time to wait that was written, or the usual one.
pub(super) fn check_timeout(
    source: &Source<'_>,
    written: Option<Spanned<u64>>,
    key: &str,
) -> Result<Duration, SettingError> {
    match written {
        None => Ok(DEFAULT_TIMEOUT),
        Some(secs) if (1..=3600).contains(secs.get_ref()) => Ok(Duration::from_secs(*secs.get_ref())),
        Some(secs) => {
            let problem = format!("expected 1 to 3600 seconds, found {}", secs.get_ref());
            Err(source.error(&secs.span(), key, problem))
        }
    }
}

pub(super) fn check_url(
    source: &Source<'_>,
    written: &Spanned<String>,
    key: &str,
) -> Result<String, SettingError> {
    let url = written.get_ref();
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if host.is_none_or(|rest| rest.is_empty() || rest.starts_with('/') || rest.contains(char::is_whitespace))
    {
        let problem = format!("expected an http:// or https:// address, found {url:?}");
        return Err(source.error(&written.span(), key, problem));
    }
    Ok(url.clone())
}

pub(super) fn check_variable(
    source: &Source<'_>,
    written: &Spanned<String>,
    key: &str,
) -> Result<String, SettingError> {
    let name = written.get_ref();
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    if is_name {
        return Ok(name.clone());
    }
    // Not shown: whoever put the key here by mistake should not find it in a log.
    let problem = "expected the name of an environment variable, not the key itself".to_owned();
    Err(source.error(&written.span(), key, problem))
}

/// The file, for saying where something stands in it.
pub(super) struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    pub(super) fn error(&self, span: &Range<usize>, key: &str, problem: String) -> SettingError {
        SettingError::new(format!("{} line {}: {key}", self.name, self.line(span.start)), problem)
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text[..offset.min(self.text.len())].matches('\n').count()
    }

    /// Makes the parser's words ours.
    fn unreadable(&self, error: &toml::de::Error) -> SettingError {
        let span = error.span().unwrap_or(0..0);
        let place = format!("{} line {}", self.name, self.line(span.start));
        let message = error.message();
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        let Some((field, expected)) = unknown else {
            // The message may go on over lines that quote the file.
            return SettingError::new(place, message.lines().next().unwrap_or(message));
        };
        let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
        let hint = match nearest(field, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("expected one of {}", known.join(", ")),
        };
        SettingError::new(place, format!("there is no key {field:?}; {hint}"))
    }
}
