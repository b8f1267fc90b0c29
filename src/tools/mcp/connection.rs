//! One connection to a server: from its start to its end, which may come at any moment.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ClientHandler, Peer, RoleClient, ServiceError, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, ClientRequest,
        Implementation, PaginatedRequestParams, PingRequest, Tool,
    },
    service::{ClientInitializeError, NotificationContext, RunningService},
};
use serde_json::Value;

use super::{
    McpOptions, McpTransport, answer,
    http::{self, HttpError},
    life::{Count, Life},
    lines::plain,
    stdio::{self, Process},
};
use crate::{
    core::{
        error::{ErrorCode, Problem},
        ports::ToolSpec,
    },
    tools::schema::ArgumentCheck,
};

/// A server lists so many tools at most; models are told of far fewer.
const MAX_TOOLS: usize = 1000;
/// A list has so many pages at most: some never end.
const MAX_PAGES: usize = 100;
/// Bytes of one tool's description and schema. Longer ones no model has room for.
const MAX_TOOL_BYTES: usize = 64 * 1024;
/// Bytes of all tools of a server.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;

/// A server that did not answer a call in time has this long to answer that it is there, or as long as a call has.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was made. It ends when this is dropped.
pub struct Connection {
    name: Arc<str>,
    peer: Peer<RoleClient>,
    life: Life,
    held: Mutex<Option<Held>>,
    call_timeout: Duration,
    list_timeout: Duration,
    /// The server has said that its list is another.
    stale: Arc<AtomicBool>,
    listed: tokio::sync::Mutex<Arc<Listed>>,
}

/// What a connection consists of. The first ends the talk, the second the program.
struct Held {
    _service: RunningService<RoleClient, Client>,
    _process: Option<Process>,
}

/// The tools of a server, as it listed them.
#[derive(Debug, Default)]
pub struct Listed {
    pub specs: Arc<[ToolSpec]>,
    /// By the tools' names: where they stand, and their checks once they are needed.
    checks: HashMap<String, (usize, OnceLock<ArgumentCheck>)>,
}

impl Listed {
    fn new(specs: Vec<ToolSpec>) -> Self {
        let names = specs.iter().enumerate();
        let checks = names.map(|(at, spec)| (spec.name.clone(), (at, OnceLock::new()))).collect();
        Self { specs: specs.into(), checks }
    }

    pub fn check(&self, server: &str, tool: &str, args: &Value) -> Result<(), Problem> {
        let Some((at, check)) = self.checks.get(tool) else { return Ok(()) };
        let compile = || ArgumentCheck::new(&format!("mcp:{server}/{tool}"), &self.specs[*at].parameters);
        check.get_or_init(compile).check(args)
    }
}

/// Our side of the talk.
#[derive(Clone)]
struct Client {
    stale: Arc<AtomicBool>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("duologue", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), us)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.stale.store(true, Ordering::Relaxed);
    }
}

/// How a call ended that brought no result.
pub enum CallError {
    /// The tool, or the server, refused it.
    Refused(Problem),
    /// The connection can no longer be used, and it is not known what has become of the call.
    Lost(Arc<str>),
    /// It cannot be used, and the call was not made.
    NotMade(Arc<str>),
}

impl Connection {
    /// Starts or reaches the server, and has its tools listed. The reason for a failure is for the log: it may name
    /// what is on this machine.
    pub async fn start(name: &Arc<str>, options: &McpOptions, count: &Count) -> Result<Self, String> {
        let mut process = None;
        let started = tokio::time::timeout(
            options.start_timeout,
            Self::start_without_end(name, options, count, &mut process),
        );
        let why = match started.await {
            Ok(Ok((peer, service, life, stale, listed))) => {
                return Ok(Self {
                    name: name.clone(),
                    peer,
                    life,
                    held: Mutex::new(Some(Held { _service: service, _process: process })),
                    call_timeout: options.call_timeout,
                    list_timeout: options.start_timeout,
                    stale,
                    listed: tokio::sync::Mutex::new(Arc::new(listed)),
                });
            }
            Ok(Err(why)) => why,
            Err(_) => format!(
                "it did not come up in {} s; look at what it waits for, or set start_timeout_secs",
                options.start_timeout.as_secs()
            ),
        };
        let last_words = match &mut process {
            Some(process) => process.last_words().await,
            None => String::new(),
        };
        let why = plain(&why);
        Err(if last_words.is_empty() { why } else { format!("{why} ({last_words})") })
    }

