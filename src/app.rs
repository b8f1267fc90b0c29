//! The wiring: makes the actors, gives each what it needs, opens the doors. The only file that names
//! concrete adapters.

use std::{
    io,
    net::SocketAddr,
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
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    config::{AgentSettings, ModelName, ProviderSettings, Settings},
    core::{
        bus::{Bus, EventBus},
        event::AgentCard,
        manager::{AgentManager, Manager},
        ports::{ModelProvider, Store},
        profile::{AgentProfile, Profiles},
    },
    doors::{
        self, DoorSettings, Doors,
        wire::frames::Model,
        ws::{connection::Register, guard::FrameLimits, tcp, watchdog::Watchdog},
    },
    providers::scripted::ScriptedModel,
    store::memory::MemoryStore,
};

/// Connections that wait to be accepted. With a short queue the kernel drops some of a thousand that come at
/// once, and each of those waits a second before it tries again.
const BACKLOG: u32 = 4096;
/// What the HTTP dispatcher gathers before it writes; sockets encode as much at once.
const WRITE_BUFFER: usize = doors::ws::socket::WRITE_BYTES;
/// How long a client may take to send its request's head.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closed sockets get to take what was still to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
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
}

impl App {
    /// Starts everything; connections are accepted once this returns.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        raise_file_limit();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(settings.memory_store_bytes));
        let (profiles, models) = profiles(&settings);
        let profiles = Arc::new(profiles);

        let core = Arbiter::new();
        let bus = {
            let store = store.clone();
            Bus::new(EventBus::start_in_arbiter(&core.handle(), |_| EventBus::new(store)))
        };
        let manager = {
            let (profiles, store, bus) = (profiles.clone(), store.clone(), bus.clone());
            let idle = settings.session_idle;
            Manager::new(AgentManager::start_in_arbiter(&core.handle(), move |_| {
                AgentManager::new(profiles, store, bus, idle)
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
        .max_connections(usize::MAX)
        .disable_signals()
        .bind(settings.bind)
        .with_context(|| format!("cannot listen on {}: choose another DUOLOGUE_BIND", settings.bind))?;
        let addr = server.addrs().first().copied().context("the server has no address")?;
        let server = server.run();
        let handle = server.handle();
        let running = tokio::task::spawn_local(server);
        Ok(Self { addr, doors, server: handle, running, drain: settings.drain, _core: core })
    }

    /// Stops in an orderly way: runs get their time to end, sockets are told, what waits is written.
    pub async fn drain(self) -> anyhow::Result<()> {
        log::info!("draining: no new work, runs have {:?} to end", self.drain);
        self.doors.draining.store(true, Ordering::Relaxed);
        self.doors.manager.drain(self.drain).await;
        self.doors.register.drain(FLUSH_TIMEOUT).await;
        self.server.stop(false).await;
        self.running.await?.context("the HTTP server failed")?;
        log::info!("stopped");
        Ok(())
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

/// The agents with their models, and the models that they use.
fn profiles(settings: &Settings) -> (Profiles, Vec<Model>) {
    let scripted: Arc<dyn ModelProvider> = Arc::new(ScriptedModel);
    let mut profiles = Vec::new();
    let mut models: Vec<Model> = Vec::new();
    for agent in &settings.agents {
        let (provider, id, model) = match &agent.model {
            ModelName::Demo => (scripted.clone(), "demo".to_owned(), "demo".to_owned()),
            ModelName::Of { .. } => unreachable!("no providers yet"),
        };
        let profile = profile(agent, provider, id, model);
        let card = &profile.card;
        if !models.iter().any(|model| model.id == card.model) {
            models.push(model_of(card, settings));
        }
        profiles.push(profile);
    }
    (Profiles::new(profiles), models)
}

fn profile(
    agent: &AgentSettings,
    provider: Arc<dyn ModelProvider>,
    model_id: String,
    model: String,
) -> AgentProfile {
    AgentProfile {
        card: AgentCard {
            id: agent.id.clone(),
            name: agent.name.clone(),
            description: agent.description.clone(),
            model: model_id,
            context_window: agent.context_window.unwrap_or(UNKNOWN_WINDOW),
        },
        system_prompt: agent.system_prompt.clone(),
        seeds: agent.seeds.clone(),
        provider,
        model,
        temperature: agent.temperature,
        max_tokens: agent.max_tokens,
        on_busy: agent.on_busy,
        tools: Vec::new(),
    }
}

fn model_of(card: &AgentCard, settings: &Settings) -> Model {
    let provider = card.model.split_once("::").map_or("demo", |(provider, _)| provider);
    let has_key = |provider: &ProviderSettings| provider.key_env.is_none() || provider.key.is_some();
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
