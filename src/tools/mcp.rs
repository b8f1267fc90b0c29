//! Tools of servers that speak the Model Context Protocol, through the `rmcp` crate; nothing outside this module
//! names it.
//!
//! Owns: the connections to a server, the program that it may be, its list of tools, deadlines and limits.
//! Does not own: which of the tools an agent has, or what a session makes of a result.
//! Talks to: the server, on a runtime that is given; nothing of it runs on the core's thread.
//!
//! No server is trusted to be well. It may hang, die, flood its outputs or answer without end: each costs the calls
//! that it is about, for a bounded time and in bounded memory. No call is ever made twice.

mod answer;
mod connection;
mod http;
mod life;
mod lines;
mod server;
mod stdio;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use secrecy::SecretString;
use serde_json::Value;
use tokio::runtime::Handle;

use self::{
    life::Count,
    server::{Known, Server, Task},
};
use crate::core::{
    error::{ErrorCode, Problem},
    ports::{ToolDescription, ToolOutput, ToolSource, ToolSpec, Tools},
};

/// Bytes of one message of a server, at most. A model could not read a hundredth of it.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// How long the programs of a source get to end when it is closed: they have their own times before.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(6);

/// How a server is had.
#[derive(Debug, Clone)]
pub struct McpOptions {
    pub transport: McpTransport,
    /// Every session has one of its own.
    pub per_session: bool,
    /// How long it may take to come up and list its tools.
    pub start_timeout: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
}

#[derive(Debug, Clone)]
pub enum McpTransport {
    Program(Program),
    Http { url: String, token: Option<SecretString> },
}

/// A program that is started.
#[derive(Debug, Clone)]
pub struct Program {
    pub program: String,
    pub arguments: Vec<String>,
    /// All the variables that it gets.
    pub environment: BTreeMap<String, SecretString>,
}

/// The tools of one server.
pub struct McpSource {
    name: Arc<str>,
    options: Arc<McpOptions>,
    runtime: Handle,
    count: Count,
    known: Arc<Known>,
    /// The one that sessions share, unless each has its own.
    shared: Option<Arc<Server>>,
    /// Where each session has its own, the one that is started to see what tools there are, until that is known.
    scout: Option<Arc<Server>>,
    /// Those of sessions, to be ended with the source.
    of_sessions: Mutex<Vec<Weak<Server>>>,
}

impl McpSource {
    /// Nothing is started before it is needed.
    pub fn new(name: &str, options: McpOptions, runtime: Handle) -> Self {
        let mut source = Self {
            name: name.into(),
            options: Arc::new(options),
            runtime,
            count: Count::new(),
            known: Arc::default(),
            shared: None,
            scout: None,
            of_sessions: Mutex::default(),
        };
        let server = Some(source.server());
        if source.options.per_session {
            source.scout = server;
        } else {
            source.shared = server;
        }
        source
    }

    fn server(&self) -> Arc<Server> {
        let (runtime, count) = (self.runtime.clone(), self.count.clone());
        Server::new(self.name.clone(), self.options.clone(), runtime, count, self.known.clone())
    }

    fn server_of_session(&self) -> Arc<Server> {
        let server = self.server();
        let mut servers = self.of_sessions.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|server| server.strong_count() > 0);
        servers.push(Arc::downgrade(&server));
        server
    }

    /// The tools that the server has; started for it if need be, and ended if nobody else needs it.
    ///
    /// # Errors
    /// What is wrong with it, for whoever runs this server: it may name what is on this machine.
    pub async fn probe(&self) -> Result<Arc<[ToolSpec]>, String> {
        let (server, is_shared) = match &self.shared {
            Some(server) => (server.clone(), true),
            None => (self.server(), false),
        };
        let work = async move {
            let listed = server.clone().listed().await;
            if !is_shared {
                server.close().await;
            }
            listed.map(|listed| listed.specs.clone()).map_err(|error| error.why.to_string())
        };
        let mut task = Task(self.runtime.spawn(work));
        (&mut task.0).await.unwrap_or_else(|_| Err("it was broken off".to_owned()))
    }

    /// Ends all its connections and programs; it cannot be used afterwards.
    pub async fn close(&self) {
        let of_sessions =
            std::mem::take(&mut *self.of_sessions.lock().unwrap_or_else(PoisonError::into_inner));
        let of_all = self.shared.iter().chain(&self.scout).cloned();
        let servers: Vec<_> = of_sessions.iter().filter_map(Weak::upgrade).chain(of_all).collect();
        let count = self.count.clone();
        let work = async move {
            for server in servers {
                server.close().await;
            }
            count.none().await;
        };
        let closing = async move { tokio::time::timeout(CLOSE_TIMEOUT, work).await.is_ok() };
        if !self.runtime.spawn(closing).await.unwrap_or(false) {
            log::warn!("mcp {}: it did not end in {} s", self.name, CLOSE_TIMEOUT.as_secs());
        }
    }
}

impl ToolSource for McpSource {
    fn open(&self, _of_task: bool) -> Arc<dyn Tools> {
        let server = self.shared.clone().unwrap_or_else(|| self.server_of_session());
        Arc::new(McpTools { server, runtime: self.runtime.clone(), is_shared: self.shared.is_some() })
    }

    fn describe(&self) -> BoxFuture<'static, Vec<ToolDescription>> {
        let known = self.known.clone();
        let (shared, scout) = (self.shared.clone(), self.scout.clone().filter(|_| known.get().is_none()));
        let work = async move {
            let available = match (shared, scout) {
                (Some(shared), _) => shared.listed().await.is_ok(),
                // All who ask wait for the same start, and after a failure for the same time.
                (None, Some(scout)) => {
                    scout.look().await;
                    known.get().is_some()
                }
                (None, None) => true,
            };
            let specs = known.get().map(|listed| listed.specs.clone()).unwrap_or_default();
            specs.iter().map(|spec| ToolDescription { spec: spec.clone(), available }).collect()
        };
        let mut task = Task(self.runtime.spawn(work));
        async move { (&mut task.0).await.unwrap_or_default() }.boxed()
    }
}

/// A server's tools as one session has them.
struct McpTools {
    server: Arc<Server>,
    runtime: Handle,
    is_shared: bool,
}

impl Tools for McpTools {
    fn list(&self) -> BoxFuture<'static, Arc<[ToolSpec]>> {
        let server = self.server.clone();
        let listing =
            async move { server.listed().await.map(|listed| listed.specs.clone()).unwrap_or_default() };
        let mut task = Task(self.runtime.spawn(listing));
        async move { (&mut task.0).await.unwrap_or_default() }.boxed()
    }

    fn call(&self, name: &str, args: Value) -> BoxFuture<'static, Result<ToolOutput, Problem>> {
        let mut task = Task(self.runtime.spawn(self.server.clone().call(name.to_owned(), args)));
        async move {
            let broken_off = |_| Err(Problem::new(ErrorCode::ToolError, "the call was broken off"));
            (&mut task.0).await.unwrap_or_else(broken_off).map(ToolOutput::Value)
        }
        .boxed()
    }

    fn check(&self, name: &str, args: &Value) -> Result<(), Problem> {
        self.server.check(name, args)
    }
}

impl Drop for McpTools {
    fn drop(&mut self) {
        if !self.is_shared {
            // It may be starting just now, which would go on for nobody.
            let server = self.server.clone();
            self.runtime.spawn(async move { server.close().await });
        }
    }
}
