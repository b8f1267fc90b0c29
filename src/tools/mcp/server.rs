//! One server, whether it is up or not: started when it is needed, and again when it has died.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    McpOptions,
    connection::{CallError, Connection, Listed},
    life::Count,
};
use crate::core::error::{ErrorCode, Problem};

/// A server that died, or did not come up, is started again after this; twice that after the next time, and so on.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// So long a server is waited for that is being started again: it may well fail again, and somebody waits for an
/// answer. The first start has all the time that it may take.
const RESTART_PATIENCE: Duration = Duration::from_secs(5);

/// A server, for one session or for all.
pub struct Server {
    name: Arc<str>,
    options: Arc<McpOptions>,
    runtime: Handle,
    count: Count,
    state: tokio::sync::Mutex<State>,
    attempts: Mutex<Attempts>,
    known: Arc<Known>,
}

/// The tools as they were last listed, by whichever connection.
#[derive(Default)]
pub struct Known(RwLock<Option<Arc<Listed>>>);

impl Known {
    pub fn get(&self) -> Option<Arc<Listed>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, listed: Arc<Listed>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(listed);
    }
}

/// The starts of a server, for those who wonder how long to wait for one.
#[derive(Default)]
struct Attempts {
    /// The first one is over.
    first_is_over: bool,
    /// When the one began that is going on.
    since: Option<Instant>,
}

impl Attempts {
    /// How long to wait; `None` for as long as it takes.
    fn patience(&self) -> Option<Duration> {
        let waited = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.first_is_over.then(|| RESTART_PATIENCE.saturating_sub(waited))
    }
}

struct State {
    phase: Phase,
    /// How often in a row it has failed.
    failures: u32,
}

enum Phase {
    Idle,
    Up { connection: Arc<Connection>, since: Instant },
    Down { why: Arc<str>, until: Instant },
    Closed,
}

/// A server that cannot be had now, and why. The reason is for the log.
pub struct Unavailable {
    pub why: Arc<str>,
    wait: Option<Duration>,
}

impl Unavailable {
    fn problem(&self, name: &str) -> Problem {
        let when = match self.wait {
            Some(wait) => format!("it is tried again in {} s", wait.as_secs().max(1)),
            None => "it is being started".to_owned(),
        };
        let message = format!("the tools of the server {name:?} are not available now; {when}");
        Problem::new(ErrorCode::ToolError, message)
    }
}

impl Server {
    pub fn new(
        name: Arc<str>,
        options: Arc<McpOptions>,
        runtime: Handle,
        count: Count,
        known: Arc<Known>,
    ) -> Arc<Self> {
        let state = State { phase: Phase::Idle, failures: 0 };
        Arc::new(Self {
            name,
            options,
            runtime,
            count,
            state: tokio::sync::Mutex::new(state),
            attempts: Mutex::default(),
            known,
        })
    }

    /// The tools that can be called now.
    pub async fn listed(self: Arc<Self>) -> Result<Arc<Listed>, Unavailable> {
        let listed = self.connection().await?.listed().await;
        self.known.set(listed.clone());
        Ok(listed)
    }