    async fn start_without_end(
        name: &Arc<str>,
        options: &McpOptions,
        count: &Count,
        process: &mut Option<Process>,
    ) -> Result<(Peer<RoleClient>, RunningService<RoleClient, Client>, Life, Arc<AtomicBool>, Listed), String>
    {
        let life = Life::new();
        let stale = Arc::new(AtomicBool::new(false));
        let client = Client { stale: stale.clone() };
        let service = match &options.transport {
            McpTransport::Program(program) => {
                let (pipe, started) = stdio::start(program, name, &life, count.one_more())?;
                *process = Some(started);
                Box::pin(client.serve(pipe)).await
            }
            McpTransport::Http { url, token } => {
                Box::pin(client.serve(http::transport(url, token.as_ref())?)).await
            }
        };
        let service = service.map_err(|error| not_initialised(&error))?;
        let peer = service.peer().clone();
        let listed =
            list(name, &peer).await.map_err(|error| format!("its tools cannot be listed: {error}"))?;
        Ok((peer, service, life, stale, listed))
    }

    pub fn life(&self) -> &Life {
        &self.life
    }

    /// Why it can no longer be used, if that is so.
    pub fn lost(&self) -> Option<Arc<str>> {
        self.life.ended().or_else(|| self.peer.is_transport_closed().then(|| "the connection closed".into()))
    }

