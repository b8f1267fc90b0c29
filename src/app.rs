//! The wiring: makes the actors, gives each what it needs, opens the doors. The only file that names
//! concrete adapters.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Arbiter};
use actix_web::{App as WebApp, HttpServer, dev::ServerHandle, web};
use anyhow::Context as _;
use futures_util::future::join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    config::{
        AgentSettings, Durability, McpSettings, McpTransport, ModelName, ProviderKind, ProviderSettings,
        Settings, StoreSettings, ToolOrigin,
    },
    core::{
        bus::{Bus, EventBus},
        event::AgentCard,
        manager::{AgentManager, Manager},
        ports::{ModelError, ModelProvider, Store, ToolSource, ToolSpec},
        profile::{AgentProfile, Profiles, ToolGroup},
    },
    doors::{
        self, DoorSettings, Doors,
        wire::frames::Model,
        ws::{connection::Register, guard::FrameLimits, tcp, watchdog::Watchdog},
    },
    providers::{
        context_windows::known_context_window,
        genai::{Api, GenaiProvider, ProviderOptions},
        scripted::ScriptedModel,
    },
    runtime::AdapterRuntime,
    store::{
        memory::MemoryStore,
        sqlite::{self, SqliteOptions, SqliteReader, SqliteStore},
    },
    tools::{
        builtin::BuiltinTools,
        mcp::{self, McpOptions, McpSource},
    },
};

/// Connections that wait to be accepted. With a short queue the kernel drops some of a thousand that come at
/// once, and each of those waits a second before it tries again.
const BACKLOG: u32 = 4096;
/// What the HTTP dispatcher gathers before it writes; a piece more is in its buffer by then.
const WRITE_BUFFER: usize = doors::ws::body::PIECE;
/// How long a client may take to send its request's head.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// After the closing handshake a WebSocket client waits for the server to end the connection (RFC 6455, 7.1.1):
/// the dispatcher does not linger. It can only for half a second and more: its clock is that coarse.
const LINGER: Duration = Duration::ZERO;
/// How long runs that are interrupted at the end of a drain get to have that in the log.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closed sockets get to take what was still to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the store gets to write what is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens of a model that nobody knows the window of.
const UNKNOWN_WINDOW: u64 = 32_768;

/// A server that accepts connections.
pub struct App {
    pub addr: SocketAddr,
    doors: web::Data<Doors>,
    server: ServerHandle,
    running: tokio::task::JoinHandle<io::Result<()>>,
    drain: Duration,
    /// The thread of the core. It ends with the process.
    _core: Arbiter,
    _providers: Providers,
    tools: ToolSources,
}

impl App {
    /// Starts everything; connections are accepted once this returns.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        raise_file_limit();
        let store = open_store(&settings.store)?;
        let providers = Providers::start(&settings)?;
        let tools = ToolSources::start(&settings)?;
        let (profiles, models) = profiles(&settings, &providers, &tools);
        let profiles = Arc::new(profiles);

        let core = Arbiter::new();
        let bus = {
            let store = store.clone();
            Bus::new(EventBus::start_in_arbiter(&core.handle(), |_| EventBus::new(store)))
        };
        let manager = {
            let (profiles, store, bus) = (profiles.clone(), store.clone(), bus.clone());
            let (idle, tasks_at_once) = (settings.session_idle, settings.tasks_at_once);
            Manager::new(AgentManager::start_in_arbiter(&core.handle(), move |_| {
                AgentManager::new(profiles, store, bus, idle, tasks_at_once)
            }))
        };
        let doors = web::Data::new(Doors {
            bus,
            manager,
            store,
            profiles,
            models,
            settings: door_settings(&settings),
            register: Register::default(),
            draining: AtomicBool::new(false),
        });

        let heartbeat_secs = settings.heartbeat_secs;
        let shared = doors.clone();
        let server = HttpServer::new(move || {
            WebApp::new()
                .app_data(shared.clone())
                .app_data(Watchdog::new(heartbeat_secs) as Rc<Watchdog>)
                .configure(doors::routes)
        })
        .on_connect(tcp::on_connect)
        .workers(settings.workers)
        .backlog(BACKLOG)
        .h1_write_buffer_size(WRITE_BUFFER)
        .client_request_timeout(REQUEST_TIMEOUT)
        .client_disconnect_timeout(LINGER)
        .max_connections(usize::MAX)
        .disable_signals()
        .bind(settings.bind)
        .with_context(|| format!("cannot listen on {}: choose another DUOLOGUE_BIND", settings.bind))?;
        let addr = server.addrs().first().copied().context("the server has no address")?;
        let server = server.run();
        let handle = server.handle();
        let running = tokio::task::spawn_local(server);
        Ok(Self {
            addr,
            doors,
            server: handle,
            running,
            drain: settings.drain,
            _core: core,
            _providers: providers,
            tools,
        })
    }

    /// Stops in an orderly way: runs get their time to end, sockets are told, what waits is written.
    pub async fn drain(self) -> anyhow::Result<()> {
        log::info!("draining: no new work, runs have {:?} to end", self.drain);
        self.doors.draining.store(true, Ordering::Relaxed);
        if tokio::time::timeout(self.drain + END_TIMEOUT, self.doors.manager.drain(self.drain)).await.is_err()
        {
            log::error!(
                "some runs could not be ended in the log; they end as interrupted when it is read again"
            );
        }
        self.doors.register.drain(FLUSH_TIMEOUT).await;
        self.server.stop(false).await;
        self.tools.close().await;
        if tokio::time::timeout(CLOSE_TIMEOUT, self.doors.store.close()).await.is_err() {
            log::error!("the store could not be closed in {CLOSE_TIMEOUT:?}; it is as after a crash");
        }
        self.running.await?.context("the HTTP server failed")?;
        log::info!("stopped");
        Ok(())
    }
}