    /// Starts it to see what tools it has, if that may be, and ends it for good once they are known.
    pub async fn look(self: Arc<Self>) {
        let patience = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).patience();
        let server = self.clone();
        // What was started is ended, whether or not somebody still waits.
        let looking = self.runtime.spawn(async move {
            let _ = server.clone().connect().await;
            if server.known.get().is_some() {
                server.close().await;
            }
        });
        match patience {
            None => drop(looking.await),
            Some(patience) => drop(tokio::time::timeout(patience, looking).await),
        }
    }

    pub async fn call(self: Arc<Self>, tool: String, args: Value) -> Result<Value, Problem> {
        let connection = self.connection().await.map_err(|error| error.problem(&self.name))?;
        self.known.get().map_or(Ok(()), |known| known.check(&self.name, &tool, &args))?;
        match connection.call(&tool, args).await {
            Ok(value) => Ok(value),
            Err(CallError::Refused(problem)) => Err(problem),
            Err(CallError::NotMade(why)) => {
                self.lose(&connection, &why).await;
                let message = format!("the server {:?} cannot be reached; the call was not made", self.name);
                Err(Problem::new(ErrorCode::ToolError, message))
            }
            Err(CallError::Lost(why)) => {
                self.lose(&connection, &why).await;
                let message = format!(
                    "the connection to the server {:?} was lost during the call; what the tool has done by then is \
                     not known",
                    self.name
                );
                Err(Problem::new(ErrorCode::ToolError, message))
            }
        }
    }

    pub fn check(&self, tool: &str, args: &Value) -> Result<(), Problem> {
        self.known.get().map_or(Ok(()), |known| known.check(&self.name, tool, args))
    }

    /// The connection; the server is started for it if that may be.
    async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Unavailable> {
        let patience = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).patience();
        let server = self.clone();
        // Somebody else may wait for the start when this one has given up.
        let starting = self.runtime.spawn(async move { server.connect().await });
        let gone = || Err(Unavailable { why: "the server stops".into(), wait: None });
        match patience {
            None => starting.await.unwrap_or_else(|_| gone()),
            Some(patience) => match tokio::time::timeout(patience, starting).await {
                Ok(connection) => connection.unwrap_or_else(|_| gone()),
                Err(_) => Err(Unavailable { why: "it is being started".into(), wait: None }),
            },
        }
    }

    async fn connect(self: Arc<Self>) -> Result<Arc<Connection>, Unavailable> {
        let mut state = self.state.lock().await;
        if let Phase::Up { connection, .. } = &state.phase {
            match connection.lost() {
                None => return Ok(connection.clone()),
                Some(why) => self.fall(&mut state, &why),
            }
        }
        match &state.phase {
            Phase::Closed => return Err(Unavailable { why: "it was ended".into(), wait: None }),
            Phase::Down { why, until } => {
                let wait = until.saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    return Err(Unavailable { why: why.clone(), wait: Some(wait) });
                }
            }
            Phase::Idle | Phase::Up { .. } => {}
        }
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).since = Some(Instant::now());
        let started = Connection::start(&self.name, &self.options, &self.count).await;
        *self.attempts.lock().unwrap_or_else(PoisonError::into_inner) =
            Attempts { first_is_over: true, since: None };
        match started {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let listed = connection.listed().await;
                log::info!("mcp {}: it is up, with {} tools", self.name, listed.specs.len());
                self.known.set(listed);
                state.phase = Phase::Up { connection: connection.clone(), since: Instant::now() };
                self.watch(&connection);
                Ok(connection)
            }
            Err(why) => {
                self.wait(&mut state, &why.into());
                let Phase::Down { why, .. } = &state.phase else {
                    return Err(Unavailable { why: "it is down".into(), wait: None });
                };
                Err(Unavailable { why: why.clone(), wait: Some(wait_after(state.failures)) })
            }
        }
    }

    /// Sees the end of a connection, so that the time until the next begins with it.
    fn watch(self: &Arc<Self>, connection: &Arc<Connection>) {
        let (life, connection) = (connection.life().clone(), Arc::downgrade(connection));
        let server = Arc::downgrade(self);
        self.runtime.spawn(async move {
            // The life goes on in here; a connection that nobody has any more has ended all the same.
            let why = life.end_of().await;
            if let (Some(server), Some(connection)) = (server.upgrade(), connection.upgrade()) {
                server.lose(&connection, &why).await;
            }
        });
    }

    async fn lose(&self, lost: &Arc<Connection>, why: &Arc<str>) {
        let mut state = self.state.lock().await;
        if matches!(&state.phase, Phase::Up { connection, .. } if Arc::ptr_eq(connection, lost)) {
            self.fall(&mut state, why);
        }
    }

    /// It was up, and is no longer.
    fn fall(&self, state: &mut State, why: &Arc<str>) {
        if let Phase::Up { since, .. } = &state.phase
            && since.elapsed() >= LONGEST_WAIT
        {
            state.failures = 0;
        }
        self.wait(state, why);
    }

    fn wait(&self, state: &mut State, why: &Arc<str>) {
        let wait = wait_after(state.failures + 1);
        state.failures += 1;
        state.phase = Phase::Down { why: why.clone(), until: Instant::now() + wait };
        log::warn!(
            "mcp {}: {why}; its tools are not available, it is started again when they are needed after {} s",
            self.name,
            wait.as_secs()
        );
    }

    /// Ends it for good.
    pub async fn close(&self) {
        let mut state = self.state.lock().await;
        if let Phase::Up { connection, .. } = std::mem::replace(&mut state.phase, Phase::Closed) {
            connection.end("it was ended");
        }
    }
}

fn wait_after(failures: u32) -> Duration {
    let doubled =
        FIRST_WAIT.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_WAIT)
}

/// Work on the runtime that ends when it is dropped.
pub struct Task<T>(pub JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute() {
        let waits: Vec<_> = (1..=9).map(|failures| wait_after(failures).as_secs()).collect();

        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }
}
