//! The tools of agents, and the servers that they come from, as `agents.toml` has them.

use std::{collections::BTreeMap, fmt, time::Duration};

use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

use super::{
    Environment, SettingError,
    agents::{Source, check_timeout, check_url, check_variable},
    nearest,
};
use crate::core::{
    profile::{Approval, ToolChoice},
    shared_state::MAX_STATE_BYTES,
};

/// The tools that need no server.
pub const BUILT_IN: &[&str] = &["clock", "update_state", "report_progress", "suggest"];
/// What the name of a tool begins with that comes from a server.
const MCP: &str = "mcp:";

/// The tools that an agent has of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenTools {
    pub source: ToolOrigin,
    pub choice: ToolChoice,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolOrigin {
    BuiltIn,
    /// A server of tools, by its name.
    Mcp(String),
}

impl ToolOrigin {
    pub fn server(&self) -> Option<&str> {
        match self {
            ToolOrigin::BuiltIn => None,
            ToolOrigin::Mcp(name) => Some(name),
        }
    }
}

impl fmt::Display for ToolOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolOrigin::BuiltIn => f.write_str("builtin"),
            ToolOrigin::Mcp(name) => write!(f, "{MCP}{name}"),
        }
    }
}

/// A server of tools, checked.
#[derive(Debug, Clone)]
pub struct McpSettings {
    pub transport: McpTransport,
    /// Every session has one of its own.
    pub per_session: bool,
    /// How long it may take to start, and to list its tools.
    pub start_timeout: Duration,
    /// How long a call of a tool may take.
    pub call_timeout: Duration,
    /// Variables that it should have and that are not set.
    missing: Vec<String>,
}

#[derive(Debug, Clone)]
pub enum McpTransport {
    /// A program that is started, and spoken to by its standard input and output.
    Command {
        program: String,
        arguments: Vec<String>,
        /// All the variables that it gets. Some were named because they are secrets.
        environment: BTreeMap<String, SecretString>,
    },
    /// A server that runs somewhere.
    Http { url: String, token: Option<SecretString> },
}

impl McpSettings {
    /// Says which variables the server will have to do without.
    pub(super) fn missing_variables(&self, name: &str) -> impl Iterator<Item = String> {
        self.missing.iter().map(move |variable| {
            format!("mcp server {name}: {variable} is not set; it does without until it is")
        })
    }
}

// ---- as written ----

/// A tool, or all tools of a server: its name, or a table with more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTool {
    name: String,
    approval: Option<String>,
}

pub(super) struct ToolEntry(WrittenTool);