    /// Ends it, whoever still has it.
    pub fn end(&self, why: &str) {
        self.life.end(why);
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The tools, listed anew if the server has said that they are others.
    pub async fn listed(&self) -> Arc<Listed> {
        let mut listed = self.listed.lock().await;
        if self.stale.swap(false, Ordering::Relaxed) {
            let again = tokio::time::timeout(self.list_timeout, list(&self.name, &self.peer));
            let why = match again.await {
                Ok(Ok(others)) => {
                    *listed = Arc::new(others);
                    return listed.clone();
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => {
                    self.look_after();
                    format!("no answer in {} s", self.list_timeout.as_secs())
                }
            };
            let why = plain(&why);
            log::warn!("mcp {}: its new list of tools cannot be had, the old one stays: {why}", self.name);
        }
        listed.clone()
    }

    /// Calls a tool. If this is dropped before it is done, the server is told to give up.
    pub async fn call(&self, tool: &str, args: Value) -> Result<Value, CallError> {
        let mut params = CallToolRequestParams::new(tool.to_owned());
        params.arguments = match args {
            Value::Object(arguments) => Some(arguments),
            Value::Null => None,
            _ => return Err(CallError::Refused(Problem::invalid_field("args", "an object"))),
        };
        let answer = Box::pin(self.peer.call_tool_once(params));
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(self.call_timeout, answer) => answer,
            why = self.life.end_of() => return Err(CallError::Lost(why)),
        };
        match answer {
            Ok(Ok(CallToolResponse::Complete(result))) => answer::outcome(result).map_err(CallError::Refused),
            Ok(Ok(_)) => Err(CallError::Refused(Problem::new(
                ErrorCode::ToolError,
                "the tool asks for more than arguments; that is not supported",
            ))),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => {
                self.look_after();
                Err(CallError::Refused(Problem::new(
                    ErrorCode::ToolError,
                    format!(
                        "the tool did not answer in {} s and was told to give up; what it has done by then is not \
                         known",
                        self.call_timeout.as_secs()
                    ),
                )))
            }
        }
    }

    /// A server that did not answer a call may be at work, or may never answer anything again: then it is ended, and
    /// started anew.
    fn look_after(&self) {
        let (peer, life) = (self.peer.clone(), self.life.clone());
        let patience = self.call_timeout.min(PING_TIMEOUT);
        tokio::spawn(async move {
            let ping = ClientRequest::PingRequest(PingRequest::default());
            // That it does not know what a ping is is an answer too.
            if tokio::time::timeout(patience, peer.send_request(ping)).await.is_err() {
                life.end("it does not answer any more");
            }
        });
    }

    fn failed(&self, error: &ServiceError) -> CallError {
        let lost = |why: &str| CallError::Lost(self.life.ended().unwrap_or_else(|| why.into()));
        match error {
            ServiceError::McpError(error) => CallError::Refused(answer::refusal(error)),
            ServiceError::TransportClosed => lost("the connection closed before the answer came"),
            ServiceError::TransportSend(failure) => match failure.error.downcast_ref::<HttpError>() {
                Some(failure) if !is_of_the_connection(failure) => {
                    log::warn!("mcp {}: a call failed: {}", self.name, plain(&chain(failure)));
                    CallError::Refused(Problem::new(ErrorCode::ToolError, http_refusal(failure)))
                }
                Some(failure) if is_before_the_call(failure) => {
                    CallError::NotMade(format!("it cannot be reached: {}", chain(failure)).into())
                }
                _ => lost(&format!("it cannot be spoken to: {}", chain(failure))),
            },
            error => {
                log::warn!("mcp {}: a call failed: {}", self.name, plain(&error.to_string()));
                CallError::Refused(Problem::new(
                    ErrorCode::ToolError,
                    "the server of the tool answered by something that is no result",
                ))
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Whoever watches it need not any more.
        self.life.end("nobody needs it any more");
    }
}

/// Whether the failure of a call means that the next one will fail as well.
fn is_of_the_connection(failure: &HttpError) -> bool {
    matches!(
        failure,
        HttpError::Client(_)
            | HttpError::Io(_)
            | HttpError::SessionExpired
            | HttpError::TransportChannelClosed
            | HttpError::AuthRequired(_)
    )
}

/// Whether the server has surely not seen the call.
fn is_before_the_call(failure: &HttpError) -> bool {
    match failure {
        HttpError::SessionExpired => true,
        HttpError::Client(error) => error.is_connect(),
        _ => false,
    }
}

/// What a client may know of it.
fn http_refusal(failure: &HttpError) -> String {
    match failure {
        HttpError::HttpStatus(status) => format!("the server of the tool answered HTTP {}", status.status),
        _ => "the server of the tool answered by something that is no result".to_owned(),
    }
}

fn not_initialised(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::ConnectionClosed(_) => "it closed the connection before it was up".to_owned(),
        ClientInitializeError::JsonRpcError(error) => format!("it refused the connection: {}", error.message),
        ClientInitializeError::TransportError { error, .. } => {
            match error.error.downcast_ref::<HttpError>() {
                Some(HttpError::AuthRequired(_)) => {
                    "it asks for authorization; set token_env to the variable that holds its token".to_owned()
                }
                _ => format!("it cannot be reached: {}", chain(error)),
            }
        }
        error => format!("it does not speak MCP as it should: {error}"),
    }
}

/// An error and what caused it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut said: Vec<String> = causes.map(|error| without_query(&error.to_string())).collect();
    // Many repeat what they were caused by.
    said.dedup_by(|cause, error| error.contains(cause.as_str()));
    said.join(": ")
}

/// The words of an HTTP error, which has its address in brackets, without the part of it that may be a secret.
fn without_query(words: &str) -> String {
    match words.split_once('?') {
        Some((before, after)) if before.contains("://") => {
            let rest = after.find([')', ' ']).map_or("", |end| &after[end..]);
            format!("{before}{rest}")
        }
        _ => words.to_owned(),
    }
}

/// All tools of a server, as far as there is room for them.
async fn list(name: &str, peer: &Peer<RoleClient>) -> Result<Listed, ServiceError> {
    let mut specs: Vec<ToolSpec> = Vec::new();
    let (mut bytes, mut too_large) = (0, 0);
    let mut cursor: Option<String> = None;
    let mut cut = true;
    'pages: for _ in 0..MAX_PAGES {
        let page =
            peer.list_tools(Some(PaginatedRequestParams::default().with_cursor(cursor.clone()))).await?;
        for tool in page.tools {
            let spec = described(tool);
            let size = spec.name.len() + spec.description.len() + spec.parameters.to_string().len();
            if size > MAX_TOOL_BYTES {
                too_large += 1;
                continue;
            }
            if specs.len() == MAX_TOOLS || bytes + size > MAX_LIST_BYTES {
                break 'pages;
            }
            if !spec.name.is_empty() && !specs.iter().any(|other| other.name == spec.name) {
                bytes += size;
                specs.push(spec);
            }
        }
        // Some servers give the same page for ever.
        if page.next_cursor.is_none() || page.next_cursor == cursor {
            cut = false;
            break;
        }
        cursor = page.next_cursor;
    }
    if cut {
        log::warn!(
            "mcp {name}: its list of tools goes on after the {} that are known; no more than {MAX_TOOLS} on \
             {MAX_PAGES} pages with {MAX_LIST_BYTES} bytes are read",
            specs.len()
        );
    }
    if too_large > 0 {
        log::warn!(
            "mcp {name}: {too_large} tools are left out: their descriptions have more than {MAX_TOOL_BYTES} bytes"
        );
    }
    Ok(Listed::new(specs))
}

fn described(tool: Tool) -> ToolSpec {
    let title = tool.title.or_else(|| tool.annotations.and_then(|annotations| annotations.title));
    let description = tool.description.map(String::from).or(title).unwrap_or_default();
    ToolSpec {
        name: tool.name.into_owned(),
        description,
        parameters: Value::Object(Arc::unwrap_or_clone(tool.input_schema)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_an_address_is_not_shown() {
        assert_eq!(
            without_query("error sending request for url (http://127.0.0.1:9/mcp?key=secret)"),
            "error sending request for url (http://127.0.0.1:9/mcp)"
        );
        assert_eq!(without_query("what? no address"), "what? no address");
    }
}