fn open_store(settings: &StoreSettings) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match settings {
        StoreSettings::Memory { max_bytes } => Arc::new(MemoryStore::new(*max_bytes)),
        StoreSettings::Sqlite { path, durability } => Arc::new(SqliteStore::open(SqliteOptions {
            path: path.clone(),
            sync_every_commit: *durability == Durability::Full,
        })?),
    })
}

/// The stored sessions, read beside a server that may be running.
///
/// # Errors
/// If they are kept in a server's memory, or the file is not there or not whole.
pub fn stored_sessions(settings: &StoreSettings) -> anyhow::Result<SqliteReader> {
    Ok(SqliteReader::open(store_file(settings)?)?)
}

/// Copies the store to a file that is not there yet.
///
/// # Errors
/// As for [`stored_sessions`], and if the copy cannot be written.
pub fn back_up(settings: &StoreSettings, to: &Path) -> anyhow::Result<()> {
    Ok(sqlite::backup(store_file(settings)?, to)?)
}

fn store_file(settings: &StoreSettings) -> anyhow::Result<&Path> {
    match settings {
        StoreSettings::Sqlite { path, .. } => Ok(path),
        StoreSettings::Memory { .. } => anyhow::bail!(
            "DUOLOGUE_STORE is memory:, whose sessions are in the server alone; GET \
             /api/v1/sessions/ID/export there, or use sqlite:"
        ),
    }
}

fn door_settings(settings: &Settings) -> DoorSettings {
    DoorSettings {
        frame_limits: FrameLimits {
            max_frame_bytes: settings.max_frame_bytes as u64,
            max_message_bytes: settings.max_message_bytes as u64,
        },
        outbox_bytes: settings.outbox_bytes,
        heartbeat_secs: settings.heartbeat_secs,
        loopback: settings.bind.ip().is_loopback(),
    }
}

/// The providers that agents use, and the threads that they run on.
pub struct Providers {
    by_name: BTreeMap<String, Arc<GenaiProvider>>,
    _runtime: AdapterRuntime,
}

impl Providers {
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let runtime = AdapterRuntime::start("providers").context("no thread for providers")?;
        let mut by_name = BTreeMap::new();
        for (name, provider) in &settings.providers {
            let provider = GenaiProvider::new(provider_options(name, provider), runtime.handle())
                .with_context(|| format!("provider {name} cannot be set up"))?;
            by_name.insert(name.clone(), Arc::new(provider));
        }
        Ok(Self { by_name, _runtime: runtime })
    }

    /// Finds out whether a model can be reached and may be used.
    pub async fn probe(&self, model: &ModelName) -> Result<(), ModelError> {
        match model {
            ModelName::Demo => Ok(()),
            ModelName::Of { provider, model } => match self.by_name.get(provider) {
                Some(provider) => provider.probe(model).await,
                None => Ok(()),
            },
        }
    }
}

/// The sources of tools that agents use, and the thread that they work on. Not the providers': a server of tools
/// that floods it is not to hold up an answer.
pub struct ToolSources {
    builtin: Arc<BuiltinTools>,
    mcp: BTreeMap<String, Arc<McpSource>>,
    _runtime: AdapterRuntime,
}

impl ToolSources {
    /// No server is started before its tools are needed.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let runtime = AdapterRuntime::start("tools").context("no thread for tools")?;
        let source = |(name, server): (&String, &McpSettings)| {
            let source = McpSource::new(name, mcp_options(server), runtime.handle());
            (name.clone(), Arc::new(source))
        };
        let mcp = settings.mcp.iter().map(source).collect();
        Ok(Self { builtin: Arc::default(), mcp, _runtime: runtime })
    }

    fn get(&self, origin: &ToolOrigin) -> Option<Arc<dyn ToolSource>> {
        match origin {
            ToolOrigin::BuiltIn => Some(self.builtin.clone()),
            ToolOrigin::Mcp(name) => self.mcp.get(name).cloned().map(|source| source as Arc<dyn ToolSource>),
        }
    }

    /// The tools that a server has; or what is wrong with it, for whoever runs this one.
    pub async fn probe(&self, server: &str) -> Result<Arc<[ToolSpec]>, String> {
        match self.mcp.get(server) {
            Some(source) => source.probe().await,
            None => Err("no agent uses it".to_owned()),
        }
    }

    /// Ends what was started for tools.
    pub async fn close(&self) {
        join_all(self.mcp.values().map(|source| source.close())).await;
    }
}