impl<'de> Deserialize<'de> for ToolEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = ToolEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tool: \"clock\", \"mcp:SERVER\", \"mcp:SERVER/TOOL\", or { name = \"…\", approval = \"ask\" }")
            }

            fn visit_str<E>(self, name: &str) -> Result<ToolEntry, E> {
                Ok(ToolEntry(WrittenTool { name: name.to_owned(), approval: None }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolEntry, A::Error> {
                WrittenTool::deserialize(MapAccessDeserializer::new(map)).map(ToolEntry)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct McpServer {
    command: Option<Spanned<Vec<String>>>,
    url: Option<Spanned<String>>,
    #[serde(default)]
    per_session: bool,
    env: Option<Spanned<Vec<Spanned<String>>>>,
    token_env: Option<Spanned<String>>,
    start_timeout_secs: Option<Spanned<u64>>,
    call_timeout_secs: Option<Spanned<u64>>,
}

// ---- checks ----

/// All the servers that agents may name.
pub(super) fn servers(
    source: &Source<'_>,
    written: BTreeMap<Spanned<String>, McpServer>,
    environment: &Environment,
) -> Result<BTreeMap<String, McpSettings>, SettingError> {
    let mut servers = BTreeMap::new();
    for (name, server) in written {
        let settings = check_server(source, &name, server, environment)?;
        servers.insert(name.into_inner(), settings);
    }
    Ok(servers)
}

fn check_server(
    source: &Source<'_>,
    name: &Spanned<String>,
    server: McpServer,
    environment: &Environment,
) -> Result<McpSettings, SettingError> {
    let is_name = |name: &str| {
        (1..=64).contains(&name.len())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'))
    };
    if !is_name(name.get_ref()) {
        let problem = format!("expected 1 to 64 letters, digits, '-' or '_', found {:?}", name.get_ref());
        return Err(source.error(&name.span(), "mcp", problem));
    }
    let mut missing = Vec::new();
    let transport = match (server.command, server.url) {
        (Some(command), None) => {
            if let Some(token) = server.token_env {
                let problem = "only a server with a url is sent a token; name the variable in env".to_owned();
                return Err(source.error(&token.span(), "token_env", problem));
            }
            let mut words = command.get_ref().iter().cloned();
            let Some(program) = words.next().filter(|program| !program.trim().is_empty()) else {
                let problem = "expected a program and its arguments, as [\"npx\", \"-y\", \"some-server\"]";
                return Err(source.error(&command.span(), "command", problem.to_owned()));
            };
            let mut variables: BTreeMap<_, _> =
                environment.ordinary().map(|(name, value)| (name.to_owned(), value.into())).collect();
            for variable in server.env.iter().flat_map(|names| names.get_ref()) {
                let variable = check_variable(source, variable, "env")?;
                match environment.secret(&variable) {
                    Some(value) => drop(variables.insert(variable, value)),
                    None => missing.push(variable),
                }
            }
            McpTransport::Command { program, arguments: words.collect(), environment: variables }
        }
        (None, Some(url)) => {
            if let Some(names) = server.env {
                let problem = "only a server that is started by a command has variables".to_owned();
                return Err(source.error(&names.span(), "env", problem));
            }
            let token = server.token_env.map(|variable| check_variable(source, &variable, "token_env"));
            let token = token.transpose()?.and_then(|variable| {
                let token = environment.secret(&variable);
                if token.is_none() {
                    missing.push(variable);
                }
                token
            });
            McpTransport::Http { url: check_url(source, &url, "url")?, token }
        }
        (command, url) => {
            let which = if command.is_some() && url.is_some() { "has both" } else { "has none" };
            let problem = format!(
                "expected a command, as [\"npx\", \"-y\", \"some-server\"], or a url, as \
                 \"http://127.0.0.1:3001/mcp\"; mcp server {:?} {which}",
                name.get_ref()
            );
            let span = url.map_or_else(|| name.span(), |url| url.span());
            return Err(source.error(&span, "mcp", problem));
        }
    };
    Ok(McpSettings {
        transport,
        per_session: server.per_session,
        start_timeout: check_timeout(source, server.start_timeout_secs, "start_timeout_secs")?,
        call_timeout: check_timeout(source, server.call_timeout_secs, "call_timeout_secs")?,
        missing,
    })
}

/// Gathers what an agent's list says of each source.
pub(super) fn choose(
    source: &Source<'_>,
    entries: &[Spanned<ToolEntry>],
    servers: &BTreeMap<String, McpSettings>,
) -> Result<Vec<ChosenTools>, SettingError> {
    let mut chosen: Vec<ChosenTools> = Vec::new();
    // What was said of a name, and whether that was more than the name.
    let mut said: BTreeMap<&str, (Approval, bool)> = BTreeMap::new();
    for entry in entries {
        let ToolEntry(WrittenTool { name, approval }) = entry.get_ref();
        let error = |problem| source.error(&entry.span(), "tools", problem);
        let explicit = approval.is_some();
        let approval = match approval.as_deref() {
            None | Some("never") => Approval::NotNeeded,
            Some("ask") => Approval::Ask,
            Some(other) => {
                let hint = nearest(other, ["ask", "never"].into_iter());
                let hint = hint.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                return Err(error(format!(
                    "expected approval = \"ask\" or \"never\" for {name:?}, found {other:?}{hint}"
                )));
            }
        };
        match said.get(name.as_str()) {
            // The name alone says nothing against what was said before.
            Some(_) if !explicit => continue,
            Some((before, true)) if *before != approval => {
                return Err(error(format!("{name:?} is named twice, once to be asked for and once not")));
            }
            _ => said.insert(name, (approval, explicit)),
        };
        let (origin, tool) = parse_tool(name, servers).map_err(error)?;
        let group = match chosen.iter_mut().find(|tools| tools.source == origin) {
            Some(group) => group,
            None => {
                chosen.push(ChosenTools { source: origin, choice: ToolChoice::default() });
                chosen.last_mut().expect("it was pushed just now")
            }
        };
        match tool {
            Some(tool) => drop(group.choice.named.insert(tool, approval)),
            None => group.choice.others = Some(approval),
        }
    }
    Ok(chosen)
}

/// The source that a tool's name tells of, and the tool if it is one.
fn parse_tool(
    name: &str,
    servers: &BTreeMap<String, McpSettings>,
) -> Result<(ToolOrigin, Option<String>), String> {
    let Some(path) = name.strip_prefix(MCP) else {
        if BUILT_IN.contains(&name) {
            return Ok((ToolOrigin::BuiltIn, Some(name.to_owned())));
        }
        let server = name.split('/').next().unwrap_or_default();
        let hint = if servers.contains_key(server) {
            format!("did you mean \"{MCP}{name}\"?")
        } else {
            match nearest(name, BUILT_IN.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("there are {}, and those of servers, as \"mcp:SERVER\"", BUILT_IN.join(", ")),
            }
        };
        return Err(format!("there is no built-in tool {name:?}; {hint}"));
    };
    let (server, tool) = match path.split_once('/') {
        Some((server, tool)) => (server, Some(tool)),
        None => (path, None),
    };
    if !servers.contains_key(server) {
        let names = || servers.keys().map(String::as_str);
        let hint = match nearest(server, names()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if servers.is_empty() => format!("add [mcp.{server}] with a command or a url"),
            None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(format!("there is no mcp server {server:?}; {hint}"));
    }
    if tool == Some("") {
        return Err(format!("expected \"mcp:{server}\", or \"mcp:{server}/TOOL\", found {name:?}"));
    }
    Ok((ToolOrigin::Mcp(server.to_owned()), tool.map(str::to_owned)))
}

/// What sessions' documents begin as, in JSON.
pub(super) fn initial_state(
    source: &Source<'_>,
    written: Spanned<toml::Table>,
) -> Result<serde_json::Value, SettingError> {
    let span = written.span();
    let error = |problem| source.error(&span, "state", problem);
    let state = to_json(toml::Value::Table(written.into_inner()))
        .ok_or_else(|| error("expected what JSON has: it has no inf and no nan".to_owned()))?;
    let bytes = state.to_string().len();
    if bytes > MAX_STATE_BYTES {
        return Err(error(format!("expected at most {MAX_STATE_BYTES} bytes as JSON, found {bytes}")));
    }
    Ok(state)
}

/// Dates, which JSON has none of, become texts. `None` for what is no number in JSON.
fn to_json(value: toml::Value) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::Number(serde_json::Number::from_f64(number)?),
        toml::Value::Boolean(yes) => Value::from(yes),
        toml::Value::Datetime(moment) => Value::from(moment.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(to_json).collect::<Option<_>>()?),
        toml::Value::Table(fields) => {
            let fields = fields.into_iter().map(|(name, value)| Some((name, to_json(value)?)));
            Value::Object(fields.collect::<Option<_>>()?)
        }
    })
}