fn mcp_options(server: &McpSettings) -> McpOptions {
    let transport = match &server.transport {
        McpTransport::Command { program, arguments, environment } => {
            mcp::McpTransport::Program(mcp::Program {
                program: program.clone(),
                arguments: arguments.clone(),
                environment: environment.clone(),
            })
        }
        McpTransport::Http { url, token } => {
            mcp::McpTransport::Http { url: url.clone(), token: token.clone() }
        }
    };
    McpOptions {
        transport,
        per_session: server.per_session,
        start_timeout: server.start_timeout,
        call_timeout: server.call_timeout,
    }
}

fn provider_options(name: &str, provider: &ProviderSettings) -> ProviderOptions {
    ProviderOptions {
        name: name.to_owned(),
        api: api(provider.kind),
        base_url: provider.base_url.clone(),
        key: provider.key.clone(),
        key_env: provider.key_env.clone(),
        first_token_timeout: provider.first_token_timeout,
        idle_timeout: provider.idle_timeout,
    }
}

const fn api(kind: ProviderKind) -> Api {
    match kind {
        ProviderKind::OpenAi => Api::OpenAi,
        ProviderKind::Anthropic => Api::Anthropic,
        ProviderKind::Gemini => Api::Gemini,
        ProviderKind::Ollama => Api::Ollama,
        ProviderKind::DeepSeek => Api::DeepSeek,
        ProviderKind::Groq => Api::Groq,
        ProviderKind::Mistral => Api::Mistral,
        ProviderKind::OpenRouter => Api::OpenRouter,
        ProviderKind::Together => Api::Together,
        ProviderKind::Xai => Api::Xai,
    }
}

/// The agents with their models, and the models that they use.
fn profiles(settings: &Settings, providers: &Providers, sources: &ToolSources) -> (Profiles, Vec<Model>) {
    let scripted: Arc<dyn ModelProvider> = Arc::new(ScriptedModel);
    let mut profiles = Vec::new();
    let mut models: Vec<Model> = Vec::new();
    for agent in &settings.agents {
        let (provider, model) = match &agent.model {
            ModelName::Demo => (scripted.clone(), "demo"),
            ModelName::Of { provider, model } => {
                let provider = providers.by_name.get(provider).cloned();
                (
                    provider.expect("settings name the providers in use") as Arc<dyn ModelProvider>,
                    model.as_str(),
                )
            }
        };
        let card = card(agent, settings);
        if !models.iter().any(|model| model.id == card.model) {
            models.push(model_of(&card, settings));
        }
        let tools = agent.tools.iter().map(|chosen| ToolGroup {
            source: sources.get(&chosen.source).expect("settings name the servers in use"),
            origin: chosen.source.to_string(),
            choice: chosen.choice.clone(),
        });
        profiles.push(AgentProfile {
            card,
            system_prompt: agent.system_prompt.clone(),
            seeds: agent.seeds.clone(),
            provider,
            model: model.to_owned(),
            temperature: agent.temperature,
            max_tokens: agent.max_tokens,
            on_busy: agent.on_busy,
            max_steps: agent.max_steps,
            initial_state: agent.initial_state.clone(),
            tools: tools.collect(),
        });
    }
    (Profiles::new(profiles), models)
}

fn card(agent: &AgentSettings, settings: &Settings) -> AgentCard {
    let known = match &agent.model {
        ModelName::Demo => None,
        ModelName::Of { provider, model } => {
            let kind = settings.providers.get(provider).map(|provider| api(provider.kind));
            kind.and_then(|api| known_context_window(api, model))
        }
    };
    let context_window = agent.context_window.or(known).unwrap_or_else(|| {
        if agent.model != ModelName::Demo {
            log::warn!(
                "agent {}: the context window of {} is not known, {UNKNOWN_WINDOW} tokens are assumed; set \
                 context_window",
                agent.id,
                agent.model
            );
        }
        UNKNOWN_WINDOW
    });
    AgentCard {
        id: agent.id.clone(),
        name: agent.name.clone(),
        description: agent.description.clone(),
        model: agent.model.to_string(),
        context_window,
    }
}

fn model_of(card: &AgentCard, settings: &Settings) -> Model {
    let provider = card.model.split_once("::").map_or("demo", |(provider, _)| provider);
    let has_key = |provider: &ProviderSettings| provider.missing_key().is_none();
    Model {
        id: card.model.clone(),
        provider: provider.to_owned(),
        context_window: card.context_window,
        available: settings.providers.get(provider).is_none_or(has_key),
    }
}

/// Each connection is an open file: as many as may be.
fn raise_file_limit() {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    });
    match limit {
        Ok(limit) => log::info!("room for {limit} open files; each connection is one"),
        Err(error) => log::warn!("the limit of open files cannot be raised: {error}"),
    }
}
